"""The written rule behind ``algorithm="auto"``, and what fits a limit: arithmetic on shapes, no arrays."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from pymec import registry, threads
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
from pymec.layouts import Copies, conversion_size, plain_copies
from pymec.operations import CONV2D, Operation
from pymec.recipes import Recipe, recipe_of, said_of_copies
from pymec.shapes import ConvShape, UnsupportedShape
from pymec.spelling import shown

ACCURACIES = ("exact", "fast")


# Choosing -----------------------------------------------------------------------------------------------


def recipe(
    shape: ConvShape,
    algorithm: str,
    accuracy: str,
    limit: int | None,
    n_threads: int | None,
    operation: Operation = CONV2D,
    planned: bool = False,
    copies: Copies | None = None,
) -> Recipe:
    """Choose the algorithm, its threads and its workspace; raise if it can't be done within ``limit`` bytes.

    ``planned`` is whether the kernel will be prepared once and used often; ``copies`` is what of the arrays must
    be copied, or None if arrays are C-contiguous.
    """
    # Outside the cache: the default number of threads may change between calls, and as a key True equals 1.
    threads_used = threads.effective_n_threads(n_threads, shape.multiply_adds)
    if not isinstance(algorithm, str):
        registry.get(algorithm, operation.name)
    if not isinstance(accuracy, str):
        raise ValueError(f"accuracy must be 'exact' or 'fast', got {shown(accuracy)}")
    return cached_recipe(shape, algorithm, accuracy, limit, threads_used, operation, planned, copies)


@lru_cache(maxsize=256)
def cached_recipe(
    shape: ConvShape,
    algorithm: str,
    accuracy: str,
    limit: int | None,
    n_threads: int,
    operation: Operation,
    planned: bool,
    copies: Copies | None,
) -> Recipe:
    """:func:`recipe` for arguments that are checked."""
    if accuracy not in ACCURACIES:
        raise ValueError(f"accuracy must be 'exact' or 'fast', got {shown(accuracy)}")
    if algorithm != "auto":
        row = registry.get(algorithm, operation.name)
        check_supported(row, shape, operation)
        return within_limit(recipe_of(row, shape, limit, n_threads, operation, copies=copies), limit, copies)
    run_shape = shape.transposed() if shape.is_column else shape
    order = AUTO_ORDERS[operation.name](run_shape, n_threads, planned)
    if operation == CONV2D:
        order = *_instead_of_turning(shape, copies, order[0]), *order
        if accuracy == "fast":
            order = *_fast_order(run_shape, n_threads, planned), *order
    tried = []
    for name in order:
        row = registry.get(name, operation.name)
        if row.unsupported(run_shape) is None:
            made = recipe_of(row, shape, limit, n_threads, operation, run_shape, copies)
            if limit is None or made.workspace_nbytes <= limit:
                return made
            tried.append(made)
    least = min(tried, key=lambda made: made.workspace_nbytes)
    layout = "" if least.copies > conversion_size(shape, least.reading) else "NHWC "
    raise ValueError(
        f"workspace_limit of {limit} bytes is too small: {least.algorithm.name} needs at least "
        f"{least.workspace_nbytes} bytes{said_of_copies(least.copies * shape.itemsize)}; pass {layout}arrays that "
        "are C-contiguous and aligned"
    )


def within_limit(made: Recipe, limit: int | None, copies: Copies | None = None) -> Recipe:
    """The recipe, unless the least that its algorithm needs is more than the limit."""
    if limit is not None and made.workspace_nbytes > limit:
        of_these = said_of_copies(made.copies * made.shape.itemsize)
        raise ValueError(
            f"workspace_limit of {limit} bytes is too small: {made.algorithm.name} needs at least "
            f"{made.workspace_nbytes} bytes for this shape{of_these}; {_smallest_hint(made, copies)}"
        )
    return made


def _auto_order(shape: ConvShape, n_threads: int, planned: bool) -> tuple[str, ...]:
    """What ``algorithm="auto"`` tries, in order: the first that can do the shape within the limit is taken.

    Register tiles, straight from the image, are the fastest (``docs/results``) and need no workspace.
    They need a CPU with enough vector registers, and enough output channels per group to fill a vector (16 or
    32 in float32).  A plan packs K into panels for them, and so does a single call with a small K and many
    pixels; where K has wide rows, a call packs it block by block (``direct_packed``).  In panels, zeros may fill
    up the vector.  Small groups share a vector (``direct_grouped``), and so do groups of one channel; but
    ``depthwise`` has whole blocks of channels, and ``depthwise_windows`` vectors of pixels where channels are
    few, or each has a few filters.  With few filters of many channels a vector holds input channels
    (``direct_dots``).  Elsewhere products by BLAS are the fastest: :func:`_blas_order`.

    A column of pixels is given as a row, which it is in memory: rows are what all algorithms are fast along.
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

    ``mec_banded`` is as fast as ``mec`` almost everywhere (``docs/results``) in a fraction of the memory.
    ``mec_column_split`` comes before it if a band of a single output row is too wide for the cache, and
    otherwise after it, for limits that are too small for such a band.  Full ``mec`` comes first where bands save
    little (with many threads their slices add up), and where several images with narrow outputs are multiplied
    side by side (Solution A), which bands can't do.

    A kernel of a single row lowers nothing: the pixels under it are adjacent in the image.  A BLAS that does not
    pack small products multiplies pieces of the image (``filter_row_gemm``, or ``pointwise`` for 1×1).  For one
    that packs all it multiplies, a pointwise layer is a single product (``im2col``).

    The least that ``im2col_blocked`` and ``mec_column_split`` need is one pixel's patch, ``direct`` needs nothing,
    and ``direct_blocked`` no copy of a slice either, so there is always an answer.
    """
    tiles = "mec_banded", "mec_column_split"
    if shape.band_size(1) * shape.itemsize > SLICE_BYTES:
        tiles = "mec_column_split", "mec_banded"
    side_by_side = shape.i_n > 1 and choose_solution(shape) == "A"
    tiled = registry.get(tiles[0]).schedule(shape, n_threads, None).size
    little_to_save = shape.mec_size <= max(2 * tiled, SMALL_WORKSPACE // shape.itemsize)
    smaller = *tiles, "im2col_blocked", "direct", "direct_blocked"
    unpacked = blas_multiplies_small_products_unpacked()
    if shape.is_pointwise and not unpacked:
        return "im2col", "mec", *smaller
    if shape.k_h == 1 and unpacked:
        return "pointwise" if shape.k_w == 1 else "filter_row_gemm", *smaller
    if side_by_side or little_to_save:
        return "mec", *smaller
    return smaller


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


def _input_grad_order(shape: ConvShape, n_threads: int, planned: bool) -> tuple[str, ...]:
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
    if not planned and not one_channel and (one_block or pixels < REPAID_FLIP):
        handful = shape.i_n * shape.o_h * shape.o_w < REPAID_PACKING
        in_place = handful and _can("direct_dots", shape, "conv2d_input_grad")
        return ("direct_dots",) * in_place + ("direct_packed", "direct_conv", *rest)
    return "direct_conv", *rest


def _kernel_grad_order(shape: ConvShape, n_threads: int, planned: bool) -> tuple[str, ...]:
    """What "auto" tries for the kernel's gradient, in order.

    Register tiles are the fastest, as in :func:`_auto_order`; small groups share a vector.  A tile has the
    channels of adjacent taps for its rows: if these are too few, MEC through L comes first beside a BLAS that
    packs nothing.  The depthwise layers of networks keep their sums in registers, if there is a cache line of
    channels for each thread.

    With too few output channels for these it is MEC, too, where a tap has few channels; elsewhere ``im2col``, if
    its matrix fits into a cache or rows are short, or a product per tap and row by BLAS.
    """
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
    if shape.k_c * shape.itemsize >= n_threads * CACHE_LINE and _can("depthwise", shape, "conv2d_kernel_grad"):
        return "depthwise", *rest
    return "direct_grouped", *rest


def _can(algorithm: str, shape: ConvShape, operation: str) -> bool:
    """Whether an algorithm can do the shape at all."""
    return registry.get(algorithm, operation).unsupported(shape) is None


AUTO_ORDERS = {
    "conv2d": _auto_order,
    "conv2d_input_grad": _input_grad_order,
    "conv2d_kernel_grad": _kernel_grad_order,
}


def check_supported(row: registry.Algorithm, shape: ConvShape, operation: Operation) -> None:
    """Raise if the algorithm can't do the shape, naming those that can."""
    reason = row.unsupported(shape)
    if reason is not None:
        rows = registry.TABLES[operation.name].values()
        able = [other.name for other in rows if other.unsupported(shape) is None]
        raise UnsupportedShape(f"{row.name} can't do this shape: {reason}; {', '.join(able)} can")


def _smallest_hint(made: Recipe, copies: Copies | None) -> str:
    shape, operation = made.shape, made.operation
    needs = {
        row.name: recipe_of(row, shape, 0, made.n_threads, operation, copies=copies).workspace_nbytes
        for row in registry.TABLES[operation.name].values()
        if row.unsupported(shape) is None
    }
    name = min(needs, key=lambda key: needs[key])
    if name == made.algorithm.name:
        return "no other algorithm needs less"
    return f"the smallest is {name} with {needs[name]}"
