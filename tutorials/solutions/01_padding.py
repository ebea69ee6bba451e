"""A solution of exercise 1: for every tap, the rows and columns of the output at which it lies on the image."""

import numpy as np


def inside(o, i, s, p, a):
    """The output positions at which tap ``a`` lies on the input, and the input positions under it."""
    first = max(0, -((a - p) // s))  # the smallest y with y·s - p + a >= 0
    last = min(o - 1, (i - 1 + p - a) // s)  # the largest with y·s - p + a < i
    start = first * s - p + a
    return slice(first, last + 1), slice(start, start + (last - first) * s + 1, s)


def conv2d_padded(I, K, s_h, s_w, p):
    """The convolution of I with K, after p rows and columns of zeros are put on each side of I."""
    (i_n, i_h, i_w, _), (k_h, k_w, _, k_c) = I.shape, K.shape
    o_h, o_w = (i_h + 2 * p - k_h) // s_h + 1, (i_w + 2 * p - k_w) // s_w + 1
    O = np.zeros((i_n, o_h, o_w, k_c), I.dtype)
    for a in range(k_h):
        y, h = inside(o_h, i_h, s_h, p, a)
        for b in range(k_w):
            x, w = inside(o_w, i_w, s_w, p, b)
            O[:, y, x] += I[:, h, w] @ K[a, b]
    return O
