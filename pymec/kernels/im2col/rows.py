"""im2col of the batch, an image or a block of pixels; without its matrix; with pointers in its place."""

from __future__ import annotations

from pymec.algorithm import Algorithm, Schedule, any_shape, blas_limit, thread_slices
from pymec.kernels.im2col import blocked, im2col, implicit_gemm, indirect
from pymec.kernels.register_tiles.schedule import gemm_blocking, preferred_multiply
from pymec.kernels.shared.blas import BLAS_INT_MAX
from pymec.kernels.shared.blocking import even_part
from pymec.kernels.shared.machine import SLICE_BYTES
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
    cut = preferred_multiply(shape)
    blocking = None if cut == "blas" else gemm_blocking(cut, shape, block, 1)
    options = {"block": block, "slices": slices, "blocking": blocking}
    return Schedule(slices * block * patch, options, uses_blas=cut != "register_tiles")


_INDIRECT = "Dukhan, The Indirect Convolution Algorithm, 2019"


# A product that packs its blocks from the image ---------------------------------------------------------

ROWS_AT_A_TIME = 64
"""m_c, pixels in a thread's block: the block and a panel of K's share the level-2 cache."""

DEPTH = 256
"""d_c, how much of the sum a block holds: a panel of K's with 16 columns is 16 KiB."""

COLUMNS = 512
"""n_c, output channels of a block of K: with fewer, the patches would be packed more often."""

TILE = 6, 16
"""Pixels and output channels of a register tile: with less, blocks are not worth their packing."""

STEPS = 4
"""The depth of a block is a multiple of this: rows of A begin where vectors do, or nearly."""

SHALLOW = 16
"""Threads do without a slice of their own before the sums of a tile become shorter than this."""


def _implicit_gemm(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    pixels = max(1, shape.i_n * shape.o_h * shape.o_w)
    slices = thread_slices(-(-pixels // TILE[0]), n_threads, SHALLOW * sum(TILE), limit)
    rows = min(-(-pixels // slices), ROWS_AT_A_TIME)
    patch = shape.k_h * shape.k_w * shape.i_cg
    depth = min(patch, -(-even_part(patch, DEPTH) // STEPS) * STEPS)
    columns = -(-even_part(shape.k_cg, COLUMNS) // TILE[1]) * TILE[1]
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


def _offsets_limit(shape: ConvShape) -> str | None:
    pixels = shape.i_h * shape.i_w
    return None if pixels < 2**31 else f"its images of {pixels} pixels are more than 31 bits count"


def _indirect(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(indirect.buffer_size(shape, shape.o_h * shape.o_w, indirect.POINTER_BYTES) + shape.i_c)


def _indirect_offsets(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(indirect.buffer_size(shape, shape.o_h * shape.o_w, indirect.OFFSET_BYTES) + shape.i_c)


def _indirect_tiled(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    def size(pixels: int) -> int:
        return indirect.buffer_size(shape, pixels, indirect.POINTER_BYTES)

    pixels = shape.o_h * shape.o_w
    room = None if limit is None else max(0, limit - shape.i_c)
    slices = thread_slices(shape.i_n * pixels, n_threads, size(1), room)
    room = SLICE_BYTES // shape.itemsize if room is None else room // slices
    share = -(-pixels // slices)  # as many runs of pixels in every image as there are threads, or more
    block = max(1, min(room * shape.itemsize // (shape.k_h * shape.k_w * indirect.POINTER_BYTES), share))
    return Schedule(slices * size(block) + shape.i_c, {"block": block, "slices": slices})


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
        uses_blas=False,
    ),
    Algorithm(
        name="indirect",
        idea="a pointer per output pixel of an image and tap in place of what it points to",
        source=_INDIRECT,
        formula="⌈8·k_h·k_w·o_h·o_w / itemsize⌉ + i_c",
        order="k²",
        unsupported=any_shape,
        schedule=_indirect,
        run=indirect.run,
        uses_blas=False,
    ),
    Algorithm(
        name="indirect_offsets",
        idea="indirect, with the number of a pixel in four bytes in place of its address",
        source=f"ours, after {_INDIRECT}",
        formula="⌈4·k_h·k_w·o_h·o_w / itemsize⌉ + i_c",
        order="k²",
        unsupported=_offsets_limit,
        schedule=_indirect_offsets,
        run=indirect.run_offsets,
        uses_blas=False,
        ours=True,
    ),
    Algorithm(
        name="indirect_tiled",
        idea="indirect, with the pointers of m_b output pixels at a time",
        source=f"ours, after {_INDIRECT}",
        formula="slices·⌈8·k_h·k_w·m_b / itemsize⌉ + i_c",
        order="bounded",
        unsupported=any_shape,
        schedule=_indirect_tiled,
        run=indirect.run_tiled,
        uses_blas=False,
        ours=True,
    ),
)
