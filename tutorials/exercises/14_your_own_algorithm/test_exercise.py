"""Grades exercise 14: what every row of pymec's table promises, and little workspace."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import pymec
from pymec import registry

CV9 = pymec.layers.get("cv9").shape()
PLAIN = {  # every answer can do these
    "square": ((2, 9, 8, 3), (3, 3, 3, 5), {}),
    "a flat kernel": ((1, 6, 12, 4), (1, 5, 4, 2), {}),
    "a tall kernel": ((1, 12, 6, 2), (5, 2, 2, 3), {}),
    "a kernel as large as the image": ((1, 7, 7, 1), (7, 7, 1, 3), {}),
    "one pixel under the kernel": ((3, 5, 4, 6), (1, 1, 6, 4), {}),
}
MORE = {  # these it may refuse
    "strides": ((1, 11, 10, 4), (4, 3, 4, 2), {"stride": (2, 3)}),
    "strides larger than the kernel": ((2, 13, 9, 2), (2, 2, 2, 3), {"stride": (5, 4)}),
    "padding": ((1, 8, 7, 3), (3, 3, 3, 2), {"padding": (2, 1)}),
    "dilation": ((1, 12, 11, 2), (3, 2, 2, 3), {"dilation": (2, 3)}),
    "groups": ((1, 6, 6, 8), (3, 3, 4, 6), {"groups": 2}),
    "everything": ((2, 15, 14, 4), (3, 2, 2, 4), {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}),
}


@pytest.fixture
def row(exercise, monkeypatch):
    """The row, in pymec's table for as long as a test takes."""
    monkeypatch.setitem(registry.ALGORITHMS, exercise.ROW.name, exercise.ROW)
    return exercise.ROW


def operands(x_shape, kernel_shape):
    """Numbers that rounding can tell apart."""
    rng = np.random.default_rng(14)
    return rng.standard_normal(x_shape, dtype=np.float32), rng.standard_normal(kernel_shape, dtype=np.float32)


def is_right(row, x, kernel, arguments):
    """Every output within the bound, whatever was in the workspace before."""
    shape = pymec.ConvShape.from_shapes(x.shape, kernel.shape, **arguments)
    exact = pymec.conv2d(x.astype(np.float64), kernel.astype(np.float64), algorithm="direct", **arguments)
    workspace = np.full(row.schedule(shape, 1, None).size, np.nan, np.float32)
    out = np.full(shape.output_shape, np.nan, np.float32)
    pymec.conv2d(x, kernel, algorithm=row.name, workspace=workspace, out=out, n_threads=1, **arguments)
    return np.all(np.abs(out - exact) <= row.error_bound(x, kernel, shape))


def test_it_is_new(exercise):
    assert exercise.ROW.name not in registry.ALGORITHMS
    assert exercise.ROW.run.__module__ == "exercise"


@pytest.mark.parametrize("name", PLAIN)
def test_right(row, name):
    x_shape, kernel_shape, arguments = PLAIN[name]
    assert is_right(row, *operands(x_shape, kernel_shape), arguments)


@pytest.mark.parametrize("name", MORE)
def test_right_or_refused_with_a_reason(row, name):
    x_shape, kernel_shape, arguments = MORE[name]
    shape = pymec.ConvShape.from_shapes(x_shape, kernel_shape, **arguments)
    reason = row.unsupported(shape)
    if reason is None:
        assert is_right(row, *operands(x_shape, kernel_shape), arguments)
    else:
        assert reason.strip()


@pytest.mark.parametrize("batch", [1, 2])
def test_predicted_is_measured_and_there_is_nothing_beside_it(row, batch):
    x, kernel = operands((batch, *CV9.input_shape[1:]), CV9.kernel_shape)
    out = np.empty((batch, *CV9.output_shape[1:]), np.float32)
    call = {"out": out, "algorithm": row.name, "n_threads": 1}
    with threadpool_limits(1, user_api="blas"):
        pymec.conv2d(x, kernel, **call)
        with pymec.memory.track(n_threads=1) as t:
            pymec.conv2d(x, kernel, **call)
    predicted = pymec.workspace_size(x.shape, kernel.shape, algorithm=row.name, n_threads=1)
    workspace = t.by_owner["workspace"].most if "workspace" in t.by_owner else 0
    assert predicted == workspace
    assert t.peak <= workspace + 2**16, f"something beside the workspace:\n\n{t.table()}"


def test_it_needs_little(row):
    im2col = pymec.workspace_size(CV9.input_shape, CV9.kernel_shape, algorithm="im2col")
    assert pymec.workspace_size(CV9.input_shape, CV9.kernel_shape, algorithm=row.name) <= im2col / 16


def test_the_formula_is_the_schedules(row):
    sizes = {"o_w": CV9.o_w, "o_h": CV9.o_h, "i_h": CV9.i_h, "i_w": CV9.i_w, "i_c": CV9.i_c, "i_n": CV9.i_n,
             "k_h": CV9.k_h, "k_w": CV9.k_w, "k_c": CV9.k_c, "s_h": CV9.s_h, "s_w": CV9.s_w}  # fmt: skip
    said = eval(row.formula.replace("·", "*"), {"__builtins__": {"min": min, "max": max}}, sizes)
    assert said == row.schedule(CV9, 1, None).size
