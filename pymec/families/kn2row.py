"""The sum of shifted 1×1 convolutions: planes of all taps, of one, or none."""

from __future__ import annotations

from typing import Any

from pymec.blas_limits import blas_multiplies_small_products_unpacked
from pymec.families._row import Algorithm, Schedule, blas_limit
from pymec.kernels import kn2row, shift_gemm
from pymec.kernels._pieces import pixel_block, small_products
from pymec.shapes import ConvShape

_PAPER = (
    "Vasudevan, Anderson & Gregg, Parallel Multi Channel Convolution using General Matrix Multiplication, "
    "ASAP 2017"
)
_LOW_MEMORY = (
    "Anderson, Vasudevan, Keane & Gregg, Low-memory GEMM-based convolution algorithms for deep neural networks, "
    "2017"
)


def _kn2row_limit(shape: ConvShape) -> str | None:
    return blas_limit(GEMM_leading_dimension=max(shape.i_c, shape.k_c))


def _shift_gemm_limit(shape: ConvShape) -> str | None:
    if shape.s_h > 1 or shape.s_w > 1:
        return (
            f"its stride is {shape.s_h}×{shape.s_w}, and shift_gemm, whose pixels lie as far apart in the input "
            "as in the output, needs 1×1"
        )
    return _kn2row_limit(shape)


def _cut(shape: ConvShape, pixels: int, n_threads: int) -> dict[str, Any]:
    """Options: how products of so many pixels are cut, and shared among threads."""
    pieces, channel_units = None, shape.groups
    if blas_multiplies_small_products_unpacked():
        pieces = small_products(shape, pixels, n_threads, shape.i_cg)
        channel_units *= -(-shape.k_cg // pieces.channels)
    return {"pieces": pieces, "block": pixel_block(shape, pixels, channel_units, n_threads)}


def _planes(shape: ConvShape, n_planes: int, n_threads: int) -> Schedule:
    pixels = shape.i_h * shape.i_w
    size = 0 if shape.is_pointwise else n_planes * pixels * shape.k_c
    return Schedule(size, _cut(shape, pixels, n_threads))


def _kn2row(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return _planes(shape, shape.k_h * shape.k_w, n_threads)


def _kn2row_aa(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return _planes(shape, 1, n_threads)


def _shift_gemm(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    size = shift_gemm.padded_size(shape) + shift_gemm.scratch_size(shape)
    pixels = (shape.o_h - 1) * shift_gemm.row_pitch(shape) + shape.o_w
    return Schedule(size, _cut(shape, pixels, n_threads))


ROWS = (
    Algorithm(
        name="kn2row",
        idea="all pixels times every tap, then the sum of the shifted planes",
        source=_PAPER,
        formula="i_h·i_w·k_h·k_w·k_c",
        order="k²",
        unsupported=_kn2row_limit,
        schedule=_kn2row,
        run=kn2row.run,
    ),
    Algorithm(
        name="kn2row_aa",
        idea="kn2row, one tap at a time through the same plane",
        source=_LOW_MEMORY,
        formula="i_h·i_w·k_c",
        order="plane",
        unsupported=_kn2row_limit,
        schedule=_kn2row_aa,
        run=kn2row.run_aa,
    ),
    Algorithm(
        name="shift_gemm",
        idea="a product per tap, the output at the row pitch of the input: nothing to repair",
        source=f"ours, after {_PAPER}",
        formula="((o_h - 1)·pitch + o_w)·k_c, pitch = max(i_w + max(p_l, p_r), o_w), or none if that is o_w; "
        "with p_l + p_r > 0 another ((i_h - 1)·pitch + p_l + i_w + p_r)·i_c",
        order="plane",
        unsupported=_shift_gemm_limit,
        schedule=_shift_gemm,
        run=shift_gemm.run,
        ours=True,
    ),
)
