"""Grades exercise 5: every prediction against bytes that memray counts while pymec runs the layer."""

import numpy as np
import pytest

import pymec

LAYERS = {
    "cv5": (1, 24, 24, 96, 5, 5, 1, 1, 0, 0),
    "two images": (2, 13, 17, 5, 3, 3, 1, 1, 0, 0),
    "a stride that comes out uneven": (1, 30, 29, 4, 7, 7, 2, 2, 0, 0),
    "a stride as large as the kernel": (1, 31, 31, 3, 3, 3, 3, 3, 0, 0),
    "a stride larger than the kernel": (1, 40, 23, 3, 2, 2, 5, 3, 0, 0),
    "a flat kernel": (1, 20, 25, 6, 1, 5, 1, 2, 0, 0),
    "a tall kernel": (3, 25, 20, 6, 7, 2, 2, 1, 0, 0),
    "same size": (1, 28, 28, 16, 3, 3, 1, 1, 1, 1),
    "same size, a large kernel": (1, 19, 21, 4, 7, 7, 1, 1, 3, 3),
    "more padding than the kernel reaches": (1, 9, 11, 4, 3, 3, 1, 1, 4, 2),
    "stride and padding": (2, 32, 30, 8, 5, 3, 3, 2, 2, 1),
    "a stride over padding": (1, 14, 14, 4, 2, 2, 4, 4, 3, 3),
}


def measured(layer, algorithm):
    """The bytes of workspace that the call has at its most."""
    i_n, i_h, i_w, i_c, k_h, k_w, s_h, s_w, p_h, p_w = layer
    x, kernel = np.ones((i_n, i_h, i_w, i_c), np.float32), np.ones((k_h, k_w, i_c, 1), np.float32)
    with pymec.memory.track(n_threads=1) as t:
        pymec.conv2d(x, kernel, stride=(s_h, s_w), padding=(p_h, p_w), algorithm=algorithm, n_threads=1)
    return t.by_owner["workspace"].most


@pytest.mark.parametrize("which", ["im2col", "mec_b", "mec"])
@pytest.mark.parametrize("name", LAYERS)
def test_predicted_is_measured(exercise, name, which):
    predicted = exercise.predict(*LAYERS[name])[("im2col", "mec_b", "mec").index(which)]
    assert predicted == measured(LAYERS[name], which)
