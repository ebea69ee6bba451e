"""A solution of exercise 6: L with its rows outside, so that one kernel row of all output pixels is one matrix.

If L is laid out (i_h, o_w, k_w, i_c), the rows y + a of all its strips are one block for all y.  Nothing is copied out
of it.  This is the turn of L that makes all output rows one product; the price is a sum of k_h products.
"""

import numpy as np


def conv2d_mec(I, K, multiply):
    """The output (o_h, o_w, k_c) of an image (i_h, i_w, i_c)."""
    (i_h, i_w, i_c), (k_h, k_w, _, k_c) = I.shape, K.shape
    o_h, o_w = i_h - k_h + 1, i_w - k_w + 1
    L = np.empty((i_h, o_w, k_w, i_c), I.dtype)
    for x in range(o_w):
        L[:, x] = I[:, x : x + k_w]
    O = np.zeros((o_h, o_w, k_c), I.dtype)
    product = np.empty((o_h * o_w, k_c), I.dtype)
    for a in range(k_h):
        multiply(L[a : a + o_h].reshape(o_h * o_w, k_w * i_c), K[a].reshape(-1, k_c), product)
        O += product.reshape(O.shape)
    return O
