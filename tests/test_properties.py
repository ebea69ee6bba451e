"""What must hold for every convolution there is, tried on random ones.

`make test` tries the same 500 at every run where a result is compared with the oracle's, and 100 where two results
are compared with each other; `make fuzz` tries 20,000 new ones of each.
"""

import inspect
import re
from functools import partial

import numpy as np
import pytest
from cases import measured
from geometries import replaced, shapes, whole_numbers
from hypothesis import assume, given, note, settings
from hypothesis import strategies as st

import pymec
from pymec import ConvShape, reference, registry
from pymec.operations import OPERATIONS

MOST = settings.default.max_examples
RELATION = settings(max_examples=100 if MOST == 500 else MOST)

SEEDS = st.integers(0, 2**32 - 1)
THREADS = st.integers(1, 3)
INPUT, KERNEL = "conv2d_input_grad", "conv2d_kernel_grad"
ORACLES = {
    "conv2d": (reference.conv2d, reference.error_bound),
    INPUT: (reference.input_grad, reference.input_grad_bound),
    KERNEL: (reference.kernel_grad, reference.kernel_grad_bound),
}


def rows(shape, operation="conv2d", accuracy="fast"):
    """The algorithms that can do a shape; with ``accuracy="exact"``, the exact ones among them."""
    for name, row in registry.TABLES[operation].items():
        if row.unsupported(shape) is None and accuracy in (row.accuracy, "fast"):
            note(f"{operation} by {name} on {shape}")
            yield name, row


def extents_of(shape, operation="conv2d"):
    """The shapes of an operation's two operands and of its result."""
    x, kernel, out = shape.input_shape, shape.kernel_shape, shape.output_shape
    return {"conv2d": (x, kernel, out), INPUT: (out, kernel, x), KERNEL: (x, out, kernel)}[operation]


def call(operation, first, second, shape, **options):
    """An operation on its two operands, with the shape's stride, padding, dilation and groups."""
    options = {**shape.arguments, **options}
    if operation == "conv2d":
        return pymec.conv2d(first, second, **options)
    if operation == INPUT:
        return pymec.conv2d_input_grad(first, second, shape.input_shape, **options)
    return pymec.conv2d_kernel_grad(first, second, shape.kernel_shape, **options)


def whole_operands(shape, seed, operation="conv2d"):
    """Both operands in whole numbers, so that results can be compared with ``==``."""
    first, second, _ = extents_of(shape, operation)
    return whole_numbers(first, shape.dtype, seed), whole_numbers(second, shape.dtype, seed + 1)


@pytest.mark.parametrize("operation", OPERATIONS)
@given(shape=shapes(), n_threads=THREADS, seed=SEEDS)
def test_every_algorithm_agrees_with_the_oracle(operation, shape, n_threads, seed):
    """In a workspace of just the predicted size: what lies behind it stays as it was."""
    rng = np.random.default_rng(seed)
    first, second, result = extents_of(shape, operation)
    first, second = (rng.standard_normal(extents).astype(shape.dtype) for extents in (first, second))
    oracle, error_bound = ORACLES[operation]
    exact = oracle(first, second, shape)
    shared_bound = error_bound(first, second, shape)
    for name, row in rows(shape, operation):
        bound = shared_bound if row.error_bound is error_bound else row.error_bound(first, second, shape)
        nbytes = pymec.workspace_size(
            shape.input_shape, shape.kernel_shape, algorithm=name, operation=operation, n_threads=n_threads,
            dtype=shape.dtype, **shape.arguments,
        )  # fmt: skip
        workspace = np.full(nbytes // shape.itemsize + 8, np.nan, shape.dtype)
        out = np.full(result, np.nan, shape.dtype)
        call(operation, first, second, shape, algorithm=name, n_threads=n_threads, out=out,
             workspace=workspace[:-8])  # fmt: skip
        assert (np.abs(out - exact) <= bound).all()  # a NaN fails as well
        assert np.isnan(workspace[-8:]).all()


@pytest.mark.parametrize("operation", OPERATIONS)
@given(shape=shapes(), n_threads=THREADS, seed=SEEDS)
def test_whole_numbers_are_exact(operation, shape, n_threads, seed):
    """No error bound can hide a wrong element here."""
    first, second = whole_operands(shape, seed, operation)
    exact = ORACLES[operation][0](first, second, shape)
    for name, _ in rows(shape, operation, "exact"):
        np.testing.assert_array_equal(
            call(operation, first, second, shape, algorithm=name, n_threads=n_threads), exact
        )


@RELATION
@given(shape=shapes(), n_threads=THREADS, seed=SEEDS, a=st.integers(-3, 3), b=st.integers(-3, 3))
def test_convolution_is_linear_in_both_operands(shape, n_threads, seed, a, b):
    """To the last unit.  Of the fast algorithms their error bounds, tested above, say as much."""
    (x, kernel), (y, other) = whole_operands(shape, seed), whole_operands(shape, seed + 2)
    for name, _ in rows(shape, accuracy="exact"):
        convolve = partial(call, "conv2d", shape=shape, algorithm=name, n_threads=n_threads)
        plain = a * convolve(x, kernel)
        np.testing.assert_array_equal(convolve(a * x + b * y, kernel), plain + b * convolve(y, kernel))
        np.testing.assert_array_equal(convolve(x, a * kernel + b * other), plain + b * convolve(x, other))


@RELATION
@given(shape=shapes(sides=st.just(0)), seed=SEEDS, rows_down=st.integers(0, 2), columns_right=st.integers(0, 2))
def test_a_shifted_input_gives_a_shifted_output(shape, seed, rows_down, columns_right):
    """By a stride: the output moves by a pixel."""
    rows_down, columns_right = min(rows_down, shape.o_h - 1), min(columns_right, shape.o_w - 1)
    x, kernel = whole_operands(shape, seed)
    moved = np.ascontiguousarray(x[:, rows_down * shape.s_h :, columns_right * shape.s_w :])
    for name, _ in rows(shape, accuracy="exact"):
        options = {"algorithm": name, **shape.arguments}
        out = pymec.conv2d(x, kernel, **options)
        np.testing.assert_array_equal(pymec.conv2d(moved, kernel, **options), out[:, rows_down:, columns_right:])


@RELATION
@given(
    extents=st.tuples(*[st.integers(1, 9)] * 3, st.integers(1, 20)),
    k=st.tuples(*[st.sampled_from((1, 3, 5))] * 2),
    d=st.tuples(*[st.integers(1, 3)] * 2), depthwise=st.booleans(), seed=SEEDS,
)  # fmt: skip
def test_the_identity_kernel_returns_its_input(extents, k, d, depthwise, seed):
    x = np.random.default_rng(seed).standard_normal(extents, dtype=np.float32)
    i_c = extents[3]
    kernel = np.zeros((*k, 1 if depthwise else i_c, i_c), np.float32)
    kernel[k[0] // 2, k[1] // 2] = 1 if depthwise else np.eye(i_c)
    options = {"padding": "same", "dilation": d, "groups": i_c if depthwise else 1}
    shape = ConvShape.from_shapes(x.shape, kernel.shape, **options)
    for name, row in rows(shape):
        out = pymec.conv2d(x, kernel, algorithm=name, **options)
        slack = row.error_bound(x, kernel, shape) if row.accuracy == "fast" else 0
        assert (np.abs(out - x) <= slack).all()


@RELATION
@given(shape=shapes(), n_threads=THREADS, seed=SEEDS)
def test_the_gradients_are_adjoint(shape, n_threads, seed):
    """<conv(x, k), g> = <x, input_grad(g, k)> = <k, kernel_grad(x, g)>, to the last unit."""
    x, kernel = whole_operands(shape, seed)
    grad_out = whole_numbers(shape.output_shape, shape.dtype, seed + 2)

    def inner(left, right):
        return int((left.astype(np.int64) * right.astype(np.int64)).sum())

    forward = inner(pymec.conv2d(x, kernel, n_threads=n_threads, **shape.arguments), grad_out)
    for name, _ in rows(shape, INPUT):
        gradient = call(INPUT, grad_out, kernel, shape, algorithm=name, n_threads=n_threads)
        assert inner(gradient, x) == forward
    for name, _ in rows(shape, KERNEL):
        gradient = call(KERNEL, x, grad_out, shape, algorithm=name, n_threads=n_threads)
        assert inner(gradient, kernel) == forward


@RELATION
@given(shape=shapes(i_n=st.integers(2, 3)), n_threads=THREADS, seed=SEEDS)
def test_a_batch_is_its_images(shape, n_threads, seed):
    x, kernel = whole_operands(shape, seed)
    alone = replaced(shape, i_n=1)
    for name, _ in rows(shape, accuracy="exact"):
        together = call("conv2d", x, kernel, shape, algorithm=name, n_threads=n_threads)
        for n in range(shape.i_n):
            single = call("conv2d", x[n : n + 1], kernel, alone, algorithm=name, n_threads=n_threads)
            np.testing.assert_array_equal(single, together[n : n + 1])


@RELATION
@given(shape=shapes(groups=st.sampled_from((2, 3, 8, 33))), n_threads=THREADS, seed=SEEDS)
def test_groups_are_convolutions_of_their_own(shape, n_threads, seed):
    s = shape
    x, kernel = whole_operands(s, seed)
    alone = replaced(s, i_c=s.i_cg, k_c=s.k_cg, groups=1)
    parts = [
        pymec.conv2d(
            np.ascontiguousarray(x[..., group * s.i_cg : (group + 1) * s.i_cg]),
            np.ascontiguousarray(kernel[..., group * s.k_cg : (group + 1) * s.k_cg]),
            algorithm="direct", **alone.arguments,
        )
        for group in range(s.groups)
    ]  # fmt: skip
    for name, _ in rows(shape, accuracy="exact"):
        out = call("conv2d", x, kernel, shape, algorithm=name, n_threads=n_threads)
        np.testing.assert_array_equal(out, np.concatenate(parts, axis=3))


@RELATION
@given(shape=shapes(), seed=SEEDS)
def test_a_turned_image_gives_a_turned_output(shape, seed):
    """Rows and columns change places everywhere: sizes, stride, padding and dilation."""
    x, kernel = whole_operands(shape, seed)
    turned = np.ascontiguousarray(x.transpose(0, 2, 1, 3)), np.ascontiguousarray(kernel.transpose(1, 0, 2, 3))
    options = {key: value if key == "groups" else value[::-1] for key, value in shape.arguments.items()}
    for name, row in rows(shape, accuracy="exact"):
        if row.unsupported(ConvShape.from_shapes(turned[0].shape, turned[1].shape, **options)) is None:
            out = call("conv2d", x, kernel, shape, algorithm=name)
            np.testing.assert_array_equal(
                pymec.conv2d(*turned, algorithm=name, **options), out.transpose(0, 2, 1, 3)
            )


@RELATION
@given(shape=shapes(), n_threads=THREADS, seed=SEEDS)
def test_nchw_is_nhwc_in_other_clothes(shape, n_threads, seed):
    """Arrays are turned before any algorithm sees them: it is enough to try the exact ones here."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape.input_shape).astype(shape.dtype)
    kernel = rng.standard_normal(shape.kernel_shape).astype(shape.dtype)
    for name, _ in rows(shape, accuracy="exact"):
        options = {"algorithm": name, "n_threads": n_threads, **shape.arguments}
        inside = pymec.conv2d(x, kernel, **options)
        turned = x.transpose(0, 3, 1, 2).copy(), kernel.transpose(3, 2, 0, 1).copy()
        outside = pymec.conv2d(*turned, layout="NCHW", **options)
        np.testing.assert_array_equal(outside, inside.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("operation", OPERATIONS)
@given(shape=shapes(), limit=st.integers(0, 200_000), n_threads=THREADS, seed=SEEDS)
def test_auto_keeps_every_limit(operation, shape, limit, n_threads, seed):
    first, second = whole_operands(shape, seed, operation)
    nbytes = pymec.workspace_size(
        shape.input_shape, shape.kernel_shape, algorithm="auto", operation=operation, workspace_limit=limit,
        n_threads=n_threads, dtype=shape.dtype, **shape.arguments,
    )  # fmt: skip
    assert nbytes <= limit
    out = call(operation, first, second, shape, workspace_limit=limit, n_threads=n_threads)
    np.testing.assert_array_equal(out, ORACLES[operation][0](first, second, shape))


@pytest.mark.parametrize("operation", ["conv2d", INPUT])
@RELATION
@given(shape=shapes(i_n=st.integers(1, 3)), bias_and_relu=st.booleans(), n_threads=THREADS, seed=SEEDS)
def test_a_plan_does_what_a_call_does(operation, shape, bias_and_relu, n_threads, seed):
    """Also with a bias and ReLU, for the first image alone, and with the kernel taken over."""
    first, kernel = whole_operands(shape, seed, operation)
    extras = {}
    exact = ORACLES[operation][0](first, kernel, shape)
    if bias_and_relu and operation == "conv2d":
        extras = {"bias": whole_numbers((shape.k_c,), shape.dtype, seed + 2), "activation": "relu"}
        exact = np.maximum(exact + extras["bias"], 0)
    for name, _ in rows(shape, operation, "exact"):
        plan = pymec.plan(
            shape.input_shape, shape.kernel_shape, algorithm=name, n_threads=n_threads, dtype=shape.dtype,
            operation=operation, **shape.arguments,
        ).prepare(kernel)  # fmt: skip
        out = plan(first, **extras)
        np.testing.assert_array_equal(out, exact)
        plan.prepare(kernel, take_over=True)
        np.testing.assert_array_equal(plan(first, out=out, **extras), exact)
        np.testing.assert_array_equal(plan(first[:1], **extras), exact[:1])
        np.testing.assert_array_equal(plan.kernel, kernel)


@pytest.mark.memory
@pytest.mark.parametrize("operation", OPERATIONS)
@RELATION
@given(shape=shapes(), n_threads=THREADS, choice=st.randoms(use_true_random=False))
def test_predicted_is_measured(operation, shape, n_threads, choice):
    name = choice.choice([name for name, _ in rows(shape, operation)])
    assert measured(shape, name, operation, n_threads).exact


# Wrong arguments ------------------------------------------------------------------------------------------


class Unhelpful:
    """An object that is nothing and answers every question with an error."""

    def __repr__(self):
        return "Unhelpful()"

    def __bool__(self):
        raise RuntimeError("neither true nor false")


JUNK = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.text(max_size=6),
        st.binary(max_size=6), st.integers(-(2**70), 2**70), st.just(Unhelpful()), st.just(np.float32),
        st.sampled_from(["same", "NCHW", "auto", "relu", "fast", "1MiB", "float64"]),
        st.builds(np.full, st.lists(st.integers(0, 4), max_size=5).map(tuple), st.integers(-9, 9)),
        st.builds(np.empty, st.lists(st.integers(0, 4), max_size=5).map(tuple),
                  st.sampled_from(["f4", "f8", "f2", "i8", "c8", "O", "U3", "?", ">f4"])),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=2), inner),
    ),
    max_leaves=6,
)  # fmt: skip

QUESTIONS = (pymec.plan, pymec.explain, partial(pymec.workspace_size, algorithm="auto"))
ARGUMENTS = [
    (name, argument) for name in OPERATIONS for argument in inspect.signature(getattr(pymec, name)).parameters
]
SIZES = [(ask, argument) for ask in QUESTIONS for argument in inspect.signature(ask).parameters]
X, K, O = (1, 5, 6, 2), (3, 2, 2, 3), (1, 3, 5, 3)


def right_arguments(operation):
    """Those that have no default, and a result full of NaN."""
    x, kernel, grad_out = map(np.ones, (X, K, O))
    return {
        "conv2d": {"x": x, "kernel": kernel, "out": np.full(O, np.nan)},
        INPUT: {"grad_out": grad_out, "kernel": kernel, "input_shape": X, "out": np.full(X, np.nan)},
        KERNEL: {"x": x, "grad_out": grad_out, "kernel_shape": K, "out": np.full(K, np.nan)},
    }[operation]


def names(error, argument):
    """Whether an error's message holds the argument's name as a word, on one line of some length."""
    return len(str(error)) < 700 and "\n" not in str(error) and re.search(rf"\b{argument}\b", str(error))


@given(chosen=st.sampled_from(ARGUMENTS), value=JUNK)
def test_a_wrong_argument_is_named_and_leaves_out_alone(chosen, value):
    operation, name = chosen
    assume(not (name == "n_threads" and isinstance(value, int) and abs(value) > 64))
    arguments = right_arguments(operation)
    out = arguments["out"]
    try:
        getattr(pymec, operation)(**{**arguments, name: value})
    except (TypeError, ValueError) as error:
        # a valid stride changes the shape that out, or grad_out, must have
        assert any(names(error, each) for each in (name, "out", "grad_out")), f"{name}={value!r}: {error}"
        assert np.isnan(out).all()


@given(chosen=st.sampled_from(SIZES), value=JUNK)
def test_a_wrong_size_is_named(chosen, value):
    ask, name = chosen
    assume(not (name == "tune" and value is True))  # it would measure
    try:
        ask(**{"x_shape": X, "kernel_shape": K, name: value})
    except (TypeError, ValueError) as error:
        assert names(error, name), f"{name}={value!r}: {error}"
