"""im2col in its three sizes: the batch, an image, a block of pixels."""

from __future__ import annotations

from pymec.families._row import SLICE_BYTES, Algorithm, Schedule, blas_limit, product_cut, thread_slices
from pymec.kernels import im2col, im2col_blocked
from pymec.kernels._blas import BLAS_INT_MAX
from pymec.kernels._tile_cut import products
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
    cut = product_cut(shape)
    pieces = None if cut == "whole" else products(cut, shape, block, 1)
    options = {"block": block, "slices": slices, "pieces": pieces}
    return Schedule(slices * block * patch, options, uses_blas=cut != "registers")


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
        run=im2col_blocked.run,
    ),
)
