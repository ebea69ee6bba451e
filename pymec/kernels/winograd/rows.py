"""The table's rows of Winograd's convolution: three sizes of tile, all tiles at once and in bands."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pymec.algorithm import Algorithm, Schedule, blas_limit, thread_slices
from pymec.kernels.shared.blas import BLAS_INT_MAX
from pymec.kernels.shared.machine import BAND_BYTES, LEAST_TILES
from pymec.kernels.winograd import banded as winograd_banded
from pymec.kernels.winograd import winograd
from pymec.kernels.winograd.bands import tile_cycles, transform_cycles, winograd_bands
from pymec.kernels.winograd.matrices import error_bound, roundings
from pymec.shapes import ConvShape

_PAPER = "Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016"

TILES = (2, 4, 6)
"""t_o of F(t_o×t_o, 3×3)."""


def _no_tiles(shape: ConvShape) -> str | None:
    """The reason why Winograd's tiles can't do a shape, if they can't."""
    for what, needed, extents in (
        ("kernel", "3×3", (shape.k_h, shape.k_w)),
        ("stride", "1×1", (shape.s_h, shape.s_w)),
        ("dilation", "1×1", (shape.d_h, shape.d_w)),
    ):
        given = f"{extents[0]}×{extents[1]}"
        if given != needed:
            return f"its {what} is {given} and Winograd needs {needed}"
    return blas_limit(GEMM_reduction=shape.i_cg, GEMM_column_count=shape.k_cg)


def _whole_limit(t_o: int, shape: ConvShape) -> str | None:
    return _no_tiles(shape) or blas_limit(GEMM_row_count=winograd.tile_count(shape, t_o))


def _whole(t_o: int, shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    U, V, M = winograd.sizes(shape, t_o)
    return Schedule(U + V + M, {"t_o": t_o}, prepared=U)


def _banded(t_o: int, shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    U, line = winograd_banded.kernel_size(shape, t_o), winograd_banded.line_size(shape)
    tile = winograd_banded.tile_size(shape, t_o)
    room = None if limit is None else max(0, limit - U - line)
    slices = thread_slices(n_threads, n_threads, tile, room)
    most = usual_band(t_o, shape) if room is None else room // slices // tile
    bands = winograd_bands(shape, t_o, slices, min(max(1, most), BLAS_INT_MAX))
    options = {
        "t_o": t_o,
        "band_tiles": bands.band_tiles,
        "slices": slices,
        "channel_shares": bands.channel_shares,
    }
    return Schedule(U + slices * bands.band_tiles * tile + line, options, prepared=U)


def usual_band(t_o: int, shape: ConvShape) -> int:
    """The most tiles of a band without a limit."""
    return max(BAND_BYTES // shape.itemsize // winograd_banded.tile_size(shape, t_o), LEAST_TILES)


def best_tiles(shape: ConvShape, n_threads: int, planned: bool) -> int | None:
    """The t_o whose bands take the fewest cycles, or None if the definition in register tiles takes fewer.

    ``planned`` is whether the kernel's transform is done beforehand.
    """
    if _no_tiles(shape) is not None:
        return None

    def cycles(t_o: int) -> float:
        bands = winograd_bands(shape, t_o, n_threads, usual_band(t_o, shape)).cycles
        return bands if planned else bands + transform_cycles(shape, t_o, n_threads)

    t_o = min(TILES, key=cycles)
    return t_o if cycles(t_o) < tile_cycles(shape, n_threads) else None


def _prepare(kernel: NDArray, U: NDArray, shape: ConvShape, n_threads: int, t_o: int) -> None:
    winograd.transform_kernel(kernel, U, shape, t_o, n_threads)


def _prepare_panels(kernel: NDArray, U: NDArray, shape: ConvShape, n_threads: int, t_o: int, **bands: int) -> None:
    winograd_banded.transform_kernel(kernel, U, shape, t_o, n_threads)


def _bound(t_o: int) -> Callable[[NDArray, NDArray, ConvShape], NDArray[np.float64]]:
    def bound(x: NDArray, kernel: NDArray, shape: ConvShape) -> NDArray[np.float64]:
        return error_bound(x, kernel, shape, t_o)

    return bound


def _rows(t_o: int) -> tuple[Algorithm, Algorithm]:
    """The two rows of one size of tile."""
    t = t_o + 2
    bound = f"(i_c/G + {roundings(t_o) + 1})·u·|Aᵀ|[Σ(|G||g||Gᵀ|)⊙(|Bᵀ||d||B|)]|A|"
    return (
        Algorithm(
            name=f"winograd_f{t_o}",
            idea=f"F({t_o}×{t_o}, 3×3): {t}² products of all tiles at once, {t}²/{t_o}² in place of 9 per output",
            source=_PAPER,
            formula=f"{t}²·(i_c·k_c/G + P·(i_c + k_c)), P = i_n·⌈o_h/{t_o}⌉·⌈o_w/{t_o}⌉",
            order="transform",
            unsupported=partial(_whole_limit, t_o),
            schedule=partial(_whole, t_o),
            run=winograd.run,
            fuses_bias_relu=False,
            prepare=_prepare,
            accuracy="fast",
            bound=bound,
            error_bound=_bound(t_o),
        ),
        Algorithm(
            name=f"winograd_f{t_o}_banded",
            idea=f"F({t_o}×{t_o}, 3×3) on a band of P_b tiles at a time",
            source=f"ours, after {_PAPER}",
            formula=f"{t}²·(⌈k_c/(G·m_b)⌉·m_b·i_c + slices·P_b·(i_c/G + m_b)) + 128/itemsize",
            order="bounded",
            unsupported=_no_tiles,
            schedule=partial(_banded, t_o),
            run=winograd_banded.run,
            prepare=_prepare_panels,
            uses_blas=False,
            ours=True,
            accuracy="fast",
            bound=bound,
            error_bound=_bound(t_o),
        ),
    )


ROWS = tuple(row for pair in zip(*map(_rows, TILES), strict=True) for row in pair)
