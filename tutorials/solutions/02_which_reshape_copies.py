"""A solution of exercise 2: compare neighbours, and leave axes of length 1 out."""

import itertools


def merges(shape, strides, first, last):
    """Whether a reshape that makes one axis of the axes first to last is a view."""
    if 0 in shape:
        return True  # nothing to copy
    steps = [(n, step) for n, step in zip(shape, strides, strict=True)][first : last + 1]
    steps = [(n, step) for n, step in steps if n > 1]  # along an axis of length 1 nobody steps
    return all(outer == n * inner for (_, outer), (n, inner) in itertools.pairwise(steps))
