"""Winograd's convolution with three sizes of tile, all tiles at once and in bands."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pymec.families._row import Algorithm, Schedule, blas_limit, thread_slices
from pymec.kernels import winograd, winograd_banded
from pymec.kernels._blas import BLAS_INT_MAX
from pymec.kernels._pieces import even_part
from pymec.kernels._register_tile import taken_pixels, tile_for
from pymec.kernels._winograd_matrices import error_bound, roundings
from pymec.shapes import ConvShape

_PAPER = "Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016"

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
    U = winograd_banded.kernel_size(shape, m)
    tiles = max(1, winograd.tile_count(shape, m))
    tile = winograd_banded.tile_size(shape, m)
    room = None if limit is None else max(0, limit - U)
    slices = thread_slices(n_threads, n_threads, tile, room)
    channel_shares = _channel_shares(m, shape, slices)
    share = -(-shape.groups * tiles // (slices // channel_shares))
    usual = max(BAND_BYTES // shape.itemsize // tile, LEAST_TILES)
    most = usual if room is None else room // slices // tile
    # All slices together never hold more tiles than there are, but for those that several transform.
    band_tiles = max(1, min(even_part(min(share, tiles), most), BLAS_INT_MAX))
    options = {"m": m, "band_tiles": band_tiles, "slices": slices, "channel_shares": channel_shares}
    return Schedule(U + slices * band_tiles * tile, options, prepared=U)


def _channel_shares(m: int, shape: ConvShape, slices: int) -> int:
    """Among how many threads the panels are shared, the tiles among the others: what makes the shares smallest.

    Work is counted in products of a tile and a panel; a tile's own transform is about another.  Of even choices that
    with the most channel shares reads each panel of U the fewest times.
    """
    width = tile_for(shape.k_cg, shape.itemsize)[1]
    panels, tiles = -(-shape.k_cg // width), shape.groups * max(1, winograd.tile_count(shape, m))

    def work(shares: int) -> tuple[float, int]:
        tiles_of_one = -(-tiles // (slices // shares))
        taken = taken_pixels(tiles_of_one, shape.k_cg, shape.itemsize)
        return -(-panels // shares) * taken + tiles_of_one, -shares

    return min((shares for shares in range(1, slices + 1) if slices % shares == 0), key=work)


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
            prepare=_prepare,
            finishes=True,
            accuracy="fast",
            bound=bound,
            error_bound=_bound(m),
        ),
        Algorithm(
            name=f"winograd_f{m}_banded",
            idea=f"F({m}×{m}, 3×3) on a band of P_b tiles at a time",
            source=f"ours, after {_PAPER}",
            formula=f"{t}²·(⌈k_c/(G·m_b)⌉·m_b·i_c + slices·P_b·(i_c/G + m_b)) + 64/itemsize",
            order="bounded",
            unsupported=_no_tiles,
            schedule=partial(_banded, m),
            run=winograd_banded.run,
            prepare=_prepare_panels,
            uses_blas=False,
            finishes=True,
            ours=True,
            accuracy="fast",
            bound=bound,
            error_bound=_bound(m),
        ),
    )


ROWS = tuple(row for pair in zip(_rows(2), _rows(4), _rows(6), strict=True) for row in pair)
