"""Winograd's convolution with three sizes of tile, all tiles at once and in bands."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pymec.families._row import SLICE_BYTES, Algorithm, Schedule, blas_limit, thread_slices
from pymec.kernels import winograd, winograd_banded
from pymec.kernels._blas import BLAS_INT_MAX
from pymec.kernels._winograd_matrices import error_bound, roundings
from pymec.shapes import ConvShape

_PAPER = "Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016"

LEAST_TILES = 16
"""Tiles in a band without a limit, even where they take more than a slice: fewer would read U too often."""


def _no_tiles(shape: ConvShape) -> str | None:
    """The reason why Winograd's tiles are not for a shape, if there is one."""
    for what, needed, extents in (
        ("kernel", "3×3", (shape.k_h, shape.k_w)),
        ("stride", "1×1", (shape.s_h, shape.s_w)),
        ("dilation", "1×1", (shape.d_h, shape.d_w)),
    ):
        given = f"{extents[0]}×{extents[1]}"
        if given != needed:
            return f"its {what} is {given} and Winograd needs {needed}"
    return blas_limit(GEMM_reduction=shape.i_cg, GEMM_column_count=shape.k_cg)


def _whole_limit(m: int, shape: ConvShape) -> str | None:
    return _no_tiles(shape) or blas_limit(GEMM_row_count=winograd.tile_count(shape, m))


def _whole(m: int, shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    U, V, M = winograd.sizes(shape, m)
    return Schedule(U + V + M, {"m": m}, prepared=U)


def _banded(m: int, shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    U = winograd.sizes(shape, m)[0]
    tiles = max(1, winograd.tile_count(shape, m))
    tile = (m + 2) ** 2 * (shape.i_cg + shape.k_cg)  # elements of V and M for one tile of one group
    room = None if limit is None else max(0, limit - U)
    slices = thread_slices(shape.groups * tiles, n_threads, tile, room)
    usual = max(SLICE_BYTES // shape.itemsize // tile, LEAST_TILES)
    most = usual if room is None else room // slices // tile
    # All slices together never hold more tiles than there are.
    band_tiles = max(1, min(most, shape.groups * tiles // slices, tiles, BLAS_INT_MAX))
    return Schedule(
        U + slices * band_tiles * tile, {"m": m, "band_tiles": band_tiles, "slices": slices}, prepared=U
    )


def _prepare(kernel: NDArray, U: NDArray, shape: ConvShape, n_threads: int, m: int, **bands: int) -> None:
    winograd.transform_kernel(kernel, U, shape, m, n_threads)


def _bound(m: int) -> Callable[[NDArray, NDArray, ConvShape], NDArray[np.float64]]:
    def bound(x: NDArray, kernel: NDArray, shape: ConvShape) -> NDArray[np.float64]:
        return error_bound(x, kernel, shape, m)

    return bound


def _rows(m: int) -> tuple[Algorithm, Algorithm]:
    """The two rows of one size of tile."""
    t = m + 2
    bound = f"(i_c/G + {roundings(m) + 1})·u·|Aᵀ|[Σ(|G||g||Gᵀ|)⊙(|Bᵀ||d||B|)]|A|"
    return (
        Algorithm(
            name=f"winograd_f{m}",
            idea=f"F({m}×{m}, 3×3): {t}² products of all tiles at once, {t}²/{m}² in place of 9 per output",
            source=_PAPER,
            formula=f"{t}²·(i_c·k_c/G + P·(i_c + k_c)), P = i_n·⌈o_h/{m}⌉·⌈o_w/{m}⌉",
            order="transform",
            unsupported=partial(_whole_limit, m),
            schedule=partial(_whole, m),
            run=winograd.run,
            prepare=_prepare,
            accuracy="fast",
            bound=bound,
            error_bound=_bound(m),
        ),
        Algorithm(
            name=f"winograd_f{m}_banded",
            idea=f"F({m}×{m}, 3×3) on a band of P_b tiles at a time",
            source=f"ours, after {_PAPER}",
            formula=f"{t}²·(i_c·k_c/G + slices·P_b·(i_c + k_c)/G)",
            order="bounded",
            unsupported=_no_tiles,
            schedule=partial(_banded, m),
            run=winograd_banded.run,
            prepare=_prepare,
            ours=True,
            accuracy="fast",
            bound=bound,
            error_bound=_bound(m),
        ),
    )


ROWS = tuple(row for pair in zip(_rows(2), _rows(4), _rows(6), strict=True) for row in pair)
