"""Dot products along the input channels: where tiles end, lanes that are masked, taps at the sides."""

import numpy as np
import pytest
from cases import answer, is_right, operands

import pymec
from pymec import ConvShape, registry
from pymec.kernels.register_tiles import dots

ROW = registry.get("direct_dots")


def convolved(shape, n_threads=1, columns=None, **ends):
    x, kernel = operands(shape)
    prepared = np.full(shape.kernel_size, np.nan, shape.dtype)
    options = ROW.schedule(shape, n_threads, None).options
    ROW.prepare(kernel, prepared, shape, n_threads, **options)
    out = np.full(shape.output_shape, np.nan, shape.dtype)
    nothing = np.empty(0, shape.dtype)
    dots.run(x, kernel, out, nothing, shape, n_threads, columns or options["columns"], prepared, **ends)
    return out


@pytest.mark.parametrize("k_c", range(1, 10))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tiles_end_anywhere(k_c, dtype):
    """Rows of 1 to 26 outputs: whole tiles, a last one that reaches back, and smaller ones."""
    for o_w in (*range(1, 15), 23, 24, 25, 26):
        shape = ConvShape.from_shapes((1, 3, o_w + 1, 16), (2, 2, 16, k_c), dtype=dtype)
        assert is_right(convolved(shape), shape)


@pytest.mark.parametrize("i_c", [16, 17, 20, 23, 24, 31, 32, 33, 48])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_channels_end_anywhere_in_a_register(i_c, dtype):
    for k_c in (1, 2, 3, 4):
        shape = ConvShape.from_shapes((2, 5, 11, i_c), (3, 3, i_c, k_c), dtype=dtype)
        assert is_right(convolved(shape), shape)


@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"padding": ((3, 1), (2, 4))},
        {"padding": ((0, 5), (6, 0))},
        {"padding": 9},  # some outputs read padding alone
        {"padding": 2, "stride": (2, 3)},
        {"padding": 3, "dilation": (2, 3)},
        {"padding": 1, "groups": 2},
        {"stride": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize(("k_h", "k_w"), [(3, 3), (1, 4), (5, 1)])
def test_sides(options, k_h, k_w):
    """Tiles go along the rows, and down at the sides; no number of threads or columns changes a bit."""
    groups = options.get("groups", 1)
    shape = ConvShape.from_shapes((2, 9, 14, 16 * groups), (k_h, k_w, 16, 3 * groups), **options)
    whole = convolved(shape)
    assert is_right(whole, shape)
    for n_threads, columns in ((2, 1), (3, 5), (5, 100)):
        np.testing.assert_array_equal(convolved(shape, n_threads, columns), whole)
    bias = np.linspace(-9, 9, shape.k_c).astype("f")
    np.testing.assert_array_equal(convolved(shape, 2, 3, bias=bias), whole + bias)
    np.testing.assert_array_equal(convolved(shape, 2, 3, bias=bias, relu=True), np.maximum(whole + bias, 0))


@pytest.mark.parametrize("i_c", [16, 19, 40])
def test_an_infinity_stays_one_where_a_register_reaches_back(i_c):
    """The numbers that a run's last register shares with the one before it are not multiplied by zero."""
    shape = ConvShape.from_shapes((1, 4, 9, i_c), (2, 2, i_c, 2))
    x, kernel = np.ones(shape.input_shape, np.float32), np.ones(shape.kernel_shape, np.float32)
    for c in range(i_c):
        x[0, 1, 4] = 1
        x[0, 1, 4, c] = np.inf
        out = pymec.conv2d(x, kernel, algorithm="direct_dots")
        reads = np.zeros(out.shape, bool)
        reads[0, 0:2, 3:5] = True
        np.testing.assert_array_equal(out == np.inf, reads)
        np.testing.assert_array_equal(out[~reads], 4 * i_c)


@pytest.mark.parametrize("i_c", [16, 18, 40])
def test_a_slice_gives_the_same_bits(i_c):
    """Adjacent taps are one run only where a channel has the same lane in all of them: no slice is adjacent."""
    x, kernel, *_ = answer(ConvShape.from_shapes((1, 6, 9, i_c), (3, 3, i_c, 3)))
    around = np.full((1, 6, 9, i_c + 5), np.nan, np.float32)
    around[..., 2 : i_c + 2] = x
    expected = pymec.conv2d(x, kernel, algorithm="direct_dots")
    found = pymec.conv2d(around[..., 2 : i_c + 2], kernel, algorithm="direct_dots")
    np.testing.assert_array_equal(found, expected)


def test_padding_is_not_multiplied():
    """An infinite tap reaches the outputs that have it inside the image, and no others."""
    shape = ConvShape.from_shapes((1, 5, 6, 16), (3, 3, 16, 1), padding=1)
    x, kernel = np.ones(shape.input_shape, np.float32), np.ones(shape.kernel_shape, np.float32)
    kernel[0, 0] = np.inf
    out = pymec.conv2d(x, kernel, padding=1, algorithm="direct_dots")
    np.testing.assert_array_equal(np.isinf(out[0, ..., 0]), np.pad(np.ones((4, 5), bool), ((1, 0), (1, 0))))
    assert not np.isnan(out).any()


def test_what_is_refused():
    shape = ConvShape.from_shapes((1, 5, 6, 15), (3, 3, 15, 1))
    with pytest.raises(pymec.UnsupportedShape, match="its groups have 15 input channels, and it takes 16 or more"):
        pymec.conv2d(*operands(shape), algorithm="direct_dots")
    x, kernel = operands(shape)
    out, prepared = np.empty(shape.output_shape, np.float32), np.empty(shape.kernel_size, np.float32)
    nothing = np.empty(0, np.float32)
    with pytest.raises(ValueError, match="at least 64 bytes of input channels, got 15 channels"):
        dots.run(x, kernel, out, nothing, shape, 1, 24, prepared)
    shape = ConvShape.from_shapes((1, 5, 6, 16), (3, 3, 16, 1))
    x, kernel, *_ = answer(shape)
    out, prepared = np.empty(shape.output_shape, np.float32), np.empty(shape.kernel_size, np.float32)
    with pytest.raises(ValueError, match="columns must be positive, got 0"):
        dots.run(x, kernel, out, nothing, shape, 1, 0, prepared)
    with pytest.raises(ValueError, match="prepared has 143 elements, but this stage needs 144"):
        dots.run(x, kernel, out, nothing, shape, 1, 24, prepared[:-1])


@pytest.mark.parametrize("algorithm", ["direct_conv", "direct_dots"])
def test_taps_that_meet_no_pixel_are_read_back(algorithm):
    """With a single row and stride 2 the middle row of taps meets it, and the others no row at all."""
    shape = ConvShape.from_shapes((1, 1, 9, 2), (3, 3, 2, 16), stride=2, padding=1)
    kernel = operands(shape)[1]
    options = {**shape.arguments, "algorithm": algorithm, "operation": "conv2d_input_grad"}
    plan = pymec.plan(shape.input_shape, shape.kernel_shape, **options).prepare(kernel, take_over=True)
    np.testing.assert_array_equal(plan.kernel, kernel)
