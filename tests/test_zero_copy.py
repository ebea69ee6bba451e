"""Algorithms without workspace: blocks of every size, and the shapes that only a few of them can do."""

import numpy as np
import pytest
from cases import CASES, blocks_for, is_right, named, operands

import pymec
from pymec import ConvShape, reference, registry
from pymec.kernels.direct import depthwise
from pymec.kernels.small_products import zero_copy

NAMES = ("pixel_gemm", "filter_row_gemm", "pointwise")
ABLE = [(name, case) for name in NAMES for case in CASES if registry.get(name).unsupported(case.shape()) is None]


@pytest.mark.parametrize(("name", "case"), ABLE, ids=named)
def test_blocks_may_end_anywhere(name, case):
    shape = case.shape()
    x, kernel = operands(shape)
    for blocking, block in blocks_for(shape, [(1, 1, 1, 1), (2, 3, 2, 2), (5, 2, 3, 4)], (1, 3)):
        out = np.full(shape.output_shape, np.nan, np.float32)
        registry.get(name).run(x, kernel, out, np.empty(0, np.float32), shape, 2, blocking=blocking, block=block)
        assert is_right(out, shape), (blocking, block)


@pytest.mark.parametrize(("name", "case"), ABLE, ids=named)
def test_no_case_takes_a_byte(name, case):
    for n_threads in (1, 64):
        assert registry.get(name).schedule(case.shape(), n_threads, None).size == 0


@pytest.mark.parametrize("n_threads", [2, 5, 64])
def test_a_single_line_is_shared(n_threads):
    """A single row or column is cut into blocks for the threads."""
    row = ConvShape.from_shapes((1, 1, 600, 3), (1, 3, 3, 4))
    column = ConvShape.from_shapes((1, 600, 1, 3), (3, 1, 3, 4))
    pixels = ConvShape.from_shapes((2, 20, 15, 3), (1, 1, 3, 4))
    for name, shape in (("pixel_gemm", row), ("filter_row_gemm", column), ("pointwise", pixels)):
        length = 600 if name == "pointwise" else 598
        block = registry.get(name).schedule(shape, n_threads, None).options["block"]
        assert -(-length // block) >= min(n_threads, 50)


def test_outputs_that_no_product_reaches_are_zero():
    """Some lie in the middle of a row, where the stride steps over the image."""
    shape = ConvShape.from_shapes((1, 1, 1, 2), (2, 2, 2, 3), padding=5, stride=3)
    x, kernel = operands(shape)
    expected = reference.conv2d(x, kernel, shape)
    for name in ("pixel_gemm", "filter_row_gemm"):
        out = np.full(shape.output_shape, np.nan, np.float32)
        pymec.conv2d(x, kernel, stride=3, padding=5, algorithm=name, out=out)
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


REASONS = [
    ("filter_row_gemm", (1, 9, 9, 2), (3, 3, 2, 4), {"dilation": (1, 2)}, "its horizontal dilation is 2"),
    ("filter_row_gemm", (1, 9, 9, 4), (3, 3, 2, 4), {"groups": 2}, "its kernel is 3 pixels wide"),
    ("filter_row_gemm", (1, 9, 9, 4), (3, 1, 2, 4), {"groups": 2, "dilation": (2, 5)}, None),
    ("filter_row_gemm", (1, 2**12, 2**12, 1), (1, 1, 1, 1), {"stride": 2**20}, "more than BLAS's integer"),
    ("pixel_gemm", (1, 9, 9, 2), (3, 3, 2, 4), {"stride": 2**30}, "its GEMM leading dimension of 2147483648"),
    ("pixel_gemm", (1, 9, 9, 4), (3, 3, 1, 8), {"groups": 4, "dilation": 2, "stride": 3, "padding": 7}, None),
    ("depthwise", (1, 9, 9, 4), (3, 3, 2, 4), {"groups": 2}, "each of its groups has 2 input channels"),
    ("depthwise", (1, 9, 9, 1), (3, 3, 1, 4), {"stride": 2}, None),
    ("pointwise", (1, 9, 9, 2), (1, 3, 2, 4), {}, "its kernel is 1×3, not 1×1"),
    ("pointwise", (1, 9, 9, 2), (1, 1, 1, 4), {"stride": 2, "padding": 1, "groups": 2, "dilation": 3}, None),
]


@pytest.mark.parametrize(("name", "x_shape", "kernel_shape", "options", "reason"), REASONS)
def test_reasons(name, x_shape, kernel_shape, options, reason):
    given = registry.get(name).unsupported(ConvShape.from_shapes(x_shape, kernel_shape, **options))
    assert given is None if reason is None else reason in given


def test_pixels_are_joined_where_nothing_lies_between_them():
    shape = ConvShape.from_shapes((3, 5, 7, 4), (1, 1, 2, 6), groups=2)
    assert zero_copy.all_in_one_row(shape).output_shape == (1, 1, 105, 6)
    for options in ({"stride": (2, 1)}, {"stride": (1, 2)}, {"padding": 1}):
        apart = ConvShape.from_shapes((3, 5, 7, 4), (1, 1, 4, 6), **options)
        assert zero_copy.all_in_one_row(apart) is None


def test_images_are_one_column_where_no_kernel_row_reaches_into_the_next():
    """A 1×k kernel: the transposed twin of MEC, whose lowered matrix is then the input itself."""
    shape = ConvShape.from_shapes((3, 5, 7, 4), (1, 3, 4, 6), padding=(0, 2), stride=(1, 2))
    assert zero_copy.images_in_one(shape).output_shape == (1, 15, 5, 6)
    for kernel, options in (((2, 3, 4, 6), {}), ((1, 3, 4, 6), {"stride": 2}), ((1, 3, 4, 6), {"padding": 1})):
        apart = ConvShape.from_shapes((3, 5, 7, 4), kernel, **options)
        assert zero_copy.images_in_one(apart) == apart


def test_a_line_longer_than_the_cache_is_cut():
    """The next output row reads the same k_h image rows: a block is as long as the cache can hold of them."""
    wide = ConvShape.from_shapes((1, 20, 3000, 64), (5, 3, 64, 8))
    block = registry.get("pixel_gemm").schedule(wide, 1, None).options["block"]
    assert 5 * 64 * 4 * block <= 600_000
    assert registry.get("filter_row_gemm").schedule(wide, 1, None).options["block"] == 16


def test_what_a_stage_refuses():
    shape = ConvShape.from_shapes((1, 6, 6, 2), (2, 2, 2, 3), dilation=(1, 2))
    x, kernel = operands(shape)
    out, nothing = np.empty(shape.output_shape, np.float32), np.empty(0, np.float32)
    blocks = registry.get("pixel_gemm").schedule(shape, 1, None).options
    with pytest.raises(ValueError, match="must be adjacent"):
        zero_copy.add_filter_rows(x, kernel, out, nothing, shape, **blocks)
    with pytest.raises(ValueError, match="block must be"):
        zero_copy.run_pixel_gemm(x, kernel, out, nothing, shape, **{**blocks, "block": 0})
    with pytest.raises(ValueError, match="n_threads must be"):
        zero_copy.run_pixel_gemm(x, kernel, out, nothing, shape, 65, **blocks)
    with pytest.raises(ValueError, match="out has shape"):
        zero_copy.run_pixel_gemm(x, kernel, out[:, 1:], nothing, shape, **blocks)
    with pytest.raises(ValueError, match="one input channel, got 2"):
        depthwise.run(x, kernel, out, nothing, shape)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("pointwise", ConvShape.from_shapes((2, 7, 6, 6), (1, 1, 6, 8), stride=2, padding=1)),
        ("depthwise", ConvShape.from_shapes((2, 7, 6, 6), (3, 2, 1, 12), groups=6, padding=1)),
        ("direct_grouped", ConvShape.from_shapes((2, 7, 6, 32), (3, 2, 4, 32), groups=8, padding=1)),
    ],
)
def test_the_narrow_ones_as_users_call_them(name, shape, layout):
    """Plan, bias, read-only inputs, repeated bit by bit, on shapes that these algorithms can do."""
    x, kernel = operands(shape)
    expected = reference.conv2d(x, kernel, shape)
    if layout == "NCHW":
        x, kernel, expected = (
            x.transpose(0, 3, 1, 2),
            kernel.transpose(3, 2, 0, 1),
            expected.transpose(0, 3, 1, 2),
        )
    x.flags.writeable = kernel.flags.writeable = False
    options = {"stride": shape.s_h, "padding": shape.p_t, "groups": shape.groups, "layout": layout}
    plan = pymec.plan(x.shape, kernel.shape, algorithm=name, n_threads=2, **options)
    first = plan.prepare(kernel)(x)
    np.testing.assert_allclose(first, expected, rtol=1e-5, atol=1e-5)
    for _ in range(5):
        np.testing.assert_array_equal(plan(x), first)
    bias = np.arange(shape.k_c, dtype=np.float32)
    spread = bias[:, None, None] if layout == "NCHW" else bias
    np.testing.assert_allclose(plan(x, bias), first + spread, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("multiplier", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 15, 16, 17, 31, 32, 33, 64, 70])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_depthwise_at_the_edges_of_its_blocks(channels, multiplier, dtype):
    shape = ConvShape.from_shapes(
        (2, 6, 7, channels), (3, 2, 1, channels * multiplier), groups=channels, padding=((0, 2), (3, 1)),
        stride=(2, 1), dilation=(1, 2), dtype=dtype,
    )  # fmt: skip
    x, kernel = operands(shape)
    for n_threads in (1, 3):
        out = np.full(shape.output_shape, np.nan, dtype)
        depthwise.run(x, kernel, out, np.empty(0, dtype), shape, n_threads)
        assert is_right(out, shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("padding", [0, 1, 3])
def test_four_outputs_at_a_time_read_no_padding(padding, dtype):
    """Five taps a row: not the loop for 3×3.  Fours end anywhere before the outputs that read padding."""
    for i_w in range(5, 16):
        shape = ConvShape.from_shapes((2, 6, i_w, 40), (2, 5, 1, 40), groups=40, padding=(0, padding), dtype=dtype)
        x, kernel = operands(shape)
        out = np.full(shape.output_shape, np.nan, dtype)
        depthwise.run(x, kernel, out, np.empty(0, dtype), shape, 2)
        assert is_right(out, shape)


def test_images_with_padding_between_them_are_not_one_column():
    for padding in (((1, 0), (0, 0)), ((0, 1), (0, 0))):
        apart = ConvShape.from_shapes((3, 5, 7, 4), (1, 3, 4, 6), padding=padding)
        assert zero_copy.images_in_one(apart) == apart
