"""Grades exercise 1: the values of the definition, and no padded copy of the input."""

import numpy as np
import pytest

import pymec

rng = np.random.default_rng(1)
I = rng.standard_normal((1, 48, 48, 64), dtype=np.float32)
K = rng.standard_normal((5, 5, 64, 8), dtype=np.float32)

STRIDES_AND_PADDING = [(1, 1, 0), (1, 1, 2), (2, 3, 1), (3, 1, 4), (1, 1, 7)]


@pytest.mark.parametrize(("s_h", "s_w", "p"), STRIDES_AND_PADDING)
def test_the_values(exercise, s_h, s_w, p):
    O = exercise.conv2d_padded(I, K, s_h, s_w, p)
    np.testing.assert_allclose(O, pymec.conv2d(I, K, stride=(s_h, s_w), padding=p), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("s_h", "s_w", "p"), STRIDES_AND_PADDING[1:3])
def test_no_padded_copy(exercise, within, s_h, s_w, p):
    within(I.nbytes // 2, exercise.conv2d_padded, I, K, s_h, s_w, p)


def test_the_input_is_left_alone(exercise):
    image = I.copy()
    exercise.conv2d_padded(image, K, 1, 1, 2)
    np.testing.assert_array_equal(image, I)
