"""The written rule behind ``algorithm="auto"``: for every operation, which algorithms are tried in which order.

This is arithmetic on sizes; nothing is measured, and no limit is looked at.  The numbers that the rules name were
measured (:mod:`pymec.kernels.shared.machine`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from pymec import registry
from pymec.kernels.direct.rows import depthwise_algorithm, few_filters_per_channel, windows_have_room
from pymec.kernels.fourier.estimate import beats_definition
from pymec.kernels.mec.rows import choose_solution
from pymec.kernels.register_tiles.grouped import whole_vectors
from pymec.kernels.register_tiles.panels import panels_size
from pymec.kernels.register_tiles.schedule import (
    fast_tiles,
    few_filters,
    filled_panels,
    packing_pays,
    shared_vectors,
)
from pymec.kernels.shared.blas_library import blas_multiplies_small_products_unpacked
from pymec.kernels.shared.machine import (
    CACHE_LINE,
    GRAD_CHANNELS,
    GRAD_PHASES,
    GRAD_ROWS,
    HALF_L2_BYTES,
    KERNEL_BLOCK_LINES,
    LONG_DOT,
    MANY_PIXELS,
    REPAID_FLIP,
    REPAID_PACKING,
    SHORT_ROW,
    SLICE_BYTES,
    SMALL_PANELS,
    SMALL_WORKSPACE,
    WINOGRAD_CHANNELS,
    WINOGRAD_TILES,
)
from pymec.kernels.winograd.rows import best_tiles
from pymec.layouts import Copies, plain_copies
from pymec.operations import Operation
from pymec.shapes import ConvShape


class Request(NamedTuple):
    """How a convolution is asked for.

    ``planned`` is whether its kernel will be prepared once and used often; ``copies`` is what of the arrays must
    be copied, or None if arrays are C-contiguous.
    """

    n_threads: int
    planned: bool
    accuracy: str
    copies: Copies | None


def order_of(operation: Operation, shape: ConvShape, request: Request) -> tuple[str, ...]:
    """What ``algorithm="auto"`` tries, in order: the first that can do the shape within the limit is taken."""
    return ORDERS[operation.name](shape, request)


def as_row(shape: ConvShape) -> ConvShape:
    """A column of pixels as a row, which it is in memory: rows are what all algorithms are fast along."""
    return shape.transposed() if shape.is_column else shape


# Convolutions -------------------------------------------------------------------------------------------


def _conv2d_order(shape: ConvShape, request: Request) -> tuple[str, ...]:
    """What "auto" tries for a convolution, in order.

    What turns no images comes before the rest; with ``accuracy="fast"`` what an estimate finds faster is first.
    """
    row = as_row(shape)
    exact = _exact_order(row, request.n_threads, request.planned)
    order = *_instead_of_turning(shape, request.copies, exact[0]), *exact
    if request.accuracy == "fast":
        return *_fast_order(row, request.n_threads, request.planned), *order
    return order


def _exact_order(shape: ConvShape, n_threads: int, planned: bool) -> tuple[str, ...]:
    """What "auto" tries for a convolution of images in n-h-w-c, in order.

    Register tiles, straight from the image, are the fastest (``docs/results``) and need no workspace.
    They need a CPU with enough vector registers, and enough output channels per group to fill a vector (16 or
    32 in float32).  A plan packs K into panels for them, and so does a single call with a small K and many
    pixels; where K has wide rows, a call packs it block by block (``direct_packed``).  In panels, zeros may fill
    up the vector.  Small groups share a vector (``direct_grouped``), and so do groups of one channel; but
    ``depthwise`` has whole blocks of channels, and ``depthwise_windows`` vectors of pixels where channels are
    few, or each has a few filters.  With few filters of many channels a vector holds input channels
    (``direct_dots``).  Elsewhere products by BLAS are the fastest: :func:`_blas_order`.
    """
    blas = _blas_order(shape, n_threads)
    if shape.i_cg == shape.k_cg == 1:
        return depthwise_algorithm(shape), "depthwise", *blas
    if _can("direct_grouped", shape, "conv2d") and shared_vectors(shape):
        return "direct_grouped", "direct_blocked"
    if few_filters_per_channel(shape):
        return "depthwise_windows", *blas
    if few_filters(shape):
        return "direct_dots", *blas
    pixels = shape.i_n * shape.o_h * shape.o_w
    small = panels_size(shape) * shape.itemsize <= SMALL_PANELS and pixels >= MANY_PIXELS
    if fast_tiles(shape):
        if planned or small:
            return "direct_panels", "direct_blocked"
        return ("direct_packed", "direct_blocked") if packing_pays(shape) else ("direct_blocked",)
    return ("direct_panels", *blas) if (planned or small) and filled_panels(shape) else blas


def _instead_of_turning(shape: ConvShape, copies: Copies | None, best: str) -> tuple[str, ...]:
    """The algorithms that come before all others if these would have to turn whole images.

    That is so of plain NCHW, and not of channels-last tensors: of those the others copy the kernel at most.
    Turning an image takes longer than a pointwise or depthwise layer, for which there are algorithms that turn
    nothing.  Where register tiles are ``best``, they turn a part at a time.
    """
    copies = copies or plain_copies(shape)
    readings = {"pointwise_planes": copies.by_planes}
    one_by_one = shape.groups > 1 or shape.k_c * shape.itemsize <= CACHE_LINE  # or many filters of one channel
    if windows_have_room(shape) and one_by_one:
        readings["depthwise_windows"] = copies.by_strides
    if best in ("direct_panels", "direct_packed", "direct_blocked"):
        readings["direct_planes"] = copies.by_strides
    return tuple(name for name, copied in readings.items() if copies.by_slices - copied > shape.kernel_size)


def _blas_order(shape: ConvShape, n_threads: int) -> tuple[str, ...]:
    """The algorithms that multiply by BLAS, in the order in which "auto" tries them.

    ``mec_banded`` is as fast as ``mec`` almost everywhere (``docs/results``) in a fraction of the memory, but a
    band lowers again the rows that it shares with the band before.  ``mec_column_split`` comes before it if a band
    of a single output row is too wide for the cache, or if bands would lower each row more than twice, under large
    or dilated kernels; otherwise after it, for limits that are too small for such a band.  Full ``mec`` comes
    first where tiles of columns, too, would lower each row more than twice, where bands and tiles save little
    (with many threads their slices add up), and where several images with narrow outputs are multiplied side by
    side (Solution A), which they can't do.

    A kernel of a single row lowers nothing: the pixels under it are adjacent in the image.  A BLAS that does not
    pack small products multiplies pieces of the image (``filter_row_gemm``, or ``pointwise`` for 1×1).  For one
    that packs all it multiplies, a pointwise layer is a single product (``im2col``).

    The least that ``im2col_blocked`` and ``mec_column_split`` need is one pixel's patch, ``direct`` needs nothing,
    and ``direct_blocked`` no copy of a slice either, so there is always an answer.
    """
    tiles = "mec_banded", "mec_column_split"
    too_wide = shape.band_size(1) * shape.itemsize > SLICE_BYTES
    if too_wide or _times_lowered("mec_banded", shape, n_threads) > 2:
        tiles = "mec_column_split", "mec_banded"
    lowered_again = _times_lowered(tiles[0], shape, n_threads) > 2
    side_by_side = shape.i_n > 1 and choose_solution(shape) == "A"
    tiled = registry.get(tiles[0]).schedule(shape, n_threads, None).size
    little_to_save = shape.mec_size <= max(2 * tiled, SMALL_WORKSPACE // shape.itemsize)
    smaller = *tiles, "im2col_blocked", "direct", "direct_blocked"
    unpacked = blas_multiplies_small_products_unpacked()
    if shape.is_pointwise and not unpacked:
        return "im2col", "mec", *smaller
    if shape.k_h == 1 and unpacked:
        return "pointwise" if shape.k_w == 1 else "filter_row_gemm", *smaller
    if side_by_side or little_to_save or lowered_again:
        return "mec", *smaller
    return smaller


def _times_lowered(banded: str, shape: ConvShape, n_threads: int) -> float:
    """How many times a banded form of MEC lowers an image row: those that a band reads ÷ those it goes on by."""
    rows = registry.get(banded).schedule(shape, n_threads, None).options["band_rows"]
    return shape.band_rows_kept(rows) / (rows * shape.s_h)


def _fast_order(shape: ConvShape, n_threads: int, planned: bool) -> tuple[str, ...]:
    """What ``accuracy="fast"`` puts before the exact algorithms: what an estimate finds faster.

    That is a Fourier transform for large kernels (:mod:`pymec.kernels.fourier.estimate`), and Winograd for 3×3.
    With register tiles it is a banded form, with the tile size that an estimate of cycles finds best
    (:mod:`pymec.kernels.winograd.bands`).  With BLAS, Winograd pays only with enough channels to sum at each
    point and enough tiles to repay the transform of the kernel.
    """
    if shape.k_h * shape.k_w > 9 and beats_definition(shape, planned):
        return ("fft",)
    if fast_tiles(shape):
        t_o = best_tiles(shape, n_threads, planned)
        return () if t_o is None else (f"winograd_f{t_o}_banded",)
    channels = min(shape.i_cg, shape.k_cg) >= WINOGRAD_CHANNELS
    tiles = shape.i_n * -(-shape.o_h // 4) * -(-shape.o_w // 4) >= WINOGRAD_TILES
    return ("winograd_f4",) if channels and tiles else ()


# Gradients ----------------------------------------------------------------------------------------------


def _input_grad_order(shape: ConvShape, request: Request) -> tuple[str, ...]:
    """What "auto" tries for the input's gradient, in order.

    With enough channels it is done by forward convolutions on register tiles (``direct_conv``), and so is that of
    one channel per group, by ``depthwise``; small groups share vectors (``direct_grouped``).  A single call with
    few pixels, or short sums, flips K as it packs it (``direct_packed``): that takes less time than to flip all
    of it first.  With a handful of outputs K is multiplied where it lies (``direct_dots``).

    With too few channels for tiles, or a large stride, whose phases have few pixels each, one product per tap
    (``pixel_gemm``) or, with stride 1 or few channels, MEC through L comes first.  Where windows don't overlap, L
    is im2col's matrix, and ``im2col`` has fewer products; 1×1 with a stride lowers nothing, and is ``pixel_gemm``.
    Few input channels of many output channels are dot products (``direct_dots``) beside a BLAS that packs all it
    multiplies, but not where a stride leaves them short.

    The depthwise layers of networks, 3×3 with stride 2, have an algorithm of their own (``depthwise``).  If a
    limit leaves no room for these, it is an algorithm without workspace.
    """
    shape = as_row(shape)
    one_channel = shape.i_cg == shape.k_cg == 1
    few_phases = shape.s_h * shape.s_w <= GRAD_PHASES
    dense = shape.s_h == shape.s_w == 1
    taps = not dense and shape.i_cg >= GRAD_CHANNELS
    smaller = "pixel_gemm", "direct", "direct_conv"  # the last one takes |K|, but no copies of slices
    strided_pixels = shape.k_h == shape.k_w == 1 and not dense
    rest = smaller if taps or strided_pixels else ("im2col" if shape.k_h <= shape.s_h else "mec", *smaller)
    phase = replace(
        shape, i_c=shape.k_c, k_c=shape.i_c, k_h=-(-shape.k_h // shape.s_h), k_w=-(-shape.k_w // shape.s_w)
    )
    if few_filters(phase):
        long = phase.k_h * phase.k_w * phase.i_cg >= LONG_DOT * shape.s_h * shape.s_w
        dots = (dense or long) and not blas_multiplies_small_products_unpacked()
        return ("direct_dots", *rest) if dots else (rest[0], "direct_dots", *rest[1:])
    if shape.groups > 1 and whole_vectors(shape, swapped=True):
        if _can("depthwise", shape, "conv2d_input_grad"):
            return "depthwise", *rest
        if _can("direct_grouped", shape, "conv2d_input_grad"):
            by_pixel = dense and one_channel and depthwise_algorithm(shape) != "direct_grouped"
            return ("direct_conv", "direct_grouped", *rest) if by_pixel else ("direct_grouped", *rest)
    swapped = replace(shape, i_c=shape.k_c, k_c=shape.i_c)
    if not few_phases or not ((one_channel and dense) or fast_tiles(swapped)):
        return rest
    pixels = shape.i_n * -(-shape.i_h // shape.s_h) * -(-shape.i_w // shape.s_w)
    one_block = phase.k_h * phase.k_w * phase.i_cg <= KERNEL_BLOCK_LINES
    if not request.planned and not one_channel and (one_block or pixels < REPAID_FLIP):
        handful = shape.i_n * shape.o_h * shape.o_w < REPAID_PACKING
        in_place = handful and _can("direct_dots", shape, "conv2d_input_grad")
        return ("direct_dots",) * in_place + ("direct_packed", "direct_conv", *rest)
    return "direct_conv", *rest


def _kernel_grad_order(shape: ConvShape, request: Request) -> tuple[str, ...]:
    """What "auto" tries for the kernel's gradient, in order.

    Register tiles are the fastest, as in :func:`_exact_order`; small groups share a vector.  A tile has the
    channels of adjacent taps for its rows: if these are too few, MEC through L comes first beside a BLAS that
    packs nothing.  The depthwise layers of networks keep their sums in registers, if there is a cache line of
    channels for each thread.

    With too few output channels for these it is MEC, too, where a tap has few channels; elsewhere ``im2col``, if
    its matrix fits into a cache or rows are short, or a product per tap and row by BLAS.
    """
    shape = as_row(shape)
    few = shape.i_cg < GRAD_CHANNELS
    cached = shape.im2col_size * shape.itemsize <= HALF_L2_BYTES or shape.o_w <= SHORT_ROW
    rest: tuple[str, ...] = ("pixel_gemm", "direct")
    if few:
        rest = "mec", *rest
    elif cached and shape.groups == 1:
        rest = "im2col", *rest
    if fast_tiles(shape):
        adjacent = shape.d_w == 1 and shape.groups == 1
        rows = shape.i_cg * (shape.k_w if adjacent else 1)
        apart = rows <= GRAD_ROWS and shape.k_h * shape.k_w > 1 and blas_multiplies_small_products_unpacked()
        rest = "direct_blocked", "direct"
        if apart:
            rest = "mec", *rest
    if not (few and shape.groups > 1 and whole_vectors(shape)):
        return rest
    if shape.k_c * shape.itemsize >= request.n_threads * CACHE_LINE and _can(
        "depthwise", shape, "conv2d_kernel_grad"
    ):
        return "depthwise", *rest
    return "direct_grouped", *rest


def _can(algorithm: str, shape: ConvShape, operation: str) -> bool:
    """Whether an algorithm can do the shape at all."""
    return registry.get(algorithm, operation).unsupported(shape) is None


ORDERS = {
    "conv2d": _conv2d_order,
    "conv2d_input_grad": _input_grad_order,
    "conv2d_kernel_grad": _kernel_grad_order,
}
