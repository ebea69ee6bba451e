"""A small network with a silent copy.  Which line makes it, and which line needs most?

pymec profile profiling/examples/small_cnn.py
"""

import numpy as np

import pymec


def ones(*extents):
    return np.ones(extents, np.float32)


def relu(x):
    return np.maximum(x, 0)


def network(x, kernels, weights):
    for kernel in kernels:
        x = relu(pymec.conv2d(x, kernel, padding=1, algorithm="im2col"))
    features = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    return features @ weights


if __name__ == "__main__":
    kernels = [ones(3, 3, 3, 32), ones(3, 3, 32, 64), ones(3, 3, 64, 64)]
    scores = network(ones(1, 112, 112, 3), kernels, ones(112 * 112 * 64, 10))
    print("scores:", scores.shape)
