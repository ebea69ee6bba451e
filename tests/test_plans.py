"""Plans: any batch by the same prepared kernel, kernels taken over, read back and shared, gradients' plans."""

import copy
import os
import pickle
import subprocess
import sys
import tracemalloc
import weakref

import numpy as np
import pytest

import pymec
from pymec import ConvShape, _build_info, registry
from pymec.operations import CONV2D, INPUT_GRAD
from pymec.recipes import recipe_of

KERNEL_GRAD = "conv2d_kernel_grad"
PLANNED = [
    (operation, name) for operation in ("conv2d", "conv2d_input_grad") for name in registry.TABLES[operation]
]
PREPARING = [(operation, name) for operation, name in PLANNED if registry.get(name, operation).prepare]
TRANSFORMING = [key for key in PREPARING if registry.get(key[1], key[0]).read_back is None]
TAKEABLE = [key for key in PLANNED if key not in TRANSFORMING]
CALLS = {
    "conv2d": lambda x, kernel, shape, **options: pymec.conv2d(x, kernel, **options),
    "conv2d_input_grad": lambda grad_out, kernel, shape, **options: pymec.conv2d_input_grad(
        grad_out, kernel, shape, **options
    ),
}


def layer(operation, name, i_n=2, i_h=13, i_w=12, layout="NHWC", dtype="float32"):
    """A layer that the algorithm can do, as (x_shape, kernel_shape, options of a call)."""
    row = registry.get(name, operation)
    # some need a stride of 1, groups of eight channels, or of one; most kernels are no whole panels
    for i_c, k_c, k, stride, groups in (
        (6, 20, 3, (2, 1), 1),
        (32, 32, 3, (1, 1), 4),
        (24, 40, 3, (1, 1), 1),
        (8, 8, 3, (1, 1), 8),
        (16, 16, 3, (2, 2), 16),
        (6, 20, 1, (1, 1), 1),
    ):
        options = {"stride": stride, "padding": k // 2, "groups": groups}
        shape = ConvShape.from_shapes((i_n, i_h, i_w, i_c), (k, k, i_c // groups, k_c), dtype=dtype, **options)
        if row.unsupported(shape) is None:
            break
    else:
        raise AssertionError(f"no layer for {name}")
    x_shape, kernel_shape = shape.input_shape, shape.kernel_shape
    if layout == "NCHW":
        x_shape, kernel_shape = turned(x_shape, (0, 3, 1, 2)), turned(kernel_shape, (3, 2, 0, 1))
    return x_shape, kernel_shape, {**options, "layout": layout, "algorithm": name}


def turned(extents, axes):
    return tuple(extents[axis] for axis in axes)


def first_operand(plan, i_n, seed=1):
    """What a call with so many images is given: x, or the gradient of the output."""
    shape = plan.shape
    extents = shape.extents("input" if plan.operation == "conv2d" else "output")
    extents = (i_n, *(extents if shape.layout == "NHWC" else turned(extents, (0, 3, 1, 2)))[1:])
    return np.random.default_rng(seed).standard_normal(extents).astype(shape.dtype)


def kernel_of(kernel_shape, dtype="float32"):
    return np.random.default_rng(2).standard_normal(kernel_shape).astype(dtype)


def planned(operation, name, n_threads=2, **wanted):
    x_shape, kernel_shape, options = layer(operation, name, **wanted)
    dtype = wanted.get("dtype", "float32")
    plan = pymec.plan(x_shape, kernel_shape, operation=operation, dtype=dtype, n_threads=n_threads, **options)
    return plan, kernel_of(kernel_shape, dtype), options


# Any batch ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("operation", "name"), PLANNED)
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_a_plan_serves_any_batch(operation, name, layout):
    for planned_for in (1, 3, 0):
        plan, kernel, options = planned(operation, name, i_n=planned_for, layout=layout)
        plan.prepare(kernel)
        for i_n in (2, 1, 5, 0, 3):
            first = first_operand(plan, i_n)
            x_shape = (i_n, *layer(operation, name, layout=layout)[0][1:])
            expected = CALLS[operation](first, kernel, x_shape, n_threads=2, **options)
            np.testing.assert_array_equal(plan(first), expected)
            exactly = np.empty(plan.workspace_size(i_n), np.uint8)
            np.testing.assert_array_equal(plan(first, workspace=exactly), expected)
            if exactly.size:
                with pytest.raises(ValueError, match=f"workspace has {exactly.size - 1} bytes"):
                    plan(first, workspace=exactly[:-1])
        assert plan.workspace_size(planned_for) == plan.workspace_nbytes


def test_the_batch_of_a_plan_may_change_and_nothing_else():
    plan, kernel, _ = planned("conv2d", "direct_panels")
    plan.prepare(kernel)
    with pytest.raises(ValueError, match=r"x must have shape \(7, 13, 12, 6\), got \(7, 13, 11, 6\)"):
        plan(np.zeros((7, 13, 11, 6), np.float32))
    with pytest.raises(ValueError, match=r"x must have shape \(2, 13, 12, 6\), got \(13, 12, 6\)"):
        plan(np.zeros((13, 12, 6), np.float32))
    out = np.full((2, 7, 12, 20), 5, np.float32)
    with pytest.raises(ValueError, match=r"out must have shape \(3, 7, 12, 20\), got \(2, 7, 12, 20\)"):
        plan(first_operand(plan, 3), out=out)
    assert (out == 5).all()
    for wrong in (-1, 2.5, True, None, (2,)):
        with pytest.raises((TypeError, ValueError), match="i_n must be"):
            plan.workspace_size(wrong)


def test_a_limit_holds_for_every_batch():
    x_shape, kernel_shape = (1, 20, 20, 8), (3, 3, 8, 8)
    plan = pymec.plan(x_shape, kernel_shape, algorithm="mec", workspace_limit="40KiB")
    plan.prepare(kernel_of(kernel_shape))
    assert plan.workspace_size(1) <= 40 * 1024
    with pytest.raises(ValueError, match=r"workspace_limit of 40960 bytes is too small: mec needs"):
        plan.workspace_size(2)
    with pytest.raises(ValueError, match=r"workspace_limit of 40960 bytes is too small: mec needs"):
        plan(first_operand(plan, 2))
    bounded = pymec.plan(x_shape, kernel_shape, algorithm="mec_banded", workspace_limit="40KiB")
    assert all(0 < bounded.workspace_size(i_n) <= 40 * 1024 for i_n in (1, 2, 50))


def test_threads_of_another_batch():
    """One thread for very small work, all that were asked for else: as the batch at hand wants it."""
    plan = pymec.plan((1, 8, 8, 16), (3, 3, 16, 16), algorithm="mec_banded")
    explicit = pymec.plan((1, 8, 8, 16), (3, 3, 16, 16), algorithm="mec_banded", n_threads=2)
    assert plan.n_threads == 1
    assert explicit.n_threads == (2 if _build_info.OPENMP else 1)
    for i_n in (1, 64):
        shape = ((i_n, 8, 8, 16), (3, 3, 16, 16))
        assert plan.workspace_size(i_n) == pymec.workspace_size(*shape, algorithm="mec_banded")
        assert explicit.workspace_size(i_n) == pymec.workspace_size(*shape, algorithm="mec_banded", n_threads=2)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_a_column_for_any_batch(layout):
    x_shape, kernel_shape = ((1, 60, 1, 4), (5, 1, 4, 24)) if layout == "NHWC" else ((1, 4, 60, 1), (24, 4, 5, 1))
    plan = pymec.plan(x_shape, kernel_shape, layout=layout)
    kernel = kernel_of(kernel_shape)
    plan.prepare(kernel, take_over=True)
    np.testing.assert_array_equal(plan.kernel, kernel)
    for i_n in (1, 3):
        x = first_operand(plan, i_n)
        np.testing.assert_allclose(plan(x), pymec.conv2d(x, kernel, layout=layout), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("operation", ["conv2d_input_grad", KERNEL_GRAD])
def test_a_column_is_turned_for_any_batch(operation):
    """The gradients of a column are computed as those of a row, by MEC with a larger L."""
    one, three = (pymec.plan((i_n, 300, 1, 4), (9, 1, 4, 4), operation=operation, n_threads=1) for i_n in (1, 3))
    assert one.workspace_size(3) == three.workspace_nbytes
    assert one.workspace_size(3) > 2 * 300 * 9 * 4 * 4


def test_out_may_not_lie_in_the_kernel_that_a_plan_keeps():
    kernel = kernel_of((3, 3, 16, 16))
    for algorithm in ("im2col", "direct_panels"):
        plan = pymec.plan((1, 4, 4, 16), kernel.shape, algorithm=algorithm).prepare(kernel)
        before = kernel.copy()
        with pytest.raises(ValueError, match="out .*kernel"):
            plan(np.ones((1, 4, 4, 16), np.float32), out=kernel.reshape(-1)[:64].reshape(1, 2, 2, 16))
        np.testing.assert_array_equal(kernel, before)


# A kernel held once -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("operation", "name"), TAKEABLE)
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_kernel_is_taken_over_and_read_back(operation, name, layout, dtype):
    plan, kernel, _ = planned(operation, name, layout=layout, dtype=dtype)
    assert plan.kernel is None
    first, expected = first_operand(plan, 2), plan.prepare(kernel)(first_operand(plan, 2))
    assert plan.kernel is kernel
    assert plan.prepare(kernel, take_over=True) is plan
    np.testing.assert_array_equal(plan.kernel, kernel)
    np.testing.assert_array_equal(plan(first), expected)
    for duplicate in (copy.copy, copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))):
        copied = duplicate(plan)
        np.testing.assert_array_equal(copied(first), expected)
        np.testing.assert_array_equal(copied.kernel, kernel)
        assert repr(copied) == repr(plan)
    read = plan.kernel
    if read is not kernel:
        read[...] = 0  # it is the caller's
        np.testing.assert_array_equal(plan(first), expected)


def test_transforms_are_not_taken_over():
    """Winograd's and Fourier's: from them the kernel can't be read back to the last bit."""
    assert {registry.get(name, operation).accuracy for operation, name in TRANSFORMING} == {"fast"}
    for operation, name in TRANSFORMING:
        plan, kernel, _ = planned(operation, name)
        plan.prepare(kernel)
        with pytest.raises(ValueError, match=f"take_over must be False with {name}: .* can't be read back"):
            plan.prepare(kernel, take_over=True)
        assert plan.kernel is kernel  # as before the error


@pytest.mark.parametrize(("operation", "name"), TAKEABLE)
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_what_is_taken_over_is_held_once(operation, name, layout):
    plan, kernel, _ = planned(operation, name, layout=layout)
    gone = weakref.ref(kernel)
    plan.prepare(kernel, take_over=True)
    kept_as_it_is = plan.prepared_nbytes == 0
    assert (plan.kernel is kernel) == kept_as_it_is
    del kernel
    assert (gone() is None) != kept_as_it_is


def test_bytes_of_a_kernel_taken_over():
    """As tracemalloc counts NumPy's arrays: the panels, and no second copy of the kernel."""

    def held():
        arrays = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
        return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([arrays]).traces)

    plan = pymec.plan((1, 9, 9, 128), (3, 3, 128, 256), algorithm="direct_panels")
    tracemalloc.start()
    try:
        kernel = np.ones((3, 3, 128, 256), np.float32)
        plan.prepare(kernel)
        both = held()
        plan.prepare(kernel, take_over=True)
        del kernel
        alone = held()
    finally:
        tracemalloc.stop()
    nbytes = 3 * 3 * 128 * 256 * 4
    assert plan.prepared_nbytes == nbytes + 64
    assert both == nbytes + plan.prepared_nbytes
    assert alone == plan.prepared_nbytes


@pytest.mark.parametrize("kernel_shape", [(3, 3, 5, 7), (1, 1, 3, 16), (2, 3, 4, 33), (1, 5, 8, 100)])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_panels_are_read_back_whatever_their_width(kernel_shape, groups, dtype):
    k_h, k_w, i_cg, k_cg = kernel_shape
    kernel = kernel_of((k_h, k_w, i_cg, groups * k_cg), dtype)
    plan = pymec.plan(
        (1, 9, 9, groups * i_cg), kernel.shape, groups=groups, dtype=dtype, algorithm="direct_panels"
    )
    np.testing.assert_array_equal(plan.prepare(kernel, take_over=True).kernel, kernel)


@pytest.mark.parametrize(
    ("i_h", "stride", "dilation"), [(9, 2, 1), (9, 3, 2), (5, 4, 1), (9, 2, 4), (6, (1, 3), 1)]
)
def test_flipped_taps_are_read_back_from_their_phases(i_h, stride, dilation):
    kernel = kernel_of((2, 2, 6, 16))
    plan = pymec.plan(
        (1, i_h, i_h, 6), kernel.shape, stride=stride, dilation=dilation, operation="conv2d_input_grad",
        algorithm="direct_conv",
    )  # fmt: skip
    np.testing.assert_array_equal(plan.prepare(kernel, take_over=True).kernel, kernel)


@pytest.mark.parametrize("wrong", [1, "yes", None, np.ones(2)])
def test_take_over_must_be_a_bool(wrong):
    plan, kernel, _ = planned("conv2d", "direct_panels")
    with pytest.raises(TypeError, match="take_over must be a bool"):
        plan.prepare(kernel, take_over=wrong)
    assert plan.prepare(kernel, take_over=np.True_).kernel is not kernel


# NCHW ---------------------------------------------------------------------------------------------------

TURN_NO_KERNEL = "depthwise_windows", "direct_planes"  # they read both orders


@pytest.mark.parametrize(("operation", "name"), [key for key in PLANNED if key[1] not in TURN_NO_KERNEL])
def test_a_plan_turns_its_kernel_once(operation, name):
    """In the other layout a call's conversions are of images and outputs; the kernel is turned by ``prepare``."""
    native, other = "NHWC", "NCHW"
    if name == "pointwise_planes":
        native, other = other, native
    turned_plan, kernel, _ = planned(operation, name, layout=other)
    plan = planned(operation, name, layout=native)[0]
    shape = plan.shape
    assert turned_plan.workspace_nbytes == plan.workspace_nbytes + 4 * (shape.input_size + shape.output_size)
    assert turned_plan.prepared_nbytes == (plan.prepared_nbytes or 4 * shape.kernel_size)
    turned_plan.prepare(kernel, take_over=turned_plan.shape.k_h == 1 or name == "direct_blocked")
    first, before = first_operand(turned_plan, 2), kernel.copy()
    expected = turned_plan(first)
    kernel[...] = np.nan  # which a call reads no more
    np.testing.assert_array_equal(turned_plan(first), expected)
    kernel[...] = before


def test_a_kernel_that_lies_as_h_w_i_o_is_not_turned():
    """As torch keeps the weights of a channels-last layer, seen as o-i-h-w."""
    kernel = kernel_of((3, 3, 8, 16)).transpose(3, 2, 0, 1)
    plan = pymec.plan((1, 8, 9, 9), kernel.shape, layout="NCHW", algorithm="direct_blocked").prepare(kernel)
    assert np.shares_memory(plan._kept.kernel, kernel)
    assert plan.prepare(kernel, take_over=True).kernel is kernel


# Shared kernels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("operation", "name"), PLANNED)
def test_plans_share_a_kernel(operation, name):
    """The same layer for images of another size: equal results, one prepared kernel where the form allows it."""
    plan, kernel, options = planned(operation, name)
    other, *_ = planned(operation, name, i_h=9, i_w=15)
    same, *_ = planned(operation, name, i_n=7)
    plan.prepare(kernel)
    for sharing in (other, same):
        assert sharing.share(plan) is sharing
        first = first_operand(sharing, sharing.shape.i_n)
        expected = CALLS[operation](first, kernel, sharing.shape.input_shape, n_threads=2, **options)
        np.testing.assert_array_equal(sharing(first), expected)
    assert same._kept is plan._kept
    if name == "direct_panels":
        assert other._kept is plan._kept


def test_sharing_with_another_algorithm_prepares_its_own():
    x_shape, kernel_shape = (1, 9, 9, 16), (3, 3, 16, 32)
    kernel = kernel_of(kernel_shape)
    panels = pymec.plan(x_shape, kernel_shape, algorithm="direct_panels").prepare(kernel, take_over=True)
    winograd = pymec.plan(x_shape, kernel_shape, algorithm="winograd_f2").share(panels)
    np.testing.assert_array_equal(winograd.kernel, kernel)
    x = first_operand(winograd, 1)
    np.testing.assert_array_equal(winograd(x), pymec.conv2d(x, kernel, algorithm="winograd_f2"))


def test_sharing_says_what_it_needs():
    plan = pymec.plan((1, 9, 9, 16), (3, 3, 16, 32))
    with pytest.raises(ValueError, match=r"other has no kernel yet; call other\.prepare"):
        plan.share(pymec.plan((1, 9, 9, 16), (3, 3, 16, 32)))
    with pytest.raises(TypeError, match=r"other must be a pymec\.ConvPlan, got ndarray"):
        plan.share(kernel_of((3, 3, 16, 32)))
    with pytest.raises(ValueError, match=r"kernel must have shape \(3, 3, 16, 32\), got \(3, 3, 16, 16\)"):
        plan.share(pymec.plan((1, 9, 9, 16), (3, 3, 16, 16)).prepare(kernel_of((3, 3, 16, 16))))


@pytest.mark.parametrize(("operation", "name"), PREPARING)
def test_equal_forms_are_the_same_bits(operation, name):
    """What ``kernel_form`` promises, of the batch for all rows, and of what panels leave open besides."""
    row = registry.get(name, operation)
    wanted = CONV2D if operation == "conv2d" else INPUT_GRAD
    x_shape, kernel_shape, options = layer(operation, name)
    kernel, found = kernel_of(kernel_shape), []
    for i_n, i_h, padding in ((1, 13, 1), (9, 13, 1), (0, 13, 1), (1, 20, 1), (2, 13, 0)):
        stride, groups = options["stride"], options["groups"]
        x_shape = i_n, i_h, *x_shape[2:]
        shape = ConvShape.from_shapes(x_shape, kernel_shape, stride=stride, padding=padding, groups=groups)
        made = recipe_of(row, shape, None, 1, wanted)
        room = np.zeros(made.schedule.prepared + 16, np.float32)
        start = -room.ctypes.data % 64 // 4  # all begin at a cache line
        prepared = room[start : start + made.schedule.prepared]
        made.prepare(kernel, prepared)
        found.append((row.kernel_form(shape), prepared.copy()))
    shared = 0
    for form, prepared in found:
        for other_form, other in found:
            if form == other_form:
                shared += 1
                np.testing.assert_array_equal(prepared, other)
    kernel_alone = operation == "conv2d" and name in ("direct_panels", "direct_planes", "direct_dots")
    assert shared == (25 if kernel_alone else 11)


# The kernel's gradient ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["auto", *registry.TABLES[KERNEL_GRAD]])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_a_plan_of_the_kernels_gradient(name, layout):
    x_shape, kernel_shape, options = layer(KERNEL_GRAD, "direct" if name == "auto" else name, layout=layout)
    options["algorithm"] = name
    plan = pymec.plan(x_shape, kernel_shape, operation=KERNEL_GRAD, n_threads=2, **options)
    assert type(plan) is pymec.KernelGradPlan
    assert plan.algorithm == name or name == "auto"
    options["algorithm"] = plan.algorithm
    copies = [plan, copy.copy(plan), copy.deepcopy(plan), pickle.loads(pickle.dumps(plan))]
    for i_n in (2, 1, 5, 0):
        x = np.random.default_rng(1).standard_normal((i_n, *x_shape[1:])).astype(np.float32)
        grad_shape = pymec.conv2d(x, np.zeros(kernel_shape, np.float32), **{**options, "algorithm": "auto"}).shape
        grad_out = np.random.default_rng(2).standard_normal(grad_shape).astype(np.float32)
        expected = pymec.conv2d_kernel_grad(x, grad_out, kernel_shape, n_threads=2, **options)
        workspace = np.empty(plan.workspace_size(i_n), np.uint8)
        out = np.empty(kernel_shape, np.float32)
        for copied in copies:
            assert repr(copied) == repr(plan)
            np.testing.assert_array_equal(copied(x, grad_out), expected)
            assert copied(x, grad_out, out=out, workspace=workspace) is out
            np.testing.assert_array_equal(out, expected)
    whole = pymec.workspace_size(x_shape, kernel_shape, operation=KERNEL_GRAD, n_threads=2, **options)
    assert plan.workspace_nbytes == whole
    with pytest.raises(ValueError, match="grad_out must have shape"):
        plan(x, grad_out[:, :, :, :1])


def test_a_tuned_plan_of_the_kernels_gradient():
    plan = pymec.plan((2, 9, 9, 8), (3, 3, 8, 16), operation=KERNEL_GRAD, tune=0.2)
    assert plan.algorithm in pymec.algorithms(KERNEL_GRAD)
    x, grad_out = np.ones((2, 9, 9, 8), np.float32), np.ones((2, 7, 7, 16), np.float32)
    np.testing.assert_array_equal(plan(x, grad_out), np.full((3, 3, 8, 16), 98, np.float32))


# Strides, forks, limits and copies ----------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("k_c", [1, 3, 16])
@pytest.mark.parametrize("name", ["auto", "direct_conv"])
def test_one_channel_may_have_any_stride(layout, k_c, name):
    """An axis of one element has no next one: NumPy calls such an array contiguous, whatever its stride."""
    grad_out = np.random.default_rng(1).standard_normal((2, 4, 5, k_c)).astype(np.float32)
    kernel = np.random.default_rng(2).standard_normal((2, 2, 1, k_c)).astype(np.float32)
    expected = pymec.conv2d_input_grad(grad_out, kernel, (2, 8, 10, 1), stride=2, algorithm="direct")
    out = np.full((2, 1, 8, 10), 7, np.float32)
    if layout == "NHWC":
        pymec.conv2d_input_grad(
            grad_out, kernel, (2, 8, 10, 1), stride=2, algorithm=name, out=out.transpose(0, 2, 3, 1)
        )
    else:
        outer = np.ascontiguousarray(grad_out.transpose(0, 3, 1, 2)), kernel.transpose(3, 2, 0, 1).copy()
        pymec.conv2d_input_grad(*outer, (2, 1, 8, 10), stride=2, layout="NCHW", algorithm=name, out=out)
    np.testing.assert_allclose(out[:, 0], expected[..., 0], rtol=1e-5, atol=1e-5)


FORKED = """
import os, signal, sys
import numpy as np, pymec
rng = np.random.default_rng(0)
k = rng.standard_normal((64, 64, 3, 3)).astype("f")
x = rng.standard_normal((1, 64, 28, 28)).astype("f")
plan = pymec.plan(x.shape, k.shape, layout="NCHW", n_threads=2).prepare(k)
saving = pymec.plan((4, 14, 6, 16), (3, 3, 16, 32), algorithm="mec", n_threads=2)
saving.prepare(rng.standard_normal((3, 3, 16, 32)).astype("f"))
images = rng.standard_normal((4, 14, 6, 16)).astype("f")
def results():
    out, saved = saving.forward_saved(images)
    return plan.prepare(k)(x), saved.kernel_grad(out)
expected = results()
child = os.fork()
if child == 0:
    signal.alarm(60)
    for found, wanted in zip(results(), expected):
        assert abs(found - wanted).max() < 1e-3 * abs(wanted).max()
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_prepares_and_saves(tmp_path):
    """Its parent's threads are not there, and a schedule for one thread keeps the plan's Solution B."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_plans_share_between_layouts_and_columns_only_what_fits():
    kernel = kernel_of((3, 3, 3, 3))
    nhwc = pymec.plan((1, 9, 9, 3), kernel.shape).prepare(kernel)
    with pytest.raises(ValueError, match=r"other has the layout NHWC, this plan NCHW; call prepare\(kernel\)"):
        pymec.plan((1, 3, 9, 9), (3, 3, 3, 3), layout="NCHW").share(nhwc)
    column = pymec.plan((1, 60, 1, 4), (5, 1, 4, 24)).prepare(kernel_of((5, 1, 4, 24)))
    with pytest.raises(ValueError, match=r"kernel must have shape \(1, 5, 4, 24\), got \(5, 1, 4, 24\)"):
        pymec.plan((1, 1, 60, 4), (1, 5, 4, 24)).share(column)


def test_a_kernel_that_is_shared_is_held_once():
    """Forms that differ are prepared without a second copy beside them; K as it is serves every algorithm."""
    kernel = kernel_of((3, 3, 16, 32))
    panels = pymec.plan((1, 9, 9, 16), kernel.shape, algorithm="direct_panels").prepare(kernel, take_over=True)
    permuted = pymec.plan((1, 9, 9, 16), kernel.shape, algorithm="mec_w").share(panels)
    assert permuted._kept.given is None
    np.testing.assert_array_equal(permuted.kernel, kernel)
    outer = kernel.transpose(3, 2, 0, 1).copy()
    options = {"layout": "NCHW"}
    direct = pymec.plan((1, 16, 9, 9), outer.shape, algorithm="direct", **options).prepare(outer, take_over=True)
    mec = pymec.plan((1, 16, 20, 9), outer.shape, algorithm="mec", **options).share(direct)
    assert mec._kept is direct._kept
    x = first_operand(mec, 2)
    np.testing.assert_array_equal(mec(x), pymec.conv2d(x, outer, algorithm="mec", **options))


def test_a_limit_holds_for_copies_of_arrays():
    kernel = kernel_of((3, 3, 4, 32))
    plan = pymec.plan((1, 9, 9, 4), kernel.shape, workspace_limit=0, algorithm="direct").prepare(kernel)
    unaligned = np.ones(1 + 4 * 9 * 9 * 4, np.uint8)[1:].view(np.float32).reshape(1, 9, 9, 4)
    assert not unaligned.flags.aligned
    with pytest.raises(ValueError, match="workspace_limit is too small for a call that copies 1296 bytes"):
        plan(unaligned)
    assert plan(np.ones((1, 9, 9, 4), np.float32)).shape == (1, 7, 7, 32)
    grad_plan = pymec.plan((1, 9, 9, 4), kernel.shape, workspace_limit=0, operation=KERNEL_GRAD)
    with pytest.raises(ValueError, match="workspace_limit is too small for a call that copies 1296 bytes"):
        grad_plan(unaligned, np.ones((1, 7, 7, 32), np.float32))
    with pytest.raises(ValueError, match="grad_out must have shape"):
        grad_plan(unaligned, np.ones((1, 7, 7, 31), np.float32))


def test_a_limit_holds_for_the_kept_kernel_and_the_copies_together():
    kernel, whole = kernel_of((3, 3, 4, 32)), np.ones((1, 9, 9, 4), np.float32)
    prepared = pymec.plan(whole.shape, kernel.shape, algorithm="direct_panels").prepared_nbytes
    unaligned = np.ones(1 + whole.nbytes, np.uint8)[1:].view(np.float32).reshape(whole.shape)
    for spare in (0, -1):
        limit = prepared + whole.nbytes + spare
        plan = pymec.plan(whole.shape, kernel.shape, workspace_limit=limit, algorithm="direct_panels")
        plan.prepare(kernel)
        if spare == 0:
            assert plan(unaligned).shape == (1, 7, 7, 32)
        else:
            with pytest.raises(ValueError, match=f"it needs {whole.nbytes} bytes, and the plan leaves"):
                plan(unaligned)


def test_another_batch_may_be_too_large_for_the_algorithm():
    plan = pymec.plan((1, 3, 3, 1), (3, 3, 1, 1), padding=1, algorithm="im2col")
    with pytest.raises(pymec.UnsupportedShape, match="im2col can't do this shape"):
        plan.workspace_size(2**30)


def test_a_plan_of_no_images_chooses_for_one():
    """And within the limit: what needs nothing for no images may need much for one."""
    options = {"workspace_limit": "2KiB", "padding": 1}
    empty = pymec.plan((0, 28, 28, 8), (3, 3, 8, 4), **options)
    assert empty.algorithm == pymec.plan((1, 28, 28, 8), (3, 3, 8, 4), **options).algorithm
    assert empty.shape.i_n == 0
    kernel = kernel_of((3, 3, 8, 4))
    x = first_operand(empty, 3)
    np.testing.assert_allclose(empty.prepare(kernel)(x), pymec.conv2d(x, kernel, padding=1), rtol=1e-4, atol=1e-4)


def test_too_small_a_workspace_is_told_by_the_plan():
    plan, kernel, _ = planned("conv2d", "mec")
    with pytest.raises(ValueError, match=r"plan\.workspace_size tells"):
        plan.prepare(kernel)(first_operand(plan, 2), workspace=np.empty(0, np.uint8))
