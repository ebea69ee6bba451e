"""Many callers at once: threads that share inputs and plans, processes, interrupts, and a crowd."""

import _thread
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from cases import able, operands, signal_raises

import pymec
from pymec import ConvShape, threads

SHAPES = [
    ConvShape.from_shapes((2, 14, 15, 16), (3, 3, 16, 32), padding=1),
    ConvShape.from_shapes((1, 20, 20, 3), (5, 5, 3, 8), stride=2, dtype="float64"),
    ConvShape.from_shapes((1, 12, 13, 24), (3, 3, 3, 24), groups=8, padding=1, dilation=(1, 2)),
    ConvShape.from_shapes((1, 9, 9, 32), (3, 3, 1, 32), groups=32, padding=1),
    ConvShape.from_shapes((3, 8, 8, 20), (1, 1, 20, 40)),
]


def jobs(n_threads):
    """(call, its result) for every algorithm, as called and as planned, all on the same arrays."""
    found = []
    for shape in SHAPES:
        x, kernel = operands(shape)
        for name in able(shape.input_shape, shape.kernel_shape, dtype=shape.dtype, **shape.arguments):
            options = {"algorithm": name, "n_threads": n_threads, **shape.arguments}
            plan = pymec.plan(shape.input_shape, shape.kernel_shape, dtype=shape.dtype, **options).prepare(kernel)
            found.append((lambda x=x, kernel=kernel, options=options: pymec.conv2d(x, kernel, **options)))
            found.append(lambda x=x, plan=plan: plan(x))
    return [(call, call()) for call in found]


@pytest.mark.parametrize("n_threads", [1, 2])
def test_eight_threads_share_inputs_and_plans_and_get_the_same_bits(n_threads):
    work = jobs(n_threads)

    def some(seed):
        rng = np.random.default_rng(seed)
        return sum(
            not np.array_equal(call(), expected)
            for call, expected in (work[i] for i in rng.permutation(len(work)))
        )

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(some, range(8))) == 0


@pytest.fixture
def interrupts():
    """KeyboardInterrupt on SIGINT, which a process that was started in the background may ignore."""
    with signal_raises(signal.SIGINT, signal.default_int_handler):
        yield


def test_interrupts_change_no_bits_and_leave_no_limit(interrupts):
    """Ctrl-C in the main thread while others compute: their results stay, and BLAS gets its threads back."""
    shape = SHAPES[0]
    x, kernel = operands(shape)
    names = ("im2col", "mec", "mec_paper", "kn2row", "winograd_f4", "fft")
    calls = [
        lambda name=name: pymec.conv2d(x, kernel, algorithm=name, n_threads=1, **shape.arguments) for name in names
    ]
    expected = [call() for call in calls]
    before = [library.get_num_threads() for library in threads.blas_libraries()]
    stop, armed, wrong, done = threading.Event(), threading.Semaphore(0), [], [0]

    def compute(first):
        while not stop.is_set():
            which = (first + done[0]) % len(calls)
            done[0] += 1
            if not np.array_equal(calls[which](), expected[which]):
                wrong.append(names[which])

    def interrupt():
        for pause in np.random.default_rng(0).uniform(0, 3e-3, 100):
            armed.acquire()
            time.sleep(pause)
            _thread.interrupt_main()

    workers = [threading.Thread(target=compute, args=(first,)) for first in range(3)]
    workers.append(threading.Thread(target=interrupt, daemon=True))  # after a failure it waits for ever
    for worker in workers:
        worker.start()

    def call_until_interrupted():
        armed.release()  # the next interrupt comes after this
        end = time.monotonic() + 60
        while time.monotonic() < end:
            for call in calls:
                call()
        pytest.fail("an interrupt was lost")

    try:
        for _ in range(100):
            with pytest.raises(KeyboardInterrupt):
                call_until_interrupted()
    finally:
        stop.set()
    for worker in workers:
        worker.join()
    assert not wrong
    assert done[0] > 100
    assert [library.get_num_threads() for library in threads.blas_libraries()] == before
    assert not threads._limit._members


def test_more_callers_than_openblas_has_buffers(tmp_path):
    """OpenBLAS warns, or ends the process, when more threads multiply at once than it has buffers."""
    script = """
import threading
import numpy as np, pymec
rng = np.random.default_rng(0)
x = rng.standard_normal((1, 30, 30, 64), dtype=np.float32)
kernel = rng.standard_normal((3, 3, 64, 64), dtype=np.float32)
names = ("im2col", "mec_paper", "kn2row", "winograd_f2", "fft")
expected = {name: pymec.conv2d(x, kernel, algorithm=name, n_threads=2) for name in names}
gate, wrong = threading.Barrier(300), []
def compute(i):
    name = names[i % len(names)]
    gate.wait()
    if not np.array_equal(pymec.conv2d(x, kernel, algorithm=name, n_threads=2), expected[name]):
        wrong.append(name)
workers = [threading.Thread(target=compute, args=(i,)) for i in range(300)]
[worker.start() for worker in workers]
[worker.join() for worker in workers]
print(len(wrong))
"""
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=300, cwd=tmp_path
    )
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr[-2000:]
    assert "OpenBLAS" not in done.stderr


def test_memory_mapped_input_of_joblib_is_read(tmp_path):
    """What joblib hands its workers: a read-only memory map."""
    shape = SHAPES[0]
    x, kernel = operands(shape)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    expected = pymec.conv2d(x, kernel, **shape.arguments)
    np.testing.assert_array_equal(pymec.conv2d(mapped, kernel, **shape.arguments), expected)


def test_a_plan_runs_in_workers_of_loky():
    """joblib's default: processes started anew, arguments by cloudpickle."""
    shape = SHAPES[0]
    x, kernel = operands(shape)
    plan = pymec.plan(shape.input_shape, shape.kernel_shape, **shape.arguments).prepare(kernel)
    results = joblib.Parallel(n_jobs=2)(joblib.delayed(plan)(x) for _ in range(4))
    for result in results:
        np.testing.assert_array_equal(result, plan(x))
