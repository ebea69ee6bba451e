"""The table's rows of Fourier transforms: all spectra, lean, and two kinds of tiles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pymec.algorithm import Algorithm, Schedule, any_shape, blas_limit
from pymec.kernels.fourier import fft
from pymec.kernels.fourier.bound import error_bound
from pymec.kernels.fourier.tiles import image_grid, tile_grid
from pymec.shapes import ConvShape

_WHOLE = "Mathieu, Henaff & LeCun, Fast Training of Convolutional Networks through FFTs, 2013, arXiv:1312.5851"
_TILES = (
    "Highlander & Rodriguez, Very Efficient Training of Convolutional Neural Networks using Fast Fourier "
    "Transform and Overlap-and-Add, 2016, arXiv:1601.06815"
)


def _whole(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    grid = image_grid(shape)
    S = fft.spectrum_size(grid)
    Q = S * shape.i_cg * shape.k_c
    return Schedule(Q + S * shape.i_n * (shape.i_c + shape.k_c), {"grid": grid}, prepared=Q)


def _lean(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    grid = image_grid(shape)
    return Schedule(fft.spectrum_size(grid) * (shape.i_cg + 2), {"grid": grid})


def _tiles(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    grid = tile_grid(shape)
    S = fft.spectrum_size(grid)
    Q = S * shape.i_cg * shape.k_c
    return Schedule(Q + S * (shape.i_c + shape.k_c), {"grid": grid}, prepared=Q)


def _product_limit(shape: ConvShape) -> str | None:
    return blas_limit(GEMM_row_count=shape.i_n, GEMM_leading_dimension=max(shape.i_c, shape.k_c))


_row: Callable[..., Algorithm] = partial(
    Algorithm,
    order="transform",
    unsupported=_product_limit,
    fuses_bias_relu=False,
    accuracy="fast",
    bound="2·(36·log₂(F_h·F_w) + 2·i_c/G + 9)·u·Σ_c‖I_c‖₂·‖K_c‖₁",
    error_bound=error_bound,
)

ROWS = (
    _row(
        name="fft",
        idea="the spectra of every plane of the image and of the kernel, multiplied frequency by frequency",
        source=_WHOLE,
        formula="S·(i_c·k_c/G + i_n·i_c + i_n·k_c), S = 2·F_h·(⌊F_w/2⌋ + 1)",
        schedule=_whole,
        run=fft.run,
        prepare=fft.prepare,
    ),
    _row(
        name="fft_lean",
        idea="the same, kernel spectra one at a time and again for every image",
        source=f"after {_WHOLE}",
        formula="S·(i_c/G + 2)",
        schedule=_lean,
        run=fft.run_lean,
        unsupported=any_shape,
        uses_blas=False,
    ),
    _row(
        name="fft_overlap_save",
        idea="tiles of the input that overlap; outputs that have wrapped around are left out",
        source=f"after {_TILES}",
        formula="S·(i_c·k_c/G + i_c + k_c), S of a tile",
        schedule=_tiles,
        run=fft.run_overlap_save,
        prepare=fft.prepare,
    ),
    _row(
        name="fft_overlap_add",
        idea="tiles of the input side by side, whose outputs overlap and are added up",
        source=_TILES,
        formula="S·(i_c·k_c/G + i_c + k_c), S of a tile",
        schedule=_tiles,
        run=fft.run_overlap_add,
        prepare=fft.prepare,
    ),
)
