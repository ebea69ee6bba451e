"""Grades exercise 4: values, the contents of L, and no copy of L."""

import numpy as np
import pytest

import pymec

rng = np.random.default_rng(4)
I = rng.standard_normal((2, 40, 36, 32), dtype=np.float32)
K = rng.standard_normal((5, 3, 32, 16), dtype=np.float32)

STRIDES = [(1, 1), (2, 1), (2, 3), (6, 1)]


@pytest.mark.parametrize(("s_h", "s_w"), STRIDES)
def test_the_values(exercise, s_h, s_w):
    O, _ = exercise.conv2d_mec_w(I, K, s_h, s_w)
    expected = pymec.conv2d(I, K, stride=(s_h, s_w), algorithm="direct")
    np.testing.assert_allclose(O, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("s_h", "s_w"), STRIDES)
def test_L_holds_horizontal_strips(exercise, s_h, s_w):
    O, L = exercise.conv2d_mec_w(I, K, s_h, s_w)
    assert L.shape == (2, O.shape[1], 36, 5, 32)
    for y in range(O.shape[1]):
        np.testing.assert_array_equal(L[:, y], I[:, y * s_h : y * s_h + 5].transpose(0, 2, 1, 3))


@pytest.mark.parametrize(("s_h", "s_w"), STRIDES[:3])
def test_nothing_is_copied_after_L(exercise, within, s_h, s_w):
    O, L = exercise.conv2d_mec_w(I, K, s_h, s_w)
    # O, L, the permuted kernel, a product of one column, and some room for Python's objects
    within(L.nbytes + O.nbytes + K.nbytes + 2**16, exercise.conv2d_mec_w, I, K, s_h, s_w)
