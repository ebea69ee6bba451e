"""A solution of exercise 4: for each output column a product of one slice of L, which is a view."""

import numpy as np


def conv2d_mec_w(I, K, s_h, s_w):
    """The output, and the lowered L."""
    (i_n, i_h, i_w, i_c), (k_h, k_w, _, k_c) = I.shape, K.shape
    o_h, o_w = (i_h - k_h) // s_h + 1, (i_w - k_w) // s_w + 1
    L = np.empty((i_n, o_h, i_w, k_h, i_c), I.dtype)
    for y in range(o_h):
        L[:, y] = I[:, y * s_h : y * s_h + k_h].transpose(0, 2, 1, 3)
    turned = K.transpose(1, 0, 2, 3).reshape(-1, k_c)
    flat = L.reshape(i_n * o_h, i_w * k_h * i_c)
    O = np.empty((i_n, o_h, o_w, k_c), I.dtype)
    columns = O.reshape(i_n * o_h, o_w, k_c)
    for x in range(o_w):
        start = x * s_w * k_h * i_c
        columns[:, x] = flat[:, start : start + k_w * k_h * i_c] @ turned
    return O, L
