"""A long call ends soon after a signal whose handler raises; and no other result is touched by that."""

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases import operands, signal_raises

import pymec
from pymec import ConvShape, registry
from pymec.kernels.shared import interrupts

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends itself SIGALRM")

SMALL = ConvShape.from_shapes((1, 48, 49, 64), (3, 3, 64, 32), padding=1)
ORDINARY = ConvShape.from_shapes((1, 96, 97, 128), (3, 3, 128, 64), padding=1)
DEPTHWISE = ConvShape.from_shapes((1, 128, 128, 64), (15, 15, 1, 64), groups=64, padding=7)
GROUPED = ConvShape.from_shapes((2, 160, 160, 64), (5, 5, 4, 64), groups=16, padding=2)
NETWORK = ConvShape.from_shapes((4, 256, 256, 64), (3, 3, 1, 64), groups=64, padding=1, stride=2)
POINTWISE = ConvShape.from_shapes((1, 128, 128, 256), (1, 1, 256, 256))


class Bell(BaseException):
    pass


@pytest.fixture
def ring(monkeypatch):
    """``ring(seconds, handler)`` sends SIGALRM then; every call is long, and looks at every task."""
    monkeypatch.setattr(interrupts, "LONG_CALL", 0)
    monkeypatch.setattr(interrupts, "PAUSE", 0)

    def raise_bell(*_):
        raise Bell

    def start(seconds, handler=raise_bell):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    with signal_raises(signal.SIGALRM, raise_bell):
        yield start
        signal.setitimer(signal.ITIMER_REAL, 0)


def shape_for(name, operation="conv2d"):
    """One that takes the algorithm some milliseconds."""
    row = registry.TABLES[operation][name]
    ordinary = SMALL if name in ("direct", "fft", "fft_lean") else ORDINARY
    return next(
        shape for shape in (ordinary, GROUPED, DEPTHWISE, NETWORK, POINTWISE) if row.unsupported(shape) is None
    )


def call_of(name, operation, shape, n_threads):
    """The operation as a function of ``out``; its workspace holds NaN, and not what the last call left."""
    x, kernel = operands(shape)
    grad_out = np.random.default_rng(1).standard_normal(shape.output_shape).astype(shape.dtype)
    options = {"algorithm": name, "n_threads": n_threads, **shape.arguments}
    nbytes = pymec.workspace_size(x.shape, kernel.shape, operation=operation, **options)

    def call(out=None):
        workspace = np.full(nbytes, 255, np.uint8)
        if operation == "conv2d":
            return pymec.conv2d(x, kernel, out=out, workspace=workspace, **options)
        if operation == "conv2d_input_grad":
            return pymec.conv2d_input_grad(grad_out, kernel, x.shape, out=out, workspace=workspace, **options)
        return pymec.conv2d_kernel_grad(x, grad_out, kernel.shape, out=out, workspace=workspace, **options)

    return call


def call_and_wait(ring, seconds, call, out=None):
    """Wind the bell, call, and wait for the bell if it has not rung yet."""
    ring(seconds)
    call(out)
    for _ in range(1000):
        time.sleep(0.01)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    ("operation", "name"), [(operation, name) for operation, table in registry.TABLES.items() for name in table]
)
def test_a_long_call_is_cut_short(ring, operation, name, n_threads):
    """``out`` is then not the result; and the next call is right.

    A call may still come to its end: the bell rings while the main thread waits for the others to finish.
    """
    call = call_of(name, operation, shape_for(name, operation), n_threads)
    expected = call()
    for _ in range(10):
        out = np.zeros_like(expected)
        with pytest.raises(Bell):
            call_and_wait(ring, 0.001, call, out)
        if not np.array_equal(out, expected):
            break
    else:
        pytest.fail("every call came to its end")
    assert np.array_equal(call(out), expected)


def test_a_handler_that_returns_changes_nothing(ring):
    """Nor one that calls pymec itself."""
    call = call_of("direct_blocked", "conv2d", ORDINARY, 2)
    inner = call_of("mec", "conv2d", POINTWISE, 2)
    expected, expected_inside = call(), inner()
    inside = []
    ring(0.001, lambda *_: inside.append(np.array_equal(inner(), expected_inside)))
    assert np.array_equal(call(), expected)
    assert inside == [True]


def test_results_of_other_threads_stay_whole(ring):
    """While others compute, the call that is interrupted goes on to its end, and they lose nothing."""
    calls = [call_of(name, "conv2d", ORDINARY, 1) for name in ("direct_blocked", "mec", "im2col", "mec_paper")]
    expected = [call() for call in calls]
    done = threading.Event()

    def compute(which):
        wrong = rounds = 0
        while not done.is_set():
            wrong += not np.array_equal(calls[which](), expected[which])
            rounds += 1
        return wrong, rounds

    interrupted = 0
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(compute, which) for which in (0, 1)]
        try:
            for _ in range(50):
                for call in calls:
                    try:
                        call_and_wait(ring, 0.002, call)
                    except Bell:
                        interrupted += 1
        finally:
            done.set()
    assert interrupted == 200
    for future in futures:
        wrong, rounds = future.result()
        assert wrong == 0
        assert rounds > 1


def test_a_handler_that_calls_while_a_call_is_cut_short_does_not_wait(ring):
    """The interrupted call is what it would wait for: it raises the same exception."""
    call = call_of("fft", "conv2d", ORDINARY, 1)
    inner = call_of("mec", "conv2d", POINTWISE, 1)
    call()
    inner()

    def compute(*_):
        inner()

    before = signal.signal(signal.SIGUSR1, compute)
    try:
        for _ in range(20):

            def both(*_):
                signal.raise_signal(signal.SIGUSR1)
                raise Bell

            with pytest.raises(Bell):
                call_and_wait(lambda seconds, both=both: ring(seconds, both), 0.002, call)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_stage_in_another_thread_is_never_cut_short(tmp_path):
    """From its first call on nothing is: in a process of its own, which stays like that."""
    program = """
import signal, threading, time
import numpy as np
import pymec
from pymec import ConvShape
from pymec.kernels.shared import blas, interrupts

interrupts.LONG_CALL = interrupts.PAUSE = 0
shape = ConvShape.from_shapes((1, 96, 97, 128), (3, 3, 128, 64), padding=1)
x, kernel = np.ones(shape.input_shape, np.float32), np.ones(shape.kernel_shape, np.float32)
whole = pymec.conv2d(x, kernel, algorithm="mec", n_threads=1, padding=1)

class Bell(BaseException):
    pass

moments = [i / 2000 for i in range(1, 60)]  # from before the first product to after the last one

def ring(*_):
    raise Bell

signal.signal(signal.SIGALRM, ring)

def cut_short(seconds):
    out = np.zeros_like(whole)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        pymec.conv2d(x, kernel, out=out, algorithm="mec", n_threads=1, padding=1)
        for _ in range(1000):  # not signal.pause(): a signal may come just before it
            time.sleep(0.01)
    except Bell:
        return 0 < np.count_nonzero(out) < out.size  # some, but not all: no output is 0

assert any(map(cut_short, moments))
thread = threading.Thread(target=blas.gemm, args=[np.ones((3, 3)) for _ in range(3)])
thread.start()
thread.join()
assert not any(map(cut_short, moments))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


BESIDE_A_THREAD = """
import signal, threading, time
import numpy as np, pymec
from pymec.operations import OPERATIONS

x, kernel = np.ones((1, 20, 20, 16), np.float32), np.ones((3, 3, 16, 5), np.float32)

def other():
    for operation in OPERATIONS:
        pymec.explain(x.shape, kernel.shape, operation=operation)
        for name in pymec.algorithms(operation):
            try:
                plan = pymec.plan(x.shape, kernel.shape, operation=operation, algorithm=name)
                if operation != "conv2d_kernel_grad":
                    plan.prepare(kernel, take_over=True).kernel
            except ValueError:  # it can't do this, or can't take a kernel over
                pass
    pymec.conv2d(x, kernel, algorithm="direct_panels")
    out, saved = pymec.plan(x.shape, kernel.shape, algorithm="mec").prepare(kernel).forward_saved(x)
    saved.kernel_grad(out)

thread = threading.Thread(target=other)
thread.start()
thread.join()

class Bell(Exception):
    pass

def ring(*_):
    raise Bell

signal.signal(signal.SIGALRM, ring)
images, whole = np.ones((1, 200, 200, 64), np.float32), np.ones((3, 3, 64, 64), np.float32)
expected = pymec.conv2d(images, whole, algorithm="direct")
for _ in range(10):
    out = np.zeros_like(expected)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    try:
        pymec.conv2d(images, whole, algorithm="direct", out=out)
        for _ in range(1000):  # not signal.pause(): a signal may come just before it
            time.sleep(0.01)
    except Bell:
        pass
    if not np.array_equal(out, expected):
        print("cut short")
        break
"""


def test_what_other_threads_plan_and_prepare_is_no_stage_by_itself(tmp_path):
    """Sizes, prepared kernels and gradients from a kept L: after all of these, long calls are still cut short."""
    command = [sys.executable, "-c", BESIDE_A_THREAD]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.stdout == "cut short\n", done.stderr
