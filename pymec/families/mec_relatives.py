"""Relatives of MEC: the other axis, smaller tiles, other ways to multiply the windows."""

from __future__ import annotations

from dataclasses import replace

from pymec.families._row import SLICE_BYTES, Algorithm, Schedule, any_shape, blas_limit, product_cut, thread_slices
from pymec.families.mec import PAPER as MEC_PAPER
from pymec.families.mec import largest_band
from pymec.kernels import im2win, mec_split, mec_w
from pymec.kernels._blas import BLAS_INT_MAX
from pymec.kernels._pieces import even_part
from pymec.kernels._tile_cut import products
from pymec.shapes import ConvShape

# The other axis -----------------------------------------------------------------------------------------


def _mec_w_limit(shape: ConvShape) -> str | None:
    return blas_limit(
        GEMM_row_count=shape.i_n * shape.o_h,
        GEMM_leading_dimension=max(
            max(shape.lowered_columns(), shape.k_w) * shape.k_h * shape.i_cg, shape.o_w * shape.k_c
        ),
    )


def _mec_w(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    lowered = 0 if shape.is_row_of_taps else shape.mec_w_size
    permuted = shape.permuted_kernel_size
    return Schedule(permuted + lowered, {"cut": product_cut(shape)}, permuted)


def _im2win(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    same = _mec_w(shape, n_threads, limit)
    return Schedule(same.size, prepared=same.prepared)


# Tiles --------------------------------------------------------------------------------------------------

TILE_COLUMNS = 64
"""Columns of a tile where there is room: more would lower the band for no better products."""

BLAS_PIXELS = 4
"""Pixels that BLAS takes at a time: threads do without a slice of their own before a tile has fewer columns."""

LINE_BYTES = 64
"""Input channels lowered together, in bytes: those of a line of cache are read at once."""


def _column_split_limit(shape: ConvShape) -> str | None:
    return blas_limit(
        GEMM_leading_dimension=shape.k_h * shape.k_w * shape.i_cg,
        GEMM_column_count=shape.k_c,
    )


def _channel_split_limit(shape: ConvShape) -> str | None:
    return blas_limit(GEMM_leading_dimension=max(shape.k_h * shape.k_w, shape.i_cg * shape.k_c))


def _tiles(shape: ConvShape, n_threads: int, limit: int | None, channels: int) -> tuple[int, int, int, int]:
    """Slices, and a tile's rows, columns and channels: rows give way to a limit first, then columns."""
    pixel = shape.tile_size(1, 1, 1)
    pixels = shape.groups * max(1, shape.i_n) * shape.o_h * shape.o_w
    slices = thread_slices(-(-pixels // BLAS_PIXELS), n_threads, BLAS_PIXELS * pixel * channels, limit)
    room = SLICE_BYTES // shape.itemsize if limit is None else limit // slices
    room = min(room, shape.mec_size // slices)  # all slices together: no more than MEC, if they can
    most = min(TILE_COLUMNS, shape.o_w, max(1, room // max(1, pixel * channels)))
    columns = min(most, -(-even_part(shape.o_w, most) // BLAS_PIXELS) * BLAS_PIXELS)
    room = min(room, columns * BLAS_INT_MAX)  # a strip of a tile is the products' leading dimension
    across = -(-shape.o_w // columns)
    share = -(-shape.groups * max(1, shape.i_n) * shape.o_h * across // slices)
    rows = largest_band(shape, columns * shape.k_w * channels, min(shape.o_h, share), room)
    return slices, rows, columns, channels


def _tile_schedule(shape: ConvShape, slices: int, rows: int, columns: int, channels: int, split: bool) -> Schedule:
    pieces = products(product_cut(shape), replace(shape, i_c=shape.groups) if split else shape, columns, slices)
    options = {"band_rows": rows, "columns": columns, "slices": slices, "pieces": pieces}
    if split:
        options["channels"] = channels
    size = slices * shape.tile_size(rows, columns, channels)
    return Schedule(size, options, uses_blas=not pieces.registers)


def _mec_column_split(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return _tile_schedule(shape, *_tiles(shape, n_threads, limit, shape.i_cg), split=False)


def _mec_channel_split(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    channels = min(shape.i_cg, LINE_BYTES // shape.itemsize)
    if limit is not None:
        channels = max(1, min(channels, limit // max(1, shape.tile_size(1, BLAS_PIXELS, 1))))
    return _tile_schedule(shape, *_tiles(shape, n_threads, limit, channels), split=True)


# The table ----------------------------------------------------------------------------------------------

ROWS = (
    Algorithm(
        name="mec_w",
        idea="MEC's transposed twin: o_w products of i_n·o_h rows, n-h-w-c for any batch",
        source=f"ours, after {MEC_PAPER}",
        formula="i_n·o_h·r_w·k_h·i_c + k_h·k_w·i_c/G·k_c, the latter kept by a plan and 0 if k_h or k_w is 1",
        order="k",
        unsupported=_mec_w_limit,
        schedule=_mec_w,
        run=mec_w.run,
        prepare=mec_w.prepare,
        ours=True,
    ),
    Algorithm(
        name="mec_column_split",
        idea="MEC on tiles of b output rows and w_b columns",
        source=f"ours, after {MEC_PAPER}",
        formula="slices·w_b·r_b·k_w·i_c/G",
        order="bounded",
        unsupported=_column_split_limit,
        schedule=_mec_column_split,
        run=mec_split.run,
        ours=True,
    ),
    Algorithm(
        name="mec_channel_split",
        idea="MEC on tiles, c_b input channels lowered at a time, a product for each",
        source=f"ours, after {MEC_PAPER}",
        formula="slices·c_b·w_b·r_b·k_w",
        order="bounded",
        unsupported=_channel_split_limit,
        schedule=_mec_channel_split,
        run=mec_split.run,
        ours=True,
    ),
    Algorithm(
        name="im2win",
        idea="MEC-w's lowered matrix, its windows multiplied without BLAS",
        source="Lu, Chu & Liu, Im2win: Memory Efficient Convolution On SIMD Architectures, 2022",
        formula="i_n·o_h·r_w·k_h·i_c + k_h·k_w·i_c/G·k_c, the latter kept by a plan and 0 if k_h or k_w is 1",
        order="k",
        unsupported=any_shape,
        schedule=_im2win,
        run=im2win.run,
        prepare=mec_w.prepare,
        uses_blas=False,
    ),
)
