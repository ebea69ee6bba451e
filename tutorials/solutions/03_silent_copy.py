"""A solution of exercise 3: one array of float32 from the start, and the rest in place."""

import numpy as np

import pymec


def feature_map(image, K, mean):
    """The feature map (o_h, o_w, k_c) of an image of bytes (i_h, i_w, i_c)."""
    x = np.divide(image, 255, dtype=np.float32)  # float64, twice as large, is the default
    x -= mean.astype(np.float32)
    O = pymec.conv2d(x[None], K, algorithm="direct", n_threads=1)[0]
    return np.maximum(O, 0, out=O)
