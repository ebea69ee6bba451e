"""The tiles of Fourier transforms: their grids, and the outputs that each of them gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import scipy  # scipy.fft is loaded where it is first used: that takes a fifth of a second

from pymec.shapes import ConvShape

Grid = tuple[int, int]


# Grids ---------------------------------------------------------------------------------------


def fast_length(extent: int) -> int:
    """The next length with no prime factor above 5."""
    return scipy.fft.next_fast_len(extent, real=True)


def image_grid(shape: ConvShape) -> Grid:
    """F_h × F_w for the whole padded image."""
    return fast_length(shape.i_h + shape.p_t + shape.p_b), fast_length(shape.i_w + shape.p_l + shape.p_r)


def tile_grid(shape: ConvShape) -> Grid:
    """F_h × F_w for a tile: about three times the kernel's extent, at least 16, at most what the image takes."""

    def length(extent: int, image: int) -> int:
        return fast_length(min(max(3 * extent - 1, 16), image + extent - 1))

    return (
        length(shape.e_h, shape.i_h + shape.p_t + shape.p_b),
        length(shape.e_w, shape.i_w + shape.p_l + shape.p_r),
    )


# Where outputs lie -------------------------------------------------------------------------------------


class Tile(NamedTuple):
    """Along one axis: a tile's inputs, its outputs, and the position of the first output in its plane."""

    inputs: slice
    outputs: slice
    start: int


def save_tiles(grid: int, e: int, s: int, p: int, i: int, o: int) -> Iterator[Tile]:
    """Tiles of the input that overlap by the kernel's extent less one; positions that wrap around are left out."""
    step = (grid - e) // s + 1  # outputs of a tile that don't wrap around
    for y in range(0, o, step):
        start = y * s - p
        first, end = max(start, 0), min(start + grid, i)
        if first < end:  # otherwise the tile is all padding
            yield Tile(slice(first, end), slice(y, min(y + step, o)), start - first)


def add_tiles(grid: int, e: int, s: int, p: int, i: int, o: int) -> Iterator[Tile]:
    """Tiles of the input that do not overlap; their outputs do, and are added up.  Padding has no tile."""
    step = grid - e + 1  # inputs of a tile: only zeros wrap around
    for h in range(0, i, step):
        end = min(h + step, i)
        first = max(0, -(-(h + p - (e - 1)) // s))
        last = min(o - 1, (end - 1 + p) // s)
        if first <= last:
            yield Tile(slice(h, end), slice(first, last + 1), first * s - p - h)


def on_plane(tile: Tile, s: int, grid: int) -> Iterator[tuple[slice, slice]]:
    """A tile's outputs and their positions in the plane, which is periodic: those before 0 are at its end."""
    _, outputs, start = tile
    wrapped = min(max(-(start // s), 0), outputs.stop - outputs.start)
    middle = outputs.start + wrapped
    if wrapped:
        yield slice(outputs.start, middle), slice(grid + start, grid + start + (wrapped - 1) * s + 1, s)
    if middle < outputs.stop:
        start += wrapped * s
        yield slice(middle, outputs.stop), slice(start, start + (outputs.stop - middle - 1) * s + 1, s)
