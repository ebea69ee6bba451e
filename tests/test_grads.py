"""Both gradients: every algorithm x every case against the oracle, and the oracle against calculus."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from cases import CASES, PAPER, measured, read_only

import pymec
from pymec import ConvShape, reference, registry
from pymec.kernels.gradients import direct_conv as direct_conv_grad
from pymec.kernels.gradients import im2col as im2col_grad
from pymec.kernels.gradients import mec as mec_grad
from pymec.kernels.gradients import pixel_gemm as pixel_gemm_grad
from pymec.kernels.gradients.flipped_kernel import flip_and_swap
from pymec.kernels.im2col import im2col
from pymec.kernels.mec import tuned as mec
from pymec.kernels.register_tiles import convolution
from pymec.kernels.register_tiles.schedule import fast_tiles, tile_schedule

INPUT, KERNEL = "conv2d_input_grad", "conv2d_kernel_grad"
ROWS = [(operation, name) for operation in (INPUT, KERNEL) for name in registry.TABLES[operation]]


def each(cases, able=True):
    """Every case with every algorithm that can do it, or can't."""
    return [
        pytest.param(operation, name, case, id=f"{operation}-{name}-{case.motive}")
        for case in cases
        for operation, name in ROWS
        if (registry.get(name, operation).unsupported(case.shape()) is None) == able
    ]


@lru_cache(maxsize=64)
def arrays(shape, seed=0):
    rng = np.random.default_rng(seed)
    extents = shape.input_shape, shape.kernel_shape, shape.output_shape
    return read_only(*(rng.standard_normal(extent).astype(shape.dtype) for extent in extents))


def call(operation, x, kernel, grad_out, **options):
    if operation == INPUT:
        return pymec.conv2d_input_grad(grad_out, kernel, x.shape, **options)
    return pymec.conv2d_kernel_grad(x, grad_out, kernel.shape, **options)


@lru_cache(maxsize=64)
def answer(operation, shape):
    """The gradient of :func:`arrays` by the oracle, and how far rounding may take it, for all algorithms."""
    x, kernel, grad_out = arrays(shape)
    if operation == INPUT:
        operands, gradient, bound = (grad_out, kernel), reference.input_grad, reference.input_grad_bound
    else:
        operands, gradient, bound = (x, grad_out), reference.kernel_grad, reference.kernel_grad_bound
    return read_only(gradient(*operands, shape), bound(*operands, shape))


def check(case, operation, algorithm, dtype, n_threads):
    shape = case.shape(dtype)
    x, kernel, grad_out = arrays(shape)
    out = np.full(shape.input_shape if operation == INPUT else shape.kernel_shape, np.nan, dtype)
    nbytes = pymec.workspace_size(
        case.x,
        case.kernel,
        dtype=dtype,
        algorithm=algorithm,
        operation=operation,
        n_threads=n_threads,
        **case.options,
    )
    guarded = np.full(nbytes // shape.itemsize + 5, np.nan, dtype)
    options = {"algorithm": algorithm, "n_threads": n_threads, **case.options}
    returned = call(operation, x, kernel, grad_out, out=out, workspace=guarded[:-5], **options)
    assert returned is out
    assert np.isnan(guarded[-5:]).all()
    exact, bound = answer(operation, shape)
    assert (np.abs(out - exact) <= bound).all()  # NaN left in out fails as well
    again = call(operation, x, kernel, grad_out, **options)
    np.testing.assert_array_equal(again, out)  # to the bit, for the same number of threads


@pytest.mark.parametrize(("operation", "algorithm", "case"), each(CASES))
def test_against_the_oracle(operation, algorithm, case):
    for dtype in ("float32", "float64"):
        for n_threads in (1, 2, 3):
            check(case, operation, algorithm, dtype, n_threads)


@pytest.mark.parametrize(("operation", "algorithm", "case"), each(CASES, able=False))
def test_a_refusal_says_why_and_writes_nothing(operation, algorithm, case):
    shape = case.shape()
    x, kernel, grad_out = arrays(shape)
    out = np.full(shape.input_shape if operation == INPUT else shape.kernel_shape, np.nan, shape.dtype)
    with pytest.raises(pymec.UnsupportedShape, match="can't do this shape: .*its (groups|taps|stride|[0-9]+ ch)"):
        call(operation, x, kernel, grad_out, algorithm=algorithm, out=out, **case.options)
    assert np.isnan(out).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operation", "algorithm", "case"), [row for row in each(PAPER) if row.values[1] != "direct"]
)
def test_on_the_papers_layers(operation, algorithm, case):
    check(case, operation, algorithm, "float32", 2)


# Kernels larger than the image ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_taps_that_meet_nothing_are_left_out(seed):
    """Of no phase is a row or column of taps on padding for all pixels, and the gradient is right."""
    rng = np.random.default_rng(seed)
    extents = {name: int(rng.integers(1, 8)) for name in ("i_h", "i_w", "k_h", "k_w")}
    steps = {name: int(rng.integers(1, 5)) for name in ("s_h", "s_w", "d_h", "d_w")}
    paddings = {
        name: 8 * steps["d_h" if name in ("p_t", "p_b") else "d_w"] for name in ("p_t", "p_b", "p_l", "p_r")
    }
    shape = ConvShape(i_n=2, i_c=3, k_c=16, **extents, **steps, **paddings, dtype="float64")
    for phase in direct_conv_grad.phases(shape):
        s = phase.shape
        for a in range(s.k_h):
            assert -s.o_h < a * s.d_h - s.p_t < s.i_h
        for b in range(s.k_w):
            assert -s.o_w < b * s.d_w - s.p_l < s.i_w
    x, kernel, grad_out = arrays(shape)
    expected, bound = answer(INPUT, shape)
    for algorithm in ("direct_conv", "direct_packed", "direct_dots"):
        found = call(INPUT, x, kernel, grad_out, algorithm=algorithm, **shape.arguments)
        assert (abs(found - expected) <= bound).all()


# The oracle -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.motive)
def test_the_adjoint_identity(case):
    """<conv(x), g> = <x, input_grad(g)> = <kernel, kernel_grad(x, g)>, which defines the gradients."""
    shape = case.shape("float64")
    x, kernel, grad_out = arrays(shape, 1)
    forward = np.vdot(reference.conv2d(x, kernel, shape), grad_out)
    scale = np.vdot(reference.conv2d(abs(x), abs(kernel), shape), abs(grad_out)) * 1e-14
    assert np.vdot(x, reference.input_grad(grad_out, kernel, shape)) == pytest.approx(forward, abs=scale)
    assert np.vdot(kernel, reference.kernel_grad(x, grad_out, shape)) == pytest.approx(forward, abs=scale)


@pytest.mark.parametrize(("operation", "algorithm"), ROWS)
def test_finite_differences(operation, algorithm):
    """A step in one element, in float64: a convolution is linear, so the two differ by rounding only."""
    options = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}
    k_c = 16 if algorithm == "direct_dots" else 4
    shape = pymec.ConvShape.from_shapes((2, 6, 7, 4), (3, 2, 2, k_c), dtype="float64", **options)
    if algorithm == "depthwise":
        options = {"stride": 2, "padding": (1, 2), "groups": 8}
        shape = pymec.ConvShape.from_shapes((2, 6, 7, 8), (3, 3, 1, 8), dtype="float64", **options)
    x, kernel, grad_out = (array.copy() for array in arrays(shape, 2))
    gradient = call(operation, x, kernel, grad_out, algorithm=algorithm, **options)
    moved = x if operation == INPUT else kernel
    for index in np.ndindex(*moved.shape):
        values = []
        start = moved[index]
        for step in (0.5, -0.5):
            moved[index] = start + step
            values.append(np.vdot(pymec.conv2d(x, kernel, **options), grad_out))
        moved[index] = start
        assert gradient[index] == pytest.approx(values[0] - values[1], abs=1e-11)


# What surrounds them ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.motive)
@pytest.mark.parametrize(("operation", "axes"), [(INPUT, (0, 3, 1, 2)), (KERNEL, (3, 2, 0, 1))])
def test_nchw_is_nhwc_in_other_clothes(operation, axes, case):
    x, kernel, grad_out = arrays(case.shape())
    inside = call(operation, x, kernel, grad_out, algorithm="mec", **case.options)
    x, grad_out = x.transpose(0, 3, 1, 2).copy(), grad_out.transpose(0, 3, 1, 2).copy()
    kernel = kernel.transpose(3, 2, 0, 1).copy()
    outside = call(operation, x, kernel, grad_out, algorithm="mec", layout="NCHW", **case.options)
    assert outside.flags.c_contiguous
    np.testing.assert_array_equal(outside, inside.transpose(axes))


@pytest.mark.parametrize("operation", [INPUT, KERNEL])
def test_auto_keeps_to_any_limit(operation):
    shape = pymec.ConvShape.from_shapes((2, 12, 12, 3), (3, 3, 3, 8))
    x, kernel, grad_out = arrays(shape)
    for limit in (0, 100, 10_000, "1MiB", None):
        needed = pymec.workspace_size(
            shape.input_shape, shape.kernel_shape, algorithm="auto", operation=operation, workspace_limit=limit
        )
        assert limit is None or limit == "1MiB" or needed <= limit
        out = call(operation, x, kernel, grad_out, workspace_limit=limit, n_threads=1)
        exact, _ = answer(operation, shape)
        np.testing.assert_allclose(out, exact, atol=1e-3)


def test_no_image_gives_no_gradient_and_zero():
    kernel = np.ones((3, 3, 2, 4))
    assert pymec.conv2d_input_grad(np.ones((0, 4, 4, 4)), kernel, (0, 6, 6, 2)).shape == (0, 6, 6, 2)
    for algorithm in set(pymec.algorithms(KERNEL)) - {"depthwise"}:  # tests/test_depthwise_grads.py
        gradient = pymec.conv2d_kernel_grad(
            np.ones((0, 6, 6, 2)),
            np.ones((0, 4, 4, 4)),
            kernel.shape,
            algorithm=algorithm,
            out=np.full_like(kernel, 7),
        )
        assert (gradient == 0).all()


X, K, G = np.ones((1, 6, 6, 2), np.float32), np.ones((3, 3, 2, 4), np.float32), np.ones((1, 4, 4, 4), np.float32)


@pytest.mark.parametrize(
    ("function", "arguments", "error", "message"),
    [
        ("conv2d_input_grad", (G, K, (1, 7, 6, 2)), ValueError, r"grad_out must have shape \(1, 5, 4, 4\)"),
        (
            "conv2d_input_grad",
            (G, K.astype("f8"), X.shape),
            TypeError,
            "kernel is float64, but grad_out is float32",
        ),
        ("conv2d_input_grad", (G[0], K, X.shape), ValueError, "grad_out must have four dimensions"),
        ("conv2d_input_grad", (G, K, (1, 6, 6)), ValueError, "input_shape must be four sizes, NHWC"),
        ("conv2d_kernel_grad", (X, G[:, 1:], K.shape), ValueError, r"grad_out must have shape \(1, 4, 4, 4\)"),
        ("conv2d_kernel_grad", (X, G.astype("f8"), K.shape), TypeError, "grad_out is float64, but x is float32"),
        ("conv2d_kernel_grad", (X, G[:, ::-1], K.shape), ValueError, "grad_out must be C-contiguous"),
        ("conv2d_kernel_grad", (X, list(G), K.shape), TypeError, "grad_out must be an array"),
    ],
)
def test_errors_name_the_argument(function, arguments, error, message):
    with pytest.raises(error, match=message):
        getattr(pymec, function)(*arguments)


def test_an_unknown_algorithm_is_answered_with_those_of_the_operation():
    with pytest.raises(
        ValueError, match="direct_conv, direct_packed, direct_dots, pixel_gemm, .*, depthwise; got 'mec_banded'"
    ):
        pymec.conv2d_input_grad(G, K, X.shape, algorithm="mec_banded")
    with pytest.raises(ValueError, match="operation must be one of conv2d, conv2d_input_grad"):
        pymec.workspace_size(X.shape, K.shape, algorithm="mec", operation="backward")
    assert [row.algorithm for row in pymec.explain(X.shape, K.shape, operation=KERNEL)] == list(
        pymec.algorithms(KERNEL)
    )


# Phases of the stride --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 1), (2, 5)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 3), (4, 2)])
@pytest.mark.parametrize("padding", [0, ((3, 0), (1, 5))])
def test_phases_share_out_pixels_and_taps(stride, dilation, padding):
    """A pixel of dI is in one phase or has no tap; no tap is in two.  Padding may exceed the kernel."""
    shape = ConvShape.from_shapes((2, 13, 12, 4), (3, 2, 4, 32), stride=stride, dilation=dilation, padding=padding)
    seen, taps = np.zeros((13, 12), int), 0
    for phase in direct_conv_grad.phases(shape):
        seen[phase.rows, phase.columns] += 1
        taps += phase.shape.k_h * phase.shape.k_w
        assert (phase.shape.o_h, phase.shape.o_w) == seen[phase.rows, phase.columns].shape
    assert seen.max() == 1
    assert direct_conv_grad.leaves_pixels_out(shape) == (seen == 0).any()
    assert 0 < taps <= 6
    rng = np.random.default_rng(1)
    dO = rng.standard_normal(shape.output_shape)
    kernel = rng.standard_normal(shape.kernel_shape)
    options = {"stride": stride, "dilation": dilation, "padding": padding}
    expected = pymec.conv2d_input_grad(dO, kernel, (2, 13, 12, 4), algorithm="direct", **options)
    found = pymec.conv2d_input_grad(dO, kernel, (2, 13, 12, 4), algorithm="direct_conv", n_threads=2, **options)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", [(1, 2), (5, 3), (17, 33), (16, 64), (40, 100)])
@pytest.mark.parametrize(
    "options",
    [{}, {"groups": 3, "padding": 1}, {"stride": 2, "padding": 1}, {"stride": (3, 2), "dilation": (1, 2)},
     {"stride": 4}],
    ids=str,
)  # fmt: skip
def test_a_kernel_flipped_block_by_block_changes_no_bit(options, channels, dtype):
    """Blocks of a few lines and panels, so that sums go on from block to block; K as it is, or flipped before."""
    groups = options.get("groups", 1)
    i_cg, k_cg = channels
    shape = ConvShape.from_shapes((2, 7, 8, groups * i_cg), (3, 2, i_cg, groups * k_cg), dtype=dtype, **options)
    x, kernel, grad_out = arrays(shape)
    expected = call(INPUT, x, kernel, grad_out, algorithm="direct_conv", n_threads=1, **options)
    least = pymec.workspace_size(x.shape, kernel.shape, algorithm="direct_packed", operation=INPUT, dtype=dtype,
                                 workspace_limit=64 + 128 * 4 * 9, n_threads=2, **options)  # fmt: skip
    for limit, n_threads in ((None, 1), (None, 3), (least, 2)):
        got = call(INPUT, x, kernel, grad_out, algorithm="direct_packed", workspace_limit=limit,
                   n_threads=n_threads, **options)  # fmt: skip
        np.testing.assert_array_equal(got, expected)


def test_taps_of_another_kernel_are_checked():
    shape = ConvShape.from_shapes((1, 6, 6, 16), (3, 3, 16, 32))
    _, kernel, grad_out = arrays(shape)
    (phase,) = direct_conv_grad.phases(shape)
    schedule = tile_schedule(phase.shape, 1, False, packed=(1, 16))
    out, room = np.full(shape.input_shape, 7, np.float32), np.zeros(9999, np.float32)
    taps = np.arange(9)[::-1].copy()
    for wrong, slices, given, message in (
        (taps, 0, kernel, "slices must be at least 1 for the taps of another layer's kernel"),
        (taps, 1, kernel[:, :, :8].copy(), "kernel must have channels 16 and 32, got 8 and 32"),
        (taps[:8].copy(), 1, kernel, "taps must be 9, got 8"),
        (taps + 1, 1, kernel, "taps must be below 9, got 9"),
        (taps - 1, 1, kernel, "taps must be below 9, got -1"),
        (taps, 1, None, "kernel must be an array"),
    ):
        with pytest.raises(ValueError, match=message):
            convolution.run(grad_out, given, out, room, phase.shape, 1, schedule, slices=slices, taps=wrong)
    assert (out == 7).all()


def test_no_more_phases_than_taps():
    """Planning for a large stride takes no longer, and "auto" chooses another algorithm for it."""
    shape = ConvShape.from_shapes((1, 2048, 2048, 16), (3, 2, 16, 32), stride=1024)
    assert len(direct_conv_grad.phases(shape)) == 6
    plan = pymec.plan((1, 64, 64, 16), (3, 3, 16, 32), stride=5, operation=INPUT)
    assert plan.algorithm != "direct_conv"


def test_no_stride_spreads_the_gradient():
    """Only the flipped kernel is kept."""
    for name in pymec.layers.PAPER:
        shape = pymec.layers.get(name).shape()
        schedule = registry.get("direct_conv", INPUT).schedule(shape, 2, None)
        assert schedule.size == schedule.prepared == shape.kernel_size


def test_taps_have_a_place_each():
    shape = ConvShape.from_shapes((1, 5, 5, 2), (2, 2, 2, 4))
    kernel, flipped = np.zeros((2, 2, 2, 4)), np.zeros(32)
    with pytest.raises(ValueError, match=r"places must be the numbers below 4 in some order, got \[0, 1, 1, 2\]"):
        flip_and_swap(kernel, flipped, replace(shape, dtype=np.dtype("d")), 1, np.array([0, 1, 1, 2]))


# Stages ----------------------------------------------------------------------------------------------------


def test_lowering_and_adding_up_are_adjoint():
    """<lower(x), L> = <x, add_up(L)>, for im2col and MEC: each copy is added up where it came from."""
    rng = np.random.default_rng(4)
    for case in CASES:
        shape = case.shape("float64")
        x = rng.standard_normal(shape.input_shape)
        for lower, add_up, size in (
            (im2col.lower, im2col_grad.col2im, shape.im2col_size),
            (mec.lower, mec_grad.mec2im, shape.mec_size),
        ):
            lowered, weights, back = np.zeros(size), rng.standard_normal(size), np.full(x.shape, np.nan)
            lower(x, lowered, shape, 2)
            add_up(weights, back, shape, 2)
            assert np.vdot(lowered, weights) == pytest.approx(np.vdot(x, back), abs=1e-9)


def test_the_flipped_kernel_of_a_plain_layer_is_the_kernel_by_180_degrees():
    kernel = np.arange(2 * 3 * 4 * 5, dtype=np.float64).reshape(2, 3, 4, 5)
    shape = pymec.ConvShape.from_shapes((1, 6, 6, 4), kernel.shape, dtype="float64")
    flipped = np.empty(kernel.size)
    flip_and_swap(kernel, flipped, shape)
    np.testing.assert_array_equal(flipped.reshape(2, 3, 5, 4), np.rot90(kernel, 2).transpose(0, 1, 3, 2))


@pytest.mark.parametrize("blocking", [(0, 1, 1), (1, -1, 1), (1, 1, 2**62 + 1)])
def test_blocks_that_no_loop_would_end_with_are_refused(blocking):
    shape = ConvShape.from_shapes((1, 6, 6, 2), (3, 3, 2, 4))
    x, kernel, grad_out = (array.copy() for array in arrays(shape))
    nothing = np.empty(0, np.float32)
    with pytest.raises(ValueError, match=r"blocking must be numbers from 1 to 2\*\*62"):
        pixel_gemm_grad.run_kernel_grad(x, grad_out, kernel, nothing, shape, blocking=blocking)
    with pytest.raises(ValueError, match=r"blocking must be numbers from 1 to 2\*\*62"):
        mec_grad.kernel_grad(np.empty(shape.mec_size, np.float32), grad_out, kernel, shape, blocking=blocking)


# L kept from the forward pass --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "case"),
    [
        (algorithm, case)
        for algorithm in ("mec", "mec_b")
        for case in CASES
        if registry.get(algorithm).unsupported(case.shape()) is None
    ],
    ids=lambda value: getattr(value, "motive", value),
)
def test_forward_saved(algorithm, case):
    """The kept L is the one that the gradient reads, without unread rows; plans of ``mec_b`` keep it, too."""
    shape = case.shape()
    x, kernel, grad_out = arrays(shape)
    plan = pymec.plan(case.x, case.kernel, algorithm=algorithm, n_threads=2, **case.options).prepare(kernel)
    out, saved = plan.forward_saved(x)
    assert (abs(out - reference.conv2d(x, kernel, shape)) <= reference.error_bound(x, kernel, shape)).all()
    assert saved.nbytes == (0 if shape.is_pointwise else shape.mec_size * 4) <= plan.workspace_nbytes
    again = pymec.conv2d_kernel_grad(x, grad_out, kernel.shape, algorithm="mec", n_threads=2, **case.options)
    np.testing.assert_array_equal(saved.kernel_grad(grad_out), again)


@pytest.mark.parametrize("algorithm", ["auto", *pymec.algorithms(INPUT)])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_a_plan_of_the_inputs_gradient(algorithm, layout):
    """The prepared kernel is made once, counted separately, and changes no bit of the result."""
    k_c = 32 if algorithm == "direct_dots" else 4
    shape = pymec.ConvShape.from_shapes((2, 9, 8, 4), (3, 3, 2, k_c), stride=(2, 1), padding=1, groups=2)
    if algorithm == "depthwise":
        shape = pymec.ConvShape.from_shapes((2, 9, 8, 16), (3, 3, 1, 16), stride=2, padding=1, groups=16)
    options = {**shape.arguments, "layout": layout, "algorithm": algorithm, "n_threads": 2}
    x, kernel, grad_out = arrays(shape)
    if layout == "NCHW":
        x, grad_out = x.transpose(0, 3, 1, 2), grad_out.transpose(0, 3, 1, 2)
        kernel = kernel.transpose(3, 2, 0, 1)
    plan = pymec.plan(x.shape, kernel.shape, operation=INPUT, **options).prepare(kernel)
    expected = pymec.conv2d_input_grad(grad_out, kernel, x.shape, **options)
    whole = pymec.workspace_size(x.shape, kernel.shape, operation=INPUT, **options)
    # With NCHW a plan turns the kernel once; a call that has no plan turns it as well as preparing it.
    relaid = registry.get(plan.algorithm, INPUT).schedule(shape, 2, None).prepared > 0
    turned = kernel.nbytes if layout == "NCHW" and relaid else 0
    assert plan.workspace_nbytes + plan.prepared_nbytes == whole - turned
    workspace = np.full(plan.workspace_nbytes, 255, np.uint8)
    np.testing.assert_array_equal(plan(grad_out, workspace=workspace), expected)
    with pytest.raises(ValueError, match="bias must be None"):
        plan(grad_out, np.ones(shape.k_c, np.float32))
    with pytest.raises(ValueError, match="this plan has conv2d_input_grad by"):
        plan.forward_saved(grad_out)


def test_plans_that_tune():
    plan = pymec.plan(X.shape, K.shape, operation=INPUT, tune=True).prepare(K)
    assert plan.algorithm in pymec.algorithms(INPUT)
    np.testing.assert_array_equal(plan(G), pymec.conv2d_input_grad(G, K, X.shape, algorithm=plan.algorithm))


def test_forward_saved_says_what_it_needs():
    plan = pymec.plan(X.shape, K.shape, algorithm="mec")
    with pytest.raises(ValueError, match="no kernel yet"):
        plan.forward_saved(X)
    with pytest.raises(ValueError, match="this plan has conv2d by 'im2col'"):
        pymec.plan(X.shape, K.shape, algorithm="im2col").prepare(K).forward_saved(X)
    saved = plan.prepare(K).forward_saved(X)[1]
    with pytest.raises(ValueError, match="grad_out must have shape"):
        saved.kernel_grad(G[:, 1:])
    frozen = np.zeros(K.shape, np.float32)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        saved.kernel_grad(G, out=frozen)


@pytest.mark.memory
@pytest.mark.parametrize(("operation", "algorithm"), ROWS)
def test_predicted_bytes_are_measured_bytes(operation, algorithm):
    layers = {"direct_grouped": "resnext50.conv3_3x3", "depthwise": "mobilenetv2.4_depthwise"}
    shape = pymec.layers.get(layers.get(algorithm, "cv9")).shape()
    report = measured(shape, algorithm, operation, n_threads=2)
    assert report.predicted == report.workspace
    assert report.output == 4 * (shape.input_size if operation == INPUT else shape.kernel_size)
    assert report.other < 65536


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g, k: pymec.conv2d_input_grad(g, k, (1, 0, 8, 4)), "input_shape must have a positive size"),
        (lambda g, k: pymec.conv2d_input_grad(g, k, (1, 8, 8, 5)), "input_shape has 5"),
        (lambda g, k: pymec.conv2d_kernel_grad(g, g, (0, 3, 8, 8)), "kernel_shape must have a positive size"),
        (lambda g, k: pymec.conv2d_kernel_grad(g, g, (9, 3, 8, 8)), "kernel_shape spans 9 × 3 pixels"),
    ],
)
def test_errors_speak_of_the_arguments_there_are(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((1, 6, 6, 8), "f"), np.ones((3, 3, 4, 8), "f"))


def test_channels_decide_how_auto_computes_the_kernels_gradient():
    """Register tiles need a vector of output channels; by BLAS, a product per tap needs many input channels."""
    tiles = fast_tiles(ConvShape.from_shapes((1, 9, 9, 1), (3, 3, 1, 64)))
    for i_c, k_c, chosen in (
        (64, 8, "pixel_gemm"),
        (8, 8, "mec"),
        (8, 64, "direct_blocked"),
        (2, 16, "direct_blocked"),
    ):
        told = pymec.explain((1, 28, 28, i_c), (3, 3, i_c, k_c), operation="conv2d_kernel_grad")
        assert told.chosen == chosen or not (tiles or k_c < 16)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize(
    ("x", "kernel", "options"),
    [
        ((1, 3, 300, 5), (3, 3, 5, 40), {"padding": 1}),  # rows longer than a block, taps that share a tile
        ((9, 5, 5, 20), (3, 3, 20, 33), {"padding": 1}),  # several images in a block, a line of one channel
        ((2, 40, 7, 3), (5, 1, 3, 24), {"stride": (3, 1), "padding": (4, 0)}),  # fewer rows than a tile has
        ((1, 12, 260, 2), (1, 7, 2, 96), {"stride": 2, "padding": (0, 5)}),  # more padding than the stride skips
        ((1, 9, 30, 8), (3, 3, 8, 17), {"dilation": 2, "padding": 2}),  # taps apart, each a tile of its own
        ((1, 20, 20, 63), (2, 3, 21, 129), {"groups": 3}),
        ((1, 9, 20, 9), (3, 3, 3, 48), {"groups": 3, "padding": 1}),  # a window of fewer channels than a tile has
        ((1, 60, 60, 6), (3, 3, 2, 48), {"groups": 3, "dilation": 7, "padding": 7}),  # and one too large to copy
        ((130, 1, 1, 15), (1, 1, 15, 16), {}),  # every image one output
        ((1, 4, 4, 40), (3, 3, 40, 40), {"padding": 2}),
    ],
)
def test_blocks_and_tiles_may_end_anywhere(x, kernel, options, n_threads, dtype):
    shape = ConvShape.from_shapes(x, kernel, dtype=dtype, **options)
    rng = np.random.default_rng(1)
    image, grad_out = (rng.integers(-3, 4, of).astype(dtype) for of in (shape.input_shape, shape.output_shape))
    exact = reference.kernel_grad(image, grad_out, shape)
    for limit in (None, 0):  # with copies of both operands, and with none
        got = pymec.conv2d_kernel_grad(
            image, grad_out, kernel, algorithm="direct_blocked", workspace_limit=limit, n_threads=n_threads,
            **options,
        )  # fmt: skip
        np.testing.assert_array_equal(got, exact)


def test_a_gradient_is_not_written_over_the_saved_lowering():
    """Of a 1×1 kernel it is the caller's x."""
    x, kernel = np.ones((1, 6, 6, 4), np.float32), np.ones((1, 1, 4, 5), np.float32)
    out, saved = pymec.plan(x.shape, kernel.shape, algorithm="mec").prepare(kernel).forward_saved(x)
    with pytest.raises(ValueError, match="out overlaps the saved lowering"):
        saved.kernel_grad(out, out=x.reshape(-1)[:20].reshape(kernel.shape))
