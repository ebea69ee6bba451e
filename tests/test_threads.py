"""Threads: how many, BLAS held to one while pymec runs its own, and several Python threads at once."""

import linecache
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from cases import CASES, able, operands, suited, suited_layer

import pymec
from pymec import ConvShape, _build_info, planning, reference, registry, threads
from pymec.kernels.shared import blas_library
from pymec.kernels.shared.machine import SMALL_WORK

needs_openmp = pytest.mark.skipif(not _build_info.OPENMP, reason="this build has no OpenMP")


def blas_threads():
    return [library.get_num_threads() for library in threads.blas_libraries()]


@pytest.fixture
def two_blas_threads():
    """BLAS set to two threads, so that a limit shows."""
    before = [(library, library.get_num_threads()) for library in threads.blas_libraries()]
    for library, _ in before:
        threads._set_num_threads(library, 2)
    yield
    for library, n in before:
        threads._set_num_threads(library, n)


def test_scipys_blas_is_found():
    assert len(threads.blas_libraries()) >= 1


def test_a_missing_blas_is_told_once(monkeypatch):
    class Nothing:
        lib_controllers = ()

    monkeypatch.setattr(blas_library, "ThreadpoolController", Nothing)
    blas_library.blas_libraries.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="found no BLAS that threadpoolctl knows") as told:
            assert blas_library.blas_libraries() == blas_library.blas_libraries() == ()
        assert len(told) == 1
    finally:
        blas_library.blas_libraries.cache_clear()


def test_the_guard_lowers_and_restores(two_blas_threads):
    assert set(blas_threads()) == {2}
    with threads.single_threaded_blas():
        assert set(blas_threads()) == {1}
        with threads.single_threaded_blas():
            assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {1}, "the inner one must not restore"
    assert set(blas_threads()) == {2}


def test_the_guard_restores_after_an_error(two_blas_threads):
    with pytest.raises(KeyError), threads.single_threaded_blas():
        raise KeyError
    assert set(blas_threads()) == {2}


def test_the_last_one_out_restores(two_blas_threads):
    """First in, second in, first out: the limit must stay until the second is out as well."""
    first_may_leave, second_may_leave = threading.Event(), threading.Event()
    inside = threading.Barrier(3)

    def stay(event):
        with threads.single_threaded_blas():
            inside.wait(10)
            event.wait(10)

    workers = [threading.Thread(target=stay, args=(event,)) for event in (first_may_leave, second_may_leave)]
    for worker in workers:
        worker.start()
    inside.wait(10)
    assert set(blas_threads()) == {1}
    first_may_leave.set()
    workers[0].join(10)
    assert set(blas_threads()) == {1}
    second_may_leave.set()
    workers[1].join(10)
    assert set(blas_threads()) == {2}


def test_a_thread_that_does_not_control_blas_can_lower_it(two_blas_threads):
    """threadpoolctl lets one Python thread set the limit; meanwhile pymec does so in another."""
    from threadpoolctl import threadpool_limits

    seen = []

    def work():
        with threads.single_threaded_blas():
            seen.extend(blas_threads())

    with threadpool_limits(limits=2, user_api="blas"):
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
        assert set(seen) == {1}
        assert set(blas_threads()) == {2}


def test_an_interrupt_between_any_two_lines_leaves_no_limit_behind(two_blas_threads):
    """Ctrl-C at every moment of the guard's life: afterwards BLAS has its threads back, and the guard works.

    Python takes it when a function begins, too, before its first line.
    """
    code = {
        function.__code__
        for function in (
            threads._enter, threads._leave, threads._BlasLimit.enter, threads._BlasLimit.leave,
            threads._BlasLimit.lower, threads._BlasLimit.restore,
            threads._several_threaded, threads._set_num_threads,
        )
    }  # fmt: skip
    lines = 0

    def tracer(stop):
        def trace(frame, event, argument):
            nonlocal lines
            if frame.f_code not in code:
                return None
            # Python takes an interrupt neither between a lock and its block nor between the block and its end.
            line = linecache.getline(threads.__file__, frame.f_lineno)
            if event in ("call", "line") and "with self._lock" not in line:
                lines += 1
                if lines == stop:
                    raise KeyboardInterrupt
            return trace

        return trace

    def guarded(stop):
        nonlocal lines
        lines = 0
        before = sys.gettrace()
        sys.settrace(tracer(stop))
        try:
            with threads.single_threaded_blas():
                pass
        finally:
            sys.settrace(before)

    guarded(0)
    total = lines
    assert total > 15
    inside = []

    def enter_in_another_thread():
        with threads.single_threaded_blas():
            inside.append(set(blas_threads()))

    for stop in range(1, total + 1):
        with pytest.raises(KeyboardInterrupt) as interrupt:
            guarded(stop)
        assert not threads._limit._members, "while the traceback is still alive"
        another = threading.Thread(target=enter_in_another_thread)
        another.start()
        another.join()
        assert inside.pop() == {1}, f"after line {stop} of {total} the next one must lower the limit"
        del interrupt
        assert set(blas_threads()) == {2}, f"after line {stop} of {total}"
        assert not threads._limit._members
    seen = []

    def try_the_lock():
        seen.append(threads._limit._lock.acquire(timeout=10))
        threads._limit._lock.release()

    worker = threading.Thread(target=try_the_lock)
    worker.start()
    worker.join()
    assert seen == [True], "the lock is free for others"
    with threads.single_threaded_blas():
        assert set(blas_threads()) == {1}


def test_nothing_is_left_to_finalizers():
    """Python drops what is raised in ``__del__``, or in a callback of a weak reference: Ctrl-C would be lost."""
    sources = [path for path in Path(threads.__file__).parent.rglob("*") if path.suffix in (".py", ".pyx", ".pxd")]
    assert len(sources) > 100
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"def (__del__|__dealloc__)|weakref|\bfinalize\(", text), path


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_convolves_on_one_thread(tmp_path):
    """GNU's OpenMP would wait for ever in the child for its parent's threads."""
    script = """
import os, threading, time, numpy as np, pymec
from pymec import threads
x, kernel = np.ones((1, 30, 30, 8)), np.ones((3, 3, 8, 8))
expected = pymec.conv2d(x, kernel, n_threads=2)
before = [library.get_num_threads() for library in threads.blas_libraries()]
names = "mec", "mec_banded", "implicit_gemm", "winograd_f2_banded", "fft"
plans = [pymec.plan(x.shape, kernel.shape, dtype="float64", algorithm=name, n_threads=2) for name in names]
limited = pymec.plan(x.shape, kernel.shape, dtype="float64", n_threads=2, workspace_limit="8KiB")
plans = [plan.prepare(kernel) for plan in [*plans, limited]]
workspaces = [np.empty(plan.workspace_nbytes, np.uint8) for plan in plans]
results = [plan(x) for plan in plans]
out, saved = plans[0].forward_saved(x)
gradient = saved.kernel_grad(out)
inside = threads.single_threaded_blas()
inside.__enter__()
threads._limit._lock.acquire()
pid = os.fork()
if pid == 0:
    same = np.allclose(pymec.conv2d(x, kernel, n_threads=2), expected)
    for plan, workspace, result in zip(plans, workspaces, results):
        same &= np.allclose(plan.prepare(kernel)(x, workspace=workspace), result)
    out, _ = plans[0].forward_saved(x)
    same &= np.allclose(out, expected) and np.allclose(saved.kernel_grad(out), gradient)
    free = [library.get_num_threads() for library in threads.blas_libraries()] == before
    os._exit(0 if same and free and not threads._limit._members else 1)
deadline = time.time() + 30
while time.time() < deadline:
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        raise SystemExit(os.waitstatus_to_exitcode(status))
    time.sleep(0.01)
os.kill(pid, 9)
raise SystemExit("the child hangs")
"""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("i_h", [40, 2])
def test_every_blas_call_of_every_algorithm_is_under_the_guard(i_h, two_blas_threads, monkeypatch):
    """Except for products so small that OpenBLAS uses one thread anyway."""
    for name, row in list(registry.ALGORITHMS.items()):
        seen = []

        def spy(*args, run=row.run, seen=seen, **options):
            seen.extend(blas_threads())
            run(*args, **options)

        monkeypatch.setitem(registry.ALGORITHMS, name, registry.Algorithm(**{**vars(row), "run": spy}))
        pymec.planning.cached_recipe.cache_clear()
        shape = suited_layer(name, (1, i_h, 40, 16), 16, padding=1)
        x = np.ones(shape.input_shape)
        pymec.conv2d(x, np.ones(shape.kernel_shape), algorithm=name, **shape.arguments)
        alone = i_h == 2 and threads.blas_multiplies_alone()
        row = pymec.planning.recipe(shape, name, "exact", None, None).algorithm
        schedule = row.schedule(shape, 2, None)
        guarded = row.uses_blas and schedule.uses_blas and not alone
        assert set(seen) == ({1} if guarded else {2}), name
        assert set(blas_threads()) == {2}
    monkeypatch.undo()
    pymec.planning.cached_recipe.cache_clear()


@pytest.mark.parametrize("multiply_with", ["register_tiles", "small_blas"])
@pytest.mark.parametrize("name", ["mec", "mec_banded", "mec_w", "mec_column_split", "mec_channel_split"])
def test_products_without_blas_need_no_guard(name, multiply_with, two_blas_threads, monkeypatch):
    """Register tiles do not call BLAS, so BLAS keeps its two threads."""
    x, kernel = np.ones((1, 19, 19, 8), np.float32), np.ones((3, 3, 8, 32), np.float32)
    for policy in (pymec.kernels.mec.rows, pymec.kernels.mec.bands):
        monkeypatch.setattr(policy, "preferred_multiply", lambda shape: multiply_with)
    pymec.planning.cached_recipe.cache_clear()
    row, seen = registry.ALGORITHMS[name], []

    def spy(*args, **options):
        seen.extend(blas_threads())
        row.run(*args, **options)

    monkeypatch.setitem(registry.ALGORITHMS, name, registry.Algorithm(**{**vars(row), "run": spy}))
    np.testing.assert_array_equal(pymec.conv2d(x, kernel, algorithm=name), 72)
    assert set(seen) == ({2} if multiply_with == "register_tiles" else {1})
    monkeypatch.undo()
    pymec.planning.cached_recipe.cache_clear()


def test_several_python_threads_at_once(two_blas_threads):
    """Every algorithm from four threads at a time: right results, and BLAS as before at the end."""
    cases = [case for case in CASES if case.shape().multiply_adds < 1e6]
    jobs = [(case, algorithm) for case in cases for algorithm in able(case.x, case.kernel, **case.options)]
    failures = []

    def work(part):
        for case, algorithm in part:
            shape = case.shape()
            x, kernel = operands(shape)
            out = pymec.conv2d(x, kernel, algorithm=algorithm, n_threads=2, **case.options)
            error = np.abs(out - reference.conv2d(x, kernel, shape))
            if not (error <= registry.get(algorithm).error_bound(x, kernel, shape)).all():
                failures.append((case.motive, algorithm))

    workers = [threading.Thread(target=work, args=(jobs[i::4],)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures
    assert set(blas_threads()) == {2}


@pytest.mark.parametrize("algorithm", pymec.algorithms())
def test_the_gil_is_released(algorithm):
    """While one thread convolves, another one counts.

    A thread that holds the lock lets go of it at the end of a call at the earliest: the other one would count to
    one or two in each.  On a busy machine it may not get to three in a short call either, so calls are repeated.
    """
    x = np.ones((1, 192, 192, 32), np.float32)
    extents, groups = suited(algorithm, x.shape, 64)
    kernel = np.ones(extents, np.float32)
    counts, done = [0], threading.Event()

    def count():
        while not done.is_set():
            counts[0] += 1
            time.sleep(1e-4)

    other = threading.Thread(target=count)
    other.start()
    counted, deadline = 0, time.monotonic() + 60
    try:
        while counted < 3 and time.monotonic() < deadline:
            before = counts[0]
            pymec.conv2d(x, kernel, algorithm=algorithm, groups=groups, n_threads=1)
            counted = counts[0] - before
            if counted < 3 and len(x) < 8:  # longer calls
                x = np.concatenate([x, x])
    finally:
        done.set()
        other.join()
    assert counted >= 3


@needs_openmp
def test_effective_n_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads.effective_n_threads(3) == 3
    assert threads.effective_n_threads(10**6) == threads.MAX_THREADS
    assert threads.effective_n_threads(np.int64(2)) == 2
    assert threads.effective_n_threads(None) >= 1
    assert threads.effective_n_threads(None, multiply_adds=SMALL_WORK - 1) == 1
    assert threads.effective_n_threads(2, multiply_adds=1) == 2


@needs_openmp
def test_the_default_is_asked_for_at_every_call(monkeypatch):
    """A cached plan made with another default number of threads must not be used again."""
    shapes = (1, 64, 64, 16), (3, 3, 16, 16)
    for offered in (3, 1, 2):
        monkeypatch.setattr(threads, "_default_n_threads", lambda offered=offered: offered)
        assert pymec.plan(*shapes).n_threads == offered


def test_more_threads_than_work():
    for size in (1, 3):
        x, kernel = np.ones((1, 4, 4, 1)), np.ones((size, size, 1, 1))
        for algorithm in able(x.shape, kernel.shape):
            out = pymec.conv2d(x, kernel, algorithm=algorithm, n_threads=64)
            np.testing.assert_allclose(out, size * size)


@pytest.mark.skipif(not threads.blas_multiplies_alone(), reason="nothing is known of this BLAS")
def test_blas_takes_one_thread_for_small_products(tmp_path):
    """As ``blas_multiplies_alone`` says: with two threads allowed, only the calling thread works.

    BLAS's threads spin for a while after they start, on a busy machine also later than the first product.  So
    the products are tried again: a BLAS that splits them has its other thread working in every try.
    """
    script = """
import time
import numpy as np
from scipy.linalg.blas import dgemm, sgemm
from pymec import threads

for rows, columns, reduction in ((64, 64, 64), (1, 512, 512), (8192, 4, 8), (64, 4096, 1)):
    assert rows * columns * reduction >= threads.blas_multiplies_alone()
    for product, dtype in ((sgemm, "f"), (dgemm, "d")):
        a, b = np.ones((rows, reduction), dtype, "F"), np.ones((reduction, columns), dtype, "F")
        tries = []
        while not tries or everybody >= 1.2 * myself + 0.002:
            assert len(tries) < 20, (rows, columns, reduction, dtype, tries)
            product(1, a, b)
            time.sleep(0.01 * len(tries))
            everybody, myself = time.process_time(), time.thread_time()
            for _ in range(500):
                product(1, a, b)
            everybody, myself = time.process_time() - everybody, time.thread_time() - myself
            tries.append((everybody, myself))
"""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork") or not _build_info.OPENMP, reason="no fork or no OpenMP here")
@pytest.mark.parametrize("parent_threads", [0, 1, 2])
def test_a_child_of_a_parent_without_threads_has_its_own(parent_threads, tmp_path):
    script = f"""
import os, numpy as np, pymec
from pymec import threads
x, kernel = np.ones((1, 30, 30, 8)), np.ones((3, 3, 8, 8))
if {parent_threads}:
    pymec.conv2d(x, kernel, n_threads={parent_threads})
pid = os.fork()
if pid == 0:
    n_threads = threads.effective_n_threads(2)
    right = pymec.conv2d(x, kernel, n_threads=2).min() == 72
    os._exit(n_threads if right else 9)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60)
    assert done.stdout.strip() == ("1" if parent_threads == 2 else "2"), done.stderr


def test_products_of_all_input_pixels_are_under_the_guard():
    """kn2row multiplies every pixel, however few outputs a stride leaves."""
    shape = ConvShape.from_shapes((1, 40, 40, 8), (3, 3, 8, 8), stride=20)
    assert planning.recipe(shape, "kn2row", "exact", None, 1).guards_blas


@needs_openmp
def test_a_small_stack_is_enough(tmp_path):
    """Scratch is workspace, which is counted: on a stack it would be hidden, and end a thread that has little."""
    program = """
import numpy as np, pymec
from pymec import ConvShape, registry

for dtype in ("float32", "float64"):
    for x, kernel, options in (
        ((1, 40, 40, 64), (3, 3, 64, 64), {}),
        ((1, 40, 40, 3), (5, 5, 3, 64), {"padding": 2}),
        ((1, 40, 40, 64), (3, 3, 4, 64), {"groups": 16}),
        ((1, 40, 40, 64), (5, 5, 1, 64), {"groups": 64}),
        ((1, 40, 40, 64), (1, 1, 64, 64), {}),
    ):
        shape = ConvShape.from_shapes(x, kernel, dtype=dtype, **options)
        image, weights, grad_out = map(np.ones, (x, kernel, shape.output_shape), (dtype, dtype, dtype))
        calls = {
            "conv2d": (pymec.conv2d, image, weights),
            "conv2d_input_grad": (pymec.conv2d_input_grad, grad_out, weights, x),
            "conv2d_kernel_grad": (pymec.conv2d_kernel_grad, image, grad_out, kernel),
        }
        for operation, (function, *arguments) in calls.items():
            for name, row in registry.TABLES[operation].items():
                if row.unsupported(shape) is None:
                    print(operation, name, dtype, x, kernel, flush=True)
                    function(*arguments, algorithm=name, n_threads=2, **options)
"""
    environment = {**os.environ, "OMP_STACKSIZE": "128k"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout.splitlines()[-1:] + done.stderr.splitlines()
