"""How Winograd's bands are shared among threads, and how long they take beside register tiles of the definition.

Times are in cycles of one thread, as far as arithmetic on sizes tells them: a register tile takes a line of K for
each of its pixels in a cycle, a line out of a cache that all share is not there sooner than :data:`STREAM` allows,
and a transform takes :data:`TRANSFORM` cycles for each point and register of channels.  They are good enough to
choose by (``profiling/winograd_choice.py`` holds them against the clock); nothing is measured here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pymec.kernels.register_tiles.tile import line_cycles, taken_pixels, tile_for
from pymec.kernels.shared.blocking import even_part

if TYPE_CHECKING:
    from pymec.shapes import ConvShape

STREAM = 10
"""Bytes of K or U that a thread gets in a cycle from the cache behind its own."""

TRANSFORM = 8
"""Cycles for one point of 64 bytes of channels, from the image and into V, or out of M and into the output."""

KERNEL_TRANSFORM = 16
"""The same for the kernel, whose points lie far apart in U, a memory that is written for the first time."""

OWN_CACHE = 512 * 1024
"""Bytes of K or U that stay in a thread's own cache from one pass to the next."""


class BandCut(NamedTuple):
    """Among how many threads the panels are shared, the tiles among the others; tiles in a band; cycles."""

    channel_shares: int
    band_tiles: int
    cycles: float


def band_cut(shape: ConvShape, m: int, n_threads: int, most: int) -> BandCut:
    """The shares of the shortest time, for bands of at most ``most`` tiles.

    Parameters
    ----------
    shape : ConvShape
        With a 3×3 kernel, stride 1 and no dilation.
    m : int
        Of F(m×m, 3×3).
    n_threads : int
        Threads that have a slice of workspace.
    most : int

    Returns
    -------
    BandCut
    """
    shares = (shares for shares in range(1, n_threads + 1) if n_threads % shares == 0)
    return min((_cut(shape, m, n_threads, each, most) for each in shares), key=lambda cut: cut.cycles)


def _cut(shape: ConvShape, m: int, n_threads: int, channel_shares: int, most: int) -> BandCut:
    points = (m + 2) ** 2
    width = tile_for(shape.k_cg, shape.itemsize)[1]
    tiles = max(shape.i_n, 1) * -(-shape.o_h // m) * -(-shape.o_w // m)
    share = -(-shape.groups * tiles // (n_threads // channel_shares))
    panels = -(-shape.k_cg // width)
    panels = -(-panels // channel_shares)
    band_tiles = even_part(min(share, tiles), most)
    bands = -(-share // band_tiles)
    lines = points * shape.i_cg * panels
    taken = taken_pixels(band_tiles, shape.k_cg, shape.itemsize)
    multiply = lines * bands * taken * _line_cycles(shape)
    stream = _streamed(lines * width * shape.itemsize, bands)
    registers = (shape.i_cg + panels * width) * shape.itemsize / 64
    return BandCut(channel_shares, band_tiles, max(multiply, stream) + TRANSFORM * points * share * registers)


def transform_cycles(shape: ConvShape, m: int, n_threads: int) -> float:
    """Cycles of the kernel's transform, which a plan does once."""
    return KERNEL_TRANSFORM * (m + 2) ** 2 * shape.i_cg * shape.k_c * shape.itemsize / 64 / n_threads


def tile_cycles(shape: ConvShape, n_threads: int) -> float:
    """Cycles of the definition in register tiles."""
    width = tile_for(shape.k_cg, shape.itemsize)[1]
    panels = shape.groups * -(-shape.k_cg // width)
    pixels = max(shape.i_n, 1) * shape.o_h * shape.o_w
    best = float("inf")
    for shares in range(1, n_threads + 1):
        if n_threads % shares == 0:
            length = shape.k_h * shape.k_w * shape.i_cg
            lines = length * -(-panels // shares)
            share = -(-pixels // (n_threads // shares))
            taken = taken_pixels(share, shape.k_cg, shape.itemsize, length, shape.s_w * shape.i_c)
            multiply = lines * taken * _line_cycles(shape)
            best = min(best, max(multiply, _streamed(lines * width * shape.itemsize, 1)))
    return best


def _line_cycles(shape: ConvShape) -> float:
    return line_cycles(shape.k_cg, shape.itemsize)


def _streamed(nbytes: int, passes: int) -> float:
    """Cycles until so many bytes have come, so often; what a thread's own cache keeps comes once."""
    return nbytes * (passes if nbytes > OWN_CACHE else 1) / STREAM
