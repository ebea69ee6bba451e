"""What a formula predicts, memray measures, to the byte; and the fresh process in which `measure` does so."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from cases import able, measured, room_for_objects, signal_raises

import pymec
from pymec import ConvShape, memory, registry
from pymec.memory import child, processes

pytest.importorskip("memray", reason="memray exists for Linux and macOS only")

pytestmark = pytest.mark.memory

SLOW = {
    ("direct", "cv4"),
    ("smm", "cv4"),
    ("kn2row_aa", "cv2"),
    *(("fft_lean", name) for name in ("cv4", "cv5", "cv6", "cv11", "cv12")),
}
"""Pairs that take a minute each: plain loops, or one call of SciPy per kernel plane."""


def worth_a_test(i, name, j, algorithm):
    """im2col and MEC on every layer, the others on every sixth; no cell with gigabytes of kernel spectra."""
    row, shape = registry.get(algorithm), pymec.layers.get(name).shape()
    if (algorithm, name) in SLOW or row.unsupported(shape) is not None:
        return False
    chosen = algorithm in ("im2col", "mec_paper", "mec") or (i + j) % 6 == 0
    return chosen and row.schedule(shape, 1, None).size < 2**26


# profiling/memory_sweep.py measures the whole grid, layer x algorithm x batch x threads x dtype, each cell in a
# process of its own.  Here batch, threads and dtype change with the layer; random shapes: test_properties.py.
GRID = [
    (name, algorithm, 1 + i // 4 % 2, 1 + i // 2 % 2, ("float32", "float64")[i % 2])
    for i, name in enumerate(pymec.layers.PAPER)
    for j, algorithm in enumerate(pymec.algorithms())
    if worth_a_test(i, name, j, algorithm)
]


def test_python_has_room_for_objects(tmp_path):
    """Measured in the test process, a call must not be charged with the growth of Python's heap."""
    memray = pytest.importorskip("memray")

    def largest_block(record):
        with memray.Tracker(record):
            objects = [bytes(400) for _ in range(3000)]  # more than a megabyte
        assert len(objects) == 3000
        with memray.FileReader(record) as reader:
            return max(r.size for r in reader.get_high_watermark_allocation_records(merge_threads=True))

    filled = [bytes(400) for _ in range(40_000)]  # whatever the tests before have freed
    assert largest_block(tmp_path / "without.bin") >= 2**20
    room = room_for_objects()
    assert largest_block(tmp_path / "with.bin") < 2**20
    del filled, room


@pytest.mark.parametrize("cell", GRID, ids=lambda cell: "-".join(map(str, cell)))
def test_predicted_is_measured(cell):
    name, algorithm, batch, n_threads, dtype = cell
    layer = pymec.layers.get(name)
    shape = layer.shape(batch, dtype)
    report = measured(shape, algorithm, n_threads=n_threads)
    predicted = pymec.workspace_size(
        shape.input_shape, shape.kernel_shape, stride=(layer.s_h, layer.s_w), algorithm=algorithm,
        n_threads=n_threads, dtype=dtype,
    )  # fmt: skip
    assert report.predicted == predicted
    assert report.workspace == predicted
    assert report.output == shape.output_nbytes + (64 if shape.output_nbytes >= 4 * 2**20 else 0)
    assert report.other < 64 * 1024


def test_measure_takes_the_arguments_of_conv2d():
    x = np.ones((2, 6, 9, 9), np.float64)
    kernel = np.ones((8, 3, 3, 2), np.float64)
    options = {"stride": 2, "padding": "same", "groups": 2, "layout": "NCHW"}
    shape = ConvShape.from_shapes(x.shape, kernel.shape, dtype="float64", **options)
    names = able(x.shape, kernel.shape, dtype="float64", **options)
    families = [[row.name for row in family if row.name in names] for family in registry.FAMILIES]
    # The arrays are turned before any algorithm sees them: one of each family is enough.
    lasts = [family[-1] for family in families if family]
    reports = [memory.measure(x, kernel, algorithm="mec", n_threads=2, **options)]
    reports += [measured(shape, algorithm, n_threads=2) for algorithm in lasts]
    for report in reports:
        # the conversions of NCHW are part of the workspace
        assert report.predicted >= (shape.input_size + shape.kernel_size + shape.output_size) * 8
        assert report.exact


def test_tiny_blocks_are_counted_too():
    """NumPy recycles blocks below a kilobyte in a cache that memray does not see, unless it is emptied."""
    x, kernel = np.ones((1, 3, 3, 1), np.float32), np.ones((2, 2, 1, 1), np.float32)
    report = memory.measure(x, kernel, algorithm="mec", n_threads=1)
    assert (report.workspace, report.output) == (48, 16)


@pytest.mark.parametrize("algorithm", ["im2col_blocked", "mec_column_split", "auto"])
def test_a_limit_is_a_guarantee(algorithm):
    shape = pymec.layers.get("cv9").shape()
    with memory.side_by_side(1) as submit:
        for limit, nbytes in (("20KiB", 20 * 2**10), ("200KiB", 200 * 2**10), ("1MiB", 2**20)):
            report = submit(shape, algorithm, workspace_limit=limit, n_threads=2).result()
            assert report.exact
            assert report.workspace <= nbytes
            assert algorithm == "auto" or report.workspace > nbytes // 2


def tracked(tmp_path, call):
    """The split of one call in a fresh process, without any warm-up."""
    script = f"""
import json, memray, numpy as np, pymec
from pymec import registry
from pymec.memory.child import split_by_asker
x, kernel = np.ones((1, 40, 40, 32), np.float32), np.ones((3, 3, 32, 64), np.float32)
{call}
with memray.Tracker("record.bin", native_traces=True):
    out = pymec.conv2d(x, kernel, algorithm="im2col", n_threads=1)
with memray.FileReader("record.bin") as reader:
    print(json.dumps(split_by_asker(reader.get_high_watermark_allocation_records(merge_threads=True))))
"""
    # Without Python's own allocator, which takes a megabyte at once for small objects when it runs out of room.
    plain = {**os.environ, "PYTHONMALLOC": "malloc"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=plain)
    assert done.returncode == 0, done.stderr
    split = json.loads(done.stdout)
    assert split["workspace"] == 4 * 38 * 38 * 288
    assert split["output"] == 4 * 38 * 38 * 64
    return split


def test_the_first_product_maps_blas_buffers(tmp_path):
    """Without a warm-up BLAS's own memory shows, in its own row and not in the workspace."""
    split = tracked(tmp_path, "")
    assert split["blas"] > 2**20
    assert split["other"] < 2**20


def test_a_buffer_that_blas_maps_late_is_not_counted(monkeypatch):
    """A thread that had nothing to do in the warm-up: the measurement is taken again, once for every thread."""
    shape = ConvShape.from_shapes((1, 20, 20, 16), (3, 3, 16, 32))
    traced, late = child.traced, []

    def on_a_busy_machine(call, record):
        split = traced(call, record)
        return {**split, "blas": late.pop() if late else 0}

    monkeypatch.setattr(child, "traced", on_a_busy_machine)
    for buffers, counted in (([], 0), ([2**25], 0), ([2**25, 2**25], 0), ([7] * 9, 7)):
        late[:] = buffers
        report = measured(shape, "im2col", n_threads=2)
        assert report.blas == counted
        assert report.exact
        assert len(late) == max(0, len(buffers) - 3)


def test_an_allocation_beside_the_workspace_is_found_out(tmp_path):
    """An algorithm that helped itself to a hidden megabyte would be seen."""
    hidden = """
row = registry.ALGORITHMS["im2col"]
def greedy(*arguments, **options):
    hidden = np.empty(2**20, np.uint8)
    row.run(*arguments, **options)
    keep.append(hidden)
keep = []
registry.ALGORITHMS["im2col"] = registry.Algorithm(**{**vars(row), "run": greedy})
"""
    assert tracked(tmp_path, hidden)["other"] >= 2**20


def test_the_record_can_be_kept(tmp_path):
    record = tmp_path / "kept.bin"
    memory.measure_shape(pymec.layers.get("cv12").shape(), "mec", n_threads=1, record=record)
    assert record.stat().st_size > 0
    with pytest.raises(ValueError, match="exists already"):
        memory.measure_shape(pymec.layers.get("cv12").shape(), "mec", n_threads=1, record=record)


def test_mistakes_surface_here_and_not_in_the_other_process():
    with pytest.raises(ValueError, match="algorithm must be"):
        memory.measure_shape(pymec.layers.get("cv12").shape(), "mecc")
    with pytest.raises(ValueError, match="lies in a folder that does not exist"):
        memory.measure_shape(pymec.layers.get("cv12").shape(), "mec", record="/no/such/folder/record.bin")
    with pytest.raises(TypeError, match="kernel is float64"):
        memory.measure(np.ones((1, 5, 5, 2), np.float32), np.ones((3, 3, 2, 2)))
    with pytest.raises(ValueError, match="too small"):
        memory.measure_shape(pymec.layers.get("cv12").shape(), "mec", workspace_limit=10)


def test_a_failing_process_is_reported(monkeypatch, tmp_path):
    """In one sentence, and without part of a record, which would refuse the next try."""
    shape = pymec.layers.get("cv12").shape()
    record = tmp_path / "record.bin"
    monkeypatch.setattr(processes, "import_folders", lambda: [])
    with pytest.raises(RuntimeError, match="^the measuring process failed: .* No module named 'pymec'$"):
        memory.measure_shape(shape, "mec", record=record)
    started = tmp_path / "start.py"
    started.write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setattr(processes, "_START", started)
    with pytest.raises(RuntimeError, match="ended by SIGKILL, as Linux does when memory runs out"):
        memory.measure_shape(shape, "mec", record=record)
    monkeypatch.undo()
    assert memory.measure_shape(shape, "mec", record=record).exact


def test_a_record_that_was_cut_short_is_not_believed(monkeypatch, tmp_path):
    """A limit on the size of files stands for a full disk: memray complains, and goes on without recording."""
    limited = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
"""
    started = tmp_path / "start.py"
    started.write_text(processes._START.read_text().replace("\n    main()", f"\n    pass\n{limited}main()"))
    monkeypatch.setattr(processes, "_START", started)
    record = tmp_path / "record.bin"
    with pytest.raises(RuntimeError, match="Failed to grow output file .* File too large"):
        memory.measure_shape(pymec.layers.get("cv12").shape(), "mec", record=record)
    assert not record.exists()


def test_a_call_without_room_is_a_memory_error(tmp_path):
    record = tmp_path / "record.bin"
    shape = ConvShape.from_shapes((1, 2**20, 2**22, 1), (3, 3, 1, 1))
    with pytest.raises(MemoryError):
        memory.measure_shape(shape, "direct", record=record)
    assert not record.exists()


def test_the_process_does_not_see_what_surrounds_the_caller(monkeypatch, tmp_path):
    """Neither modules in the current folder or PYTHONPATH, nor Python's environment variables."""
    for name in ("json", "numbers", "sitecustomize", "memray"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported by mistake')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("PYTHONMALLOC", "debug")
    assert memory.measure_shape(pymec.layers.get("cv12").shape(), "mec", n_threads=2).exact


AN_HOUR = ConvShape.from_shapes((1, 1024, 1024, 16), (63, 63, 16, 64))  # for ``direct``, on one thread

SLOW_CALL = """
import pymec
shape = pymec.ConvShape.from_shapes((1, 1024, 1024, 16), (63, 63, 16, 64))
pymec.memory.measure_shape(shape, "direct", n_threads=1)
"""


def wait_for(condition, pause=0.05):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(pause)


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ended(pid):
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


def test_a_measurement_does_not_see_the_ones_before():
    """The process is the same, its fork is not: each maps BLAS's buffers again, and starts its threads."""
    few, many = pymec.layers.get("cv12").shape(), pymec.layers.get("cv9").shape()
    alone = memory.measure_shape(few, "mec", n_threads=2)
    with memory.side_by_side(1) as submit:
        jobs = [submit(shape, "mec", n_threads=2) for shape in (few, many, few, few)]
        first, other, *again = [job.result() for job in jobs]
    assert other.exact
    assert other.workspace > 10 * first.workspace
    for report in (first, *again):  # but for pages, and for Python's own objects
        assert replace(report, resident=0, other=0) == replace(alone, resident=0, other=0)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("seconds", [0, 0.02, 0.3, None])
def test_a_killed_caller_leaves_no_process_and_no_folder(tmp_path, seconds):
    """Killed before it has sent the job, while the process imports pymec, and while its fork computes."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", SLOW_CALL], env=environment, cwd=tmp_path) as caller:
        wait_for(lambda: children_of(caller.pid), pause=0)
        (child,) = children_of(caller.pid)
        if seconds is None:
            wait_for(lambda: children_of(child))
        else:
            time.sleep(seconds)
        processes = [child, *children_of(child)]
        caller.kill()
    wait_for(lambda: not list(tmp_path.iterdir()))
    wait_for(lambda: all(ended(process) for process in processes))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_python_s_own_allocator_is_left_out():
    """It would ask for a megabyte during some call, for all calls to come."""
    with processes.Processes() as pool:
        process = pool._take()
        environment = Path(f"/proc/{process._popen.pid}/environ")
        wait_for(environment.read_bytes)  # it is empty while the program is being started
        assert b"PYTHONMALLOC=malloc" in environment.read_bytes().split(b"\0")
        pool._give_back(process, usable=True)


def test_an_interrupted_measurement_answers_no_other_question():
    """Its process may still be about to answer: it is ended."""

    def interrupt(*_):
        raise KeyboardInterrupt

    few = pymec.layers.get("cv12").shape()
    with signal_raises(signal.SIGALRM, interrupt), processes.Processes() as pool:
        job = {"algorithm": "mec", "operation": "conv2d", "limit": None, "n_threads": 1}
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            pool.run({**job, "shape": asdict(AN_HOUR)})
        answer = pool.run({**job, "shape": asdict(few)})
    assert answer["predicted"] == answer["workspace"] == few.mec_size * few.itemsize


def test_leaving_early_ends_what_still_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with memory.side_by_side(1) as submit:
        futures = [submit(AN_HOUR, "direct", n_threads=1) for _ in range(3)]
        wait_for(lambda: list(tmp_path.glob("pymec-*/symbols.bin")))
    assert "ended by SIGKILL" in str(futures[0].exception())
    assert futures[1].cancelled()
    assert futures[2].cancelled()
    assert not list(tmp_path.iterdir())
