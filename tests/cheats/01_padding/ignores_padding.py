"""No copy, because there is no padding: the outputs at the border are left zero."""

import numpy as np


def conv2d_padded(I, K, s_h, s_w, p):
    (i_n, i_h, i_w, _), (k_h, k_w, _, k_c) = I.shape, K.shape
    O = np.zeros((i_n, (i_h + 2 * p - k_h) // s_h + 1, (i_w + 2 * p - k_w) // s_w + 1, k_c), I.dtype)
    for y in range(-(-p // s_h), (i_h + p - k_h) // s_h + 1):
        for x in range(-(-p // s_w), (i_w + p - k_w) // s_w + 1):
            patch = I[:, y * s_h - p : y * s_h - p + k_h, x * s_w - p : x * s_w - p + k_w]
            O[:, y, x] = np.einsum("nabc,abcm->nm", patch, K)
    return O
