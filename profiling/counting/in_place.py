"""The traffic of what multiplies the image where it lies: tap by tap, row by row, or tile by tile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pymec.kernels.register_tiles.tile import tile_for
from pymec.kernels.shared.blocking import GemmBlocking
from pymec.kernels.shared.machine import CACHE_LINE
from pymec.kernels.small_products import shift_gemm as shifted
from pymec.kernels.small_products import zero_copy
from pymec.shapes import ConvShape

from .amounts import Stage, Traffic
from .lowered import each_image
from .products import Product, blocked, inside, kernel_loads, parts, repeated, shares, taps_inside

# Sums of small products ---------------------------------------------------------------------------------


def kn2row(shape: ConvShape, n_threads: int, blocking: GemmBlocking, block: int) -> Traffic:
    """All pixels times each tap, to a plane; each plane is shifted and added to O, which begins with zeros."""
    s, taps = shape.single_image(), shape.k_h * shape.k_w
    found: Counter[Product] = Counter()
    for m in parts(s.i_h * s.i_w, block):
        for n in parts(s.k_cg, blocking.channels):
            found += repeated(blocked(blocking, m, n, s.i_cg), taps * s.groups)
    # Taps count slowest: each stays while all pixels pass, if its matrix is a single block.
    whole = s.i_cg <= blocking.reduction and s.k_cg <= blocking.channels
    loaded = s.kernel_size * (1 if whole else len(parts(s.i_h * s.i_w, block)))
    if s.is_pointwise:
        return each_image(shape, Traffic(s, found, loaded=loaded))
    rows, columns = taps_inside(s)
    added = sum(rows) * sum(columns) * s.k_c
    planes = taps * s.i_h * s.i_w * s.k_c
    after = Stage(2 * added, s.output_size + added)
    one = Traffic(s, found, after=after, scratch=planes, piece=planes, returns=2 * added, loaded=loaded)
    return each_image(shape, one)


def kn2row_aa(shape: ConvShape, n_threads: int, blocking: GemmBlocking, block: int) -> Traffic:
    """The same through a single plane."""
    found = kn2row(shape, n_threads, blocking, block)
    return replace(found, piece=found.piece // (shape.k_h * shape.k_w))


def shift_gemm(shape: ConvShape, n_threads: int, blocking: GemmBlocking, block: int) -> Traffic:
    """A product per tap, each adding to S, whose rows are as far apart as those of the image."""
    s, pitch = shape.single_image(), shifted.row_pitch(shape)
    pixels = (s.o_h - 1) * pitch + s.o_w
    found: Counter[Product] = Counter()
    zeros = 0
    for first in range(0, pixels, block):
        end = min(first + block, pixels)
        for a in range(s.k_h):
            with_row = [y for y in range(s.o_h) if 0 <= y - s.p_t + a * s.d_h < s.i_h]
            reached = 0
            if with_row:
                reached = max(0, min(end, with_row[-1] * pitch + s.o_w) - max(first, with_row[0] * pitch))
            zeros += (end - first - reached) * s.k_c * (a == 0)
            for b in range(s.k_w):
                for n in parts(s.k_cg, blocking.channels) if reached else []:
                    found += repeated(blocked(blocking, reached, n, s.i_cg, a > 0 or b > 0), s.groups)
    padded, scratch = shifted.padded_size(s), shifted.scratch_size(s)
    moved = s.output_size if scratch else 0
    one = Traffic(
        s,
        found,
        lowering=Stage(s.input_size if padded else 0, padded),
        after=Stage(moved, zeros + moved),
        scratch=padded + scratch,
        loaded=kernel_loads(s, blocking.reduction, blocking.channels, -(-pixels // block), s.k_h * s.k_w),
        piece=padded + scratch,
    )
    return each_image(shape, one)


def pixel_gemm(shape: ConvShape, n_threads: int, blocking: GemmBlocking, block: int) -> Traffic:
    """A product for every tap and output row, straight from the image."""
    s = shape
    found: Counter[Product] = Counter()
    zeros = 0
    for y in range(0, s.o_h, blocking.output_rows):
        for x in range(0, s.o_w, block):
            height, width = min(blocking.output_rows, s.o_h - y), min(block, s.o_w - x)
            for a in range(s.k_h):
                rows = inside(y * s.s_h - s.p_t + a * s.d_h, s.s_h, s.i_h, height)
                for b in range(s.k_w):
                    columns = inside(x * s.s_w - s.p_l + b * s.d_w, s.s_w, s.i_w, width)
                    zeros += (height * width - rows * columns) * (a == b == 0)
                    for n in parts(s.k_cg, blocking.channels) if rows and columns else []:
                        found += repeated(blocked(blocking, columns, n, s.i_cg, a > 0 or b > 0), rows)
    tasks = s.i_n * len(parts(s.o_h, blocking.output_rows)) * len(parts(s.o_w, block))
    loaded = kernel_loads(s, blocking.reduction, blocking.channels, tasks, s.k_h * s.k_w)
    after = Stage(0, s.i_n * zeros * s.k_c)
    return Traffic(s, repeated(found, s.i_n * s.groups), after=after, loaded=loaded)


def filter_row_gemm(shape: ConvShape, n_threads: int, blocking: GemmBlocking, block: int) -> Traffic:
    """A product for every kernel row and output column, straight from the image."""
    s = zero_copy.images_in_one(shape)
    found: Counter[Product] = Counter()
    zeros = 0
    for y, x in ((y, x) for y in range(0, s.o_h, block) for x in range(0, s.o_w, blocking.output_rows)):
        height, width = min(block, s.o_h - y), min(blocking.output_rows, s.o_w - x)
        taps = Counter(taps_inside(s)[1][x : x + width])  # how many columns have how many taps on the image
        columns = width - taps.pop(0, 0)
        for a in range(s.k_h):
            rows = inside(y * s.s_h - s.p_t + a * s.d_h, s.s_h, s.i_h, height)
            zeros += (height * width - rows * columns) * (a == 0)
            for count, times in taps.items() if rows else ():
                for n in parts(s.k_cg, blocking.channels):
                    found += repeated(blocked(blocking, rows, n, count * s.i_cg, a > 0), times)
    tasks = s.i_n * len(parts(s.o_w, blocking.output_rows)) * len(parts(s.o_h, block))
    loaded = kernel_loads(s, blocking.reduction, blocking.channels, tasks, s.k_h)
    after = Stage(0, s.i_n * zeros * s.k_c)
    return Traffic(shape, repeated(found, s.i_n * s.groups), after=after, loaded=loaded)


# Nothing lowered ----------------------------------------------------------------------------------------


def direct_blocked(shape: ConvShape, n_threads: int, schedule: Any) -> Traffic:
    """Some pixels, some panels of output channels, a block of the reduction: a product whose A is the image."""
    return _tiles(shape, n_threads, schedule, shape.k_cg)


def direct_panels(shape: ConvShape, n_threads: int, schedule: Any) -> Traffic:
    """The same with K in panels, which a plan has packed: that is not part of a call."""
    return _tiles(shape, n_threads, schedule, max(shape.k_cg, CACHE_LINE // shape.itemsize))


def _tiles(shape: ConvShape, n_threads: int, schedule: Any, channels: int) -> Traffic:
    s = shape
    width = tile_for(channels, s.itemsize)[1]
    panels = -(-s.k_cg // width)
    of_pixels = n_threads // schedule.channel_shares
    heights = Counter(
        m for share in shares(s.i_n * s.o_h * s.o_w, of_pixels) for m in parts(share, schedule.pixels)
    )
    reductions = [
        rows * taps * count
        for rows in parts(s.k_h, schedule.rows)
        for taps in parts(s.k_w, schedule.taps)
        for count in parts(s.i_cg, schedule.channels)
    ]
    found: Counter[Product] = Counter()
    first = 0
    for share in shares(s.groups * panels, schedule.channel_shares):
        for n in _panel_widths(s.k_cg, width, first, first + share, schedule.panels):
            for i, k in enumerate(reductions):
                found += Counter({Product(m, n, k, i > 0): count for m, count in heights.items()})
        first += share
    loaded = sum(count * p.k * p.n for p, count in found.items())
    return Traffic(s, found, loaded=loaded, blas=False)


def _panel_widths(channels: int, width: int, first: int, end: int, together: int) -> Iterator[int]:
    """Output channels of the panels that meet pixels together: of one group, and of the share first .. end."""
    panels = -(-channels // width)
    while first < end:
        at = first % panels
        count = min(together, end - first, panels - at)
        yield min((at + count) * width, channels) - at * width
        first += count
