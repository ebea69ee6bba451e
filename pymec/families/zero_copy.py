"""Nothing lowered, nothing stored: products of the image as it lies in memory."""

from __future__ import annotations

from pymec.blas_limits import blas_multiplies_small_products_unpacked
from pymec.families._row import Algorithm, Schedule, blas_limit, no_workspace
from pymec.kernels import depthwise, direct_grouped, zero_copy
from pymec.kernels._pieces import COLUMNS, PANEL_BYTES, ROUND, even_part, pixel_block, small_products
from pymec.shapes import ConvShape


def _pixel_gemm_limit(shape: ConvShape) -> str | None:
    return blas_limit(GEMM_leading_dimension=max(shape.s_w * shape.i_c, shape.k_c))


def _filter_row_limit(shape: ConvShape) -> str | None:
    if shape.k_w > 1 and shape.d_w > 1:
        return f"its horizontal dilation is {shape.d_w}, and the pixels under a kernel row must lie side by side"
    if shape.k_w > 1 and shape.groups > 1:
        return (
            f"its kernel is {shape.k_w} pixels wide, and between the channels that one of its {shape.groups} "
            "groups reads of a pixel and of the next lie those of the other groups"
        )
    return blas_limit(GEMM_leading_dimension=max(shape.s_h * shape.i_w * shape.i_c, shape.o_w * shape.k_c))


def _pointwise_limit(shape: ConvShape) -> str | None:
    if shape.k_h * shape.k_w > 1:
        return f"its kernel is {shape.k_h}×{shape.k_w}, not 1×1"
    return _pixel_gemm_limit(shape)


def _depthwise_limit(shape: ConvShape) -> str | None:
    if shape.i_cg > 1:
        return f"each of its groups has {shape.i_cg} input channels and depthwise takes one"
    return None


def small_groups(shape: ConvShape, outputs: str = "output", inputs: str = "input") -> str | None:
    """Why groups can't share a line of registers, if they can't; a gradient's outputs are the input channels."""
    channels = {"input": shape.i_cg, "output": shape.k_cg}
    many, few = channels[outputs], channels[inputs]
    if many not in (1, 2, 4, 8, 16):
        return f"its groups have {many} {outputs} channels, not 1, 2, 4, 8 or 16"
    return f"its groups have {few} {inputs} channels, more than {many} {outputs} channels" if few > many else None


def _rows(shape: ConvShape, reduction: int, n_threads: int) -> Schedule:
    """Output rows as units of work, cut where the next row would miss the cache, or a thread have no work."""
    pieces = None
    units = shape.groups * max(shape.i_n, 1) * shape.o_h
    if blas_multiplies_small_products_unpacked():
        pieces = small_products(shape, shape.o_w, n_threads, reduction)
        row_blocks, channel_blocks = -(-shape.o_h // pieces.output_rows), -(-shape.k_cg // pieces.channels)
        units = shape.groups * max(shape.i_n, 1) * row_blocks * channel_blocks
    reach = shape.k_h * min(shape.s_w, shape.k_w) * shape.i_c * shape.itemsize  # bytes of I per output pixel
    most = max(PANEL_BYTES // reach, COLUMNS)
    block = even_part(shape.o_w, min(most, -(-shape.o_w * units // n_threads)))
    return Schedule(0, {"pieces": pieces, "block": -(-block // ROUND) * ROUND})


def _pixel_gemm(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return _rows(shape, shape.i_cg, n_threads)


def _filter_row_gemm(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return _rows(zero_copy.images_in_one(shape).transposed(), shape.k_w * shape.i_cg, n_threads)


def _pointwise(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    joined = zero_copy.all_in_one_row(shape)
    schedule = _rows(joined, shape.i_cg, n_threads)
    if joined is shape:
        return schedule
    pieces = schedule.options["pieces"]
    channel_units = shape.groups * (1 if pieces is None else -(-shape.k_cg // pieces.channels))
    block = pixel_block(shape, joined.o_w, channel_units, n_threads)
    return Schedule(0, {**schedule.options, "block": block})


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
    ),
    Algorithm(
        name="depthwise",
        idea="one input channel per group: vectors of channels, no product of matrices",
        source="the definition of a depthwise convolution",
        formula="0",
        order="none",
        unsupported=_depthwise_limit,
        schedule=no_workspace,
        run=depthwise.run,
        uses_blas=False,
    ),
    Algorithm(
        name="direct_grouped",
        idea="small groups: vectors of the channels of several groups, shuffled to meet their own",
        source="ours",
        formula="0",
        order="none",
        unsupported=small_groups,
        schedule=no_workspace,
        run=direct_grouped.run,
        uses_blas=False,
        ours=True,
    ),
)
