"""The only door to BLAS, on its own."""

import itertools

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from pymec.kernels.shared import blas as _blas


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 1, 1), (2, 3, 5), (7, 1, 4), (1, 9, 1), (30, 40, 50), (200, 300, 40)]
)
@pytest.mark.parametrize("beta", [0, 1, -0.5])
def test_rowmajor_with_any_leading_dimension(dtype, m, k, n, beta):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((m, k + 3)).astype(dtype)[:, :k]
    b = rng.standard_normal((k, n + 2)).astype(dtype)[:, :n]
    room = rng.standard_normal((m + 2, n + 4)).astype(dtype)
    before = room.copy()
    c = room[1:-1, 2:-2]
    expected = a.astype(float) @ b.astype(float) + beta * c.astype(float)
    _blas.gemm(a, b, c, beta)
    np.testing.assert_allclose(c, expected, rtol=1e-3 if dtype == np.float32 else 1e-10, atol=1e-3)
    before[1:-1, 2:-2] = c
    np.testing.assert_array_equal(room, before)  # nothing beside C was written


def test_beta_zero_does_not_read_c():
    c = np.full((3, 4), np.nan)
    _blas.gemm(np.ones((3, 2)), np.ones((2, 4)), c)
    assert (c == 2).all()


def test_overlapping_rows_of_an_input():
    """MEC's windows: five partitions of a 5 x 21 matrix, 3 columns apart, each a view of 9 columns."""
    lowered = np.arange(105.0).reshape(5, 21)
    kernel = np.arange(9.0).reshape(9, 1)
    for y in range(5):
        window = lowered[:, 3 * y : 3 * y + 9]
        out = np.empty((5, 1))
        _blas.gemm(window, kernel, out)
        np.testing.assert_array_equal(out, window @ kernel)


def test_shapes_and_strides_are_checked():
    a, b, c = np.ones((3, 2)), np.ones((2, 4)), np.ones((3, 4))
    with pytest.raises(ValueError, match="does not give C"):
        _blas.gemm(a, b, np.ones((3, 5)))
    with pytest.raises(ValueError, match="empty"):
        _blas.gemm(np.ones((0, 2)), b, np.ones((0, 4)))
    for wrong in ((np.asfortranarray(a), b, c), (a, np.asfortranarray(b), c), (a, b, np.asfortranarray(c))):
        with pytest.raises(ValueError, match="is not row-major"):
            _blas.gemm(*wrong)
    overlapping = as_strided(np.ones(10), (3, 2), (8, 8))
    with pytest.raises(ValueError, match="A is not row-major"):
        _blas.gemm(overlapping, b, c)


def test_blas_int():
    assert _blas.BLAS_INT_MAX in (2**31 - 1, 2**63 - 1)


def test_rows_whose_elements_lie_apart_are_refused():
    with pytest.raises(ValueError, match="A is not row-major"):
        _blas.gemm(np.ones((3, 4))[:, ::2], np.ones((2, 4)), np.ones((3, 4)))


@pytest.mark.parametrize(("transpose_A", "transpose_B"), [(False, False), (True, True)])
@pytest.mark.parametrize(
    ("m", "n", "k", "rows", "columns", "depth"),
    [
        (2100, 512, 8192, 2048, 512, 8192),
        (300, 2000, 20_000, 300, 1431, 20_000),
        (500, 510, 40_000, 500, 510, 33_686),
    ],
    ids=["tall", "wide", "deep"],
)
def test_a_long_product_is_made_in_parts(m, n, k, rows, columns, depth, transpose_A, transpose_B):
    """The first has so many rows, columns and products of a sum; the bits are those of products of the parts."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k), dtype=np.float32), rng.standard_normal((k, n), dtype=np.float32)
    whole, parts = np.empty((m, n), np.float32), np.empty((m, n), np.float32)

    def multiply(a, b, c, beta):
        a = np.ascontiguousarray(a.T) if transpose_A else a
        b = np.ascontiguousarray(b.T) if transpose_B else b
        _blas.gemm(a, b, c, beta, transpose_A=transpose_A, transpose_B=transpose_B)

    multiply(a, b, whole, 0)
    for i, j, p in itertools.product(range(0, m, rows), range(0, n, columns), range(0, k, depth)):
        here = np.s_[i : i + rows], np.s_[p : p + depth], np.s_[j : j + columns]
        multiply(a[here[0], here[1]], b[here[1], here[2]], parts[here[0], here[2]], min(p, 1))
    np.testing.assert_array_equal(whole, parts)
    np.testing.assert_allclose(whole, a @ b, rtol=0, atol=1e-2)
