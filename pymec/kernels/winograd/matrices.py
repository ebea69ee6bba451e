"""The matrices of Winograd's F(t_o×t_o, 3×3), exact, and how far rounding may take its results.

Y = Aᵀ [ (G·g·Gᵀ) ⊙ (Bᵀ·d·B) ] A gives t_o×t_o outputs from t×t inputs, t = t_o + 2.  The matrices follow from t
points at which polynomials are evaluated, here 0, 1, -1, 2, -2, 1/2, -1/2 and infinity, as many as t_o needs
(Lavin & Gray, CVPR 2016, for t_o = 2 and 4).  ``transforms.pxd`` computes with the same numbers.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pymec.shapes import ConvShape


class Matrices(NamedTuple):
    """Bᵀ (t × t), G (t × 3) and Aᵀ (t_o × t), arrays of fractions."""

    B_T: NDArray
    G: NDArray
    A_T: NDArray


def _matrix(text: str) -> NDArray:
    return np.array([[Fraction(number) for number in row.split()] for row in text.split(";")], dtype=object)


MATRICES = {
    2: Matrices(
        _matrix("1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1"),
        _matrix("1 0 0; 1/2 1/2 1/2; 1/2 -1/2 1/2; 0 0 1"),
        _matrix("1 1 1 0; 0 1 -1 -1"),
    ),
    4: Matrices(
        _matrix("4 0 -5 0 1 0; 0 -4 -4 1 1 0; 0 4 -4 -1 1 0; 0 -2 -1 2 1 0; 0 2 -1 -2 1 0; 0 4 0 -5 0 1"),
        _matrix("1/4 0 0; -1/6 -1/6 -1/6; -1/6 1/6 -1/6; 1/24 1/12 1/6; 1/24 -1/12 1/6; 0 0 1"),
        _matrix("1 1 1 1 1 0; 0 1 -1 2 -2 0; 0 1 1 4 4 0; 0 1 -1 8 -8 1"),
    ),
    6: Matrices(
        _matrix(
            "1 0 -21/4 0 21/4 0 -1 0; 0 1 1 -17/4 -17/4 1 1 0; 0 -1 1 17/4 -17/4 -1 1 0;"
            "0 1/2 1/4 -5/2 -5/4 2 1 0; 0 -1/2 1/4 5/2 -5/4 -2 1 0; 0 2 4 -5/2 -5 1/2 1 0;"
            "0 -2 4 5/2 -5 -1/2 1 0; 0 -1 0 21/4 0 -21/4 0 1"
        ),
        _matrix(
            "1 0 0; -2/9 -2/9 -2/9; -2/9 2/9 -2/9; 1/90 1/45 2/45; 1/90 -1/45 2/45;"
            "32/45 16/45 8/45; 32/45 -16/45 8/45; 0 0 1"
        ),
        _matrix(
            "1 1 1 1 1 1 1 0; 0 1 -1 2 -2 1/2 -1/2 0; 0 1 1 4 4 1/4 1/4 0; 0 1 -1 8 -8 1/8 -1/8 0;"
            "0 1 1 16 16 1/16 1/16 0; 0 1 -1 32 -32 1/32 -1/32 1"
        ),
    ),
}
"""The matrices of F(t_o×t_o, 3×3), by t_o, which is the paper's m."""


def roundings(t_o: int) -> int:
    """The roundings that all four transforms together may put on one term of an output.

    A product by a row of n terms is one multiplication and n - 1 additions for each of them.  Numbers that a
    power of two does not divide evenly, as G's sixths and ninths, are rounded themselves: once more.  Every
    transform is two such products, one along each axis.
    """
    passed = 0
    for matrix in MATRICES[t_o]:
        passed += max(np.count_nonzero(row) for row in matrix)
        passed += any(number.denominator & (number.denominator - 1) for number in matrix.flat)
    return 2 * passed


def error_bound(x: NDArray, kernel: NDArray, shape: ConvShape, t_o: int) -> NDArray[np.float64]:
    """How far rounding may take each output of Winograd's convolution from the exact sum.

    The outputs are sums of products of input, kernel and coefficients.  Each term is rounded at most
    :func:`roundings` times on its way through the transforms, once in its product and i_c/G - 1 times in the sum
    over channels; one more is for what is of second order.  So the error is at most that many u times the
    sum of the terms' absolute values, which is the algorithm again on absolute values::

        (i_c/G + roundings + 1) · u · |Aᵀ| [ Σ_c (|G|·|g|·|Gᵀ|) ⊙ (|Bᵀ|·|d|·|B|) ] |A|

    Terms that cancel in exact arithmetic count fully here: that is why it grows with t_o.

    Returns
    -------
    array (i_n, o_h, o_w, k_c), float64
    """
    s, t = shape, t_o + 2
    B_T, G, A_T = (np.abs(matrix).astype(np.float64) for matrix in MATRICES[t_o])
    rows, columns = -(-s.o_h // t_o), -(-s.o_w // t_o)
    padded = np.zeros((s.i_n, rows * t_o + 2, columns * t_o + 2, s.i_c))
    padded[:, s.p_t : s.p_t + s.i_h, s.p_l : s.p_l + s.i_w] = np.abs(x)
    tiles = np.lib.stride_tricks.sliding_window_view(padded, (t, t), axis=(1, 2))[:, ::t_o, ::t_o]
    out = np.empty((s.i_n, rows, t_o, columns, t_o, s.k_c))
    for group in range(s.groups):
        c = slice(group * s.i_cg, (group + 1) * s.i_cg)
        k = slice(group * s.k_cg, (group + 1) * s.k_cg)
        V = np.einsum("ia,nyxcab,jb->ijnyxc", B_T, tiles[:, :, :, c], B_T, optimize=True)
        U = np.einsum("ia,abxk,jb->ijxk", G, np.abs(kernel[..., k], dtype=np.float64), G, optimize=True)
        M = V.reshape(t, t, -1, s.i_cg) @ U
        Y = np.einsum("pi,ijsk,qj->spqk", A_T, M, A_T, optimize=True)
        out[..., k] = Y.reshape(s.i_n, rows, columns, t_o, t_o, s.k_cg).transpose(0, 1, 3, 2, 4, 5)
    out = out.reshape(s.i_n, rows * t_o, columns * t_o, s.k_c)[:, : s.o_h, : s.o_w]
    return (s.i_cg + roundings(t_o) + 1) * np.finfo(s.dtype).eps / 2 * out
