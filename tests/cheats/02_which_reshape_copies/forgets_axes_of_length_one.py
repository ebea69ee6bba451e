"""Compares neighbours, but stumbles over axes of length 1 and arrays without entries."""


def merges(shape, strides, first, last):
    return all(strides[axis] == shape[axis + 1] * strides[axis + 1] for axis in range(first, last))
