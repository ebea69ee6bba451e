"""The paper's algorithms, and MEC in bands."""

from __future__ import annotations

from dataclasses import replace

from pymec.families._row import SLICE_BYTES, Algorithm, Schedule, blas_limit, product_cut, thread_slices
from pymec.kernels import mec, mec_banded
from pymec.kernels._blas import BLAS_INT_MAX
from pymec.kernels._pieces import PANEL_BYTES, UNEVEN, even_part
from pymec.kernels._tile_cut import fast_tiles, products
from pymec.shapes import ConvShape

PAPER = "Cho & Brand, MEC: Memory-efficient Convolution for Deep Neural Network, ICML 2017"


def mec_limit(shape: ConvShape) -> str | None:
    return blas_limit(
        GEMM_row_count=shape.o_w,
        GEMM_leading_dimension=max(shape.lowered_rows(), shape.k_h) * shape.k_w * shape.i_cg,
        GEMM_column_count=shape.k_c,
    )


def _mec_cut_limit(shape: ConvShape) -> str | None:
    return _mec_a_limit(shape) if mec.choose_solution(shape, mec.T_CUT) == "A" else mec_limit(shape)


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


def _mec_vanilla(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return mec_schedule(shape.single_image(), n_threads, limit)


def _mec_a(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    if shape.is_pointwise or shape.i_n <= 1:
        return mec_schedule(shape, n_threads, limit)
    return Schedule(max(shape.mec_size, shape.output_size))


def _mec_cut(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    cut = product_cut(shape)
    return Schedule(mec_schedule(shape, n_threads, limit).size, {"cut": cut}, uses_blas=cut != "registers")


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
    if shape.kernel_size * shape.itemsize > PANEL_BYTES and shape.band_size(shape.o_h) <= slices * room:
        slices, room = 1, slices * room
    room = min(room, shape.mec_size // slices)  # all slices together: no more than MEC, if they can
    room = min(room, shape.o_w * BLAS_INT_MAX)  # a strip of a band is the products' leading dimension
    most = largest_band(shape, shape.o_w * shape.k_w * shape.i_cg, shape.o_h, room)
    band_rows = _even_bands(shape, planes, most, slices, room)
    pieces = products(product_cut(shape), shape, shape.o_w, n_threads if slices == 1 else 1)
    at_once = _at_once(band_rows, -(-shape.k_cg // pieces.channels), n_threads if slices == 1 else 1)
    options = {"band_rows": band_rows, "slices": slices, "pieces": pieces._replace(output_rows=at_once)}
    return Schedule(slices * shape.band_size(band_rows), options, uses_blas=not pieces.registers)


def _bands_of_columns(shape: ConvShape, n_threads: int, limit: int) -> Schedule:
    """As many columns as there is room for: for each thread, if shares are even, or else for all together."""
    column = shape.tile_size(shape.o_h, 1)
    units = shape.groups * max(1, shape.i_n) * shape.o_w
    slices, columns = 1, max(1, min(shape.o_w, limit // column))
    if n_threads * column <= limit and -(-units // n_threads) * n_threads <= UNEVEN * units:
        slices, columns = n_threads, even_part(units // n_threads, min(shape.o_w, limit // n_threads // column))
    # Columns are the transposed convolution's rows; of what all take together each has a share of the channels.
    sharing = n_threads if slices == 1 else 1
    turned = replace(shape.transposed(), k_c=shape.groups * -(-shape.k_cg // sharing))
    pieces = products("registers", turned, shape.o_h, 1)
    at_once = _at_once(columns, -(-shape.k_cg // pieces.channels), sharing)
    options = {"band_columns": columns, "slices": slices, "pieces": pieces._replace(output_rows=at_once)}
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


ROWS = (
    Algorithm(
        name="mec_vanilla",
        idea="Algorithm 1, one image at a time",
        source=f"{PAPER}, Algorithm 1",
        formula="o_w·r_h·k_w·i_c",
        order="k",
        unsupported=mec_limit,
        schedule=_mec_vanilla,
        run=mec.run_vanilla,
    ),
    Algorithm(
        name="mec_a",
        idea="Algorithm 2, Solution A: o_h products of i_n·o_w rows, then the repair",
        source=f"{PAPER}, Algorithm 2, lines 9-19",
        formula="i_n·o_w·r_h·k_w·i_c, with i_n > 1 at least i_n·o_h·o_w·k_c",
        order="k",
        unsupported=_mec_a_limit,
        schedule=_mec_a,
        run=mec.run_a,
    ),
    Algorithm(
        name="mec_b",
        idea="Algorithm 2, Solution B: i_n·o_h products of o_w rows",
        source=f"{PAPER}, Algorithm 2, lines 21-25",
        formula="i_n·o_w·r_h·k_w·i_c",
        order="k",
        unsupported=mec_limit,
        schedule=mec_schedule,
        run=mec.run_b,
    ),
    Algorithm(
        name="mec",
        idea="Algorithm 2 with line 8's choice, its products by register tiles, or cut for BLAS",
        source=f"{PAPER}, Algorithm 2",
        formula="i_n·o_w·r_h·k_w·i_c",
        order="k",
        unsupported=_mec_cut_limit,
        schedule=_mec_cut,
        run=mec.run,
    ),
    Algorithm(
        name="mec_banded",
        idea="MEC on a band of b output rows, or w_b columns, at a time",
        source=f"ours, after {PAPER}",
        formula="slices·w_b·r_b·k_w·i_c/G",
        order="bounded",
        unsupported=_banded_limit,
        schedule=_mec_banded,
        run=mec_banded.run,
        ours=True,
    ),
)
