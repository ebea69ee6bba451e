"""How far rounding may take what was computed by Fourier transforms: relative to planes, as log N."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pymec.kernels.fourier.tiles import image_grid, tile_grid
from pymec.shapes import ConvShape


def error_bound(x: NDArray, kernel: NDArray, shape: ConvShape) -> NDArray[np.float64]:
    """How far rounding may take an output from the exact sum: the same for all of an image's output channel.

    A pass of radix p in a transform is a product by p × p matrices of modulus one, whose rounding in the 2-norm is
    at most (p + 3)·√2·√p·u of the result (after Higham, *Accuracy and Stability of Numerical Algorithms*,
    chapters 3 and 24; two of the p + 3 are for the product by a twiddle factor that is itself rounded).  For p
    up to 5, all that grids have, this is less than 12·u for each bit of p: a transform of N numbers is off by
    12·log₂(N)·u.

    Two such errors meet in X_c·Q_c and a third is the way back.  By Cauchy and Schwarz the first two reach an
    output as no more than ‖I_c‖₂·‖K_c‖₂ each, and the third as ‖I_c‖₂·‖K_c‖₁, which is the largest of them.
    The complex sum over i_c/G channels rounds each term 2·(i_c/G + 2) times at most, storing once; overlap-add
    adds four tiles, at most twice the norm of the image between them.  In all, to first order::

        2·(36·log₂ N + 2·i_c/G + 9) · u · Σ_c ‖I_c‖₂·‖K_c‖₁

    N is that of the whole image, or of a tile if it is larger, and the norms run over a channel of an image.
    Errors of all frequencies would have to conspire at one output to reach it; they seldom come within a
    thousandth.

    Returns
    -------
    array (i_n, o_h, o_w, k_c), float64
    """
    s = shape
    length = max(math.prod(image_grid(s)), math.prod(tile_grid(s)))
    squares = np.square(x, dtype=np.longdouble).sum((1, 2))  # float64 overflows at the square of 1e155
    image = np.sqrt(squares).astype(np.float64).reshape(s.i_n, s.groups, s.i_cg)
    taps = np.abs(kernel, dtype=np.float64).sum((0, 1)).reshape(s.i_cg, s.groups, s.k_cg)
    terms = np.einsum("ngc,cgm->ngm", image, taps).reshape(s.i_n, 1, 1, s.k_c)
    factor = 2 * (36 * math.log2(length) + 2 * s.i_cg + 9) * np.finfo(s.dtype).eps / 2
    return np.broadcast_to(factor * terms, s.output_shape)
