"""Numbers at the ends of what a float holds, and what they do to the results of each algorithm."""

import ctypes
import platform
import subprocess
import sys

import numpy as np
import pytest
from cases import operands, suited

import pymec
from pymec import ConvShape, reference, registry

SCALES = {
    "float32": [1.0, 1e15, 1e-15, 1e30, 1e-30],
    "float64": [1.0, 1e150, 1e-150, 1e300, 1e-300],
}

FAST = [name for name, row in registry.ALGORITHMS.items() if row.accuracy == "fast"]


def problem(algorithm, dtype="float32"):
    """A shape that the algorithm can do, with operands whose rows differ in size by a factor of 1,000."""
    kernel, groups = suited(algorithm, (2, 11, 12, 16), 32)
    shape = ConvShape.from_shapes((2, 11, 12, 16), kernel, padding=kernel[0] // 2, groups=groups, dtype=dtype)
    x, weights = operands(shape)
    return shape, x * np.logspace(-3, 0, 11, dtype=dtype)[:, None, None], weights


def exactly(x, kernel, shape):
    """The convolution in long double, tap by tap."""
    s = shape
    padded = np.pad(x.astype(np.longdouble), ((0, 0), (s.p_t, s.p_b), (s.p_l, s.p_r), (0, 0)))
    out = np.zeros(s.output_shape, np.longdouble)
    for h, w, c, a, b, m in reference._products(s):
        out[..., m] += np.einsum("nhwc,cm->nhwm", padded[:, h, w, c], kernel[a, b, :, m].astype(np.longdouble))
    return out


@pytest.mark.parametrize("dtype", SCALES)
@pytest.mark.parametrize("algorithm", pymec.algorithms())
def test_errors_stay_in_their_bound_at_every_scale(algorithm, dtype):
    """Inputs of 1e±30 (1e±300) with kernels near 1: nothing over- or underflows on the way."""
    shape, x, kernel = problem(algorithm, dtype)
    for scale in SCALES[dtype]:
        scaled = (x * scale).astype(dtype)
        bound = registry.get(algorithm).error_bound(scaled, kernel, shape)
        # a product below the smallest normal number rounds to a denormal: half a unit of these for each of them
        terms = shape.k_h * shape.k_w * shape.i_cg
        bound = bound + terms * float(np.finfo(dtype).smallest_subnormal)
        out = pymec.conv2d(scaled, kernel, algorithm=algorithm, **shape.arguments)
        assert (np.abs(out - exactly(scaled, kernel, shape)) <= bound).all(), scale


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("algorithm", pymec.algorithms())
def test_denormal_numbers_are_not_flushed_to_zero(algorithm, n_threads):
    """Sums of whole multiples of the smallest denormal; Winograd and FFT scale them, and round."""
    shape, _, _ = problem(algorithm)
    tiny = np.finfo(np.float32).smallest_subnormal
    rng = np.random.default_rng(0)
    x = rng.integers(1, 1000, shape.input_shape).astype(np.float32) * tiny
    kernel = rng.integers(1, 4, shape.kernel_shape).astype(np.float32)
    out = pymec.conv2d(x, kernel, algorithm=algorithm, n_threads=n_threads, **shape.arguments)
    exact = reference.conv2d(x, kernel, shape)
    if registry.get(algorithm).accuracy == "exact":
        np.testing.assert_array_equal(out, exact)
    else:
        assert (out > 0).mean() > 0.9


def test_neither_import_nor_calls_change_how_the_cpu_rounds(tmp_path):
    """The control word stays as it was: a library built with -ffast-math would flush denormals for everybody."""
    script = """
import numpy as np
def flushes():
    return float(np.float32(2e-45) * np.ones(64, np.float32)[3]) == 0 or float(1e-310) * 0.5 == 0
assert not flushes()
import pymec, threading
assert not flushes()
x, kernel = np.ones((1, 40, 40, 16), np.float32), np.ones((3, 3, 16, 32), np.float32)
for name, row in pymec.registry.ALGORITHMS.items():
    if row.unsupported(pymec.ConvShape.from_shapes(x.shape, kernel.shape)) is None:
        pymec.conv2d(x, kernel, algorithm=name, n_threads=2)
        assert not flushes(), name
found = []
thread = threading.Thread(target=lambda: found.append(flushes()))
thread.start(); thread.join()
assert found == [False]
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="numbers the rounding modes as glibc on x86-64",
)
@pytest.mark.parametrize("rounding", [0x400, 0x800, 0xC00], ids=["down", "up", "to zero"])
def test_the_callers_rounding_mode_is_left_alone(rounding):
    libm = ctypes.CDLL("libm.so.6")
    before = libm.fegetround()
    assert libm.fesetround(rounding) == 0
    try:
        pymec.conv2d(np.ones((1, 9, 9, 8), np.float32), np.ones((3, 3, 8, 32), np.float32), n_threads=2)
        assert libm.fegetround() == rounding
    finally:
        libm.fesetround(before)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("algorithm", pymec.algorithms())
def test_what_one_special_number_spoils(algorithm, special):
    """Exact algorithms: the outputs that read it, all of them and no others.  Fast ones: at least these."""
    shape, x, kernel = problem(algorithm)
    kernel = np.abs(kernel) + 1
    x = np.abs(x)
    x[1, 4, 7, 5] = special
    out = pymec.conv2d(x, kernel, algorithm=algorithm, **shape.arguments)
    marked = np.zeros_like(x)
    marked[1, 4, 7, 5] = 1
    readers = reference.conv2d(marked, kernel, shape) > 0
    if registry.get(algorithm).accuracy == "exact":
        assert (np.isfinite(out) == ~readers).all()
        same = np.isnan(out[readers]) if np.isnan(special) else out[readers] == special
        assert same.all()
    else:
        assert not np.isfinite(out[readers]).any()
        assert np.isfinite(out[0]).all()  # the other image


@pytest.mark.parametrize("algorithm", [name for name in pymec.algorithms() if name not in FAST])
def test_an_overflow_is_an_infinity_of_its_sign(algorithm):
    """Sums past the largest float32, all products of one sign; the others subtract infinities: NaN."""
    shape, x, kernel = problem(algorithm)
    x = np.full_like(x, 3e38)
    out = pymec.conv2d(-x, np.ones_like(kernel), algorithm=algorithm, **shape.arguments)
    exact = reference.conv2d(-x, np.ones_like(kernel), shape)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(out, exact.astype(np.float32))
