"""The scripts of ``profiling/`` on small selections: they run, check their answers, and can say no."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import os
import re
import runpy
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import pymec
from pymec import _build_info, blas_kernel, registry
from pymec.kernels.shared import blas_library as blas_limits
from pymec.kernels.shared.blocking import small_blas_products

PROFILING = Path(__file__).resolve().parent.parent / "profiling"
CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

needs_memray = pytest.mark.skipif(
    importlib.util.find_spec("memray") is None or importlib.util.find_spec("matplotlib") is None,
    reason="needs memray and matplotlib",
)
needs_fast_build = pytest.mark.skipif(
    not _build_info.OPENMP or _build_info.DEBUG, reason="speed.py refuses this build, and rightly"
)


def run_apart(script, *arguments):
    """Run a script as a user does; the result has its exit status, stdout and stderr."""
    paths = [str(Path(pymec.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, PROFILING / script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=120,
    )


def run(script, *arguments):
    """The same in this process: it need not import NumPy, SciPy and matplotlib again."""
    stdout, stderr, status = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(stdout), redirect_stderr(stderr):
        patched.setattr(sys, "argv", [str(PROFILING / script), *map(str, arguments)])
        patched.syspath_prepend(str(PROFILING))
        try:
            runpy.run_path(str(PROFILING / script), run_name="__main__")
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                print(end.code, file=stderr)
    return SimpleNamespace(returncode=status, stdout=stdout.getvalue(), stderr=stderr.getvalue())


def table_rows(text):
    """The rows of a Markdown table: first cell -> the other cells."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in rows}


def records(folder, script):
    """The records of a store's file."""
    lines = map(json.loads, (folder / f"{script}.jsonl").read_text().splitlines())
    return [line for line in lines if "cell" in line]


@pytest.fixture
def load(monkeypatch):
    """Import a script as a module."""
    monkeypatch.syspath_prepend(str(PROFILING))
    return importlib.import_module


# memory_sweep.py ----------------------------------------------------------------------------------------


@needs_memray
@pytest.mark.memory
def test_memory_sweep_resumes(tmp_path):
    path = tmp_path / "memory.jsonl"
    selection = ("--layers", "cv12", "--algorithms", "im2col,mec", "--threads", "1", "--records", tmp_path)

    first = run("memory_sweep.py", *selection)
    assert first.returncode == 0, first.stderr
    assert "predicted == measured, to the byte: 2\n" in first.stdout
    measured = path.read_text()
    found = records(tmp_path, "memory")
    workspace = {record["cell"]["algorithm"]: record["values"]["workspace"] for record in found}
    assert workspace == {"im2col": 5 * 5 * 3 * 3 * 512 * 4, "mec": 5 * 7 * 3 * 512 * 4}
    assert all({"blas", "resident"} <= record["values"].keys() for record in found)

    path.write_text(measured + '{"run": "0.1')  # what an interruption leaves
    again = run_apart("memory_sweep.py", *selection)
    assert again.returncode == 0, again.stderr
    assert "2 cells, 2 of them known" in again.stderr
    assert "memory 1/" not in again.stderr
    rows = table_rows(again.stdout)
    assert rows["im2col"] == ["0.439 (1.00)"]
    assert rows["mec"] == ["0.205 (2.14)"]


@needs_memray
@pytest.mark.memory
def test_memory_sweep_of_gradients(tmp_path):
    operations = "conv2d_input_grad,conv2d_kernel_grad"
    selection = ("--operations", operations, "--layers", "cv12", "--algorithms", "mec,direct_conv,depthwise")
    done = run("memory_sweep.py", *selection, "--threads", 1, "--records", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "predicted == measured, to the byte: 3\n" in done.stdout
    cells = [record["cell"] for record in records(tmp_path, "memory")]
    assert sorted((cell["operation"], cell["algorithm"]) for cell in cells) == [
        ("conv2d_input_grad", "direct_conv"),
        ("conv2d_input_grad", "mec"),
        ("conv2d_kernel_grad", "mec"),
    ]


@needs_memray
@pytest.mark.memory
def test_memory_sweep_tells_a_byte(load, tmp_path):
    sweep, store = load("memory_sweep"), load("_store").Store("memory", tmp_path)
    shape = pymec.layers.get("cv12").shape()
    rest = dict.fromkeys(sweep.MEASURED, 0)
    for algorithm, predicted, measured in (("mec", 215_040, 215_041), ("im2col", 7, 7)):
        cell = sweep.entries_of(sweep.Cell("cv12", shape, algorithm))
        store.add(cell, {**rest, "predicted": predicted, "workspace": measured}, [f"{algorithm}:conv2d"])

    chosen = ("--layers", "cv12", "--algorithms", "im2col,mec", "--threads", 1, "--records", tmp_path)
    done = run("memory_sweep.py", *chosen)
    assert done.returncode == 1
    assert "memory 1/1: cv12 im2col" in done.stderr  # its formula has changed
    assert "different: 1\n" in done.stdout
    assert "cv12 conv2d mec 1 1 float32: predicted 215040, measured 215041" in done.stdout
    assert table_rows(done.stdout)["mec"] == ["0.205 (2.14) ≠"]


def test_memory_sweep_refuses_what_it_does_not_know():
    done = run_apart("memory_sweep.py", "--layers", "cv13")
    assert done.returncode == 2
    assert "'cv13' is none of cv1" in done.stderr


# paper_table2.py, stride_sweep.py, flamegraphs.py -------------------------------------------------------


@needs_memray
@pytest.mark.memory
def test_paper_table2(tmp_path):
    figure = tmp_path / "figure.svg"
    options = ("--layers", "cv4,cv12", "--figure", figure, "--records", tmp_path)
    done = run("paper_table2.py", *options)
    assert done.returncode == 0, done.stderr
    rows = table_rows(done.stdout)
    im2col, paper, stored = 109 * 109 * 7 * 7 * 64 * 4, 109 * 224 * 7 * 64 * 4, 109 * 223 * 7 * 64 * 4
    assert rows["cv4"] == [
        *(f"{im2col:,}", f"{im2col:,}", f"{paper:,}", f"{paper:,}", f"{im2col / paper:.2f}"),
        *(f"{stored:,}", f"{stored:,}", f"{im2col / stored:.2f}"),
    ]
    assert rows["sum"][0] == f"{im2col + 460_800:,}"
    assert rows["geometric mean"][-1] == f"{math.sqrt(im2col / stored * 460_800 / 215_040):.2f}"
    assert figure.read_text().startswith("<?xml")
    again = run("paper_table2.py", *options)
    assert again.stdout == done.stdout
    assert not re.search(r" 1/\d", again.stderr)  # nothing was measured twice


def test_paper_table2_formulas(load):
    table2 = load("paper_table2")
    rows = []
    for name in pymec.layers.PAPER:
        s = pymec.layers.get(name).shape()
        rows.append(table2.Row(name, *[4 * s.im2col_size] * 2, *[4 * s.paper_mec_size] * 2, *[4 * s.mec_size] * 2))
    table = table_rows(table2.table(rows))
    assert list(table)[2:-2] == list(pymec.layers.PAPER)
    assert table["geometric mean"] == ["", "", "", "", "2.89", "", "", "2.89"]
    assert not rows[0]._replace(mec_measured=1).exact
    assert not rows[0]._replace(paper_measured=1).exact


@needs_memray
@pytest.mark.memory
def test_stride_sweep(tmp_path):
    figure = tmp_path / "figure.svg"
    options = ("--layer", "cv12", "--figure", figure, "--records", tmp_path)
    done = run("stride_sweep.py", *options, "--what", "memory")
    assert done.returncode == 0, done.stderr
    assert list(table_rows(done.stdout))[2:] == ["1", "2", "3"]
    assert "to the byte: 9 of 9 cells" in done.stdout
    assert figure.read_text().startswith("<?xml")


@pytest.fixture
def some_bytes(load, monkeypatch):
    """Nothing is measured: a cell takes seven bytes, or ends as ``ends`` says; ``asked`` has the cells in turn."""
    asked, ends = [], {}

    def answers(cells, workers, title):
        for cell in cells:
            asked.append((cell.name, cell.algorithm))
            end = ends.get(asked[-1])
            if isinstance(end, KeyboardInterrupt):
                raise end
            yield cell, end or SimpleNamespace(workspace=7, predicted=7, algorithm=cell.algorithm)

    for module in ("_measured_bytes", "paper_memory"):
        monkeypatch.setattr(load(module), "measure_cells", answers)
    return SimpleNamespace(asked=asked, ends=ends)


def test_an_interrupted_stride_sweep_goes_on(load, some_bytes, tmp_path):
    """So does one in which a process failed: the other strides are stored, and this one is measured next time."""
    sweep = load("stride_sweep")
    options = sweep.parse(["--layer", "cv12", "--records", str(tmp_path)])

    def measured():
        some_bytes.asked.clear()
        store = load("_store").Store("stride_sweep", tmp_path)
        status = sweep.measure_memory(store, options, sweep.shapes_of("cv12"))
        return status, list(dict.fromkeys(name for name, _ in some_bytes.asked))

    some_bytes.ends["s=2", "mec"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        measured()
    assert [record["cell"]["stride"] for record in records(tmp_path, "stride_sweep")] == [1]
    some_bytes.ends["s=2", "mec"] = RuntimeError("ended")
    assert measured() == (1, ["s=2", "s=3"])
    some_bytes.ends.clear()
    assert measured() == (0, ["s=2"])
    assert measured() == (0, [])
    found = records(tmp_path, "stride_sweep")
    assert [record["cell"]["stride"] for record in found] == [1, 3, 2]
    assert all(list(record["values"]) == list(sweep.MEASURED) for record in found)


@needs_fast_build
@needs_memray
def test_stride_sweep_in_time(tmp_path):
    options = ("--layer", "cv12", "--figure", tmp_path / "figure.svg", "--records", tmp_path, "--what", "time")
    done = run("stride_sweep.py", *options, "--threads", "1", "--seconds", "0.02")
    assert done.returncode == 0, done.stderr
    assert len(table_rows(done.stdout)["`mec_paper`"]) == 4  # three strides and their mean
    records = [json.loads(line) for line in (tmp_path / "stride_sweep.jsonl").read_text().splitlines()]
    assert [record["cell"]["stride"] for record in records if "cell" in record] == [1, 2, 3]


def test_stride_sweep_of_cv1(load):
    sweep = load("stride_sweep")
    layer = pymec.layers.get("cv1")
    shapes = [replace(layer, s_h=s, s_w=s).shape() for s in range(1, 12)]
    measured = {(s.s_h, "im2col"): 4 * s.im2col_size for s in shapes}
    measured |= {(s.s_h, "mec_paper"): 4 * s.paper_mec_size for s in shapes}
    measured |= {(s.s_h, "mec"): 4 * s.mec_size for s in shapes}
    rows = table_rows(sweep.table(shapes, measured))
    assert list(rows)[2:] == [str(s) for s in range(1, 12)]
    assert rows["4"] == ["2.75", "55×55", "4.189", "1.572", "2.665", "1.572", "2.665"]
    # The strips end at row 220: 220 rows are as many as im2col stores, and all 227 are more.
    assert rows["11"] == ["1.00", "20×20", "0.554", "0.572", f"{220 / 227:.3f}", "0.554", "1.000"]
    assert sweep.verdict(shapes).startswith("with all rows L is larger than im2col's matrix at s = 11 and")


@needs_memray
@pytest.mark.memory
def test_flamegraphs(tmp_path):
    """Pages of a few boxes are small, for memray's scripts are files beside them."""
    done = run("flamegraphs.py", "cv12:mec", "cv12:im2col", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"cv12_mec.html", "cv12_im2col.html", "shared"}
    for page in tmp_path.glob("*.html"):
        text = page.read_text()
        assert "allocate_workspace" in text
        assert f"<title>{page.stem}</title>" in text
        assert f'"strings":["{page.stem}",' in text  # the root frame
        assert len(text) < 200_000
        shared = set(re.findall(r'(?:src|href)="(shared/[^"]+)"', text))
        assert shared == {f"shared/{path.name}" for path in (tmp_path / "shared").iterdir()}


# speed.py -----------------------------------------------------------------------------------------------


@needs_fast_build
def test_speed(tmp_path):
    quick = ("--layers", "cv12", "--threads", "1", "--seconds", "0.02", "--records", tmp_path)
    done = run("speed.py", *quick, "--algorithms", "mec", "--reuse")
    assert done.returncode == 0, done.stderr
    (record,) = records(tmp_path, "speed")
    assert list(record["values"]) == ["im2col", "mec", "im2col, reusing", "mec, reusing"]
    assert all(0 < value["best"] <= value["median"] for value in record["values"].values())
    assert record["how"]["flops"] == 2 * 5 * 5 * 512 * 3 * 3 * 512
    shown = table_rows(done.stdout.split("with workspace and out given")[0])["cv12"][1]
    assert shown.split(" / ")[0] == f"{1e-9 * record['how']['flops'] / record['values']['mec']['best']:.0f}"

    assert "1 cell, 1 of them known" in run("speed.py", *quick, "--algorithms", "mec").stderr
    assert "1 cell, 0 of them known" in run("speed.py", *quick, "--algorithms", "mec_b").stderr


@needs_fast_build
def test_lowering(tmp_path):
    done = run("lowering.py", "--layers", "cv12", "--threads", "1", "--seconds", "0.02", "--records", tmp_path)
    assert done.returncode == 0, done.stderr
    (record,) = records(tmp_path, "lowering")
    assert record["how"]["bytes"]["cv12"] == 215_040
    assert table_rows(done.stdout)["copying"][-1] == "100% / 100%"


@needs_fast_build
def test_overhead(tmp_path):
    done = run("overhead.py", "--algorithms", "mec", "--seconds", "0.02", "--records", tmp_path)
    assert done.returncode == 0, done.stderr
    (record,) = records(tmp_path, "overhead")
    assert record["values"]["mec, run"]["best"] < record["values"]["mec, conv2d"]["best"]


@needs_fast_build
@pytest.mark.skipif(CPUS < 2, reason="needs two CPUs")
def test_speed_with_two_threads(load, tmp_path, capsys):
    quick = ["--layers", "cv12", "--algorithms", "mec", "--threads", "1,2", "--seconds", "0.02", "--patience", "3"]
    status = load("speed").main([*quick, "--records", str(tmp_path)])
    found = records(tmp_path, "speed")
    whole = [record for record in found if record["how"]["seconds"]]  # what was cut short is tried again
    assert len(whole) == (1 if status else 2)
    printed = capsys.readouterr().err
    assert "bursts on several threads wait until each has a core for itself" in printed
    assert "bursts on several threads dropped" in printed


@needs_fast_build
def test_speed_stops_at_a_wrong_answer(load, monkeypatch, tmp_path):
    right = pymec.conv2d

    def wrong(*arguments, **options):
        out = right(*arguments, **options)
        if options["algorithm"] == "mec":
            out[0, -1, -1, -1] = np.nan
        return out

    monkeypatch.setattr(pymec, "conv2d", wrong)
    quick = ["--layers", "cv12", "--threads", "1", "--seconds", "0.02", "--records", str(tmp_path)]
    with pytest.raises(SystemExit, match="wrong answer: mec on cv12"):
        load("speed").main(quick)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("flag", "value", "reason"), [("OPENMP", False, "OpenMP"), ("DEBUG", True, "index")])
def test_speed_refuses_slow_builds(load, monkeypatch, flag, value, reason):
    monkeypatch.setattr(_build_info, "OPENMP", True)
    monkeypatch.setattr(_build_info, "DEBUG", False)
    monkeypatch.setattr(_build_info, flag, value)
    with pytest.raises(SystemExit, match=reason):
        load("speed").main(["--layers", "cv12", "--threads", "1"])


@pytest.mark.parametrize(
    ("gains", "times", "left", "dropped"),
    [
        ([1.9, 1.9], [1.0], 3, 0),
        ([1.0, 1.9, 1.9], [1.0], 2, 1),  # shared before the burst
        ([1.9, 1.0, 1.9, 1.9], [1.0], 2, 1),  # shared after it
        ([1.0, 1.0, 1.0], [], 0, 3),  # for good
    ],
)
def test_canary_drops_bursts_on_a_shared_core(load, monkeypatch, gains, times, left, dropped):
    timing = load("_timing")
    canary = timing.Canary(patience=3)
    canary.alone = 1.0
    songs = iter(gains)
    monkeypatch.setattr(canary, "seconds", lambda n_threads: [1 / next(songs)])
    monkeypatch.setattr(timing.time, "sleep", lambda seconds: None)
    assert canary.guard(lambda: [1.0], 2, canary.patience) == (times, left)
    assert canary.dropped == dropped
    assert next(songs, None) is None


def test_canary_does_not_guard_one_thread(load):
    canary = load("_timing").Canary(patience=0)
    assert canary.guard(lambda: [1.0], 1, 0) == ([1.0], 0)
    assert canary.bursts == 0


def test_canary_keeps_and_counts_disturbed_bursts_if_nobody_waits(load, monkeypatch):
    canary = load("_timing").Canary(patience=0, no_wait=True)
    canary.alone = 1.0
    songs = iter([1.9, 1.9, 1.0, 1.9, 1.9, 1.0])
    monkeypatch.setattr(canary, "seconds", lambda n_threads: [1 / next(songs)])
    for disturbed in (0, 1, 2):
        assert canary.guard(lambda: [1.0], 2, 0) == ([1.0], 0)
        assert canary.counts() == {"bursts": disturbed + 1, "dropped": 0, "disturbed": disturbed}


# solutions.py -------------------------------------------------------------------------------------------


@needs_fast_build
@needs_memray
def test_solutions(tmp_path):
    options = ("--layers", "cv11,cv12", "--batch", 2, "--threads", 1, "--seconds", 0.02)
    done = run("solutions.py", *options, "--records", tmp_path, "--figure", tmp_path / "figure.svg")
    rows = [line for line in done.stdout.splitlines() if line.startswith("| cv")]
    assert [row.split("|")[1].strip() for row in rows] == ["cv11", "cv12"]
    assert done.stdout.count("geometric mean") == done.stdout.count("T = 100 loses") == (3 if own_kernels() else 1)
    assert run("solutions.py", *options[:2], "--batch", 1).returncode == 2


def own_kernels():
    """Whether BLAS runs its kernels for this CPU: tuned forms are timed under those only."""
    return blas_kernel.held_back() is None


@needs_fast_build
@needs_memray
def test_paper_time(tmp_path):
    options = ("--layers", "cv12", "--batch", "1,2", "--threads", 1, "--seconds", 0.02)
    keep = ("--records", tmp_path, "--figure", tmp_path / "figure.svg")
    done = run_apart("paper_time.py", *options, *keep, "--coretypes", "native,no such")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "paper_time.jsonl").read_text().splitlines()]
    cells = [record["cell"] for record in records if "cell" in record]
    # The process with a name that OpenBLAS doesn't know runs the CPU's own kernels, and finds them measured.
    assert [cell["i_n"] for cell in cells] == [1, 2]
    values = next(record["values"] for record in records if "cell" in record)
    assert {"im2col", "mec_a", "mec_b", "mec_paper"} <= set(values)
    assert all(value["best"] > 0 for value in values.values())
    assert cells[0]["blas"] + " kernels" in done.stdout
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")

    missing = run("resnet101.py", *keep)
    assert missing.returncode == 1
    assert "no time: run paper_time.py" in missing.stderr


@needs_memray
@pytest.mark.memory
def test_paper_memory(tmp_path):
    keep = ("--records", tmp_path, "--figure", tmp_path / "figure.svg")
    done = run("paper_memory.py", "--layers", "cv12", "--batch", 1, *keep)
    assert done.returncode == 0, done.stderr
    rows = table_rows(done.stdout)
    assert rows["`mec_paper`"] == ["0.205 (2.14)", "2.14"]
    assert "predicted == measured, to the byte: 16 of 16 cells" in done.stdout
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_bytes_that_found_no_room_are_measured_again(load, some_bytes, monkeypatch, tmp_path, capsys, when):
    """Where the formula doesn't fit into free memory, and where the measuring process finds none."""
    script = load("paper_memory")
    options = script.parse(["--layers", "cv12", "--batch", "1", "--threads", "1", "--records", str(tmp_path)])

    def measured():
        some_bytes.asked.clear()
        assert script.measure(options, load("_store").Store("paper_memory", tmp_path)) == 0
        return {name for _, name in some_bytes.asked}

    with monkeypatch.context() as patched:
        if when == "before":  # room for im2col's matrix, and not for Winograd's transforms
            patched.setattr(script, "free_memory", lambda: 2 * pymec.layers.get("cv12").shape().im2col_size * 4)
        else:
            some_bytes.ends["cv12", "winograd_f4"] = MemoryError("no room")
        measured()
        assert measured()
    (*_, left) = records(tmp_path, "paper_memory")
    assert "winograd_f4" in left["how"]["no_room"]
    assert "im2col" in left["values"]
    assert not left["values"].keys() & left["how"]["no_room"]
    assert "winograd_f4 is left out on" in capsys.readouterr().err
    some_bytes.ends.clear()
    assert "winograd_f4" in measured()
    (*_, whole) = records(tmp_path, "paper_memory")
    assert "winograd_f4" in whole["values"]
    assert "how" not in whole
    assert measured() == set()


def test_time_that_found_no_room_is_measured_again(load, monkeypatch, tmp_path):
    in_turns, timing = load("_in_turns"), load("_timing")
    options = load("paper_time").parse(["--layers", "cv12", "--threads", "1", "--seconds", "0.01"])
    monkeypatch.setattr(timing, "take_turns", lambda calls, *_: {name: [1.0] for name in calls})
    store = load("_store").Store("paper_time", tmp_path)
    cells = [in_turns.cell_of("cv12", 1, 1)]

    def timed():
        contenders = partial(in_turns.Problem.contenders, algorithms=("im2col", "mec"))
        assert in_turns.time_layers(store, cells, options, contenders) == 0
        found = records(tmp_path, "paper_time")
        return len(found), list(found[-1]["values"]), found[-1]["how"].get("no_room")

    with monkeypatch.context() as patched:
        patched.setattr(in_turns, "free_memory", lambda: 700_000)  # half of them hold MEC's L, not im2col's matrix
        assert timed() == (1, ["mec"], ["im2col"])
        assert timed() == (2, ["mec"], ["im2col"])
    assert timed() == (3, ["im2col", "mec"], None)
    assert timed() == (3, ["im2col", "mec"], None)


def test_a_wrong_answer_is_no_record(load):
    in_turns = load("_in_turns")
    problem = in_turns.Problem(pymec.layers.get("cv12").shape())
    with pytest.raises(SystemExit, match="beyond the error bound"):
        problem.checked(lambda: None, "mec", "nothing")


def test_resnet101_weights(load):
    resnet101 = load("resnet101")
    values = {"im2col": {"best": 2.0}, "mec_paper": {"best": 1.0}}
    records = [SimpleNamespace(cell={"layer": name}, values=values) for name in resnet101.WEIGHTS]
    found = resnet101.weighted(records, "best")
    assert resnet101.total(found, "im2col") == 2 * 34
    assert found["mec_paper"]["cv11"] == 23
    assert resnet101.weighted(records[1:], "best") == {}
    assert resnet101.table(found, 1, "s", [], "paper_time").rows[-1] == ["im2col's ÷ it", "", "1.00", "2.00"]


def test_the_T_that_loses_least(load):
    """Solution A twice as fast up to o_w = 10, half as fast beyond: T is 10, and nothing is lost."""
    rows = [
        {
            "layer": "",
            "o_w": o_w,
            "fits": fits,
            ("small_blas", "A"): 2.0 if o_w <= 10 else 0.5,
            ("small_blas", "B"): 1.0,
        }
        for o_w, fits in ((5, True), (10, True), (12, True), (7, False), (50, True))
    ]
    verdict = load("solutions").best_T(rows, "small_blas")
    assert verdict.startswith("T from 10 up to below 12 loses ")
    assert verdict.endswith("14.9% in geometric mean")  # 2 ** (1/5): the layer where |O| > |L| takes B


# anywhere.py --------------------------------------------------------------------------------------------


@needs_fast_build
def test_anywhere(load, tmp_path):
    options = ("--families", "few,sizes", "--largest", 2e4, "--threads", 1, "--seconds", 0.01)
    operations = ",".join(registry.TABLES)
    done = run("anywhere.py", *options, "--operations", operations, "--records", tmp_path)
    assert done.returncode == 0, done.stderr
    assert {record["cell"]["operation"] for record in records(tmp_path, "anywhere")} == set(registry.TABLES)
    asked = load("anywhere").asked(load("_store").Store("anywhere", tmp_path).find())
    assert {"auto call", "auto plan", "fast call", "fast plan"} == {question for _, question, *_ in asked}
    assert all(ratio >= 1 and rival in registry.every_name() for *_, ratio, rival in asked)


def test_anywhere_asks_who_is_faster(load):
    anywhere = load("anywhere")
    best = {("call", "auto"): 3.0, ("call", "mec"): 2.0, ("call", "fft"): 1.0, ("call", "fast"): 1.5,
            ("peer", "torch"): 4.0, ("peer", "ndimage"): 6.0}  # fmt: skip
    assert anywhere.ratios_of(best, "conv2d") == {
        "auto call": (1.5, "mec"),
        "fast call": (1.5, "fft"),
        "auto beside others": (0.75, "torch"),
    }


def test_anywhere_has_some_300_shapes_and_no_wrong_answer(load):
    anywhere = load("anywhere")
    shapes = [shape for family in anywhere.FAMILIES.values() for shape in family.shapes()]
    assert len(set(shapes)) == len(shapes) >= 300
    problem = anywhere.Problem("conv2d", shapes[0])
    answer = problem.call("auto", 1)()
    problem.check(answer, "auto", "NHWC")
    with pytest.raises(SystemExit, match="wrong answer: auto is off"):
        problem.check(answer + 0.01, "auto", "NHWC")


@pytest.mark.parametrize("operation", registry.TABLES)
def test_anywhere_checks_answers_in_planes(load, operation):
    problem = load("anywhere").Problem(
        operation, replace(pymec.ConvShape.from_shapes((2, 6, 7, 4), (3, 2, 4, 5)), layout="NCHW")
    )
    for way in ("call", "plan"):
        for layout in ("NCHW", "NHWC"):
            problem.check(getattr(problem, way)("auto", 1, layout)(), "auto", layout)


# large.py -----------------------------------------------------------------------------------------------


@needs_fast_build
def test_large(load, capsys, tmp_path):
    quick = ["--cases", "cv9_float64,cv12_float64", "--threads", "1", "--seconds", "0.02"]
    assert load("large").main([*quick, "--records", str(tmp_path)]) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| cv")]
    assert [row[1].strip() for row in rows] == ["cv9_float64", "cv12_float64"]
    assert all(float(cell) > 0 for row in rows for cell in row[3:6])


# mechanisms.py ------------------------------------------------------------------------------------------


@needs_fast_build
def test_mechanisms(load, capsys, tmp_path):
    mechanisms = load("mechanisms")
    arguments = ["--mechanisms", "window,group_grad_rows", "--threads", "1", "--seconds", "0.01"]
    assert mechanisms.main([*arguments, "--records", str(tmp_path)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + len(mechanisms.MECHANISMS["window"][1] + mechanisms.MECHANISMS["group_grad_rows"][1])
    assert all(float(line.split("|")[-2]) > 0 for line in lines[2:])


def test_mechanisms_time_no_wrong_answer(load, monkeypatch):
    mechanisms = load("mechanisms")
    monkeypatch.setattr(mechanisms.reference, "error_bound", lambda *arguments: 0)
    with pytest.raises(SystemExit, match="wrong answer: resnet50.conv1 without window"):
        mechanisms.contenders({"mechanism": "window", "layer": "resnet50.conv1", "n_threads": 1})


# networks.py --------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="networks.py reads /proc")
def test_networks_agree_and_take_less_than_all_feature_maps(load, tmp_path):
    """Of MobileNetV2's feature maps few are alive at a time; Winograd's answers are as close as its bound says."""
    networks = load("networks")
    answers = [tmp_path / f"{way}.npy" for way in ("calls", "plans", "fast plans")]
    peaks = [networks.measure("MobileNetV2", answer.stem, 1, 1, answer)["peak"] for answer in answers]
    networks.agree(answers, [answer.stem for answer in answers])
    all_maps = 4 * 112 * 112 * (32 + 32 + 16 + 96)
    assert 4 * 112 * 112 * 96 < min(peaks) <= max(peaks) < 4 * all_maps
    np.save(answers[2], 1.01 * np.load(answers[2]))
    with pytest.raises(SystemExit, match="fast plans differs from calls by 1"):
        networks.agree(answers, [answer.stem for answer in answers])


def test_max_pooling_of_even_and_odd_images(load):
    library = load("networks").Calls(1)
    for h, w in ((6, 6), (7, 5), (1, 2)):
        x = np.random.default_rng(0).random((2, h, w, 3), np.float32)
        padded = np.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0)))
        out = [
            [padded[:, 2 * y : 2 * y + 3, 2 * z : 2 * z + 3].max((1, 2)) for z in range((w + 1) // 2)]
            for y in range((h + 1) // 2)
        ]
        np.testing.assert_array_equal(library.max_pool(x), np.moveaxis(np.array(out), 2, 0))


def test_a_list_may_name_a_network():
    common = runpy.run_path(str(PROFILING / "_common.py"))
    parse = common["comma_list"](pymec.layers.names())
    assert parse("cv1,resnext50.conv2_3x3") == ["cv1", "resnext50.conv2_3x3"]
    assert len(parse("unet")) == 19
    assert parse("all") == list(pymec.layers.names())
    assert parse("paper") == list(pymec.layers.PAPER)
    with pytest.raises(common["argparse"].ArgumentTypeError, match="'unets' is none of cv1"):
        parse("unets")


# gradients.py -------------------------------------------------------------------------------------------


@needs_fast_build
def test_gradients_say_what_is_not_installed(load, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit, match="pip install torch"):
        load("gradients").main(["--layers", "cv12", "--threads", "1", "--records", str(tmp_path)])


def test_gradients_are_checked(load, monkeypatch):
    """One gradient of pymec is made wrong here, and the error names it; exact ones replace torch's."""
    gradients = load("gradients")

    def exact(gradient, shape, x, kernel, grad_out, n_threads):
        right = pymec.reference.input_grad(grad_out, kernel, shape)
        return lambda: right if gradient == "input" else pymec.reference.kernel_grad(x, grad_out, shape)

    def wrong(gradient, shape, x, kernel, grad_out, n_threads):
        call = exact(gradient, shape, x, kernel, grad_out, n_threads)
        return call if gradient == "input" else lambda: 1.01 * call()

    monkeypatch.setattr(gradients, "torch_gradient", exact)
    shape = pymec.ConvShape.from_shapes((1, 9, 9, 16), (3, 3, 4, 16), groups=4)
    made = gradients.gradients_of(shape, 1)
    assert list(made) == ["input, pymec", "input, torch", "kernel, pymec", "kernel, torch"]
    assert made["kernel, pymec"].by.endswith(":conv2d_kernel_grad")
    monkeypatch.setattr(gradients, "pymec_gradient", wrong)
    with pytest.raises(SystemExit, match="pymec's gradient of the kernel is beyond the error bound"):
        gradients.gradients_of(shape, 1)


def test_tables_of_gradients(load, tmp_path):
    """torch needs twice pymec's time for the input's gradient, and half of it for the kernel's."""
    gradients, store = load("gradients"), load("_store").Store("gradients", tmp_path)
    names = ("input, pymec", "input, torch", "kernel, pymec", "kernel, torch")
    values = {name: {"best": s, "median": s, "by": None} for name, s in zip(names, (1, 2, 2, 1), strict=True)}
    for layer in ("cv1", "cv12", "unet.conv1_1"):
        store.add({"layer": layer, "i_n": 1, "n_threads": 2}, values, how={"seconds": 1})
    (table,) = gradients.summary(store.find())
    assert table.rows == [
        [
            "the paper's twelve, 2 layers",
            "1",
            "2",
            "2.00",
            "2.00 (cv1)",
            "2.00 (cv1)",
            "0.50",
            "0.50 (cv1)",
            "0.50 (cv1)",
        ],
        ["unet, 1 layer", "1", "2", "2.00", *["2.00 (conv1_1)"] * 2, "0.50", *["0.50 (conv1_1)"] * 2],
    ]
    rows = table_rows("\n".join(map(str, gradients.tables(store.find()))))
    assert rows["cv12"] == ["1000000", "2000000", "2.00", "2000000", "1000000", "0.50"]


def test_comparisons_are_with_the_best_of_each_kind(load, tmp_path):
    compare, store = load("compare"), load("_store").Store("compare", tmp_path)
    seconds = {"FMA limit": 0.5, "pymec plan": 1, "pymec plan, fast": 0.5, "torch channels-last": 2, "ncnn": 0.25}
    values = {name: {"best": s, "median": s, "by": None} for name, s in {**seconds, "onnxruntime": 1.5}.items()}
    store.add({"layer": "cv9", "i_n": 1, "n_threads": 1}, values, how={"seconds": 1, "flops": 1e9, "peers": {}})
    (table,) = compare.summary(store.find())
    assert {row[0]: row[4] for row in table.rows} == {
        "pymec conv2d ÷ torch channels-last": "-",
        "pymec plan ÷ torch channels-last": "2.00",
        "pymec plan ÷ the best exact peer": "1.50",
        "pymec plan ÷ the machine's limit": "0.50",
        "pymec plan, fast ÷ the best peer": "0.50",
    }


# gemm_regimes.py ----------------------------------------------------------------------------------------


@pytest.fixture
def table_of_limits(monkeypatch, tmp_path):
    """A table for this test alone, with an entry for one other BLAS."""
    monkeypatch.setattr(blas_limits, "SMALL_PRODUCTS", tmp_path / "small_products.json")
    blas_limits.SMALL_PRODUCTS.write_text('{"another": 5}')
    blas_limits.known_small_product.cache_clear()
    yield blas_limits.SMALL_PRODUCTS
    blas_limits.known_small_product.cache_clear()


@needs_fast_build
def test_gemm_regimes(load, tmp_path, table_of_limits):
    """Every answer is checked.  The run is too short to find the limit, which is not tested here."""
    regimes = load("gemm_regimes")
    regimes.main(["--dtype", "float32", "--seconds", "0.001", "--records", str(tmp_path)])
    found = records(tmp_path, "gemm_regimes")
    assert len(found) == len(regimes.SHAPES)
    for record in found:
        rates = regimes.rates(record["cell"]["m"], record["cell"]["n"], record["values"])
        assert tuple(rates) == regimes.SIZES
        assert min(rates.values()) > 0
    assert json.loads(table_of_limits.read_text()) == {"another": 5}


def test_a_limit_that_was_written_is_what_products_are_cut_for(load, table_of_limits, capsys):
    conclude = load("gemm_regimes").conclude
    assert (blas_limits.known_small_product(), blas_limits.small_product()) == (None, 1_000_000)
    assert conclude(260_000, write=False) == 1
    assert conclude(None, write=True) == 1
    assert not blas_limits.blas_multiplies_small_products_unpacked()
    assert conclude(260_000, write=True) == 0
    assert conclude(260_000, write=False) == 0
    assert "pymec knows" in capsys.readouterr().out
    assert json.loads(table_of_limits.read_text()) == {"another": 5, blas_limits.blas_name(): 260_000}
    assert conclude(0, write=False) == 1
    shape = pymec.layers.get("cv9").shape()
    blocking = small_blas_products(shape, shape.o_w, 1)
    assert 130_000 < blocking.reduction * blocking.columns * blocking.channels <= 260_000
    assert blas_limits.blas_multiplies_small_products_unpacked()
    assert conclude(0, write=True) == 0
    assert blas_limits.known_small_product() == 0
    assert not blas_limits.blas_multiplies_small_products_unpacked()


def test_where_a_rate_falls_most(load):
    limit_of = load("gemm_regimes").limit_of
    assert limit_of({50: 100, 95: 110, 105: 60, 200: 50}) == (95, 105)
    assert limit_of({50: 100, 95: 110, 105: 105, 200: 60}) == (105, 200)
    assert limit_of({50: 100, 95: 110, 105: 105, 200: 120}) is None


def test_the_sizes_around_a_limit_come_closer(load, monkeypatch):
    regimes = load("gemm_regimes")
    limit = 262_144
    monkeypatch.setattr(regimes, "timed_products", lambda m, n, dtype, sizes, seconds: sizes)
    monkeypatch.setattr(regimes, "rates", lambda m, n, sizes: {s: 110 if s <= limit else 66 for s in sizes})
    low, high = regimes.narrowed((28, 64, "float32"), (250_000, 353_553), 0)
    assert low <= limit < high <= 1.03 * low
    assert low % (28 * 64) == high % (28 * 64) == 0
    assert regimes.narrowed((28, 64, "float32"), None, 0) is None


def test_the_roundest_number_between_all_pairs(load):
    limit_between = load("gemm_regimes").limit_between
    assert limit_between([(983_040, 1_002_496), (999_000, 1_020_000)]) == 1_000_000
    assert limit_between([(258_048, 265_216), (261_000, 263_000)]) == 262_000
    assert limit_between([None, None]) == 0
    assert limit_between([None, (1, 2)]) is None
    assert limit_between([(1000, 1100), (2000, 2200)]) is None


# atlas.py -----------------------------------------------------------------------------------------------


@needs_fast_build
@pytest.mark.slow
def test_atlas(load, tmp_path, capsys):
    quick = ["--layers", "cv12", "--threads", "1", "--seconds", "0.01", "--records", str(tmp_path)]
    assert load("atlas").main(quick) == 0
    found = {record["cell"]["operation"]: record for record in records(tmp_path, "atlas")}
    shape = pymec.layers.get("cv12").shape()
    for operation, table in pymec.registry.TABLES.items():
        names = [name for name, row in table.items() if row.unsupported(shape) is None]
        assert list(found[operation]["values"]) == names
        assert list(found[operation]["kernels"]) == [f"{name}:{operation}" for name in names]
    forward = capsys.readouterr().out.split("conv2d_input_grad")[0]
    record = found["conv2d"]
    rates = {name: 1e-9 * record["how"]["flops"] / value["best"] for name, value in record["values"].items()}
    fastest = max(rates, key=rates.get)
    assert table_rows(forward)[f"`{fastest}`"] == [f"**{rates[fastest]:.0f}**"]


@needs_fast_build
def test_atlas_times_no_wrong_answer(load):
    atlas = load("atlas")
    problem = atlas.Problem("conv2d", pymec.ConvShape.from_shapes((1, 6, 6, 2), (3, 3, 2, 3)))
    problem.expected += 1e-3
    with pytest.raises(SystemExit, match="wrong answer: conv2d by direct"):
        problem.contenders(1)


# compare.py ---------------------------------------------------------------------------------------------


@needs_fast_build
def test_compare_with_numpy(tmp_path):
    figure = tmp_path / "compare.svg"
    chosen = (
        "--layers",
        "cv12",
        "--threads",
        "1",
        "--peers",
        "numpy im2col,ncnn",
        "--algorithms",
        "mec,depthwise",
    )
    done = run("compare.py", *chosen, "--seconds", "0.02", "--records", tmp_path, "--figure", figure)
    assert "pip install ncnn" in done.stdout or importlib.util.find_spec("ncnn")
    (record,) = records(tmp_path, "compare")
    values = record["values"]
    names = {"FMA limit", "pymec conv2d", "pymec plan", "pymec plan, fast", "pymec mec", "numpy im2col"}
    assert values.keys() - {"ncnn"} == names
    assert all(value["error"] < 1e-4 for name, value in values.items() if name != "FMA limit")
    assert values["pymec mec"]["by"] == "mec"
    assert values["pymec plan"]["by"] in record["kernels"]
    limit = 1e-9 * values["FMA limit"]["flops"] / values["FMA limit"]["best"]
    plan = 1e-9 * record["how"]["flops"] / values["pymec plan"]["best"]
    rows = table_rows(done.stdout)
    assert rows["FMA limit"] == [f"{limit:.0f}"]
    assert rows["pymec plan ÷ the machine's limit"][3:] == [
        f"{plan / limit:.2f}",
        *[f"{plan / limit:.2f} (cv12)"] * 2,
    ]
    assert figure.read_text().startswith("<?xml")


@needs_fast_build
def test_compare_times_no_wrong_answer(load, monkeypatch):
    compare, peers = load("compare"), load("_peers")

    def wrong(s, x, kernel, n_threads):
        return peers.Call(lambda: np.zeros(s.output_shape, np.float32), np.asarray)

    monkeypatch.setitem(compare.PEERS, "wrong", (wrong, ""))
    monkeypatch.setattr(compare.os, "sched_setaffinity", lambda *_: None)  # this process is to keep its CPUs
    job = {"layer": "cv12", "i_n": 1, "n_threads": 1, "algorithms": [], "peers": ["wrong"]}
    job |= {"seconds": 0.01, "longest": 1.0, "patience": 1, "share": 0.5, "no_wait": False}
    found = compare.measure(job)
    assert list(found["wrong"]) == ["wrong"]
    assert "wrong" not in found["values"]


@needs_fast_build
def test_compare_names_what_it_could_not_time_and_tries_again(load, monkeypatch, tmp_path, capsys):
    """Patience that runs out in the fresh process is the script's concern: the record is shown, but not known."""
    compare = load("compare")
    made = []

    def busy(cell, options):
        made.append(cell)
        values = {"pymec plan": {"best": 1.0, "median": 1.0, "calls": 3, "by": "mec"}} if len(made) > 1 else {}
        found = {"values": values, "wrong": {}, "notes": {}, "canary": {}, "flops": 1, "peers": {}}
        return found | {"cut_short": len(made) < 3}

    monkeypatch.setattr(compare, "in_fresh_process", busy)
    given = ["--layers", "cv9", "--threads", "1", "--algorithms", "mec", "--records", str(tmp_path)]
    for status in (1, 1, 0):
        assert compare.main(given) == status
        assert ("not timed undisturbed: cv9 1 1\n" in capsys.readouterr().err) == bool(status)


@needs_fast_build
def test_the_machines_limit_is_reached_by_multiply_adds():
    from pymec.kernels.register_tiles import peak as _peak

    for dtype in ("float32", "float64"):
        results = np.zeros((2, 416), dtype)
        _peak.run(results, 1000, 2)
        np.testing.assert_array_equal(results[:, 0], 24)
    with pytest.raises(ValueError, match="results must have 2 rows of 416, got 1 × 416"):
        _peak.run(np.zeros((1, 416)), 10, 2)


# ladder.py, winograd_choice.py --------------------------------------------------------------------------


@needs_fast_build
def test_ladder(tmp_path):
    chosen = ("--layers", "cv11,cv12", "--threads", "1", "--seconds", "0.02")
    done = run("ladder.py", *chosen, "--records", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = table_rows(done.stdout)
    assert rows["im2col"][-1] == "1.00"
    for step in ("published", "small products", "registers", "bands", "no lowering", "panels", "Winograd"):
        assert all(float(cell) > 0 for cell in rows[step])


@needs_fast_build
def test_winograd_choice(tmp_path):
    chosen = ("--layers", "cv11", "--threads", "1", "--seconds", "0.02")
    done = run("winograd_choice.py", *chosen, "--records", tmp_path)
    assert done.returncode == 0, done.stderr
    cells = table_rows(done.stdout)["cv11"]
    assert len(cells) == 8
    assert sum(cell.startswith("**") for cell in cells) == 2
    assert re.search(r"the fastest of four in [01] of 1 layers; its choices take [\d.]+ times", done.stdout)


# bands.py -----------------------------------------------------------------------------------------------


@needs_fast_build
def test_bands_take_a_fraction_of_L(load, capsys, tmp_path):
    chosen = ["--layers", "cv11,cv12", "--threads", "1", "--fraction", "8", "--seconds", "0.02"]
    code = load("bands").main([*chosen, "--records", str(tmp_path)])
    printed = capsys.readouterr().out
    rows = table_rows(printed)
    assert code == 0
    assert 0 < float(rows["cv11"][4]) <= 1 / 8
    assert rows["cv12"][2] == "-"
    assert "- cv12: workspace_limit of 26880 bytes is too small: mec_banded needs at least" in printed


# all.py -------------------------------------------------------------------------------------------------


@needs_fast_build
def test_all_scripts_in_turn(load, monkeypatch, tmp_path, capfd):
    """What is known is not measured again, and steps' times are remembered; a quick run leaves README.md alone."""
    everything, tables = load("all"), load("tables")
    quick = "--algorithms mec --seconds 0.01"
    monkeypatch.setattr(everything, "STEPS", (("overhead", "--seconds 9", quick), ("speed", "--reuse", "")))
    monkeypatch.setattr(tables, "README", tmp_path / "README.md")
    tables.README.write_text("<!-- table overhead -->\n<!-- end -->\n")
    given = ["--quick", "--records", str(tmp_path)]
    assert everything.main(given) == 0
    assert "and 1 step that never ran" in capfd.readouterr().err
    assert "| mec " not in tables.README.read_text()
    first = (tmp_path / "overhead.jsonl").read_text()
    (step,) = records(tmp_path, "all")
    assert step["cell"] == {"script": "overhead", "options": quick}
    assert step["values"]["records"] == 1

    assert everything.main(given) == 0
    said = capfd.readouterr().err
    assert "[1/1] overhead --algorithms mec --seconds 0.01: at most 1 minute left\n" in said
    assert "1 cell, 1 of them known" in said
    assert (tmp_path / "overhead.jsonl").read_text() == first

    monkeypatch.setattr(everything, "STEPS", (("overhead", quick, ""),))
    assert everything.main(given[1:]) == 0
    assert "| mec " in tables.README.read_text()


def test_what_a_step_could_not_time_is_named(load, capfd):
    """It stands beside the exit status, when all that the steps have said has scrolled away."""
    everything = load("all")
    code = "import _timing; print('rows'); _timing.tell_missing([{'layer': 'cv9', 'n_threads': 2}]); sys.exit(1)"
    script = f"import sys; sys.path.insert(0, {str(PROFILING)!r}); {code}"
    assert everything.ran([sys.executable, "-c", script]) == (1, ["not timed undisturbed: cv9 2"])
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "not timed undisturbed: cv9 2\n")


def test_the_steps_are_scripts_and_options_that_these_have(load):
    everything = load("all")
    for script, *both in everything.STEPS:
        for given in both:
            if hasattr(load(script), "parse"):
                load(script).parse(shlex.split(given))


# versions.py -------------------------------------------------------------------------------------------


@needs_fast_build
def test_versions_times_two_builds_in_turns(tmp_path):
    """This build against itself: a ratio for what both can do, none for what neither can."""
    path = tmp_path / "versions.json"
    done = run_apart(
        "versions.py", "--old", sys.executable, "--layers", "cv12", "--threads", "1", "--seconds", "0.02",
        "--algorithms", "auto plan,mec,pointwise", "--turns", "2", "--json", path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = table_rows(done.stdout)
    assert set(rows) >= {"`auto plan`", "`mec`"}
    assert "`pointwise`" not in rows
    records = json.loads(path.read_text())["records"]
    assert {record["operation"] for record in records} == set(registry.TABLES)
    assert all(record["ratio"] == record["old"] / record["new"] > 0 for record in records)


def test_versions_stops_at_a_build_that_does_not_answer():
    done = run_apart("versions.py", "--old", "false", "--layers", "cv12", "--threads", "1")
    assert done.returncode != 0
    assert "a build has stopped with code 1" in done.stderr
