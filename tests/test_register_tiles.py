"""Tiles of sums in registers: where they end, how work is cut for them, and what they must not depend on."""

import numpy as np
import pytest
from cases import operands

import pymec
from pymec import ConvShape, reference
from pymec.kernels.direct import depthwise
from pymec.kernels.register_tiles import convolution as direct_blocked
from pymec.kernels.register_tiles import panels as _panels
from pymec.kernels.register_tiles.schedule import TileCut, gemm_blocking, tile_cut
from pymec.kernels.register_tiles.tile import taken_pixels, tile_for
from pymec.kernels.winograd import banded as winograd_banded
from pymec.kernels.winograd.bands import tile_cycles, transform_cycles, winograd_bands
from pymec.workspace import allocate_output

WHOLE = 2**31 - 1


def convolved(shape, n_threads=1, cut=None, in_panels=False, **ends):
    """``direct_blocked.run`` on its own; the output starts as NaN, and all of it is within the bound."""
    x, kernel = operands(shape)
    prepared = None
    if in_panels:
        prepared = np.full(_panels.panels_size(shape), np.nan, shape.dtype)
        _panels.pack(kernel, prepared, shape, n_threads)
    out = np.full(shape.output_shape, np.nan, shape.dtype)
    direct_blocked.run(x, kernel, out, np.empty(0, shape.dtype), shape, n_threads, cut, prepared, **ends)
    if not ends:
        assert (np.abs(out - reference.conv2d(x, kernel, shape)) <= reference.error_bound(x, kernel, shape)).all()
    return out


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k_c", [1, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96])
def test_panels_end_anywhere(k_c, dtype):
    """The last panel reaches back.  With fewer channels than a register has there is a smaller tile in place, and
    in panels there are zeros before them, which round as registers do.
    """
    for options in ({}, {"groups": 3}):
        extents = (2, 3, 3 // options.get("groups", 1), k_c * options.get("groups", 1))
        shape = ConvShape.from_shapes((1, 6, 9, 3), extents, padding=1, dtype=dtype, **options)
        in_panels = convolved(shape, in_panels=True)
        if k_c * shape.itemsize >= 64:
            np.testing.assert_array_equal(convolved(shape), in_panels)
        bias = np.linspace(-9, 9, shape.k_c).astype(dtype)
        cut = tile_cut(shape, 1, True)
        ended = [
            convolved(shape, cut=cut._replace(rows=rows, in_rows=in_rows), in_panels=True, bias=bias, relu=True)
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
    cut = tile_cut(shape, 1, False)
    results = [convolved(shape, cut=cut._replace(in_rows=in_rows)) for in_rows in (False, True)]
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
def test_no_cut_changes_a_bit(options, dtype):
    """An output is one sum in one order: whatever the threads, the order of the work, the place of K."""
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
        cut = TileCut(channel_shares, pixels, panels, rows, taps, channels, in_rows)
        for in_panels in (False, True):
            np.testing.assert_array_equal(convolved(shape, n_threads, cut, in_panels), whole)


@pytest.mark.parametrize("k_c", [32, 40, 64, 16, 24])
@pytest.mark.parametrize("padding", [0, 1, (0, 3)])
def test_tiles_of_a_row_are_taken_together(k_c, padding):
    """But for those at its ends, on padding; with a last panel that reaches back, and with several chunks."""
    shape = ConvShape.from_shapes((1, 5, 57, 4), (3, 3, 4, k_c), padding=padding)
    whole = tile_cut(shape, 1, False)
    results = [
        convolved(shape, cut=whole._replace(in_rows=in_rows, **chunk), in_panels=in_rows)
        for in_rows in (False, True)
        for chunk in ({}, {"rows": 1}, {"rows": 1, "taps": 1, "channels": 3})
    ]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    bias = np.linspace(-9, 9, k_c).astype("f")
    plain = convolved(shape, cut=whole._replace(in_rows=False), bias=bias)
    clamped = convolved(shape, cut=whole._replace(in_rows=True, rows=1), bias=bias, relu=True)
    np.testing.assert_array_equal(clamped, np.maximum(plain, 0))


@pytest.mark.parametrize("i_w", [4, 6, 7, 14, 27])
@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"padding": ((0, 2), (0, 3))},
        {"padding": ((1, 1), (4, 4))},  # some taps have but few pixels, or none
        {"padding": 2, "dilation": 2},
        {"padding": 2, "stride": (1, 2)},
        {"padding": 1, "groups": 2},
    ],
    ids=str,
)
def test_many_zeros_beside_the_image_are_left_out(i_w, options):
    """Tap by tap, each with the pixels that have it: the same sums, bias and ReLU as with the zeros."""
    groups = options.get("groups", 1)
    shape = ConvShape.from_shapes((1, 4, i_w, 520 * groups), (3, 3, 520, 40 * groups), **options)
    bias = np.linspace(-9, 9, shape.k_c).astype("f")
    for in_panels in (False, True):
        cut = tile_cut(shape, 1, in_panels)
        with_zeros = [
            convolved(shape, 1, cut._replace(in_rows=False), in_panels, **ends) for ends in ({}, {"bias": bias})
        ]
        for chunk in ({}, {"rows": 1}, {"rows": 1, "taps": 1, "channels": 260}):
            for n_threads in (1, 3):
                changed = cut._replace(in_rows=True, **chunk)
                result = convolved(shape, n_threads, changed, in_panels)
                np.testing.assert_array_equal(result, with_zeros[0])
                result = convolved(shape, n_threads, changed, in_panels, bias=bias, relu=True)
                np.testing.assert_array_equal(result, np.maximum(with_zeros[1], 0))


@pytest.mark.parametrize("padding", [((3, 1), (2, 4)), ((9, 0), (0, 0)), ((0, 0), (5, 0)), 6], ids=str)
@pytest.mark.parametrize("stride", [1, 2, (3, 1)], ids=str)
@pytest.mark.parametrize("i_c", [1, 3, 40])  # a window of 40 channels is too large for its place
@pytest.mark.parametrize(("k_c", "in_panels"), [(34, True), (8, False), (8, True)])  # 8 in place: no registers
def test_padding_beyond_the_kernel(padding, stride, i_c, k_c, in_panels):
    """Kernel rows on padding are left out, all of them for some outputs; rows end in windows with zeros around."""
    shape = ConvShape.from_shapes((2, 5, 30, i_c), (4, 5, i_c, k_c), stride=stride, padding=padding)
    cut = tile_cut(shape, 1, False)
    expected = convolved(shape, cut=cut._replace(in_rows=False), in_panels=in_panels)
    for chunk in ({}, {"rows": 2}, {"rows": 1}, {"rows": 1, "taps": 2}):
        for n_threads in (1, 3):
            changed = cut._replace(in_rows=True, **chunk)
            np.testing.assert_array_equal(convolved(shape, n_threads, changed, in_panels), expected)
    bias = np.linspace(-9, 9, k_c).astype("f")
    only_bias = convolved(shape, cut=cut._replace(in_rows=True, rows=1), bias=bias)
    untouched = only_bias[(expected == 0).all(axis=3)]  # by any tap in the image
    np.testing.assert_array_equal(untouched, np.broadcast_to(bias, untouched.shape))
    assert len(untouched) or padding not in (6, ((9, 0), (0, 0)))


@pytest.mark.parametrize(("k_c", "groups"), [(16, 1), (32, 1), (48, 1), (70, 1), (80, 2), (80, 4), (40, 5)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_past_the_caches_are_the_same(k_c, groups, dtype):
    """To an O of which every group has whole cache lines; any other is written as ever."""
    shape = ConvShape.from_shapes((1, 9, 40, 5 * groups), (3, 3, 5, k_c), padding=1, groups=groups, dtype=dtype)
    x, kernel = operands(shape)
    nothing, bias = np.empty(0, dtype), np.linspace(-9, 9, k_c).astype(dtype)
    expected = convolved(shape, bias=bias, relu=True)
    for chunk in ({}, {"rows": 1}):
        cut = tile_cut(shape, 2, False)._replace(streamed=True, **chunk)
        room = np.full(shape.output_size + 128, np.nan, dtype)
        for beyond in (0, 1):
            first = -(room.ctypes.data // room.itemsize) % (64 // room.itemsize) + beyond
            out = room[first : first + shape.output_size].reshape(shape.output_shape)
            room[:] = np.nan
            direct_blocked.run(x, kernel, out, nothing, shape, 2, cut, None, bias=bias, relu=True)
            np.testing.assert_array_equal(out, expected)
            assert np.isnan(room[:first]).all()
            assert np.isnan(room[first + shape.output_size :]).all()


def test_large_outputs_start_with_a_cache_line():
    for shape in ((1, 1024, 1024, 1), (3, 700, 600, 7)):
        for dtype in ("float32", "float64"):
            outputs = [allocate_output(shape, dtype) for _ in range(3)]
            assert [out.ctypes.data % 64 for out in outputs] == [0, 0, 0]
            kinds = {(out.shape, str(out.dtype), out.flags.c_contiguous) for out in outputs}
            assert kinds == {(shape, dtype, True)}
    assert allocate_output((1, 5, 5, 8), "float64").base is None


def test_large_outputs_go_past_the_caches():
    large, small = (ConvShape.from_shapes((i_n, 224, 224, 3), (3, 3, 3, 64)) for i_n in (4, 1))
    assert tile_cut(large, 2, True).streamed
    assert not tile_cut(small, 2, True).streamed


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
    # in chunks, the bias comes in once and what is below zero goes in the end
    cut = TileCut(1, WHOLE, 1, 1, 1, 2, False)
    np.testing.assert_array_equal(convolved(shape, cut=cut, bias=bias, relu=True), np.maximum(out, 0))


def test_relu_keeps_nan():
    x, kernel = np.full((1, 4, 4, 2), np.nan, np.float32), np.ones((2, 2, 2, 40), np.float32)
    assert np.isnan(pymec.conv2d(x, kernel, activation="relu", algorithm="direct_blocked")).all()


@pytest.mark.parametrize("k_c", [70, 40, 5])
def test_panels_begin_with_a_cache_line(k_c):
    """Two registers that each lie across two cache lines take twice the time to load."""
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
                for length, step, largest in ((600, 1, 8), (601, 4096, 7)):  # short sums; one set of a cache
                    assert tile_for(channels, itemsize, length, step) == (largest, line)
                    assert taken_pixels(pixels, channels, itemsize, length, step) <= max(pixels + 2, 5)
            elif pixels >= 2 * most:
                assert taken <= pixels + 3


@pytest.mark.parametrize("name", pymec.layers.names())
@pytest.mark.parametrize("n_threads", [1, 2, 3, 4, 12])
def test_cuts_keep_to_their_limits(name, n_threads):
    """Chunks that one call can take, panels that stay in a cache; shares that divide the threads."""
    shape = pymec.layers.get(name).shape(2)
    for in_panels in (False, True):
        cut = tile_cut(shape, n_threads, in_panels)
        assert n_threads % cut.channel_shares == 0
        lines = cut.rows * cut.taps * cut.channels * cut.panels
        line_bytes = tile_for(max(shape.k_cg, 16), 4)[1] * 4
        kept = 512 * 1024 if in_panels else 1024 * 1024
        assert lines * line_bytes <= kept or cut.panels == cut.rows == cut.taps == 1
    for k_c in range(16, 200):
        few = ConvShape.from_shapes((1, 7, 7, 64), (3, 3, 64, k_c), padding=1)
        channels = gemm_blocking("register_tiles", few, 7, n_threads).channels
        assert k_c % channels == 0 or k_c % channels >= 16  # no rest without a tile
    for cut in ("register_tiles", "small_blas", "blas"):
        assert gemm_blocking(cut, shape, shape.o_w, n_threads).registers == (cut == "register_tiles")


def test_cuts_that_can_not_be():
    shape = ConvShape.from_shapes((1, 9, 9, 600), (3, 3, 600, 32), padding=1)
    for cut, message in (
        (TileCut(2, 1, 1, 1, 1, 1, False), "begin with a divisor of 3"),
        (TileCut(1, 0, 1, 1, 1, 1, False), "must be positive"),
        (TileCut(1, 1, 1, 2, 1, 1, False), "all taps of several rows"),
        (TileCut(1, 1, 1, 1, 2, 1, False), "all channels of several taps"),
        (TileCut(1, 1, 1, 1, 1, 600, False), "at most 512 channels, got 600"),
    ):
        with pytest.raises(ValueError, match=message):
            convolved(shape, 3, cut)
    with pytest.raises(ValueError, match="at most 49 runs"):
        convolved(ConvShape.from_shapes((1, 60, 1, 1), (60, 1, 1, 1)), 1, TileCut(1, 1, 1, 60, 1, 1, False))
    with pytest.raises(ValueError, match="bias has 3 elements"):
        convolved(ConvShape.from_shapes((1, 3, 3, 1), (1, 1, 1, 1)), bias=np.zeros(3, np.float32))


@pytest.mark.parametrize("m", [2, 4, 6])
@pytest.mark.parametrize("k_c", [5, 33, 64, 100])
def test_bands_are_shared_by_tiles_or_by_panels(m, k_c):
    """The same bits, however: a point's sum is one sum."""
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
    """No clock here: the sums behind the choice only have to be ordered as the work is."""
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
    """A row begins before its first output and may end on padding; what it sums there goes nowhere."""
    for i_w in range(3, 9):
        shape = ConvShape.from_shapes(
            (2, 5, i_w, channels), (3, 3, 1, channels), stride=stride, padding=padding, dilation=(2, 1),
            groups=channels, dtype=dtype,
        )  # fmt: skip
        x, kernel = operands(shape)
        out = np.full(shape.output_shape, np.nan, dtype)
        depthwise.run(x, kernel, out, np.empty(0, dtype), shape, 2)
        assert (np.abs(out - reference.conv2d(x, kernel, shape)) <= reference.error_bound(x, kernel, shape)).all()


@pytest.mark.parametrize("stride", [1, 2])
def test_an_infinite_pixel_reaches_its_own_outputs_alone(stride):
    """In an image column before the first output's, and anywhere else."""
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
    expected = np.empty(shape.output_shape, dtype)
    direct_blocked.run(x, kernel, expected, None, shape, 2)
    wide = np.full((2, 3 * shape.o_h, 2 * shape.o_w, k_c + 3), np.nan, dtype)
    direct_blocked.run(x, kernel, wide[:, 1::3, ::2, :k_c], None, shape, 2)
    np.testing.assert_allclose(wide[:, 1::3, ::2, :k_c], expected, rtol=1e-4, atol=1e-4)
    wide[:, 1::3, ::2, :k_c] = np.nan
    assert np.isnan(wide).all()  # nothing else was written
    with pytest.raises(ValueError, match="out must have the channels of a pixel adjacent"):
        direct_blocked.run(x, kernel, np.empty((*shape.output_shape, 2), dtype)[..., 0], None, shape, 2)
