"""Exercise 1: padding without a padded copy.

``conv2d_padded`` below is right, but it copies the whole input to put zeros around it.  Make it do without: its
memory may grow by half of the input's bytes, which a padded copy alone exceeds.

A tap that falls on a zero adds nothing.  For each tap (a, b), which output rows y have
``0 <= y·s_h - p + a < i_h``?  Add to those alone.
"""

import numpy as np


def conv2d_padded(I, K, s_h, s_w, p):
    """The convolution of I with K, after p rows and columns of zeros are put on each side of I."""
    (i_n, i_h, i_w, _), (k_h, k_w, _, k_c) = I.shape, K.shape
    o_h, o_w = (i_h + 2 * p - k_h) // s_h + 1, (i_w + 2 * p - k_w) // s_w + 1
    padded = np.pad(I, ((0, 0), (p, p), (p, p), (0, 0)))
    O = np.zeros((i_n, o_h, o_w, k_c), I.dtype)
    for a in range(k_h):
        for b in range(k_w):
            O += padded[:, a : a + (o_h - 1) * s_h + 1 : s_h, b : b + (o_w - 1) * s_w + 1 : s_w] @ K[a, b]
    return O
