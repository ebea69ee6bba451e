"""The order of a convolution by register tiles: what each thread takes, and what meets while it is in a cache.

A tile reads a panel of K, k_h·k_w·i_c/G lines of m_b channels, and runs at full speed as long as these lines come
from a level-2 cache.  So a panel, or one block of the reduction of it, stays there while all pixels of a thread
pass, and is loaded from further away only once.  Where K is read in place, a block is whole rows of K for all
panels of a thread: the lines of one panel alone would each be on another page, and share few sets of a cache.  All
of this is arithmetic on sizes; nothing is measured here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pymec.kernels.register_tiles.convolution import MOST_RUNS, MOST_ZEROS
from pymec.kernels.register_tiles.grouped import whole_vectors
from pymec.kernels.register_tiles.tile import register_nbytes, taken_pixels, tile_for
from pymec.kernels.shared.blas_library import blas_multiplies_small_products_unpacked
from pymec.kernels.shared.blocking import (
    GemmBlocking,
    even_part,
    output_rows,
    row_share,
    small_blas_products,
    whole_product,
)
from pymec.kernels.shared.machine import (
    CACHE_LINE,
    DOT_PRODUCTS,
    DOT_PRODUCTS_WIDE,
    DOT_SHARE,
    HALF_L2_BYTES,
    KERNEL_ROWS_BYTES,
    L2_SETS,
    L2_WAYS,
    LARGE_KERNEL,
    PADDING_PRODUCTS,
    PAGE,
    PANEL_SHARE,
    PANEL_SHARE_HIGH,
    REPAID_PIXELS,
    REPAID_PIXELS_OF_LARGE,
    SHORT_BLOCK,
    SHORT_PATCH,
    UNEVEN_TILES,
    WINDOW_ELEMENTS,
)

if TYPE_CHECKING:
    from pymec.shapes import ConvShape

PORTABLE_PIXELS = 4
"""Pixels of a tile on a CPU without wide registers."""

ALL_PIXELS = 2**31 - 1
"""More pixels than any thread has."""


class TileSchedule(NamedTuple):
    """Into how many shares the panels are divided (a divisor of n_threads), then the block sizes."""

    channel_shares: int
    """Shares of the panels; the n_threads / channel_shares threads of each divide the pixels."""
    pixels: int
    """Pixels of a thread that pass through all of its panels before the next pixels do."""
    panels: int
    """Panels that meet these pixels together."""
    rows: int
    """Kernel rows in a block of the reduction, which all pixels meet before the next block."""
    taps: int
    """Taps of a kernel row in a block: all of them, if it has several rows."""
    channels: int
    """Input channels of a tap in a block: all of them, if it has several taps."""
    in_rows: bool
    """Whether tiles end where output rows do."""
    padding_products: int = PADDING_PRODUCTS
    """Products with zeros per kernel row of a tile, from which on it goes tap by tap."""
    window: int = WINDOW_ELEMENTS
    """Elements of the largest copy of a tile's part of the image with the padding around it."""


def tile_schedule(
    shape: ConvShape, n_threads: int, in_panels: bool, packed: tuple[int, int] | None = None
) -> TileSchedule:
    """The schedule of a convolution by register tiles.

    Parameters
    ----------
    shape : ConvShape
    n_threads : int
    in_panels : bool
        Whether K is packed in panels; otherwise its lines are k_c apart.
    packed : two ints, optional
        Panels and lines of K that a thread packs at a time, for all of its pixels to pass.

    Returns
    -------
    TileSchedule
    """
    lines = shape.k_h * shape.k_w * shape.i_cg
    channels = _channels(shape, in_panels)
    step = shape.s_w * shape.i_c
    pixels, width = tile_for(channels, shape.itemsize, lines, step)
    panels = shape.groups * -(-shape.k_cg // width)
    large = packed is not None or panels * lines * width * shape.itemsize > 2 * HALF_L2_BYTES
    shares = _channel_shares(shape, panels, pixels, n_threads, large)
    together, depth = _kept(shape, width, -(-panels // shares), in_panels)
    if packed is not None:
        together, depth = packed
    reduction = _reduction_block(shape, depth)
    one_sum = math.prod(reduction) == lines
    reach = shape.s_h * shape.s_w * shape.i_c * shape.itemsize  # bytes of I that each further pixel reads
    if not one_sum:
        reach += together * width * shape.itemsize  # and of O, whose sums are read again for every block
    block = max(HALF_L2_BYTES // reach, 16 * pixels) // pixels * pixels
    return TileSchedule(
        shares,
        ALL_PIXELS if packed or (one_sum and panels <= together) else block,
        together,
        *reduction,
        _rows_fill_tiles(shape, channels, pixels, lines),
    )


def packing_pays(shape: ConvShape) -> bool:
    """Whether a call should pack K block by block (``direct_packed``) and not read it in place.

    Where K has wide rows, every line that a tile reads is on another page of memory, and shares few sets of a
    cache with the others.  To pack it pays if some tiles of pixels meet it afterwards.  If many do, it pays for
    any large K.
    """
    pixels = shape.i_n * shape.o_h * shape.o_w
    if shape.k_c * shape.itemsize >= PAGE:
        return pixels >= REPAID_PIXELS
    return shape.kernel_size * shape.itemsize >= LARGE_KERNEL and pixels >= REPAID_PIXELS_OF_LARGE


def fast_tiles(shape: ConvShape, in_panels: bool = False) -> bool:
    """Whether this CPU has registers for tiles of this convolution's channels."""
    pixels, _ = tile_for(_channels(shape, in_panels), shape.itemsize)
    return pixels > PORTABLE_PIXELS


def filled_panels(shape: ConvShape) -> bool:
    """Whether panels filled up with zeros are as fast as BLAS.

    A panel is a cache line wide, so with few channels most products are with its zeros.  A BLAS that multiplies
    small products without packing them is faster sooner, and for short sums; any BLAS is in pointwise layers.  One
    that packs is slower along a row of taps however few the channels: with k_h = 1, L is as large as im2col's
    matrix.
    """
    if not fast_tiles(shape, in_panels=True):
        return False
    share = shape.k_cg * shape.itemsize / CACHE_LINE
    if blas_multiplies_small_products_unpacked():
        return share > PANEL_SHARE_HIGH and shape.k_h * shape.k_w * shape.i_cg >= SHORT_PATCH
    least = PANEL_SHARE_HIGH if shape.is_pointwise else PANEL_SHARE
    return share > least or shape.k_h == 1 < shape.k_w


def few_filters(shape: ConvShape) -> bool:
    """Whether dot products along the input channels (``direct_dots``) are fastest.

    Output channels fill a small part of a panel then, and input channels a register.  The lanes of each sum are
    added up at the end, which pays the less the shorter the sums are.
    """
    if shape.i_cg * shape.itemsize < CACHE_LINE or not fast_tiles(shape, in_panels=True):
        return False
    share = shape.k_cg * shape.itemsize / CACHE_LINE
    products = DOT_PRODUCTS_WIDE if register_nbytes() == CACHE_LINE else DOT_PRODUCTS
    return share <= min(DOT_SHARE, shape.k_h * shape.k_w * shape.i_cg / products)


def shared_vectors(shape: ConvShape) -> bool:
    """Whether ``direct_grouped`` is fastest: three taps share each load, or no tile fits a group's channels."""
    three_taps = shape.k_w % 3 == 0 and shape.s_w == shape.d_w == 1
    return shape.groups > 1 and whole_vectors(shape) and (three_taps or not fast_tiles(shape))


def preferred_multiply(shape: ConvShape) -> str:
    """The fastest way to multiply on this machine (see :func:`gemm_blocking`)."""
    small = blas_multiplies_small_products_unpacked()
    short = shape.k_h * shape.k_w * shape.i_cg < SHORT_PATCH
    if fast_tiles(shape) and not (small and short):
        return "register_tiles"
    return "small_blas" if small else "blas"


def gemm_blocking(
    multiply_with: str, shape: ConvShape, columns: int, n_threads: int, reduction: int | None = None
) -> GemmBlocking:
    """Into which blocks the products of MEC are cut.

    Parameters
    ----------
    multiply_with : {"register_tiles", "small_blas", "blas"}
        Blocks for register tiles, for BLAS's small-matrix path, or whole products for BLAS.
    shape, columns, n_threads, reduction
        As in :func:`pymec.kernels.shared.blocking.small_blas_products`.
    """
    if multiply_with == "register_tiles":
        return _tile_products(shape, columns, n_threads, reduction)
    if multiply_with == "small_blas":
        return small_blas_products(shape, columns, n_threads, reduction)
    return whole_product(shape)


def _tile_products(shape: ConvShape, columns: int, n_threads: int, reduction: int | None) -> GemmBlocking:
    """Blocks of K that mostly stay in a level-2 cache; all pixels of an output row meet each of them."""
    patch = reduction or shape.k_h * shape.k_w * shape.i_cg
    width = tile_for(shape.k_cg, shape.itemsize)[1]
    panels = -(-shape.k_cg // width)
    if not row_share(shape, columns, n_threads):
        panels = -(-panels // n_threads)  # channels are shared
    together, depth = _kept(shape, width, panels, in_panels=False)
    channels = min(together * width, shape.k_cg)
    blocks = -(-shape.k_cg // channels)
    while 0 < shape.k_cg % channels * shape.itemsize < CACHE_LINE:  # a remainder narrower than any tile
        blocks -= 1
        channels = -(-shape.k_cg // blocks)
    return GemmBlocking(
        even_part(patch, depth),
        max(columns, 1),
        channels,
        output_rows(shape, columns, channels, n_threads),
        registers=True,
    )


def _channels(shape: ConvShape, in_panels: bool) -> int:
    """A group's output channels as tiles see them: panels hold a cache line or more, some of them zeros."""
    return max(shape.k_cg, CACHE_LINE // shape.itemsize) if in_panels else shape.k_cg


def _kept(shape: ConvShape, width: int, share: int, in_panels: bool) -> tuple[int, int]:
    """How many of a thread's ``share`` panels meet pixels together, and the lines of each that stay in a cache."""
    lines = shape.k_h * shape.k_w * shape.i_cg
    line_bytes = width * shape.itemsize
    if shape.groups == 1 and not in_panels:
        together = min(share, KERNEL_ROWS_BYTES // (SHORT_BLOCK * line_bytes))
        return together, KERNEL_ROWS_BYTES // (together * line_bytes)
    depth = HALF_L2_BYTES // line_bytes
    if not in_panels:
        # Lines that are a multiple of many cache lines apart share few sets: as many as their distance leaves.
        pitch = shape.k_c * shape.itemsize / CACHE_LINE
        sets = L2_SETS if pitch % 1 else L2_SETS // math.gcd(L2_SETS, int(pitch))
        depth = min(depth, sets * L2_WAYS)
    together = max(1, min(depth // lines, -(-shape.k_cg // width)))
    return together, depth // together


def _reduction_block(shape: ConvShape, depth: int) -> tuple[int, int, int]:
    """Kernel rows, taps and channels of a block: at most ``depth`` lines of K, and as many runs as tiles take."""
    channels = min(shape.i_cg, MOST_ZEROS) if shape.is_padded else shape.i_cg
    if channels < shape.i_cg or depth < shape.i_cg:
        return 1, 1, even_part(shape.i_cg, min(depth, channels))
    # A kernel row is one run where its taps are always adjacent in the image, otherwise one run for each tap.
    runs = shape.k_w if shape.is_padded or shape.d_w > 1 or shape.groups > 1 else 1
    if depth < shape.k_w * shape.i_cg or runs > MOST_RUNS:
        return 1, even_part(shape.k_w, min(depth // shape.i_cg, MOST_RUNS)), channels
    rows = min(depth // (shape.k_w * shape.i_cg), MOST_RUNS // runs)
    return even_part(shape.k_h, rows), shape.k_w, channels


def _rows_fill_tiles(shape: ConvShape, channels: int, most: int, lines: int) -> bool:
    """Whether tiles that end with rows have few unused slots: one pointer and a step find all of their pixels."""
    slots = taken_pixels(shape.o_w, channels, shape.itemsize, lines, shape.s_w * shape.i_c)
    return most > PORTABLE_PIXELS and slots <= UNEVEN_TILES * shape.o_w


def _channel_shares(shape: ConvShape, panels: int, tile: int, n_threads: int, large: bool) -> int:
    """Into how many shares the panels are divided; the other threads divide the pixels.

    Of the numbers that make shares even the smallest is taken: threads then write to different lines of O.  Only
    where K is ``large``, because it is larger than their caches or is packed, is it the largest: not every thread
    reads, or packs, all of K then.
    """
    pixels = max(shape.i_n * shape.o_h * shape.o_w, 1)
    tiles = {}
    for shares in range(1, n_threads + 1):
        if n_threads % shares == 0:
            share = -(-pixels // (n_threads // shares))
            tiles[shares] = -(-panels // shares) * -(-share // tile)
    even = [shares for shares in tiles if tiles[shares] <= UNEVEN_TILES * min(tiles.values())]
    return max(even) if large else min(even)
