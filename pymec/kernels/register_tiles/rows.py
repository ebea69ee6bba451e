"""The table's rows of the algorithms by register tiles: the ones behind "auto"."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Hashable, Iterator

from numpy.typing import NDArray

from pymec.algorithm import (
    Algorithm,
    Schedule,
    any_shape,
    no_workspace,
    reads_slices,
    reads_strides,
    thread_slices,
)
from pymec.kernels.register_tiles import convolution, dots, grouped, panels, planes
from pymec.kernels.register_tiles.schedule import tile_schedule
from pymec.kernels.shared.blocking import even_part
from pymec.kernels.shared.machine import (
    CACHE_LINE,
    HALF_L1_BYTES,
    HALF_L2_BYTES,
    HALO_SHARE,
    KERNEL_BLOCK_LINES,
    KERNEL_BLOCK_PANELS,
)
from pymec.kernels.shared.turning import has_filters, transpose_back, transpose_kernel
from pymec.shapes import ConvShape

TILES_OF_DOTS = 24
"""Output columns that are whole tiles of ``direct_dots``, whatever the CPU and the number of filters."""

_DIRECT = (
    "Georganas et al., Anatomy of High-Performance Deep Learning Convolutions on SIMD Architectures, SC 2018, and "
    "Zhang, Franchetti & Low, High Performance Zero-Memory Overhead Direct Convolutions, ICML 2018"
)


def read_in_place(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    """K where it lies."""
    return Schedule(0, {"schedule": tile_schedule(shape, n_threads, in_panels=False)})


def _direct_panels(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    size = panels.panels_size(shape)
    return Schedule(size, {"schedule": tile_schedule(shape, n_threads, in_panels=True)}, prepared=size)


def packed_by_block(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    """K packed block by block: several panels of many lines, or fewer within a limit; by fewer threads at last."""
    line = CACHE_LINE // shape.itemsize
    for block in packed_blocks():
        schedule = tile_schedule(shape, n_threads, in_panels=False, packed=block)
        slice_size = convolution.packed_size(schedule, shape)
        if limit is None or n_threads * slice_size + line <= limit:
            break
    slices = thread_slices(n_threads, n_threads, slice_size, None if limit is None else limit - line)
    if slices < n_threads:
        schedule = tile_schedule(shape, slices, in_panels=False, packed=block)
    return Schedule(slices * slice_size + line, {"schedule": schedule, "slices": slices})


def packed_blocks() -> Iterator[tuple[int, int]]:
    """Panels and lines of ever smaller blocks: a panel with all its lines comes before shorter ones."""
    count, lines = KERNEL_BLOCK_PANELS, KERNEL_BLOCK_LINES
    yield count, lines
    while count > 1:
        count //= 2
        yield count, lines
    while lines > 1:
        lines //= 2
        yield count, lines


def _pack(kernel: NDArray, prepared: NDArray, shape: ConvShape, n_threads: int, schedule: object) -> None:
    panels.pack(kernel, prepared, shape, n_threads)


def _direct_planes(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    """Parts that the level-2 caches have room for: several images, some rows of one, or some columns of one row.

    They are larger if otherwise more than ``HALO_SHARE`` of them would be turned again for the next one, and
    smaller if the limit says so.
    """
    s, size = shape, panels.panels_size(shape)
    caches = 2 * HALF_L2_BYTES * n_threads // s.itemsize
    left = limit - size if limit is not None else planes.part_size(s, s.i_n, s.o_h, s.o_w)
    image = planes.part_size(s, 1, s.o_h, s.o_w)
    rows, least_rows = _most_rows(s, min(caches, left)), min(s.o_h, _enough(s.e_h, s.s_h))
    if image <= min(caches, left):
        part = even_part(max(s.i_n, 1), min(caches, left) // image), s.o_h, s.o_w
    elif rows >= least_rows:
        part = 1, rows, s.o_w
    else:
        part = 1, least_rows, max(_most_columns(s, least_rows, caches), min(s.o_w, _enough(s.e_w, s.s_w)))
    if planes.part_size(s, *part) > left:
        rows = _most_rows(s, left)
        part = (1, rows, s.o_w) if rows > 0 else (1, 1, max(_most_columns(s, 1, left), 1))
    part = part[0], even_part(s.o_h, part[1]), even_part(s.o_w, part[2])
    options = dict(zip(("images", "rows", "columns"), part, strict=True))
    return Schedule(size + planes.part_size(s, *part), options, prepared=size)


def _enough(reach: int, stride: int) -> int:
    """Outputs along an axis of which the next ones share no more than ``HALO_SHARE`` of what they need."""
    return max(1, math.ceil((reach - stride) / (HALO_SHARE * stride)))


def _most_rows(shape: ConvShape, room: int) -> int:
    """How many whole rows of outputs there is room for."""
    rows = range(1, shape.o_h + 1)
    return bisect_right(rows, room, key=lambda count: planes.part_size(shape, 1, count, shape.o_w))


def _most_columns(shape: ConvShape, rows: int, room: int) -> int:
    """How many columns of some rows of outputs there is room for."""
    columns = range(1, shape.o_w + 1)
    return bisect_right(columns, room, key=lambda count: planes.part_size(shape, 1, rows, count))


def _pack_planes(
    kernel: NDArray, prepared: NDArray, shape: ConvShape, n_threads: int, images: int, rows: int, columns: int
) -> None:
    if has_filters(kernel):
        panels.pack_filters(kernel.transpose(3, 2, 0, 1), prepared, shape, n_threads)
    else:
        panels.pack(kernel, prepared, shape, n_threads)


def _kernel_alone(shape: ConvShape) -> Hashable:
    """Panels depend on nothing but the kernel: layers of other images share them."""
    return shape.kernel_shape, shape.groups, shape.dtype


def no_line_of_channels(shape: ConvShape, inputs: str = "input") -> str | None:
    """Why channels fill no register, if they don't; a gradient's inputs are the output channels."""
    channels = {"input": shape.i_cg, "output": shape.k_cg}[inputs]
    least = CACHE_LINE // shape.itemsize
    if channels >= least:
        return None
    return f"its groups have {channels} {inputs} channels, and it takes {least} or more"


def dot_columns(shape: ConvShape) -> int:
    """Columns of outputs whose rows of I stay in a level-1 cache, rounded to whole tiles of dot products."""
    column = shape.k_h * shape.s_w * shape.i_c * shape.itemsize  # bytes that one more of them reads
    return max(1, HALF_L1_BYTES // (column * TILES_OF_DOTS)) * TILES_OF_DOTS


def _dots(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(shape.kernel_size, {"columns": dot_columns(shape)}, prepared=shape.kernel_size)


def _transpose(kernel: NDArray, prepared: NDArray, shape: ConvShape, n_threads: int, columns: int) -> None:
    transpose_kernel(kernel, prepared, shape, n_threads)


def small_groups(shape: ConvShape, outputs: str = "output", inputs: str = "input") -> str | None:
    """Why groups can't share a vector, if they can't; a gradient's outputs are the input channels."""
    channels = {"input": shape.i_cg, "output": shape.k_cg}
    many, few = channels[outputs], channels[inputs]
    if many not in (1, 2, 4, 8, 16):
        return f"its groups have {many} {outputs} channels, not 1, 2, 4, 8 or 16"
    return f"its groups have {few} {inputs} channels, more than {many} {outputs} channels" if few > many else None


ROWS = (
    Algorithm(
        name="direct_blocked",
        idea="the definition, a tile of up to 14 pixels by 32 channels at a time in registers",
        source=f"after {_DIRECT}",
        formula="0",
        order="none",
        unsupported=any_shape,
        schedule=read_in_place,
        run=convolution.run,
        reading=reads_slices,
        uses_blas=False,
    ),
    Algorithm(
        name="direct_packed",
        idea="direct_blocked with K packed block by block as threads come to it: what a tile reads is adjacent",
        source=f"ours, after {_DIRECT}",
        formula="slices·lines·channels + 64/itemsize, lines at most 512 and channels at most 512/itemsize of K",
        order="bounded",
        unsupported=any_shape,
        schedule=packed_by_block,
        run=convolution.run,
        reading=reads_slices,
        uses_blas=False,
        ours=True,
    ),
    Algorithm(
        name="direct_panels",
        idea="direct_blocked with K packed once in panels: what a tile reads of it is adjacent in memory",
        source=f"ours, after {_DIRECT}",
        formula="⌈k_c/(G·m_b)⌉·m_b·k_h·k_w·i_c + 64/itemsize, kept by a plan",
        order="k²",
        unsupported=any_shape,
        schedule=_direct_panels,
        run=convolution.run,
        reading=reads_slices,
        prepare=_pack,
        read_back=panels.unpack,
        kernel_form=_kernel_alone,
        uses_blas=False,
        ours=True,
    ),
    Algorithm(
        name="direct_planes",
        idea="direct_panels of images in n-c-h-w: a part at a time is turned, convolved, and turned back",
        source=f"ours, after {_DIRECT}",
        formula="⌈k_c/(G·m_b)⌉·m_b·k_h·k_w·i_c + 64/itemsize, kept by a plan, and "
        "images·(part_h·part_w·i_c + rows·columns·k_c), part_h = min((rows - 1)·s_h + e_h, i_h), part_w likewise",
        order="bounded",
        unsupported=any_shape,
        schedule=_direct_planes,
        run=planes.run,
        reading=reads_strides,
        prepare=_pack_planes,
        read_back=panels.unpack,
        kernel_form=_kernel_alone,
        uses_blas=False,
        ours=True,
    ),
    Algorithm(
        name="direct_grouped",
        idea="small groups: a vector holds channels of several groups, shuffled so that each meets its own",
        source="ours",
        formula="0",
        order="none",
        unsupported=small_groups,
        schedule=no_workspace,
        run=grouped.run,
        reading=reads_slices,
        uses_blas=False,
        ours=True,
    ),
    Algorithm(
        name="direct_dots",
        idea="few filters: dot products of patches and filters, registers along the input channels",
        source="ours",
        formula="k_h·k_w·i_c/G·k_c, the transposed kernel, kept by a plan",
        order="k²",
        unsupported=no_line_of_channels,
        schedule=_dots,
        run=dots.run,
        reading=reads_slices,
        prepare=_transpose,
        read_back=transpose_back,
        kernel_form=_kernel_alone,
        uses_blas=False,
        ours=True,
    ),
)
