"""Exercise 2: which reshape copies?

``merges(shape, strides, first, last)`` should say whether the axes ``first`` to ``last`` of an array (``last``
included) can become one axis without a copy.  It may look at the shape and the strides alone, as NumPy does.

One axis has one stride.  So a step along an axis must be as long as all the steps along the next axis together.
Think of what an axis of length 1, and an array without entries, ask for.  The answer below is wrong for every view
that is not C-contiguous.
"""


def merges(shape, strides, first, last):
    """Whether a reshape that makes one axis of the axes first to last is a view."""
    return True
