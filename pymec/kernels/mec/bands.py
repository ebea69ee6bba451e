"""How ``mec_banded``, ``mec_column_split`` and ``mec_channel_split`` cut a convolution: slices, bands and tiles.

Each thread has a slice of the workspace, as large as a limit or half a level-2 cache allows, and a band or tile is
as large as a slice allows.  This is arithmetic on sizes; nothing is measured.
"""

from __future__ import annotations

from dataclasses import replace

from pymec.algorithm import Schedule, thread_slices
from pymec.kernels.register_tiles.schedule import fast_tiles, gemm_blocking, preferred_multiply
from pymec.kernels.shared.blas import BLAS_INT_MAX
from pymec.kernels.shared.blocking import even_part
from pymec.kernels.shared.machine import (
    CACHE_LINE,
    HALF_L2_BYTES,
    PRODUCT_ROUND,
    SLICE_BYTES,
    TILE_COLUMNS,
    UNEVEN_ROWS,
)
from pymec.shapes import ConvShape

# Bands --------------------------------------------------------------------------------------------------


def banded_schedule(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    """Bands of rows; bands of columns where a limit has room for a column on every busy thread, but not for a row.

    Bands of columns need register tiles: BLAS has no products along strips.
    """
    by_rows = bands_of_rows(shape, n_threads, limit)
    busy = min(n_threads, shape.groups * max(1, shape.i_n) * shape.o_h)
    a_row_each = min(busy * shape.band_size(1), shape.band_size(shape.o_h))
    if limit is None or limit >= a_row_each or not fast_tiles(shape):
        return by_rows
    by_columns = bands_of_columns(shape, n_threads, limit)
    return by_columns if by_columns.size <= max(limit, by_rows.size) else by_rows


def bands_of_rows(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    """A slice and bands for each thread; one slice for all where the image is small and the kernel large."""
    planes = shape.groups * max(1, shape.i_n)
    slices = thread_slices(planes * shape.o_h, n_threads, shape.band_size(1), limit)
    room = SLICE_BYTES // shape.itemsize if limit is None else limit // slices
    if shape.kernel_size * shape.itemsize > HALF_L2_BYTES and shape.band_size(shape.o_h) <= slices * room:
        slices, room = 1, slices * room
    room = min(room, shape.mec_size // slices)  # all slices together: no more than mec, if they can
    room = min(room, shape.o_w * BLAS_INT_MAX)  # a strip of a band is the products' leading dimension
    most = largest_band(shape, shape.o_w * shape.k_w * shape.i_cg, shape.o_h, room)
    band_rows = _even_bands(shape, planes, most, slices, room)
    sharing = n_threads if slices == 1 else 1
    blocking = gemm_blocking(preferred_multiply(shape), shape, shape.o_w, sharing)
    at_once = _lines_at_once(band_rows, -(-shape.k_cg // blocking.channels), sharing)
    options = {"band_rows": band_rows, "slices": slices, "blocking": blocking._replace(output_rows=at_once)}
    return Schedule(slices * shape.band_size(band_rows), options, uses_blas=not blocking.registers)


def bands_of_columns(shape: ConvShape, n_threads: int, limit: int) -> Schedule:
    """As many columns as the limit allows: on each thread where shares are even, otherwise shared by all."""
    column = shape.tile_size(shape.o_h, 1)
    all_columns = shape.groups * max(1, shape.i_n) * shape.o_w
    slices, columns = 1, max(1, min(shape.o_w, limit // column))
    if n_threads * column <= limit and -(-all_columns // n_threads) * n_threads <= UNEVEN_ROWS * all_columns:
        slices = n_threads
        columns = even_part(all_columns // n_threads, min(shape.o_w, limit // n_threads // column))
    sharing = n_threads if slices == 1 else 1
    # Columns are rows of the transposed convolution; threads that share a band have a part of the channels each.
    part = replace(shape.transposed(), k_c=shape.groups * -(-shape.k_cg // sharing))
    blocking = gemm_blocking("register_tiles", part, shape.o_h, 1)
    at_once = _lines_at_once(columns, -(-shape.k_cg // blocking.channels), sharing)
    options = {"band_columns": columns, "slices": slices, "blocking": blocking._replace(output_rows=at_once)}
    return Schedule(slices * shape.tile_size(shape.o_h, columns), options, uses_blas=False)


def largest_band(shape: ConvShape, row_size: int, most: int, room: int) -> int:
    """The most output rows, up to ``most``, whose image rows of ``row_size`` elements in L fit into ``room``."""
    # A band of b rows keeps at least (b - 1)·min(s_h, k_h) image rows: no more than these need be tried.
    high = max(1, min(most, room // row_size // min(shape.s_h, shape.k_h) + 1))
    low = 1
    while low < high:
        middle = (low + high + 1) // 2
        if shape.band_rows_kept(middle) * row_size <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _even_bands(shape: ConvShape, planes: int, most: int, slices: int, room: int) -> int:
    """The size of bands, up to ``most`` rows, that gives the busiest slice the fewest rows; the largest such."""
    if slices == 1:  # it has all of them
        return most
    fewest = -(-shape.o_h // most)
    sizes = {-(-shape.o_h // bands) for bands in range(fewest, fewest + slices + 1)}  # with a multiple of slices
    # At an image's border a smaller band may read more image rows: sizes without room are left out.
    sizes = {most, *(size for size in sizes if shape.band_size(size) <= room)}
    return min(sizes, key=lambda size: (-(-planes * -(-shape.o_h // size) // slices) * size, -size))


def _lines_at_once(lines: int, channel_blocks: int, sharing: int) -> int:
    """Rows or columns of a band in one block, such that all blocks of the band are even shares for the threads."""
    blocks = 1
    while channel_blocks * blocks % sharing and channel_blocks * blocks < 4 * sharing:
        blocks += 1
    return even_part(lines, -(-lines // blocks))


# Tiles --------------------------------------------------------------------------------------------------


def column_split_schedule(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    """Tiles of all input channels of a group."""
    return _tile_schedule(shape, n_threads, limit, shape.i_cg, {}, shape)


def channel_split_schedule(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    """Tiles of a few input channels: those of one cache line, because they are read together."""
    channels = min(shape.i_cg, CACHE_LINE // shape.itemsize)
    if limit is not None:
        channels = max(1, min(channels, limit // max(1, shape.tile_size(1, PRODUCT_ROUND, 1))))
    one_channel = replace(shape, i_c=shape.groups)
    return _tile_schedule(shape, n_threads, limit, channels, {"channels": channels}, one_channel)


def _tile_schedule(
    shape: ConvShape, n_threads: int, limit: int | None, channels: int, options: dict[str, int], product: ConvShape
) -> Schedule:
    """Tiles of ``channels`` input channels: under a limit rows give way first, then columns.

    ``product`` is the convolution whose products are multiplied: of all channels or of one.
    """
    pixel = shape.tile_size(1, 1, 1)
    pixels = shape.groups * max(1, shape.i_n) * shape.o_h * shape.o_w
    slices = thread_slices(-(-pixels // PRODUCT_ROUND), n_threads, PRODUCT_ROUND * pixel * channels, limit)
    room = SLICE_BYTES // shape.itemsize if limit is None else limit // slices
    room = min(room, shape.mec_size // slices)  # all slices together: no more than mec, if they can
    most = min(TILE_COLUMNS, shape.o_w, max(1, room // max(1, pixel * channels)))
    columns = min(most, -(-even_part(shape.o_w, most) // PRODUCT_ROUND) * PRODUCT_ROUND)
    room = min(room, columns * BLAS_INT_MAX)  # a strip of a tile is the products' leading dimension
    across = -(-shape.o_w // columns)
    share = -(-shape.groups * max(1, shape.i_n) * shape.o_h * across // slices)
    rows = largest_band(shape, columns * shape.k_w * channels, min(shape.o_h, share), room)
    blocking = gemm_blocking(preferred_multiply(shape), product, columns, slices)
    size = slices * shape.tile_size(rows, columns, channels)
    tile = {"band_rows": rows, "columns": columns, "slices": slices, "blocking": blocking}
    return Schedule(size, {**tile, **options}, uses_blas=not blocking.registers)
