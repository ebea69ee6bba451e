"""The table's rows of the sums of small products, and how their products are cut."""

from __future__ import annotations

from typing import Any

from pymec.algorithm import Algorithm, Schedule, blas_limit, reads_planes
from pymec.kernels.shared.blas_library import blas_multiplies_small_products_unpacked
from pymec.kernels.shared.blocking import GemmBlocking, even_part, pixel_block, small_blas_products
from pymec.kernels.shared.machine import HALF_L2_BYTES, PRODUCT_PIXELS, PRODUCT_ROUND
from pymec.kernels.small_products import kn2row, pointwise_planes, shift_gemm, yaconv, zero_copy
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
            f"its stride is {shape.s_h}×{shape.s_w} and shift_gemm, whose pixels are as far apart in the input "
            "as in the output, needs 1×1"
        )
    return _kn2row_limit(shape)


def _blocks(shape: ConvShape, pixels: int, n_threads: int) -> dict[str, Any]:
    """Options: the blocks of products of ``pixels`` rows, and the pixels that a thread takes at a time."""
    blocking = _blocking(shape, pixels, shape.i_cg, n_threads)
    channel_tasks = shape.groups * -(-shape.k_cg // blocking.channels)
    return {"blocking": blocking, "block": pixel_block(shape, pixels, channel_tasks, n_threads)}


def _blocking(shape: ConvShape, pixels: int, reduction: int, n_threads: int) -> GemmBlocking:
    """Products that BLAS multiplies without packing, if it can; otherwise whole ones."""
    if blas_multiplies_small_products_unpacked():
        return small_blas_products(shape, pixels, n_threads, reduction)
    return GemmBlocking(reduction, max(pixels, 1), shape.k_cg, 1)


def _planes(shape: ConvShape, n_planes: int, n_threads: int) -> Schedule:
    pixels = shape.i_h * shape.i_w
    size = 0 if shape.is_pointwise else n_planes * pixels * shape.k_c
    return Schedule(size, _blocks(shape, pixels, n_threads))


def _kn2row(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return _planes(shape, shape.k_h * shape.k_w, n_threads)


def _kn2row_aa(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return _planes(shape, 1, n_threads)


def _shift_gemm(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    size = shift_gemm.padded_size(shape) + shift_gemm.scratch_size(shape)
    pixels = (shape.o_h - 1) * shift_gemm.row_pitch(shape) + shape.o_w
    return Schedule(size, _blocks(shape, pixels, n_threads))


# Straight from the image --------------------------------------------------------------------------------


def _pixel_gemm_limit(shape: ConvShape) -> str | None:
    return blas_limit(GEMM_leading_dimension=max(shape.s_w * shape.i_c, shape.k_c))


def _filter_row_limit(shape: ConvShape) -> str | None:
    if shape.k_w > 1 and shape.d_w > 1:
        return f"its horizontal dilation is {shape.d_w}, and the pixels under a kernel row must be adjacent"
    if shape.k_w > 1 and shape.groups > 1:
        return (
            f"its kernel is {shape.k_w} pixels wide, and the channels of each of its {shape.groups} groups "
            "are not adjacent from one pixel to the next"
        )
    return blas_limit(GEMM_leading_dimension=max(shape.s_h * shape.i_w * shape.i_c, shape.o_w * shape.k_c))


def _pointwise_limit(shape: ConvShape) -> str | None:
    if shape.k_h * shape.k_w > 1:
        return f"its kernel is {shape.k_h}×{shape.k_w}, not 1×1"
    return _pixel_gemm_limit(shape)


def _pointwise_planes_limit(shape: ConvShape) -> str | None:
    if not pointwise_planes.keeps_pixels(shape):
        return (
            f"its kernel is {shape.k_h}×{shape.k_w}, its stride {shape.s_h}×{shape.s_w} and its padding "
            f"{shape.p_t}, {shape.p_b}, {shape.p_l}, {shape.p_r}; it takes 1×1, 1×1 and none"
        )
    return blas_limit(GEMM_leading_dimension=max(shape.i_h * shape.i_w, shape.i_cg, shape.k_cg))


def _lines(shape: ConvShape, reduction: int, n_threads: int) -> Schedule:
    """Tasks of a few output rows, cut where a thread would have none or its cache no room until the next row."""
    blocking = _blocking(shape, shape.o_w, reduction, n_threads)
    row_blocks, channel_blocks = -(-shape.o_h // blocking.output_rows), -(-shape.k_cg // blocking.channels)
    tasks = shape.groups * max(shape.i_n, 1) * row_blocks * channel_blocks
    reach = shape.k_h * min(shape.s_w, shape.k_w) * shape.i_c * shape.itemsize  # bytes of I per output pixel
    most = max(HALF_L2_BYTES // reach, PRODUCT_PIXELS)
    block = even_part(shape.o_w, min(most, -(-shape.o_w * tasks // n_threads)))
    return Schedule(0, {"blocking": blocking, "block": -(-block // PRODUCT_ROUND) * PRODUCT_ROUND})


def _pixel_gemm(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return _lines(shape, shape.i_cg, n_threads)


def _filter_row_gemm(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return _lines(zero_copy.images_in_one(shape).transposed(), shape.k_w * shape.i_cg, n_threads)


def _pointwise(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    joined = zero_copy.all_in_one_row(shape)
    if joined is None:
        return _lines(shape, shape.i_cg, n_threads)
    return Schedule(0, _blocks(joined, joined.o_w, n_threads))


def _pointwise_planes(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    """Whole products, unless the threads can't share them evenly: then each is cut along its longer side."""
    pixels, channels = shape.i_h * shape.i_w, shape.k_cg
    if max(shape.i_n, 1) * shape.groups % n_threads:
        if pixels >= channels:
            pixels = -(-pixels // n_threads)
            pixels = min(-(-pixels // PRODUCT_ROUND) * PRODUCT_ROUND, shape.i_h * shape.i_w)
        else:
            channels = -(-channels // n_threads)
    return Schedule(0, {"pixels": pixels, "channels": channels})


def _stride_one(shape: ConvShape) -> str | None:
    if shape.s_h == shape.s_w == 1:
        return None
    return f"its stride is {shape.s_h}×{shape.s_w} and YaConv needs 1×1"


def _yaconv(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(yaconv.spill_size(shape))


ROWS = (
    Algorithm(
        name="pixel_gemm",
        idea="a product per output row and tap, straight from the image",
        source="ours; every tap a 1×1 convolution as in Vasudevan, Anderson & Gregg, Parallel Multi Channel "
        "Convolution using General Matrix Multiplication, ASAP 2017",
        formula="0",
        order="none",
        unsupported=_pixel_gemm_limit,
        schedule=_pixel_gemm,
        run=zero_copy.run_pixel_gemm,
        fuses_bias_relu=False,
        ours=True,
    ),
    Algorithm(
        name="filter_row_gemm",
        idea="a product per output column and kernel row, straight from the image",
        source="ours; the products of Korostelev et al., YaConv: Convolution with Low Cache Footprint, TACO 2023, "
        "through the BLAS interface",
        formula="0",
        order="none",
        unsupported=_filter_row_limit,
        schedule=_filter_row_gemm,
        run=zero_copy.run_filter_row_gemm,
        fuses_bias_relu=False,
        ours=True,
    ),
    Algorithm(
        name="pointwise",
        idea="a 1×1 kernel: the image is its own lowered matrix, pixels a stride apart",
        source="the definition of a 1×1 convolution",
        formula="0",
        order="none",
        unsupported=_pointwise_limit,
        schedule=_pointwise,
        run=zero_copy.run_pointwise,
        fuses_bias_relu=False,
    ),
    Algorithm(
        name="pointwise_planes",
        idea="a 1×1 kernel in n-c-h-w: the kernel times the matrix whose rows are the planes",
        source="the definition of a 1×1 convolution",
        formula="0",
        order="none",
        unsupported=_pointwise_planes_limit,
        schedule=_pointwise_planes,
        run=pointwise_planes.run,
        reading=reads_planes,
    ),
    Algorithm(
        name="kn2row",
        idea="all pixels times every tap, then the sum of the shifted planes",
        source=_PAPER,
        formula="i_h·i_w·k_h·k_w·k_c",
        order="k²",
        unsupported=_kn2row_limit,
        schedule=_kn2row,
        run=kn2row.run,
        fuses_bias_relu=False,
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
        fuses_bias_relu=False,
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
        fuses_bias_relu=False,
        ours=True,
    ),
    Algorithm(
        name="yaconv",
        idea="six image rows times one kernel row, column by column; sums without a place are spilled",
        source=(
            "after Korostelev, de Carvalho, Moreira & Amaral, YaConv: Convolution with Low Cache Footprint, "
            "ACM TACO 20(1), 2023"
        ),
        formula="(max(0, e_h-1-p_t) + max(0, e_h-1-p_b) + (-i_h mod 6))·o_w·k_c, e_h = (k_h-1)·d_h + 1",
        order="k",
        unsupported=_stride_one,
        schedule=_yaconv,
        run=yaconv.run,
        fuses_bias_relu=False,
        uses_blas=False,
    ),
)
