"""Exercise 4: MEC turned by 90 degrees.

MEC lowers vertical strips, and a partition of L makes an output row.  Turn it: for every output *row* lower a strip
that is ``k_h`` rows high and as wide as the image, and write it down column by column.  L has the shape
``(i_n, o_h, i_w, k_h, i_c)``, and a partition makes an output *column*.

In L a patch now lies in the order (b, a, c), so the kernel needs its axes permuted once.  For one output column the
rows (n, y) of the partition start at a constant distance, and so do the output's.

Below, L is right, but the patches are copied out of it once more, and the product is made of the copy.
"""

import numpy as np


def conv2d_mec_w(I, K, s_h, s_w):
    """The output, and the lowered L."""
    (i_n, i_h, i_w, i_c), (k_h, k_w, _, k_c) = I.shape, K.shape
    o_h, o_w = (i_h - k_h) // s_h + 1, (i_w - k_w) // s_w + 1
    L = np.empty((i_n, o_h, i_w, k_h, i_c), I.dtype)
    for y in range(o_h):
        L[:, y] = I[:, y * s_h : y * s_h + k_h].transpose(0, 2, 1, 3)
    patches = np.stack([L[:, :, x * s_w : x * s_w + k_w] for x in range(o_w)], axis=2)
    turned = K.transpose(1, 0, 2, 3).reshape(-1, k_c)
    return (patches.reshape(-1, k_w * k_h * i_c) @ turned).reshape(i_n, o_h, o_w, k_c), L
