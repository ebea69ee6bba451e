"""The paper's algorithms, and ours after them: tuned, in bands, in tiles, along the other axis."""

from __future__ import annotations

from dataclasses import replace

from pymec.algorithm import Algorithm, Schedule, any_shape, blas_limit, thread_slices
from pymec.kernels.mec import banded, im2win, paper, split, transposed, tuned
from pymec.kernels.register_tiles.schedule import fast_tiles, gemm_blocking, preferred_multiply
from pymec.kernels.shared.blas import BLAS_INT_MAX
from pymec.kernels.shared.blocking import even_part
from pymec.kernels.shared.machine import HALF_L2_BYTES, SLICE_BYTES, UNEVEN_ROWS
from pymec.shapes import ConvShape

PAPER = "Cho & Brand, MEC: Memory-efficient Convolution for Deep Neural Network, ICML 2017"


# As published -------------------------------------------------------------------------------------------


def _not_in_the_paper(shape: ConvShape) -> str | None:
    """The reason why the paper's algorithms can't do a shape, if they can't."""
    if shape.d_h > 1 or shape.d_w > 1:
        return f"its dilation is {shape.d_h}×{shape.d_w} and the paper's algorithms have none; mec takes any"
    if shape.groups > 1:
        return f"it has {shape.groups} groups and the paper's algorithms have none; mec takes any"
    return blas_limit(
        GEMM_row_count=shape.o_w,
        GEMM_leading_dimension=(shape.i_h + shape.p_t + shape.p_b) * shape.k_w * shape.i_c,
        GEMM_column_count=shape.k_c,
    )


def _paper_a_limit(shape: ConvShape) -> str | None:
    return _not_in_the_paper(shape) or blas_limit(GEMM_row_count=shape.i_n * shape.o_w)


def _paper_limit(shape: ConvShape) -> str | None:
    return _paper_a_limit(shape) if paper.choose_solution(shape) == "A" else _not_in_the_paper(shape)


def _paper(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(shape.paper_mec_size)


def _paper_vanilla(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(shape.single_image().paper_mec_size)


def _paper_a(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    repaired = shape.output_size if shape.i_n > 1 else 0
    return Schedule(max(shape.paper_mec_size, repaired))


# Tuned --------------------------------------------------------------------------------------------------


def mec_limit(shape: ConvShape) -> str | None:
    return blas_limit(
        GEMM_row_count=shape.o_w,
        GEMM_leading_dimension=max(shape.lowered_rows(), shape.k_h) * shape.k_w * shape.i_cg,
        GEMM_column_count=shape.k_c,
    )


def _mec_cut_limit(shape: ConvShape) -> str | None:
    return _mec_a_limit(shape) if tuned.choose_solution(shape, tuned.T_TUNED) == "A" else mec_limit(shape)


def _mec_a_limit(shape: ConvShape) -> str | None:
    return blas_limit(GEMM_row_count=shape.i_n * shape.o_w) or mec_limit(shape)


def _banded_limit(shape: ConvShape) -> str | None:
    return blas_limit(
        GEMM_row_count=shape.o_w,
        GEMM_leading_dimension=shape.k_h * shape.k_w * shape.i_cg,
        GEMM_column_count=shape.k_c,
    )


def mec_schedule(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(0 if shape.is_pointwise else shape.mec_size)


def _mec_cut(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    cut = preferred_multiply(shape)
    return Schedule(mec_schedule(shape, n_threads, limit).size, {"cut": cut}, uses_blas=cut != "register_tiles")


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


def _mec_banded(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    """Bands of rows; of columns where a limit leaves not every thread a row of its own, but all of them a column.

    That takes register tiles: BLAS has no products along strips.
    """
    by_rows = _bands_of_rows(shape, n_threads, limit)
    busy = min(n_threads, shape.groups * max(1, shape.i_n) * shape.o_h)
    enough = min(busy * shape.band_size(1), shape.band_size(shape.o_h))
    if limit is None or limit >= enough or not fast_tiles(shape):
        return by_rows
    by_columns = _bands_of_columns(shape, n_threads, limit)
    return by_columns if by_columns.size <= max(limit, by_rows.size) else by_rows


def _bands_of_rows(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    """Bands of each thread's own; but of a small image with a large kernel all threads share the channels."""
    planes = shape.groups * max(1, shape.i_n)
    slices = thread_slices(planes * shape.o_h, n_threads, shape.band_size(1), limit)
    room = SLICE_BYTES // shape.itemsize if limit is None else limit // slices
    if shape.kernel_size * shape.itemsize > HALF_L2_BYTES and shape.band_size(shape.o_h) <= slices * room:
        slices, room = 1, slices * room
    room = min(room, shape.mec_size // slices)  # all slices together: no more than MEC, if they can
    room = min(room, shape.o_w * BLAS_INT_MAX)  # a strip of a band is the products' leading dimension
    most = largest_band(shape, shape.o_w * shape.k_w * shape.i_cg, shape.o_h, room)
    band_rows = _even_bands(shape, planes, most, slices, room)
    blocking = gemm_blocking(preferred_multiply(shape), shape, shape.o_w, n_threads if slices == 1 else 1)
    at_once = _at_once(band_rows, -(-shape.k_cg // blocking.channels), n_threads if slices == 1 else 1)
    options = {"band_rows": band_rows, "slices": slices, "blocking": blocking._replace(output_rows=at_once)}
    return Schedule(slices * shape.band_size(band_rows), options, uses_blas=not blocking.registers)


def _bands_of_columns(shape: ConvShape, n_threads: int, limit: int) -> Schedule:
    """As many columns as there is room for: for each thread, if shares are even, or else for all together."""
    column = shape.tile_size(shape.o_h, 1)
    units = shape.groups * max(1, shape.i_n) * shape.o_w
    slices, columns = 1, max(1, min(shape.o_w, limit // column))
    if n_threads * column <= limit and -(-units // n_threads) * n_threads <= UNEVEN_ROWS * units:
        slices, columns = n_threads, even_part(units // n_threads, min(shape.o_w, limit // n_threads // column))
    # Columns are the transposed convolution's rows; of what all take together each has a share of the channels.
    sharing = n_threads if slices == 1 else 1
    turned = replace(shape.transposed(), k_c=shape.groups * -(-shape.k_cg // sharing))
    blocking = gemm_blocking("register_tiles", turned, shape.o_h, 1)
    at_once = _at_once(columns, -(-shape.k_cg // blocking.channels), sharing)
    options = {"band_columns": columns, "slices": slices, "blocking": blocking._replace(output_rows=at_once)}
    return Schedule(slices * shape.tile_size(shape.o_h, columns), options, uses_blas=False)


def _even_bands(shape: ConvShape, planes: int, most: int, slices: int, room: int) -> int:
    """The largest bands, of no more rows than that, of those that leave the busiest slice the fewest."""
    if slices == 1:  # it has them all
        return most
    fewest = -(-shape.o_h // most)
    sizes = {-(-shape.o_h // bands) for bands in range(fewest, fewest + slices + 1)}  # with a multiple of slices
    # At an image's border a smaller band may read more of its rows: what has no room is left out.
    sizes = {most, *(size for size in sizes if shape.band_size(size) <= room)}
    return min(sizes, key=lambda size: (-(-planes * -(-shape.o_h // size) // slices) * size, -size))


def _at_once(lines: int, channel_blocks: int, n_threads: int) -> int:
    """Rows, or columns, of a band for a unit of work: its blocks, with those of channels, make even shares."""
    blocks = 1
    while channel_blocks * blocks % n_threads and channel_blocks * blocks < 4 * n_threads:
        blocks += 1
    return even_part(lines, -(-lines // blocks))


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
    return Schedule(permuted + lowered, {"cut": preferred_multiply(shape)}, permuted)


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
    blocking = gemm_blocking(
        preferred_multiply(shape), replace(shape, i_c=shape.groups) if split else shape, columns, slices
    )
    options = {"band_rows": rows, "columns": columns, "slices": slices, "blocking": blocking}
    if split:
        options["channels"] = channels
    size = slices * shape.tile_size(rows, columns, channels)
    return Schedule(size, options, uses_blas=not blocking.registers)


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
        name="mec_vanilla",
        idea="Algorithm 1, one image at a time",
        source=f"{PAPER}, Algorithm 1",
        formula="o_w·H·k_w·i_c",
        order="k",
        unsupported=_not_in_the_paper,
        schedule=_paper_vanilla,
        run=paper.run_vanilla,
        fuses_bias_relu=False,
    ),
    Algorithm(
        name="mec_a",
        idea="Algorithm 2, Solution A: o_h products of i_n·o_w rows, then the repair",
        source=f"{PAPER}, Algorithm 2, lines 9-19",
        formula="i_n·o_w·H·k_w·i_c, with i_n > 1 at least i_n·o_h·o_w·k_c",
        order="k",
        unsupported=_paper_a_limit,
        schedule=_paper_a,
        run=paper.run_a,
        fuses_bias_relu=False,
    ),
    Algorithm(
        name="mec_b",
        idea="Algorithm 2, Solution B: i_n·o_h products of o_w rows",
        source=f"{PAPER}, Algorithm 2, lines 21-25",
        formula="i_n·o_w·H·k_w·i_c",
        order="k",
        unsupported=_not_in_the_paper,
        schedule=_paper,
        run=paper.run_b,
        fuses_bias_relu=False,
    ),
    Algorithm(
        name="mec_paper",
        idea="Algorithm 2 whole: Solution A or B by line 8 with T = 100",
        source=f"{PAPER}, Algorithm 2",
        formula="i_n·o_w·H·k_w·i_c",
        order="k",
        unsupported=_paper_limit,
        schedule=_paper,
        run=paper.run,
        fuses_bias_relu=False,
    ),
    Algorithm(
        name="mec",
        idea="Algorithm 2 tuned: fewer rows in L, its products by register tiles, or cut for BLAS",
        source=f"ours, after {PAPER}, Algorithm 2",
        formula="i_n·o_w·r_h·k_w·i_c",
        order="k",
        unsupported=_mec_cut_limit,
        schedule=_mec_cut,
        run=tuned.run,
        ours=True,
    ),
    Algorithm(
        name="mec_banded",
        idea="MEC on a band of b output rows, or w_b columns, at a time",
        source=f"ours, after {PAPER}",
        formula="slices·w_b·r_b·k_w·i_c/G",
        order="bounded",
        unsupported=_banded_limit,
        schedule=_mec_banded,
        run=banded.run,
        ours=True,
    ),
    Algorithm(
        name="mec_w",
        idea="MEC's transposed twin: o_w products of i_n·o_h rows, n-h-w-c for any batch",
        source=f"ours, after {PAPER}",
        formula="i_n·o_h·r_w·k_h·i_c + k_h·k_w·i_c/G·k_c, the latter kept by a plan and 0 if k_h or k_w is 1",
        order="k",
        unsupported=_mec_w_limit,
        schedule=_mec_w,
        run=transposed.run,
        prepare=transposed.prepare,
        ours=True,
    ),
    Algorithm(
        name="mec_column_split",
        idea="MEC on tiles of b output rows and w_b columns",
        source=f"ours, after {PAPER}",
        formula="slices·w_b·r_b·k_w·i_c/G",
        order="bounded",
        unsupported=_column_split_limit,
        schedule=_mec_column_split,
        run=split.run,
        ours=True,
    ),
    Algorithm(
        name="mec_channel_split",
        idea="MEC on tiles, c_b input channels lowered at a time, a product for each",
        source=f"ours, after {PAPER}",
        formula="slices·c_b·w_b·r_b·k_w",
        order="bounded",
        unsupported=_channel_split_limit,
        schedule=_mec_channel_split,
        run=split.run,
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
        prepare=transposed.prepare,
        uses_blas=False,
    ),
)
