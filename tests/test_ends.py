"""Bias and ReLU applied in an algorithm's last write: every case, outputs that read padding only, NaN."""

import numpy as np
import pytest
from cases import CASES, able, answer, bound_of, bound_with, is_right, named, operands, pairs

import pymec
from pymec import ConvShape, reference, registry
from pymec.kernels.im2col import im2col
from pymec.kernels.shared.bias_relu import finish

FUSING = [name for name, row in registry.ALGORITHMS.items() if row.fuses_bias_relu]
EXACT = [name for name, row in registry.ALGORITHMS.items() if row.accuracy == "exact"]


def limits(algorithm, case):
    """Without a limit, and for bounded algorithms with the least one and a little more."""
    if registry.get(algorithm).order != "bounded":
        return [None]
    try:
        pymec.workspace_size(case.x, case.kernel, algorithm=algorithm, workspace_limit=0, **case.options)
    except ValueError as error:
        least = int(str(error).split("at least ")[1].split(" bytes")[0])
        return [None, least, least + 400]
    return [None, 400]


@pytest.mark.parametrize(("algorithm", "case"), pairs(pymec.algorithms()), ids=named)
def test_every_case_begins_with_the_bias_and_ends_with_relu(algorithm, case):
    turn = CASES.index(case)
    dtype, n_threads = ("float32", "float64")[turn % 2], 1 + turn % 3
    shape, row = case.shape(dtype), registry.get(algorithm)
    x, kernel, exact, _ = answer(shape)
    bias = np.linspace(-2, 2, shape.k_c).astype(dtype)
    exact = exact + bias
    terms = shape.k_h * shape.k_w * shape.i_cg + 1
    bound = bound_of(row, x, kernel, shape) + terms * np.finfo(dtype).eps * (np.abs(exact) + np.abs(bias))
    for limit in limits(algorithm, case):
        limited = {} if limit is None else {"workspace_limit": limit * shape.itemsize // 4}
        options = {"algorithm": algorithm, "n_threads": n_threads, **limited, **case.options}
        out, clamped = np.full((2, *shape.output_shape), np.nan, dtype)
        pymec.conv2d(x, kernel, bias, out=out, **options)
        assert (np.abs(out - exact) <= bound).all()
        pymec.conv2d(x, kernel, bias, activation="relu", out=clamped, **options)
        np.testing.assert_array_equal(clamped, np.maximum(out, 0))


@pytest.mark.parametrize(
    ("kernel", "groups", "algorithm"),
    [
        (kernel, groups, algorithm)
        for kernel, groups in (((3, 3, 16, 40), 1), ((1, 1, 16, 40), 1), ((3, 3, 1, 48), 16))
        for algorithm in able((2, 9, 10, 16), kernel, groups=groups)
    ],
    ids=str,
)
def test_every_channel_has_a_bias_of_its_own(kernel, groups, algorithm):
    """Without an image to convolve; there are more channels than a register or a panel has."""
    bias = np.arange(1, kernel[-1] + 1, dtype=np.float32)
    zeros, some = np.zeros((2, 9, 10, 16), np.float32), np.ones(kernel, np.float32)
    out = pymec.conv2d(zeros, some, bias, groups=groups, algorithm=algorithm)
    np.testing.assert_array_equal(out, np.broadcast_to(bias, out.shape))


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        (algorithm, options)
        for options in ({"padding": 4}, {"padding": (5, 3), "stride": (4, 3)})
        for algorithm in able((2, 4, 5, 2), (2, 2, 2, 20), "exact", **options)
    ],
    ids=str,
)
def test_outputs_of_padding_alone_are_the_bias_and_no_others_lose_their_nan(algorithm, options):
    shape = ConvShape.from_shapes((2, 4, 5, 2), (2, 2, 2, 20), **options)
    bias = np.linspace(-1, 1, 20, dtype=np.float32)
    pixels = reference.conv2d(np.ones(shape.input_shape), np.ones(shape.kernel_shape), shape)
    x, kernel = np.full(shape.input_shape, np.nan, np.float32), np.ones(shape.kernel_shape, np.float32)
    for activation, begun in (None, bias), ("relu", np.maximum(bias, 0)):
        out = pymec.conv2d(x, kernel, bias, algorithm=algorithm, activation=activation, n_threads=2, **options)
        np.testing.assert_array_equal(out, np.where(pixels > 0, np.nan, begun))


@pytest.mark.parametrize("length", [1, 7, 9])
@pytest.mark.parametrize("algorithm", FUSING)
def test_a_stage_refuses_a_bias_of_another_length(algorithm, length):
    row = registry.get(algorithm)
    shape = next(
        shape
        for shape in (
            ConvShape.from_shapes((1, 6, 6, 8), (3, 3, 8, 8)),
            ConvShape.from_shapes((1, 6, 6, 8), (1, 1, 8, 8)),
            ConvShape.from_shapes((1, 6, 6, 8), (3, 3, 1, 8), groups=8),
            ConvShape.from_shapes((1, 6, 6, 16), (3, 3, 16, 8)),
        )
        if row.unsupported(shape) is None
    )
    x, kernel = operands(shape)
    schedule = row.schedule(shape, 1, None)
    options = {**schedule.options, "bias": np.ones(length, np.float32)}
    if row.prepare is not None:
        options["prepared"] = np.empty(schedule.prepared, np.float32)
        row.prepare(kernel, options["prepared"], shape, 1, **schedule.options)
    workspace = np.empty(schedule.size, np.float32)
    out = np.full(shape.output_shape, np.nan, np.float32)
    with pytest.raises(ValueError, match="bias has"):
        row.run(x, kernel, out, workspace, shape, 1, **options)


@pytest.mark.parametrize("name", EXACT)
def test_relu_keeps_nan(name):
    shape = ConvShape.from_shapes((2, 9, 8, 4), (1, 1, 1, 4), groups=4)  # which all can do
    if registry.get(name).unsupported(shape):
        shape = ConvShape.from_shapes((2, 9, 8, 16), (3, 3, 16, 20))
    x, kernel = operands(shape)
    x[:, :, 3] = np.nan
    bias = np.full(shape.k_c, -0.5, np.float32)
    options = {"groups": shape.groups, "algorithm": name, "n_threads": 2}
    out = pymec.conv2d(x, kernel, bias, **options)
    assert np.isnan(out).any()
    np.testing.assert_array_equal(pymec.conv2d(x, kernel, bias, activation="relu", **options), np.maximum(out, 0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_the_plain_pass_adds_the_bias_and_applies_relu(dtype, n_threads):
    """``finish`` serves algorithms whose last write does neither.  It does only what is asked; NaN stays."""
    out = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(dtype)
    out[1, 2, 3, 4] = np.nan
    bias = np.linspace(-1, 1, 7, dtype=dtype)
    for given, relu in ((None, False), (bias, False), (None, True), (bias, True)):
        found = out.copy()
        finish(found, given, relu, n_threads)
        expected = out if given is None else out + given
        np.testing.assert_array_equal(found, np.maximum(expected, 0) if relu else expected)
    finish(out[:0], bias, True, n_threads)
    with pytest.raises(ValueError, match="bias has 6 elements, but out has 7 channels"):
        finish(out, bias[:6], False)
    with pytest.raises(ValueError, match="n_threads must be from 1 to 64"):
        finish(out, bias, False, 0)


# Stages on their own --------------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("x_shape", "kernel_shape", "groups"),
    [
        ((1, 90, 91, 2), (1, 1, 2, 96), 1),
        ((2, 60, 61, 6), (1, 1, 3, 190), 2),
        ((1, 70, 72, 1), (3, 2, 1, 150), 1),
        ((1, 3, 4, 3), (2, 2, 3, 50), 1),  # more channels than pixels: threads share the channels
    ],
)
@pytest.mark.parametrize("name", ["im2col", "im2col_per_image", "im2col_blocked"])
def test_shares_of_rows_or_channels(name, x_shape, kernel_shape, groups, dtype, n_threads):
    """A thread's share of a product is some of its rows, or of its channels if there are more channels."""
    shape = ConvShape.from_shapes(x_shape, kernel_shape, groups=groups, dtype=dtype)
    x, kernel = operands(shape)
    bias = np.linspace(-3, 3, shape.k_c).astype(dtype)
    options = {"groups": groups, "algorithm": name, "n_threads": n_threads}
    whole = pymec.conv2d(x, kernel, **options)
    np.testing.assert_allclose(
        pymec.conv2d(x, kernel, activation="relu", **options), np.maximum(whole, 0), rtol=1e-5, atol=1e-5
    )
    out = np.full(shape.output_shape, np.nan, dtype)
    pymec.conv2d(x, kernel, bias, out=out, **options)
    exact, bound = bound_with(bias, x, kernel, shape)
    assert (np.abs(out - exact) <= bound).all()
    np.testing.assert_array_equal(pymec.conv2d(x, kernel, bias, activation="relu", **options), np.maximum(out, 0))


def test_a_product_on_its_own():
    shape = ConvShape.from_shapes((2, 6, 7, 4), (3, 3, 2, 6), groups=2)
    x, kernel = operands(shape)
    L, out = np.empty(shape.im2col_size, np.float32), np.full(shape.output_shape, np.nan, np.float32)
    im2col.lower(x, L, shape)
    im2col.multiply(L, kernel, out, shape, 2)
    assert is_right(out, shape)


def test_a_stage_takes_no_more_threads_than_blas_has_buffers():
    with pytest.raises(ValueError, match="n_threads must be from 1 to 64, got 65"):
        finish(np.ones((1, 1, 1, 1), np.float32), np.ones(1, np.float32), False, 65)
