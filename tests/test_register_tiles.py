"""Tiles of sums in registers: where they end, how their work is scheduled, and what must not change a bit."""

import itertools

import numpy as np
import pytest
from cases import is_right, operands

import pymec
from pymec import ConvShape, reference
from pymec.kernels.direct import depthwise
from pymec.kernels.register_tiles import convolution as direct_blocked
from pymec.kernels.register_tiles import panels as _panels
from pymec.kernels.register_tiles.schedule import TileSchedule, gemm_blocking, tile_schedule
from pymec.kernels.register_tiles.tile import taken_pixels, tile_for
from pymec.kernels.winograd import banded as winograd_banded
from pymec.kernels.winograd.bands import tile_cycles, transform_cycles, winograd_bands
from pymec.recipes import parse_bytes
from pymec.workspace import allocate_output

WHOLE = 2**31 - 1


def convolved(shape, n_threads=1, schedule=None, in_panels=False, **ends):
    """The output of ``direct_blocked.run``, NaN before; without ``ends`` it is checked against the bound."""
    x, kernel = operands(shape)
    prepared = None
    if in_panels:
        prepared = np.full(_panels.panels_size(shape), np.nan, shape.dtype)
        _panels.pack(kernel, prepared, shape, n_threads)
    out = np.full(shape.output_shape, np.nan, shape.dtype)
    schedule = schedule or tile_schedule(shape, n_threads, in_panels)
    direct_blocked.run(x, kernel, out, np.empty(0, shape.dtype), shape, n_threads, schedule, prepared, **ends)
    if not ends:
        assert is_right(out, shape)
    return out


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k_c", [1, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96])
def test_panels_end_anywhere(k_c, dtype):
    """The last panel reaches back.  With fewer channels than a register holds, K in place takes a smaller
    tile, and in panels zeros stand before the channels, so that sums round as in registers.
    """
    for options in ({}, {"groups": 3}):
        extents = (2, 3, 3 // options.get("groups", 1), k_c * options.get("groups", 1))
        shape = ConvShape.from_shapes((1, 6, 9, 3), extents, padding=1, dtype=dtype, **options)
        in_panels = convolved(shape, in_panels=True)
        if k_c * shape.itemsize >= 64:
            np.testing.assert_array_equal(convolved(shape), in_panels)
        bias = np.linspace(-9, 9, shape.k_c).astype(dtype)
        schedule = tile_schedule(shape, 1, True)
        ended = [
            convolved(
                shape, schedule=schedule._replace(rows=rows, in_rows=in_rows), in_panels=True, bias=bias, relu=True
            )
            for rows in (1, 2)
            for in_rows in (False, True)
        ]
        for result in ended:
            np.testing.assert_array_equal(result, ended[0])
        np.testing.assert_allclose(ended[0], np.maximum(in_panels + bias, 0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("i_w", range(3, 30))
def test_tiles_end_anywhere(i_w):
    """A tile goes on over the ends of rows and images, or ends with the row; the last may be a single pixel."""
    shape = ConvShape.from_shapes((2, 4, i_w, 2), (2, 3, 2, 64))
    schedule = tile_schedule(shape, 1, False)
    results = [convolved(shape, schedule=schedule._replace(in_rows=in_rows)) for in_rows in (False, True)]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": ((2, 0), (1, 3))},
        {"stride": (2, 3), "padding": 2},
        {"dilation": (2, 3), "padding": (3, 1)},
        {"groups": 2, "padding": 1},
        {"stride": 5},
    ],
    ids=str,
)
def test_no_schedule_changes_a_bit(options, dtype):
    """Every output is summed in one order, whatever the threads, the order of the work and the place of K."""
    extents = (3, 4, 12 // options.get("groups", 1), 140)
    shape = ConvShape.from_shapes((2, 11, 13, 12), extents, dtype=dtype, **options)
    whole = convolved(shape)
    i_cg = shape.i_cg
    for n_threads, channel_shares, pixels, panels, rows, taps, channels, in_rows in (
        (1, 1, 7, 1, 3, 4, i_cg, False),
        (2, 2, WHOLE, 2, 1, 4, i_cg, True),
        (3, 1, 25, WHOLE, 2, 4, i_cg, False),
        (4, 2, WHOLE, 1, 1, 3, i_cg, True),
        (6, 3, 13, 3, 1, 1, i_cg, False),
        (5, 5, WHOLE, 1, 1, 1, 5, True),
    ):
        schedule = TileSchedule(channel_shares, pixels, panels, rows, taps, channels, in_rows)
        for in_panels in (False, True):
            np.testing.assert_array_equal(convolved(shape, n_threads, schedule, in_panels), whole)


@pytest.mark.parametrize("k_c", [32, 40, 64, 16, 24])
@pytest.mark.parametrize("padding", [0, 1, (0, 3)])
def test_tiles_of_a_row_are_taken_together(k_c, padding):
    """All but those at its ends, on padding; also if the last panel reaches back, and with several blocks."""
    shape = ConvShape.from_shapes((1, 5, 57, 4), (3, 3, 4, k_c), padding=padding)
    whole = tile_schedule(shape, 1, False)
    results = [
        convolved(shape, schedule=whole._replace(in_rows=in_rows, **block), in_panels=in_rows)
        for in_rows in (False, True)
        for block in ({}, {"rows": 1}, {"rows": 1, "taps": 1, "channels": 3})
    ]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    bias = np.linspace(-9, 9, k_c).astype("f")
    plain = convolved(shape, schedule=whole._replace(in_rows=False), bias=bias)
    clamped = convolved(shape, schedule=whole._replace(in_rows=True, rows=1), bias=bias, relu=True)
    np.testing.assert_array_equal(clamped, np.maximum(plain, 0))


@pytest.mark.parametrize("i_w", [4, 6, 7, 14, 27])
@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"padding": ((0, 2), (0, 3))},
        {"padding": ((1, 1), (4, 4))},  # some taps read few pixels of the image, or none
        {"padding": 2, "dilation": 2},
        {"padding": 2, "stride": (1, 2)},
        {"padding": 1, "groups": 2},
    ],
    ids=str,
)
def test_tiles_at_the_ends_of_a_row(i_w, options):
    """Multiplying the padding's zeros and going tap by tap without them give the same sums, bias and ReLU."""
    groups = options.get("groups", 1)
    shape = ConvShape.from_shapes((1, 4, i_w, 520 * groups), (3, 3, 520, 40 * groups), **options)
    bias = np.linspace(-9, 9, shape.k_c).astype("f")
    for in_panels in (False, True):
        schedule = tile_schedule(shape, 1, in_panels)
        with_zeros = [
            convolved(shape, 1, schedule._replace(in_rows=False), in_panels, **ends)
            for ends in ({}, {"bias": bias})
        ]
        for block in ({}, {"rows": 1}, {"rows": 1, "taps": 1, "channels": 260}):
            for n_threads, padding_products in ((1, 1), (3, 512), (1, 2**31)):
                changed = schedule._replace(in_rows=True, padding_products=padding_products, **block)
                result = convolved(shape, n_threads, changed, in_panels)
                np.testing.assert_array_equal(result, with_zeros[0])
                result = convolved(shape, n_threads, changed, in_panels, bias=bias, relu=True)
                np.testing.assert_array_equal(result, np.maximum(with_zeros[1], 0))


@pytest.mark.parametrize("padding", [((3, 1), (2, 4)), ((9, 0), (0, 0)), ((0, 0), (5, 0)), 6], ids=str)
@pytest.mark.parametrize("stride", [1, 2, (3, 1)], ids=str)
@pytest.mark.parametrize("i_c", [1, 3, 40])  # 40 channels are too many for a window
@pytest.mark.parametrize(("k_c", "in_panels"), [(34, True), (8, False), (8, True)])  # 8 in place: no vectors
def test_padding_beyond_the_kernel(padding, stride, i_c, k_c, in_panels):
    """Kernel rows on padding are skipped, for some outputs all; ends of rows use windows with zeros."""
    shape = ConvShape.from_shapes((2, 5, 30, i_c), (4, 5, i_c, k_c), stride=stride, padding=padding)
    schedule = tile_schedule(shape, 1, False)
    expected = convolved(shape, schedule=schedule._replace(in_rows=False), in_panels=in_panels)
    for block in ({}, {"rows": 2}, {"rows": 1}, {"rows": 1, "taps": 2}):
        for n_threads in (1, 3):
            changed = schedule._replace(in_rows=True, window=2048 if n_threads == 1 else 0, **block)
            np.testing.assert_array_equal(convolved(shape, n_threads, changed, in_panels), expected)
    bias = np.linspace(-9, 9, k_c).astype("f")
    only_bias = convolved(shape, schedule=schedule._replace(in_rows=True, rows=1), bias=bias)
    untouched = only_bias[(expected == 0).all(axis=3)]  # outputs that no tap in the image reaches
    np.testing.assert_array_equal(untouched, np.broadcast_to(bias, untouched.shape))
    assert len(untouched) or padding not in (6, ((9, 0), (0, 0)))


def test_large_outputs_start_with_a_cache_line():
    for shape in ((1, 1024, 1024, 1), (3, 700, 600, 7)):
        for dtype in ("float32", "float64"):
            outputs = [allocate_output(shape, dtype) for _ in range(3)]
            assert [out.ctypes.data % 64 for out in outputs] == [0, 0, 0]
            kinds = {(out.shape, str(out.dtype), out.flags.c_contiguous) for out in outputs}
            assert kinds == {(shape, dtype, True)}
    assert allocate_output((1, 5, 5, 8), "float64").base is None


def test_more_channels_on_padding_than_there_are_zeros():
    convolved(ConvShape.from_shapes((1, 3, 3, 1100), (3, 3, 1100, 33), padding=2), 2)


def test_more_taps_than_one_call_takes():
    convolved(ConvShape.from_shapes((1, 17, 16, 3), (9, 11, 3, 40), dilation=1, padding=3), 2)
    convolved(ConvShape.from_shapes((1, 130, 6, 2), (120, 1, 2, 33)), 2)
    convolved(ConvShape.from_shapes((1, 6, 130, 2), (1, 100, 1, 34), groups=2), 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k_c", [3, 16, 40])
def test_sums_begin_with_the_bias_and_end_at_zero(k_c, dtype):
    shape = ConvShape.from_shapes((1, 5, 6, 3), (3, 3, 3, k_c), padding=1, dtype=dtype)
    x, kernel = operands(shape)
    bias = np.linspace(-3, 3, k_c).astype(dtype)
    out = convolved(shape, bias=bias)
    bound = reference.error_bound(x, kernel, shape) + 30 * np.finfo(dtype).eps * (np.abs(bias) + np.abs(out))
    assert (np.abs(out - (reference.conv2d(x, kernel, shape) + bias)) <= bound).all()
    np.testing.assert_array_equal(convolved(shape, bias=bias, relu=True), np.maximum(out, 0))
    # in several blocks the bias is added by the first, and ReLU applied by the last
    schedule = TileSchedule(1, WHOLE, 1, 1, 1, 2, False)
    np.testing.assert_array_equal(convolved(shape, schedule=schedule, bias=bias, relu=True), np.maximum(out, 0))


def test_sums_in_several_blocks_stay_in_a_cache():
    """All blocks of the reduction meet some pixels, and then the next ones: O is read and written for each."""
    for k, k_c in ((15, 64), (11, 32), (31, 64)):
        shape = ConvShape.from_shapes((1, 400, 400, 1), (k, k, 1, k_c), padding=k // 2)
        for in_panels in (False, True):
            schedule = tile_schedule(shape, 1, in_panels)
            assert schedule.rows < k
            assert schedule.pixels * (schedule.panels * tile_for(k_c, 4)[1] + 1) * 4 <= 2**19
    shape = ConvShape.from_shapes((1, 400, 400, 1), (7, 7, 1, 64), padding=3)
    assert tile_schedule(shape, 1, in_panels=True).pixels >= 400 * 400, "one block: O is written once"


def test_relu_keeps_nan():
    x, kernel = np.full((1, 4, 4, 2), np.nan, np.float32), np.ones((2, 2, 2, 40), np.float32)
    assert np.isnan(pymec.conv2d(x, kernel, activation="relu", algorithm="direct_blocked")).all()


@pytest.mark.parametrize("k_c", [70, 40, 5])
def test_panels_begin_with_a_cache_line(k_c):
    """Vectors that straddle two cache lines take twice as long to load."""
    shape = ConvShape.from_shapes((1, 6, 6, 5), (3, 2, 5, k_c))
    _, kernel = operands(shape)
    width = tile_for(max(k_c, 16), 4)[1]
    room = np.full(_panels.panels_size(shape) + 16, np.nan, np.float32)
    for start in range(16):
        panels = room[start : start + _panels.panels_size(shape)]
        panels[:] = np.nan
        _panels.pack(kernel, panels, shape)
        first = -(panels.ctypes.data // 4) % 16
        blocks = panels[first : first + (len(panels) - 16)].reshape(-1, 30, width)
        lines = np.pad(kernel.reshape(30, k_c), ((0, 0), (max(width - k_c, 0), 0)))
        assert len(blocks) == -(-k_c // width)
        for i, block in enumerate(blocks):
            channel = min(i * width, lines.shape[1] - width)
            np.testing.assert_array_equal(block, lines[:, channel : channel + width])


@pytest.mark.parametrize("itemsize", [4, 8])
def test_few_pixels_are_taken_in_vain(itemsize):
    for channels in (1, 8, 16, 17, 32, 48, 64, 208, 240):
        most, line = tile_for(channels, itemsize)
        assert line <= channels
        for pixels in range(1, 200):
            taken = taken_pixels(pixels, channels, itemsize)
            assert pixels <= taken
            if most == 14:
                assert taken == max(pixels, 5)
                for length, step, largest in ((600, 1, 8), (601, 4096, 7)):  # short sum; one cache set
                    assert tile_for(channels, itemsize, length, step) == (largest, line)
                    assert taken_pixels(pixels, channels, itemsize, length, step) <= max(pixels + 2, 5)
            elif pixels >= 2 * most:
                assert taken <= pixels + 3


@pytest.mark.parametrize("n_threads", [1, 2, 3, 4, 12])
def test_schedules_keep_to_their_limits(n_threads):
    """Blocks fit one call, panels stay in a cache, and the number of shares divides the threads."""
    shapes = [pymec.layers.get(name).shape(2) for name in pymec.layers.names()]
    for shape, in_panels in itertools.product(shapes, (False, True)):
        schedule = tile_schedule(shape, n_threads, in_panels)
        assert n_threads % schedule.channel_shares == 0
        lines = schedule.rows * schedule.taps * schedule.channels * schedule.panels
        line_bytes = tile_for(max(shape.k_cg, 16), 4)[1] * 4
        kept = 512 * 1024 if in_panels else 1024 * 1024
        assert lines * line_bytes <= kept or schedule.panels == schedule.rows == schedule.taps == 1
    for k_c in range(16, 200):
        few = ConvShape.from_shapes((1, 7, 7, 64), (3, 3, 64, k_c), padding=1)
        channels = gemm_blocking("register_tiles", few, 7, n_threads).channels
        assert k_c % channels == 0 or k_c % channels >= 16  # no remainder too narrow for a tile
    for shape, schedule in itertools.product(shapes, ("register_tiles", "small_blas", "blas")):
        assert gemm_blocking(schedule, shape, shape.o_w, n_threads).registers == (schedule == "register_tiles")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k_c", [1, 8, 16, 24, 33, 64, 100, 224])
@pytest.mark.parametrize("options", [{}, {"groups": 3}, {"stride": 2, "dilation": (1, 2)}])
def test_blocks_of_k_packed_one_by_one_change_no_bit(k_c, options, dtype):
    groups = options.get("groups", 1)
    shape = ConvShape.from_shapes(
        (2, 9, 10, 12), (3, 2, 12 // groups, k_c * groups), padding=1, dtype=dtype, **options
    )
    expected = convolved(shape)
    x, kernel = operands(shape)
    for n_threads, panels, lines, pixels in itertools.product((1, 3), (1, 2, 4), (1, 5, 12, 24, 72), (29, WHOLE)):
        schedule = tile_schedule(shape, n_threads, False, packed=(panels, lines))._replace(pixels=pixels)
        size = n_threads * direct_blocked.packed_size(schedule, shape) + 64 // shape.itemsize
        out = np.full(shape.output_shape, np.nan, dtype)
        workspace = np.full(size, np.nan, dtype)
        direct_blocked.run(x, kernel, out, workspace, shape, n_threads, schedule, slices=n_threads)
        np.testing.assert_array_equal(out, expected)
        with pytest.raises(ValueError, match=f"workspace has {size - 1} elements, but this stage needs {size}"):
            direct_blocked.run(x, kernel, out, workspace[1:], shape, n_threads, schedule, slices=n_threads)


def test_packed_blocks_shrink_with_the_limit():
    x, kernel = (1, 30, 30, 256), (3, 3, 256, 1024)
    sizes = {}
    for limit in (None, "1MiB", "200KiB", "70KiB", "10KiB", 1000):
        recipe = pymec.plan(x, kernel, algorithm="direct_packed", workspace_limit=limit, n_threads=2)
        sizes[limit] = recipe.workspace_nbytes
        assert limit is None or recipe.workspace_nbytes <= parse_bytes("limit", limit)
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
    widest = min(tile_for(1024, 4)[1], 1024)
    assert sizes[None] == sizes["1MiB"] == 2 * 4 * 512 * widest * 4 + 64
    by_one = pymec.plan(x, kernel, algorithm="direct_packed", workspace_limit=64 + 4 * widest, n_threads=2)
    assert by_one.workspace_nbytes == 64 + 4 * widest
    with pytest.raises(ValueError, match="direct_packed needs at least"):
        pymec.plan(x, kernel, algorithm="direct_packed", workspace_limit=63, n_threads=2)


def test_what_is_packed_already_is_not_packed_again():
    shape = ConvShape.from_shapes((1, 6, 6, 16), (3, 3, 16, 32))
    x, kernel = operands(shape)
    prepared, out = np.zeros(_panels.panels_size(shape), np.float32), np.full(shape.output_shape, 7, np.float32)
    schedule = tile_schedule(shape, 1, True)
    room = np.zeros(9999, np.float32)
    with pytest.raises(ValueError, match="slices must be 0 if there is a prepared kernel"):
        direct_blocked.run(x, kernel, out, room, shape, 1, schedule, prepared, slices=1)
    for slices in (-1, 2):
        with pytest.raises(ValueError, match=f"slices must be from 0 to n_threads=1, got {slices}"):
            direct_blocked.run(x, kernel, out, room, shape, 1, schedule, slices=slices)
    assert (out == 7).all()


def test_schedules_that_can_not_be():
    shape = ConvShape.from_shapes((1, 9, 9, 600), (3, 3, 600, 32), padding=1)
    for schedule, message in (
        (TileSchedule(2, 1, 1, 1, 1, 1, False), "begin with a divisor of 3"),
        (TileSchedule(1, 0, 1, 1, 1, 1, False), "must be positive"),
        (TileSchedule(1, 1, 1, 2, 1, 1, False), "all taps of several rows"),
        (TileSchedule(1, 1, 1, 1, 2, 1, False), "all channels of several taps"),
        (TileSchedule(1, 1, 1, 1, 1, 600, False), "at most 512 channels, got 600"),
        (TileSchedule(1, 1, 1, 1, 1, 1, False, 512, 2049), "at most 2048 elements, got 2049"),
    ):
        with pytest.raises(ValueError, match=message):
            convolved(shape, 3, schedule)
    with pytest.raises(ValueError, match="at most 49 runs"):
        convolved(ConvShape.from_shapes((1, 60, 1, 1), (60, 1, 1, 1)), 1, TileSchedule(1, 1, 1, 60, 1, 1, False))
    with pytest.raises(ValueError, match="bias has 3 elements"):
        convolved(ConvShape.from_shapes((1, 3, 3, 1), (1, 1, 1, 1)), bias=np.zeros(3, np.float32))


@pytest.mark.parametrize("m", [2, 4, 6])
@pytest.mark.parametrize("k_c", [5, 33, 64, 100])
def test_bands_are_shared_by_tiles_or_by_panels(m, k_c):
    """Both give the same bits: every point is summed in one order."""
    shape = ConvShape.from_shapes((2, 14, 17, 6), (3, 3, 3, 2 * k_c), padding=1, groups=2)
    x, kernel = operands(shape)
    results = []
    for slices, channel_shares, band_tiles in ((1, 1, 1000), (1, 1, 1), (2, 2, 13), (4, 2, 9), (3, 1, 5)):
        size = winograd_banded.kernel_size(shape, m) + winograd_banded.line_size(shape)
        size += slices * min(band_tiles, 1000) * winograd_banded.tile_size(shape, m)
        room, out = np.full(size, np.nan, np.float32), np.full(shape.output_shape, np.nan, np.float32)
        options = {"t_o": m, "band_tiles": band_tiles, "slices": slices, "channel_shares": channel_shares}
        winograd_banded.run(x, kernel, out, room, shape, 4, **options)
        results.append(out)
    for out in results[1:]:
        np.testing.assert_array_equal(out, results[0])
    with pytest.raises(ValueError, match="channel_shares a divisor"):
        winograd_banded.run(x, kernel, results[0], room, shape, 4, **{**options, "slices": 3, "channel_shares": 2})


def test_estimates_grow_with_the_work():
    """Nothing is timed: more work must only give a larger estimate."""
    small, large = (ConvShape.from_shapes((1, n, n, 64), (3, 3, 64, 64)) for n in (20, 60))
    for m in (2, 4, 6):
        assert winograd_bands(small, m, 2, 40).cycles < winograd_bands(large, m, 2, 40).cycles
        assert winograd_bands(large, m, 2, 40).cycles < winograd_bands(large, m, 1, 40).cycles
        assert transform_cycles(large, m, 2) == transform_cycles(small, m, 2)
    assert tile_cycles(small, 1) < tile_cycles(large, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stride", [1, 2, (3, 1), (1, 2)], ids=str)
@pytest.mark.parametrize("padding", [0, 1, ((0, 2), (3, 0)), ((4, 1), (5, 6))], ids=str)
@pytest.mark.parametrize("channels", [16, 32, 75])
def test_columns_of_a_depthwise_row(channels, padding, stride, dtype):
    """The loop starts before a row's first output and may end on padding; sums there are not stored."""
    for i_w in range(3, 9):
        shape = ConvShape.from_shapes(
            (2, 5, i_w, channels), (3, 3, 1, channels), stride=stride, padding=padding, dilation=(2, 1),
            groups=channels, dtype=dtype,
        )  # fmt: skip
        x, kernel = operands(shape)
        out = np.full(shape.output_shape, np.nan, dtype)
        depthwise.run(x, kernel, out, np.empty(0, dtype), shape, 2)
        assert is_right(out, shape)


@pytest.mark.parametrize("stride", [1, 2])
def test_an_infinite_pixel_reaches_its_own_outputs_alone(stride):
    """The pixel lies in a column before the first output's, or anywhere else."""
    shape = ConvShape.from_shapes((1, 7, 9, 40), (3, 3, 1, 40), stride=stride, groups=40)
    x, kernel = operands(shape)
    for row, column in ((3, 0), (3, 4), (6, 8), (0, 8)):
        marked = x.copy()
        marked[0, row, column] = np.inf
        out = np.empty(shape.output_shape, np.float32)
        depthwise.run(marked, np.abs(kernel) + 1, out, np.empty(0, np.float32), shape, 1)
        y, x_at = np.mgrid[: shape.o_h, : shape.o_w] * stride
        reached = (y <= row) & (row < y + 3) & (x_at <= column) & (column < x_at + 3)
        assert (np.isinf(out[0]).all(axis=2) == reached).all()
        assert np.isfinite(out[0][~reached]).all()


# Outputs whose pixels lie apart ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("k_c", [16, 40])
def test_pixels_of_the_output_may_lie_anywhere(dtype, padding, k_c):
    shape = ConvShape.from_shapes((2, 9, 30, 20), (3, 3, 20, k_c), padding=padding, dtype=dtype)
    x, kernel = operands(shape)
    schedule = tile_schedule(shape, 2, False)
    expected = np.empty(shape.output_shape, dtype)
    direct_blocked.run(x, kernel, expected, None, shape, 2, schedule)
    wide = np.full((2, 3 * shape.o_h, 2 * shape.o_w, k_c + 3), np.nan, dtype)
    direct_blocked.run(x, kernel, wide[:, 1::3, ::2, :k_c], None, shape, 2, schedule)
    np.testing.assert_allclose(wide[:, 1::3, ::2, :k_c], expected, rtol=1e-4, atol=1e-4)
    wide[:, 1::3, ::2, :k_c] = np.nan
    assert np.isnan(wide).all()  # nothing else was written
    with pytest.raises(ValueError, match="out must have the channels of a pixel adjacent"):
        direct_blocked.run(x, kernel, np.empty((*shape.output_shape, 2), dtype)[..., 0], None, shape, 2, schedule)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("i_h", [3, 7])
def test_images_of_the_output_may_lie_apart_where_rows_do_not(i_h, dtype):
    """A tile ends with its image then, though it may go on from row to row."""
    shape = ConvShape.from_shapes((3, i_h, 9, 20), (3, 3, 20, 16), dtype=dtype)
    x, kernel = operands(shape)
    schedule = tile_schedule(shape, 2, False)._replace(in_rows=False)
    wide = np.full((3, shape.o_h + 1, shape.o_w, 16), np.nan, dtype)
    direct_blocked.run(x, kernel, wide[:, :-1], None, shape, 2, schedule)
    error = np.abs(wide[:, :-1] - reference.conv2d(x, kernel, shape))
    assert (error <= reference.error_bound(x, kernel, shape)).all()
    assert np.isnan(wide[:, -1]).all()
