"""Winograd's convolution with three sizes of tile, all tiles at once and in bands."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pymec.algorithm import Algorithm, Schedule, blas_limit, thread_slices
from pymec.kernels.shared.blas import BLAS_INT_MAX
from pymec.kernels.winograd import banded as winograd_banded
from pymec.kernels.winograd import winograd
from pymec.kernels.winograd.bands import band_cut, tile_cycles, transform_cycles
from pymec.kernels.winograd.matrices import error_bound, roundings
from pymec.shapes import ConvShape

_PAPER = "Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016"

TILES = (2, 4, 6)
"""m of F(m×m, 3×3)."""

BAND_BYTES = 640 * 1024
"""What V and a panel of M may take of a band without a limit: most of a 1 MiB level-2 cache, U only streams by."""

LEAST_TILES = 12
"""Tiles in a band without a limit, even where they take more than that: fewer would read U too often."""


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
    U, line = winograd_banded.kernel_size(shape, m), winograd_banded.line_size(shape)
    tile = winograd_banded.tile_size(shape, m)
    room = None if limit is None else max(0, limit - U - line)
    slices = thread_slices(n_threads, n_threads, tile, room)
    most = usual_band(m, shape) if room is None else room // slices // tile
    cut = band_cut(shape, m, slices, min(max(1, most), BLAS_INT_MAX))
    options = {"m": m, "band_tiles": cut.band_tiles, "slices": slices, "channel_shares": cut.channel_shares}
    return Schedule(U + slices * cut.band_tiles * tile + line, options, prepared=U)


def usual_band(m: int, shape: ConvShape) -> int:
    """The most tiles of a band without a limit."""
    return max(BAND_BYTES // shape.itemsize // winograd_banded.tile_size(shape, m), LEAST_TILES)


def best_tiles(shape: ConvShape, n_threads: int, planned: bool) -> int | None:
    """The m whose bands take the fewest cycles, or None where the definition in register tiles takes fewer.

    ``planned`` is whether the kernel's transform is done beforehand.
    """
    if _no_tiles(shape) is not None:
        return None

    def cycles(m: int) -> float:
        bands = band_cut(shape, m, n_threads, usual_band(m, shape)).cycles
        return bands if planned else bands + transform_cycles(shape, m, n_threads)

    m = min(TILES, key=cycles)
    return m if cycles(m) < tile_cycles(shape, n_threads) else None


def _prepare(kernel: NDArray, U: NDArray, shape: ConvShape, n_threads: int, m: int) -> None:
    winograd.transform_kernel(kernel, U, shape, m, n_threads)


def _prepare_panels(kernel: NDArray, U: NDArray, shape: ConvShape, n_threads: int, m: int, **bands: int) -> None:
    winograd_banded.transform_kernel(kernel, U, shape, m, n_threads)


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
            fuses_bias_relu=False,
            prepare=_prepare,
            accuracy="fast",
            bound=bound,
            error_bound=_bound(m),
        ),
        Algorithm(
            name=f"winograd_f{m}_banded",
            idea=f"F({m}×{m}, 3×3) on a band of P_b tiles at a time",
            source=f"ours, after {_PAPER}",
            formula=f"{t}²·(⌈k_c/(G·m_b)⌉·m_b·i_c + slices·P_b·(i_c/G + m_b)) + 128/itemsize",
            order="bounded",
            unsupported=_no_tiles,
            schedule=partial(_banded, m),
            run=winograd_banded.run,
            prepare=_prepare_panels,
            uses_blas=False,
            ours=True,
            accuracy="fast",
            bound=bound,
            error_bound=_bound(m),
        ),
    )


ROWS = tuple(row for pair in zip(*map(_rows, TILES), strict=True) for row in pair)
