"""How Winograd's bands are shared among threads, and an estimate of their time beside that of the definition.

Times are in cycles of one thread.  A register tile multiplies two registers of a line of K with a pixel in a
cycle; K and U stream from the cache that all threads share at ``SHARED_CACHE_STREAM`` bytes per cycle; a transform
takes ``POINT_CYCLES`` for each point and register of channels, full or not.  These estimates are good enough to
choose by (``profiling/winograd_choice.py`` compares them with the clock); nothing is measured here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pymec.kernels.register_tiles.tile import register_nbytes, taken_pixels, tile_for
from pymec.kernels.shared.blocking import even_part
from pymec.kernels.shared.machine import HALF_L2_BYTES, KERNEL_POINT_CYCLES, POINT_CYCLES, SHARED_CACHE_STREAM

if TYPE_CHECKING:
    from pymec.shapes import ConvShape


class WinogradBands(NamedTuple):
    """Shares of the panels (the other threads share the tiles), tiles in a band, and the cycles estimated."""

    channel_shares: int
    band_tiles: int
    cycles: float


def winograd_bands(shape: ConvShape, t_o: int, n_threads: int, most: int) -> WinogradBands:
    """The fastest way to share the work, by the estimate.

    Parameters
    ----------
    shape : ConvShape
        With a 3×3 kernel, stride 1 and no dilation.
    t_o : int
        Of F(t_o×t_o, 3×3).
    n_threads : int
        Threads that have a slice of workspace.
    most : int
        Tiles in a band, at most.

    Returns
    -------
    WinogradBands
    """
    shares = (shares for shares in range(1, n_threads + 1) if n_threads % shares == 0)
    return min((_bands(shape, t_o, n_threads, each, most) for each in shares), key=lambda bands: bands.cycles)


def _bands(shape: ConvShape, t_o: int, n_threads: int, channel_shares: int, most: int) -> WinogradBands:
    points = (t_o + 2) ** 2
    width = tile_for(shape.k_cg, shape.itemsize)[1]
    tiles = max(shape.i_n, 1) * -(-shape.o_h // t_o) * -(-shape.o_w // t_o)
    share = -(-shape.groups * tiles // (n_threads // channel_shares))
    panels = -(-shape.k_cg // width)
    panels = -(-panels // channel_shares)
    band_tiles = even_part(min(share, tiles), most)
    bands = -(-share // band_tiles)
    lines = points * shape.i_cg * panels
    pixels = taken_pixels(band_tiles, shape.k_cg, shape.itemsize)
    multiply = lines * bands * pixels * _registers(width, shape) / 2
    stream = _stream_cycles(lines * width * shape.itemsize, bands)
    registers = _registers(shape.i_cg, shape) + _registers(panels * width, shape)
    transform = POINT_CYCLES * points * share * registers
    return WinogradBands(channel_shares, band_tiles, max(multiply, stream) + transform)


def transform_cycles(shape: ConvShape, t_o: int, n_threads: int) -> float:
    """Cycles of the kernel's transform, which a plan does once."""
    registers = shape.groups * _registers(shape.k_cg, shape)
    return KERNEL_POINT_CYCLES * (t_o + 2) ** 2 * shape.i_cg * registers / n_threads


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
            multiply = lines * taken * _registers(width, shape) / 2
            best = min(best, max(multiply, _stream_cycles(lines * width * shape.itemsize, 1)))
    return best


def _registers(channels: int, shape: ConvShape) -> int:
    """Registers that hold so many channels."""
    return -(-channels * shape.itemsize // register_nbytes())


def _stream_cycles(nbytes: int, passes: int) -> float:
    """Cycles to stream ``nbytes`` of K or U ``passes`` times, or once if they stay in the thread's own cache."""
    return nbytes * (passes if nbytes > HALF_L2_BYTES else 1) / SHARED_CACHE_STREAM
