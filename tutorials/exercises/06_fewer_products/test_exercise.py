"""Grades exercise 6: values, the number of products and what they multiply, and memory."""

import numpy as np
import pytest

import pymec

SHAPES = {
    "cv12, an eighth of its channels": ((7, 7, 64), (3, 3, 64, 64)),
    "taller than wide": ((19, 8, 12), (3, 3, 12, 10)),
    "a tall kernel": ((12, 11, 8), (5, 2, 8, 6)),
    "a flat kernel": ((9, 14, 8), (1, 4, 8, 6)),
    "one output row": ((4, 9, 5), (4, 3, 5, 7)),
}


class Multiply:
    """Multiplies, and remembers the shapes; refuses what BLAS could not take as it lies."""

    def __init__(self):
        self.multiply_adds = []

    def __call__(self, A, B, out):
        for matrix in (A, B, out):
            assert matrix.ndim == 2
            assert matrix.strides[1] == matrix.itemsize, "rows must be contiguous"
            assert matrix.shape[0] == 1 or matrix.strides[0] >= matrix.shape[1] * matrix.itemsize, "rows overlap"
        np.matmul(A, B, out=out)
        self.multiply_adds.append(A.size * B.shape[1])


def operands(name):
    rng = np.random.default_rng(6)
    return [rng.standard_normal(shape, dtype=np.float32) for shape in SHAPES[name]]


@pytest.mark.parametrize("name", SHAPES)
def test_values_and_products(exercise, name):
    I, K = operands(name)
    multiply = Multiply()
    O = exercise.conv2d_mec(I, K, multiply)
    np.testing.assert_allclose(O, pymec.conv2d(I[None], K, algorithm="direct")[0], rtol=1e-3, atol=1e-3)
    assert len(multiply.multiply_adds) <= K.shape[0], f"{len(multiply.multiply_adds)} products"
    assert sum(multiply.multiply_adds) == O[..., 0].size * K.size, "not the multiply-adds of the definition"


@pytest.mark.parametrize("name", ["cv12, an eighth of its channels", "taller than wide"])
def test_memory(exercise, within, name):
    I, K = operands(name)
    (i_h, i_w, i_c), (k_h, k_w, _, k_c) = I.shape, K.shape
    o_h, o_w = i_h - k_h + 1, i_w - k_w + 1
    L, A, O = (4 * size for size in (o_w * i_h * k_w * i_c, o_h * o_w * k_w * i_c, o_h * o_w * k_c))
    within(L + O + A + O + 2**15, exercise.conv2d_mec, I, K, Multiply())
