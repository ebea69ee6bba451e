"""The rows of im2col: whole, per image, in blocks; packed inside a product; as pointers."""

from __future__ import annotations

from pymec.algorithm import Algorithm, Schedule, any_shape, blas_limit, thread_slices
from pymec.kernels.im2col import blocked, im2col, implicit_gemm, indirect
from pymec.kernels.register_tiles.schedule import gemm_blocking, preferred_multiply
from pymec.kernels.shared.blas import BLAS_INT_MAX
from pymec.kernels.shared.blocking import GemmBlocking, even_part
from pymec.kernels.shared.machine import (
    PACKED_CHANNELS,
    PACKED_DEPTH,
    PACKED_PIXELS,
    PACKED_STEP,
    SHALLOW,
    SLICE_BYTES,
)
from pymec.shapes import ConvShape

PAPER = (
    "Chellapilla, Puri & Simard, High Performance Convolutional Neural Networks for Document Processing, "
    "IWFHR 2006"
)


def im2col_limit(shape: ConvShape) -> str | None:
    return blas_limit(
        GEMM_row_count=shape.i_n * shape.o_h * shape.o_w,
        GEMM_reduction=shape.k_h * shape.k_w * shape.i_cg,
        GEMM_column_count=shape.k_c,
    )


def _per_image_limit(shape: ConvShape) -> str | None:
    return im2col_limit(shape.single_image())


def _blocked_limit(shape: ConvShape) -> str | None:
    return blas_limit(GEMM_reduction=shape.k_h * shape.k_w * shape.i_cg, GEMM_column_count=shape.k_c)


def im2col_schedule(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(0 if shape.is_pointwise else shape.im2col_size)


def _im2col_per_image(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return im2col_schedule(shape.single_image(), n_threads, limit)


def _im2col_blocked(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    patch = shape.k_h * shape.k_w * shape.i_cg
    pixels = max(1, shape.i_n * shape.o_h * shape.o_w)
    slices = thread_slices(shape.groups * pixels, n_threads, patch, limit)
    room = SLICE_BYTES // shape.itemsize if limit is None else limit // slices
    # All slices together never hold more pixels than there are: no more than im2col.
    block = max(1, min(room // patch, pixels * shape.groups // slices, pixels, BLAS_INT_MAX))
    multiply_with = preferred_multiply(shape)
    if multiply_with == "blas":
        blocking = GemmBlocking(patch, block, shape.k_cg, 1)  # whole
    else:
        blocking = gemm_blocking(multiply_with, shape, block, 1)
    options = {"block": block, "slices": slices, "blocking": blocking}
    return Schedule(slices * block * patch, options, uses_blas=multiply_with != "register_tiles")


# A product that packs its blocks from the image ---------------------------------------------------------

TILE = 6, 16
"""Pixels and output channels of the microkernel's tile: blocks of less are not worth their packing."""


def _implicit_gemm(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    pixels = max(1, shape.i_n * shape.o_h * shape.o_w)
    slices = thread_slices(-(-pixels // TILE[0]), n_threads, SHALLOW * sum(TILE), limit)
    rows = min(-(-pixels // slices), PACKED_PIXELS)
    patch = shape.k_h * shape.k_w * shape.i_cg
    depth = min(patch, -(-even_part(patch, PACKED_DEPTH) // PACKED_STEP) * PACKED_STEP)
    columns = -(-even_part(shape.k_cg, PACKED_CHANNELS) // TILE[1]) * TILE[1]
    if limit is not None and depth * (columns + slices * rows) > limit:
        rows, depth, columns = _within(limit, slices, rows, depth, columns)
    options = {"rows": rows, "depth": depth, "columns": columns, "slices": slices}
    return Schedule(depth * (columns + slices * rows), options)


def _within(limit: int, slices: int, rows: int, depth: int, columns: int) -> tuple[int, int, int]:
    """Blocks that fit, of one element if need be: first narrower, then lower, to a tile; then shallower."""
    columns = max(min(columns, TILE[1]), _panels(min(columns, limit // depth - slices * rows)))
    rows = max(min(rows, TILE[0]), min(rows, (limit // depth - columns) // slices))
    depth = max(1, min(depth, limit // (columns + slices * rows)))
    columns = max(1, _panels(min(columns, limit // depth - slices * rows)))
    rows = max(1, min(rows, (limit // depth - columns) // slices))
    return rows, depth, columns


def _panels(columns: int) -> int:
    return columns - columns % TILE[1] if columns > TILE[1] else columns


# Pointers -----------------------------------------------------------------------------------------------


def _indirect(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(indirect.buffer_size(shape) + shape.i_c)


ROWS = (
    Algorithm(
        name="im2col",
        idea="a row of the lowered matrix per output pixel, whole batch, one product",
        source=PAPER,
        formula="i_n·o_h·o_w·k_h·k_w·i_c",
        order="k²",
        unsupported=im2col_limit,
        schedule=im2col_schedule,
        run=im2col.run,
        fuses_bias_relu=False,
    ),
    Algorithm(
        name="im2col_per_image",
        idea="im2col, one image at a time through the same lowered matrix",
        source="Jia et al., Caffe: Convolutional Architecture for Fast Feature Embedding, 2014",
        formula="o_h·o_w·k_h·k_w·i_c",
        order="k²",
        unsupported=_per_image_limit,
        schedule=_im2col_per_image,
        run=im2col.run_per_image,
        fuses_bias_relu=False,
    ),
    Algorithm(
        name="im2col_blocked",
        idea="im2col, a block of m_b output pixels at a time",
        source="after Zhao et al., ECBC: Efficient Convolution via Blocked Columnizing, TNNLS 2023",
        formula="slices·m_b·k_h·k_w·i_c/G",
        order="bounded",
        unsupported=_blocked_limit,
        schedule=_im2col_blocked,
        run=blocked.run,
    ),
    Algorithm(
        name="implicit_gemm",
        idea="a product that packs its blocks of im2col's matrix from the image, without BLAS",
        source=(
            "after San Juan et al., High Performance and Portable Convolution Operators for (ARM-based) "
            "Multicore Processors, SBAC-PAD 2020"
        ),
        formula="d_c·n_c + slices·m_c·d_c",
        order="bounded",
        unsupported=any_shape,
        schedule=_implicit_gemm,
        run=implicit_gemm.run,
        fuses_bias_relu=False,
        uses_blas=False,
    ),
    Algorithm(
        name="indirect",
        idea="a pointer per output pixel of an image and tap in place of what it points to",
        source="Dukhan, The Indirect Convolution Algorithm, 2019",
        formula="⌈8·k_h·k_w·o_h·o_w / itemsize⌉ + i_c",
        order="k²",
        unsupported=any_shape,
        schedule=_indirect,
        run=indirect.run,
        uses_blas=False,
    ),
)
