"""How a convolution by register tiles is shared among threads, and in which order its parts meet.

A tile reads a panel of K, k_h·k_w·i_c/G lines of a few channels, once for a tile of pixels.  It runs at full speed
as long as these lines come from a level-2 cache.  So a panel, or a chunk of it, stays there while all pixels of a
thread go by, and its lines come from further away only once.  Where K is read in place, a chunk is whole rows of
K, for all panels of a thread: one piece of memory, where the lines of one panel would each be on another page and
in few sets of a cache.  This is arithmetic on sizes; nothing is measured.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pymec.kernels.register_tiles.grouped import whole_lines
from pymec.kernels.register_tiles.tile import taken_pixels, tile_for
from pymec.kernels.shared.blas_library import blas_multiplies_small_products_unpacked
from pymec.kernels.shared.blocking import (
    PANEL_BYTES,
    GemmBlocking,
    even_part,
    output_rows,
    row_share,
    small_blas_products,
    whole_product,
)

if TYPE_CHECKING:
    from pymec.shapes import ConvShape

CACHE_LINE = 64
L2_SETS = 1024
L2_WAYS = 8
"""A common level-2 cache of 1 MiB, in lines: 1024 sets of 16 ways, half of which are left for I and O."""

ROWS_BYTES = 2 * PANEL_BYTES
"""Rows of K, in place, that meet the pixels together: shorter chunks read and write O more often, which costs more
than that some of these come from further away than a level-2 cache."""

SHORT_CHUNK = 128
"""Lines of a chunk below which fewer panels go together: its sums are read and written every time."""

RUNS = 49
ZEROS = 512
"""Limits of ``_pixels.pxd``: runs of a chunk, and elements of a run where there is padding."""

PLAIN = 4
"""Pixels of a tile without such registers."""

UNEVEN = 1.05
"""How much longer than with the evenest shares a call may take before less traffic is no reason for it."""


WHOLE = 2**31 - 1
"""More pixels than any thread has."""

STREAM_BYTES = 32 * 1024 * 1024
"""An output of more is not expected to stay in a last-level cache until it is read."""


class TileCut(NamedTuple):
    """Shares of the panels (a divisor of the threads), then what is taken at once.

    ``pixels`` of a thread go through all of its panels before the next do, ``panels`` of them together, each chunk
    of the reduction, of so many kernel ``rows`` or ``taps`` or ``channels``, before the next.  ``in_rows`` is
    whether tiles end where output rows do, ``streamed`` whether sums go to memory past the caches.
    """

    channel_shares: int
    pixels: int
    panels: int
    rows: int
    taps: int
    channels: int
    in_rows: bool
    streamed: bool = False


def tile_cut(shape: ConvShape, n_threads: int, in_panels: bool) -> TileCut:
    """Cut a convolution for register tiles.

    Parameters
    ----------
    shape : ConvShape
    n_threads : int
    in_panels : bool
        Whether K is re-laid in panels; otherwise its lines are k_c apart.

    Returns
    -------
    TileCut
    """
    lines = shape.k_h * shape.k_w * shape.i_cg
    channels = _channels(shape, in_panels)
    step = shape.s_w * shape.i_c
    pixels, width = tile_for(channels, shape.itemsize, lines, step)
    panels = shape.groups * -(-shape.k_cg // width)
    shares = _channel_shares(shape, panels, pixels, n_threads, lines * width * shape.itemsize)
    together, depth = _kept(shape, width, -(-panels // shares), in_panels)
    reach = shape.s_h * shape.s_w * shape.i_c * shape.itemsize  # bytes of I that a pixel adds to those before it
    block = max(PANEL_BYTES // reach, 16 * pixels) // pixels * pixels
    return TileCut(
        shares,
        block if panels > together or depth < lines else WHOLE,
        together,
        *_chunk(shape, depth),
        _rows_are_full(shape, channels, pixels, lines),
        shape.output_nbytes > STREAM_BYTES,
    )


def fast_tiles(shape: ConvShape, in_panels: bool = False) -> bool:
    """Whether this CPU has registers for tiles of this convolution's channels."""
    pixels, _ = tile_for(_channels(shape, in_panels), shape.itemsize)
    return pixels > PLAIN


SHORT_PATCH = 160
"""Elements of a patch below which BLAS's small products are faster than register tiles, if it has them."""


def filled_panels(shape: ConvShape) -> bool:
    """Whether panels of few channels, filled up with zeros, are as fast as BLAS: half full, and sums not short."""
    half_full = 2 * shape.k_cg * shape.itemsize > CACHE_LINE
    short = shape.k_h * shape.k_w * shape.i_cg < SHORT_PATCH
    return fast_tiles(shape, in_panels=True) and half_full and not short


def shared_lines(shape: ConvShape) -> bool:
    """Whether groups are best taken by lines: those they share, or fill if three taps share what is loaded."""
    side_by_side = shape.k_w % 3 == 0 and shape.s_w == shape.d_w == 1
    return shape.groups > 1 and whole_lines(shape) and (side_by_side or not fast_tiles(shape))


def preferred_multiply(shape: ConvShape) -> str:
    """What multiplies fastest on this machine (see :func:`gemm_blocking`)."""
    small = blas_multiplies_small_products_unpacked()
    short = shape.k_h * shape.k_w * shape.i_cg < SHORT_PATCH
    if fast_tiles(shape) and not (small and short):
        return "register_tiles"
    return "small_blas" if small else "blas"


def gemm_blocking(
    multiply_with: str, shape: ConvShape, columns: int, n_threads: int, reduction: int | None = None
) -> GemmBlocking:
    """How the products of MEC are cut.

    Parameters
    ----------
    multiply_with : {"register_tiles", "small_blas", "blas"}
        For register tiles, for BLAS's small-matrix path, or not at all.
    shape, columns, n_threads, reduction
        As in :func:`pymec.kernels.shared.blocking.small_blas_products`.
    """
    if multiply_with == "register_tiles":
        return _tile_products(shape, columns, n_threads, reduction)
    if multiply_with == "small_blas":
        return small_blas_products(shape, columns, n_threads, reduction)
    return whole_product(shape)


def _tile_products(shape: ConvShape, columns: int, n_threads: int, reduction: int | None) -> GemmBlocking:
    """GemmBlocking of K that mostly stay in a level-2 cache; all pixels of an output row meet each of them."""
    patch = reduction or shape.k_h * shape.k_w * shape.i_cg
    width = tile_for(shape.k_cg, shape.itemsize)[1]
    panels = -(-shape.k_cg // width)
    if not row_share(shape, columns, n_threads):
        panels = -(-panels // n_threads)  # channels are shared
    together, depth = _kept(shape, width, panels, in_panels=False)
    channels = min(together * width, shape.k_cg)
    pieces = -(-shape.k_cg // channels)
    while 0 < shape.k_cg % channels * shape.itemsize < CACHE_LINE:  # a rest that there is no tile for
        pieces -= 1
        channels = -(-shape.k_cg // pieces)
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
    """How many panels (of a thread's) meet pixels together, and the lines of each that stay in a cache."""
    lines = shape.k_h * shape.k_w * shape.i_cg
    line_bytes = width * shape.itemsize
    if shape.groups == 1 and not in_panels:
        together = min(share, ROWS_BYTES // (SHORT_CHUNK * line_bytes))
        return together, ROWS_BYTES // (together * line_bytes)
    depth = PANEL_BYTES // line_bytes
    if not in_panels:
        # Lines a multiple of many cache lines apart share a few sets, as many as their distance leaves.
        pitch = shape.k_c * shape.itemsize / CACHE_LINE
        sets = L2_SETS if pitch % 1 else L2_SETS // math.gcd(L2_SETS, int(pitch))
        depth = min(depth, sets * L2_WAYS)
    together = max(1, min(depth // lines, -(-shape.k_cg // width)))
    return together, depth // together


def _chunk(shape: ConvShape, depth: int) -> tuple[int, int, int]:
    """Kernel rows, taps and channels with no more lines of K than that, nor more runs or zeros than there are."""
    channels = min(shape.i_cg, ZEROS) if shape.is_padded else shape.i_cg
    if channels < shape.i_cg or depth < shape.i_cg:
        return 1, 1, even_part(shape.i_cg, min(depth, channels))
    # A kernel row is one run where its taps always lie side by side in the image, and otherwise one for each tap.
    runs = shape.k_w if shape.is_padded or shape.d_w > 1 or shape.groups > 1 else 1
    if depth < shape.k_w * shape.i_cg or runs > RUNS:
        return 1, even_part(shape.k_w, min(depth // shape.i_cg, RUNS)), channels
    rows = min(depth // (shape.k_w * shape.i_cg), RUNS // runs)
    return even_part(shape.k_h, rows), shape.k_w, channels


def _rows_are_full(shape: ConvShape, channels: int, most: int, lines: int) -> bool:
    """Whether tiles that end with the rows take hardly more pixels: they find theirs by one pointer and a step."""
    return (
        most > PLAIN
        and taken_pixels(shape.o_w, channels, shape.itemsize, lines, shape.s_w * shape.i_c) <= UNEVEN * shape.o_w
    )


def _channel_shares(shape: ConvShape, panels: int, tile: int, n_threads: int, panel_nbytes: int) -> int:
    """Among how many threads the panels are shared, the pixels among the others: what makes the shares even.

    Of several that do, the fewest: threads then write to lines of O of their own.  But all threads reading all of
    a K that no cache of theirs keeps is the worse.
    """
    pixels = max(shape.i_n * shape.o_h * shape.o_w, 1)
    tiles = {}
    for shares in range(1, n_threads + 1):
        if n_threads % shares == 0:
            share = -(-pixels // (n_threads // shares))
            tiles[shares] = -(-panels // shares) * -(-share // tile)
    even = [shares for shares in tiles if tiles[shares] <= UNEVEN * min(tiles.values())]
    return max(even) if panels * panel_nbytes > 2 * PANEL_BYTES else min(even)
