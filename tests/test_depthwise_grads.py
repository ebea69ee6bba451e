"""Gradients of depthwise convolutions with 3×3 taps: vectors, pairs of rows and rows of outputs end anywhere."""

import numpy as np
import pytest

import pymec
from pymec import ConvShape, reference
from pymec.kernels.gradients import depthwise

NOTHING = {"float32": np.empty(0, np.float32), "float64": np.empty(0)}

GEOMETRIES = [
    {"padding": 1, "stride": 2},
    {"padding": 0, "stride": 2},
    {"padding": ((0, 1), (0, 1)), "stride": 2},  # 'same' of even images
    {"padding": ((2, 0), (1, 2)), "stride": 2},
    {"padding": ((5, 4), (3, 6)), "stride": 2},  # outputs that meet nothing but padding
    {"padding": 1},
    {"padding": 0},
    {"padding": ((1, 0), (4, 3)), "stride": (2, 1)},
    {"padding": ((0, 3), (1, 0)), "stride": (1, 2)},
]


def layers(options, dtype="float32"):
    """A few sizes; the channels leave a rest to vectors of 64 bytes, of one or of two side by side, or none."""
    for i_h, i_w, channels in ((3, 3, 16), (4, 7, 17), (5, 4, 33), (8, 3, 40), (9, 6, 48), (6, 9, 64)):
        x, kernel = (2, i_h, i_w, channels), (3, 3, 1, channels)
        yield ConvShape.from_shapes(x, kernel, groups=channels, dtype=dtype, **options)


def random(shape, dtype):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [one for one in GEOMETRIES if one.get("stride") == 2], ids=str)
def test_the_inputs_gradient(options, dtype):
    for shape in layers(options, dtype):
        dO, K = random(shape.output_shape, dtype), random(shape.kernel_shape, dtype)
        exact, bound = reference.input_grad(dO, K, shape), reference.input_grad_bound(dO, K, shape)
        for n_threads in (1, 2, 3):
            dI = np.full(shape.input_shape, np.nan, dtype)
            depthwise.run_input_grad(dO, K, dI, NOTHING[dtype], shape, n_threads)
            assert (np.abs(dI - exact) <= bound).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows_at_once", [1, 3, 100])
@pytest.mark.parametrize("options", [*GEOMETRIES, {"padding": (2, 3), "stride": (3, 4)}], ids=str)
def test_the_kernels_gradient(options, rows_at_once, dtype):
    for shape in layers(options, dtype):
        x, dO = random(shape.input_shape, dtype), random(shape.output_shape, dtype)
        exact, bound = reference.kernel_grad(x, dO, shape), reference.kernel_grad_bound(x, dO, shape)
        for n_threads in (1, 2, 3):
            dK = np.full(shape.kernel_shape, np.nan, dtype)
            depthwise.run_kernel_grad(x, dO, dK, NOTHING[dtype], shape, n_threads, rows_at_once=rows_at_once)
            assert (np.abs(dK - exact) <= bound).all()


def test_slices_are_read_and_written_where_they_lie():
    """Images, gradients and outputs whose rows, pixels and channels are parts of larger ones."""
    shape = ConvShape.from_shapes((2, 6, 8, 24), (3, 3, 1, 24), padding=1, stride=2, groups=24)
    x, dO, K = (
        random(extent, "float32") for extent in (shape.input_shape, shape.output_shape, shape.kernel_shape)
    )
    around = np.full((2, 9, 10, 31), np.nan, np.float32)
    wide = np.full((2, 5, 7, 31), np.nan, np.float32)
    dI, part = around[:, 1:7, 2:, 3:27], wide[:, 1:4, 1:5, 7:]
    part[...] = dO
    pymec.conv2d_input_grad(part, K, x.shape, algorithm="depthwise", out=dI, **shape.arguments)
    assert (np.abs(dI - reference.input_grad(dO, K, shape)) <= reference.input_grad_bound(dO, K, shape)).all()
    assert np.isnan(around).sum() == around.size - dI.size
    dI[...] = x
    dK = pymec.conv2d_kernel_grad(dI, part, K.shape, algorithm="depthwise", **shape.arguments)
    assert (np.abs(dK - reference.kernel_grad(x, dO, shape)) <= reference.kernel_grad_bound(x, dO, shape)).all()


def test_without_vector_registers_it_is_the_definition(monkeypatch):
    shape = ConvShape.from_shapes((1, 5, 6, 16), (3, 3, 1, 16), padding=1, stride=2, groups=16)
    x, dO, K = (
        random(extent, "float32") for extent in (shape.input_shape, shape.output_shape, shape.kernel_shape)
    )
    gradients = [
        pymec.conv2d_input_grad(dO, K, x.shape, algorithm="direct", **shape.arguments),
        pymec.conv2d_kernel_grad(x, dO, K.shape, algorithm="direct", **shape.arguments),
    ]
    monkeypatch.setattr(depthwise, "register_nbytes", lambda: 16)
    again = [
        pymec.conv2d_input_grad(dO, K, x.shape, algorithm="depthwise", **shape.arguments),
        pymec.conv2d_kernel_grad(x, dO, K.shape, algorithm="depthwise", **shape.arguments),
    ]
    for one, other in zip(gradients, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_vector_registers_slices_are_copied(monkeypatch):
    """The definition, which takes its place then, reads whole images."""
    monkeypatch.setattr(depthwise, "register_nbytes", lambda: 16)
    pymec.planning.cached_recipe.cache_clear()  # a recipe remembers how its arrays are read
    try:
        test_slices_are_read_and_written_where_they_lie()
    finally:
        pymec.planning.cached_recipe.cache_clear()


@pytest.mark.parametrize("operation", ["conv2d_input_grad", "conv2d_kernel_grad"])
def test_no_images(operation):
    shape = ConvShape.from_shapes((0, 6, 6, 16), (3, 3, 1, 16), stride=2, groups=16)
    x, dO, K = (
        np.ones(extent, np.float32) for extent in (shape.input_shape, shape.output_shape, shape.kernel_shape)
    )
    if operation == "conv2d_input_grad":
        assert pymec.conv2d_input_grad(dO, K, x.shape, algorithm="depthwise", **shape.arguments).size == 0
    else:
        assert not pymec.conv2d_kernel_grad(x, dO, K.shape, algorithm="depthwise", **shape.arguments).any()


@pytest.mark.parametrize(
    ("kernel", "options", "reason", "of_the_kernel"),
    [
        ((3, 3, 2, 32), {"groups": 16}, "have 2 input and 2 output channels", "one input and one output channel"),
        ((3, 3, 1, 64), {"groups": 32}, "have 1 input and 2 output channels", "one input and one output channel"),
        ((3, 3, 1, 15), {"groups": 15}, "its 15 channels are fewer than 64 bytes", "and 60 bytes"),
        ((5, 3, 1, 32), {"groups": 32}, "its taps are not 3×3 side by side", "must be 3×3 side by side, got 5×3"),
        (
            (3, 3, 1, 32),
            {"groups": 32, "dilation": (1, 2)},
            "its taps are not 3×3",
            "3×3 side by side, .* 1 and 2",
        ),
    ],
    ids=str,
)
def test_what_they_refuse(kernel, options, reason, of_the_kernel):
    channels = kernel[2] * options["groups"]
    shape = ConvShape.from_shapes((1, 9, 9, channels), kernel, stride=2, **options)
    x, dO, K = (
        np.ones(extent, np.float32) for extent in (shape.input_shape, shape.output_shape, shape.kernel_shape)
    )
    with pytest.raises(pymec.UnsupportedShape, match=reason):
        pymec.conv2d_input_grad(dO, K, x.shape, algorithm="depthwise", **shape.arguments)
    with pytest.raises(pymec.UnsupportedShape, match=reason):
        pymec.conv2d_kernel_grad(x, dO, K.shape, algorithm="depthwise", **shape.arguments)
    with pytest.raises(ValueError, match=of_the_kernel):
        depthwise.run_input_grad(dO, K, x, NOTHING["float32"], shape, 1)
    with pytest.raises(ValueError, match=of_the_kernel):
        depthwise.run_kernel_grad(x, dO, K, NOTHING["float32"], shape, 1, rows_at_once=1)


def test_other_strides():
    """With stride 1 the input's gradient is a forward convolution; the kernel's has any stride."""
    shape = ConvShape.from_shapes((1, 9, 9, 32), (3, 3, 1, 32), groups=32)
    x, dO, K = (
        np.ones(extent, np.float32) for extent in (shape.input_shape, shape.output_shape, shape.kernel_shape)
    )
    with pytest.raises(pymec.UnsupportedShape, match="its stride is 1×1, not 2×2; .*direct_conv"):
        pymec.conv2d_input_grad(dO, K, shape.input_shape, algorithm="depthwise", groups=32)
    with pytest.raises(ValueError, match="the stride must be 2, got 1×1"):
        depthwise.run_input_grad(dO, K, x, NOTHING["float32"], shape, 1)
    with pytest.raises(ValueError, match="rows_at_once must be at least 1, got 0"):
        depthwise.run_kernel_grad(x, dO, K, NOTHING["float32"], shape, 1, rows_at_once=0)
