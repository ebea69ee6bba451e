"""A copy of a public object, made by copy, pickle or another process, answers as the original does."""

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

import pymec
from pymec import ConvShape, layers, registry
from pymec.kernels.register_tiles import panels
from pymec.operations import OPERATIONS

WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": lambda thing, protocol=protocol: pickle.loads(pickle.dumps(thing, protocol))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}
PLANNED = [
    (operation, name) for operation in ("conv2d", "conv2d_input_grad") for name in registry.TABLES[operation]
]


def problem(operation, name, layout="NHWC", dtype="float32", **options):
    """A prepared plan of a shape that the algorithm can do, and its argument."""
    rng = np.random.default_rng(7)
    row = registry.get(name, operation)
    # for algorithms that need them: groups of eight channels, or of one (depthwise), also with a stride
    for channels, groups, stride in ((32, 1, 1), (32, 4, 1), (16, 16, 1), (16, 16, 2)):
        sizes = {"padding": 1, "groups": groups, "stride": stride, "dtype": dtype}
        shape = ConvShape.from_shapes((1, 13, 12, channels), (3, 3, channels // groups, channels), **sizes)
        if row.unsupported(shape) is None:
            break
    else:
        shape = ConvShape.from_shapes((1, 13, 12, 32), (1, 1, 32, 32), dtype=dtype)
    assert row.unsupported(shape) is None
    x_shape, kernel_shape = shape.input_shape, shape.kernel_shape
    first = rng.standard_normal(shape.output_shape if operation != "conv2d" else x_shape).astype(dtype)
    kernel = rng.standard_normal(kernel_shape).astype(dtype)
    if layout == "NCHW":
        x_shape, kernel_shape = np.take(x_shape, (0, 3, 1, 2)), np.take(kernel_shape, (3, 2, 0, 1))
        first, kernel = first.transpose(0, 3, 1, 2).copy(), kernel.transpose(3, 2, 0, 1).copy()
    plan = pymec.plan(
        [int(extent) for extent in x_shape], [int(extent) for extent in kernel_shape], padding=shape.p_t,
        stride=shape.s_h, groups=shape.groups, dtype=dtype, layout=layout, operation=operation, algorithm=name,
        **options,
    )  # fmt: skip
    return plan.prepare(kernel), first


def test_every_algorithm_is_planned_here():
    assert {operation for operation, _ in PLANNED} == set(OPERATIONS) - {"conv2d_kernel_grad"}


@pytest.mark.parametrize(("operation", "name"), PLANNED)
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_copied_plan_gives_the_same_bits(operation, name, layout, dtype):
    plan, x = problem(operation, name, layout, dtype)
    expected = plan(x)
    copies = []
    for _ in range(3):  # all are kept, so that each has other addresses
        for way, duplicate in WAYS.items():
            copied = duplicate(plan)
            copies.append((copied, np.empty(len(copies) + 1)))
            assert copied.algorithm == name
            np.testing.assert_array_equal(copied(x), expected, err_msg=way)
    np.testing.assert_array_equal(plan(x), expected, err_msg="the original, after it was copied")


def test_a_copied_plan_keeps_its_arguments():
    plan, x = problem("conv2d", "mec_banded", workspace_limit="40KiB", n_threads=2)
    copied = copy.deepcopy(plan)
    assert repr(copied) == repr(plan)
    for name in ("shape", "operation", "algorithm", "workspace_nbytes", "prepared_nbytes", "n_threads"):
        assert getattr(copied, name) == getattr(plan, name)
    assert copied.workspace_nbytes <= 40 * 1024
    np.testing.assert_array_equal(copied(x, np.ones(32, np.float32), activation="relu"),
                                  plan(x, np.ones(32, np.float32), activation="relu"))  # fmt: skip


def test_a_copy_of_a_copy_and_of_an_empty_plan():
    plan, x = problem("conv2d", "direct_panels")
    np.testing.assert_array_equal(copy.deepcopy(pickle.loads(pickle.dumps(copy.copy(plan))))(x), plan(x))
    empty = copy.deepcopy(pymec.plan((1, 8, 8, 16), (3, 3, 16, 16)))
    with pytest.raises(ValueError, match=r"plan\.prepare"):
        empty(np.zeros((1, 8, 8, 16), np.float32))


def test_a_deep_copy_has_a_kernel_of_its_own_and_a_copy_shares_it():
    plan, x = problem("conv2d", "direct_blocked")
    expected = plan(x)
    deep, shallow = copy.deepcopy(plan), copy.copy(plan)
    assert shallow.kernel is plan.kernel
    plan.kernel[:] = 0
    np.testing.assert_array_equal(deep(x), expected)


def test_a_pickled_plan_carries_no_prepared_kernel():
    plan, _ = problem("conv2d", "winograd_f6_banded")
    assert plan.prepared_nbytes > 5 * plan.kernel.nbytes
    assert len(pickle.dumps(plan)) < 2 * plan.kernel.nbytes


def test_tuned_and_auto_plans_keep_their_choice():
    kernel = np.random.default_rng(3).standard_normal((3, 3, 16, 16)).astype(np.float32)
    x = np.random.default_rng(4).standard_normal((1, 9, 9, 16)).astype(np.float32)
    for options in ({}, {"tune": True}, {"accuracy": "fast"}, {"workspace_limit": 0}):
        plan = pymec.plan(x.shape, kernel.shape, **options).prepare(kernel)
        copied = pickle.loads(pickle.dumps(plan))
        assert copied.algorithm == plan.algorithm
        np.testing.assert_array_equal(copied(x), plan(x))


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_plans_compute_in_other_processes(method):
    # A plan is sent as the function of a task: pickled here, prepared anew there.
    plans = [problem(operation, name) for operation, name in PLANNED]
    expected = [plan(x) for plan, x in plans]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        tasks = [pool.submit(plan, x) for plan, x in plans]
        for task, here, (plan, _) in zip(tasks, expected, plans, strict=True):
            # fork has no OpenMP threads: one thread may add the blocks of a sum in another order
            np.testing.assert_allclose(
                task.result(timeout=120), here, rtol=1e-4, atol=1e-4, err_msg=plan.algorithm
            )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kernel_shape", [(3, 3, 8, 16), (1, 1, 8, 16)])
def test_a_copied_lowering_gives_the_same_gradient(way, kernel_shape):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2, 9, 10, 8)).astype(np.float32)
    kernel = rng.standard_normal(kernel_shape).astype(np.float32)
    out, saved = pymec.plan(x.shape, kernel.shape, algorithm="mec").prepare(kernel).forward_saved(x)
    grad = rng.standard_normal(out.shape).astype(np.float32)
    copied = WAYS[way](saved)
    assert repr(copied) == repr(saved)
    np.testing.assert_array_equal(copied.kernel_grad(grad), saved.kernel_grad(grad))


def public_values():
    shape = layers.get("cv4").shape(2)
    yield shape
    yield ConvShape.from_shapes(
        (1, 9, 9, 4), (3, 3, 4, 8), padding=((1, 0), (0, 2)), stride=(2, 1), dtype="float64"
    )
    yield layers.get("cv1")
    yield pymec.explain((1, 9, 9, 8), (3, 3, 8, 8))
    yield pymec.explain((1, 9, 9, 8), (3, 3, 8, 8))[0]
    if sys.platform != "win32":
        pytest.importorskip("memray")
        yield pymec.memory.measure(np.ones((1, 6, 6, 2), np.float32), np.ones((3, 3, 2, 2), np.float32))


def test_a_shape_travels_without_what_was_derived_from_it(tmp_path):
    """What kernels and look-ups keep of a shape is worked out again: a hash is another in every process."""
    shape = ConvShape.from_shapes((1, 9, 8, 4), (3, 2, 2, 8), groups=2, padding=1)
    untouched = pickle.dumps(shape)
    known = {shape: "known", shape.transposed(): "turned"}
    assert known[copy.deepcopy(shape)] == "known"
    assert panels.panels_size(shape) > shape.kernel_size
    assert pickle.dumps(shape) == untouched
    assert vars(copy.copy(shape)).keys() == vars(pickle.loads(untouched)).keys() < vars(shape).keys()
    code = "import pickle, sys; shape = pickle.load(sys.stdin.buffer); print({eval(repr(shape)): 'found'}[shape])"
    for seed in ("1", "2"):
        answer = subprocess.run(
            [sys.executable, "-c", f"from pymec import ConvShape; {code}"],
            input=untouched, capture_output=True, check=True, cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
        assert answer.stdout.strip() == b"found"


@pytest.mark.memory
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_values_are_equal_after_every_journey(method):
    values = list(public_values())
    for way, duplicate in WAYS.items():
        for value in values:
            copied = duplicate(value)
            assert copied == value, way
            assert repr(copied) == repr(value)
            assert hash(copied) == hash(value)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        assert list(pool.map(copy.deepcopy, values)) == values
