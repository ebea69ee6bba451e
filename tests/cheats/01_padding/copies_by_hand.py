"""The copy in another guise: a zero array, filled by hand."""

import numpy as np


def conv2d_padded(I, K, s_h, s_w, p):
    (i_n, i_h, i_w, i_c), (k_h, k_w, _, k_c) = I.shape, K.shape
    o_h, o_w = (i_h + 2 * p - k_h) // s_h + 1, (i_w + 2 * p - k_w) // s_w + 1
    zeros = np.zeros((i_n, i_h + 2 * p, i_w + 2 * p, i_c), I.dtype)
    zeros[:, p : p + i_h, p : p + i_w] = I
    O = np.zeros((i_n, o_h, o_w, k_c), I.dtype)
    for a in range(k_h):
        for b in range(k_w):
            O += zeros[:, a : a + (o_h - 1) * s_h + 1 : s_h, b : b + (o_w - 1) * s_w + 1 : s_w] @ K[a, b]
    return O
