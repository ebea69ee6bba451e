"""``pymec.memory.track``: who had which byte of any code in memory, to the byte, by owner and by line."""

import html
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pymec

memray = pytest.importorskip("memray", reason="memray exists for Linux and macOS only")
pytest.importorskip("matplotlib")
from pymec import _build_info, memory  # noqa: E402
from pymec.cli import main  # noqa: E402
from pymec.memory.owners import NOBODY, OWNERS, Line, is_users, line_of, owner_of, package_of  # noqa: E402
from pymec.memory.scripts import run_script  # noqa: E402
from pymec.memory.timeline import timeline_of  # noqa: E402

pytestmark = pytest.mark.memory
# Blocks of exact size are np.empty's: np.ones makes an array of its number first, of a few bytes more or none.
KIND = memray.AllocatorType
EXAMPLES = Path(__file__).resolve().parent.parent / "profiling" / "examples"
FILE = "/home/user/net.py"

CNN = """
import numpy as np
import pymec

ones = lambda *shape: np.ones(shape, np.float32)


def network(x):
    x = pymec.conv2d(x, ones(3, 3, 16, 32), padding=1, algorithm="im2col", n_threads=1)
    x = np.maximum(x, 0)
    planes = x.transpose(0, 3, 1, 2)
    flat = planes.reshape(-1)  # a silent copy
    return flat[:5]


if __name__ == "__main__":
    print(network(ones(1, 64, 64, 16)).shape)
"""


@pytest.fixture
def cnn(tmp_path):
    path = tmp_path / "cnn.py"
    path.write_text(CNN)
    return path


def on_line(track, text):
    """The uses of the lines whose source holds a text, by owner."""
    from pymec.memory.tables import source_of

    return {owner: use for (line, owner), use in track.by_line.items() if text in source_of(line)}


# A script -------------------------------------------------------------------------------------------------


def test_the_silent_copy_of_a_small_network_is_found_by_its_line(cnn, capsys):
    status, track = run_script(cnn)
    assert status == 0
    assert capsys.readouterr().out == "(5,)\n"
    image = 4 * 64 * 64 * 32
    assert on_line(track, "planes.reshape(-1)")["numpy"].most == image
    assert "planes = x.transpose" not in track.table()  # a view
    call = on_line(track, "pymec.conv2d")
    lowered = pymec.workspace_size((1, 64, 64, 16), (3, 3, 16, 32), padding=1, algorithm="im2col", n_threads=1)
    assert lowered == 4 * 64 * 64 * 9 * 16
    assert call["workspace"].most == lowered
    assert call["output"].most == image
    (made,) = track.calls
    assert made.workspace == lowered
    assert track.peak == made.peak >= lowered + image + 4 * 64 * 64 * 16
    assert f"{track.peak:,} bytes" in track.table()


def test_a_workspace_that_is_gone_at_the_peak_is_shown(tmp_path):
    script = tmp_path / "late.py"
    script.write_text(
        "import numpy as np, pymec\n"
        "x, k = np.ones((1, 64, 64, 32), np.float32), np.ones((3, 3, 32, 32), np.float32)\n"
        "y = pymec.conv2d(x, k, algorithm='mec', n_threads=1)\n"
        "z = np.empty(10**7)\n"
    )
    _, track = run_script(script)
    use = on_line(track, "pymec.conv2d")["workspace"]
    size = pymec.workspace_size((1, 64, 64, 32), (3, 3, 32, 32), algorithm="mec", n_threads=1)
    assert use == (0, size)
    assert track.by_owner["workspace"] == (0, size)
    assert on_line(track, "np.empty(10**7)")["numpy"] == (8 * 10**7, 8 * 10**7)
    (call,) = track.calls
    assert size < call.peak < track.peak


def test_a_script_that_fails_is_shown_until_then(tmp_path, capsys):
    script = tmp_path / "wrong.py"
    script.write_text("import numpy as np\nx = np.empty(10**6)\nx.reshape(3)\n")
    status, track = run_script(script)
    assert status == 1
    assert on_line(track, "np.empty(10**6)")["numpy"].most == 8 * 10**6
    complaint = capsys.readouterr().err
    assert "cannot reshape" in complaint
    assert "scripts.py" not in complaint
    for code, expected in (("sys.exit(7)", 7), ("sys.exit('full')", 1), ("sys.exit()", 0)):
        script.write_text(f"import sys\n{code}\n")
        assert run_script(script)[0] == expected
    script.write_text("import numpy as np\nx = np.empty(10**6)\nraise KeyboardInterrupt\n")
    status, track = run_script(script)
    assert status == 130
    assert on_line(track, "np.empty(10**6)")["numpy"].most == 8 * 10**6
    with pytest.raises(ValueError, match="is a folder; name a Python file"):
        run_script(tmp_path)
    with pytest.raises(ValueError, match=r"script 'nowhere\.py' is no file"):
        run_script("nowhere.py")


def test_a_script_finds_its_arguments_and_its_folder(tmp_path, capsys, monkeypatch):
    (tmp_path / "beside.py").write_text("x = 5\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, pickle, threading, time, beside\n"
        "class Thing: pass\n"
        "again = pickle.loads(pickle.dumps(Thing()))\n"
        "print(sys.argv, beside.x, __name__, __file__ == sys.path[0] + '/script.py', type(again))\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('waited for'))).start()\n"
    )
    monkeypatch.chdir(tmp_path)
    before = sys.argv, sys.path[:], sys.modules["__main__"]
    run_script("script.py", ["--epochs", "1"])
    printed = capsys.readouterr().out
    assert printed == "['script.py', '--epochs', '1'] 5 __main__ True <class '__main__.Thing'>\nwaited for\n"
    assert (sys.argv, sys.path, sys.modules["__main__"]) == before


def test_a_child_that_a_script_forks_reports_nothing(tmp_path):
    script = tmp_path / "fork.py"
    script.write_text("import os\npid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\nprint('end')\n")
    command = [sys.executable, "-m", "pymec", "profile", "fork.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "end\nend\n"
    assert done.stderr.count("peak:") == 1


# A block --------------------------------------------------------------------------------------------------


def test_a_block_is_tracked_and_its_record_read_again(tmp_path):
    record = tmp_path / "out.bin"
    with memory.track(record) as track:
        kept = np.empty(10**6)
        del kept
        kept = np.zeros(10**5)
    again = memory.read(record)
    assert again.peak == track.peak >= 8 * 10**6
    assert again.by_line == track.by_line
    assert again.table() in track.table()  # which has a note more
    assert track.by_owner["numpy"] == (8 * 10**6, 8 * 10**6)
    assert kept.size == 10**5


def test_the_peak_is_what_memray_finds(tmp_path):
    record = tmp_path / "out.bin"
    x, kernel = np.ones((1, 40, 40, 16), np.float32), np.ones((3, 3, 16, 32), np.float32)
    with memory.track(record) as track:
        for name in pymec.algorithms():
            try:
                pymec.conv2d(x, kernel, algorithm=name, n_threads=2)
            except pymec.UnsupportedShape:
                continue
    with memray.FileReader(record) as reader:
        found = sum(block.size for block in reader.get_high_watermark_allocation_records(merge_threads=True))
        assert track.peak == found == reader.metadata.peak_memory
    assert sum(use.at_peak for use in track.by_owner.values()) == found
    assert sum(use.at_peak for use in track.by_line.values()) == found


def test_transforms_and_kept_kernels_have_owners():
    import scipy.fft

    x, kernel = np.ones((1, 32, 32, 32), np.float32), np.ones((3, 3, 32, 64), np.float32)
    with memory.track() as track:
        plan = pymec.plan(x.shape, kernel.shape, n_threads=1).prepare(kernel)
        spectrum = scipy.fft.fft(np.zeros(2**16, np.complex128))
    assert track.by_owner["plans"].most == plan.prepared_nbytes > 0
    assert track.by_owner["fft"].most >= spectrum.nbytes
    assert track.by_owner["numpy"].most == spectrum.nbytes  # the argument


def test_threads_of_a_pool_count():
    from concurrent.futures import ThreadPoolExecutor

    with memory.track() as track, ThreadPoolExecutor(2) as pool:
        list(pool.map(np.empty, [10**6, 10**6]))
    assert 8 * 10**6 <= track.by_owner["numpy"].most <= 16 * 10**6


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.3.0", reason="before 2.3 such a product is a loop")
def test_what_a_product_copies_is_numpys():
    """A product of a view whose rows overlap: BLAS can't take it, and NumPy copies it."""
    numbers, kernel = np.ones(56 * 64, np.float32), np.ones((192, 64), np.float32)
    view = np.lib.stride_tricks.as_strided(numbers, (54, 192), (64 * 4, 4), writeable=False)
    out = np.empty((54, 64), np.float32)
    with memory.track(n_threads=1) as t:
        np.matmul(view, kernel, out=out)
    assert t.by_owner["numpy"].most >= view.nbytes


def test_a_second_tracker_steps_aside():
    warned = pytest.warns(RuntimeWarning, match="another tracker of memray's is at work")
    with memory.track() as outer, warned, memory.track() as inner:
        kept = np.empty(10**6)
    assert outer.by_owner["numpy"].most == kept.nbytes
    with pytest.raises(RuntimeError, match="nothing was tracked: another tracker of memray's is at work"):
        inner.peak  # noqa: B018
    assert str(inner).startswith("nothing was tracked: another tracker")
    assert inner._repr_html_().startswith("<p>nothing was tracked: another tracker")


def test_a_track_says_what_was_wrong(tmp_path):
    with pytest.raises(RuntimeError, match="the block has not begun or not ended yet"):
        memory.track().peak  # noqa: B018
    with memory.track() as track:
        pass
    assert track.record is not None
    assert "<svg" in track._repr_html_()  # an empty plot
    with pytest.raises(ValueError, match="has been tracked already"), track:
        pass
    with pytest.raises(ValueError, match="record must be a file's path, got '', which is a folder"):
        memory.track("")
    (tmp_path / "there.bin").write_text("")
    with pytest.raises(ValueError, match=r"record .*there\.bin' exists already"):
        memory.track(tmp_path / "there.bin")
    for wrong in (True, -1, 1.5, "2"):
        with pytest.raises(ValueError, match="n_threads must be an integer of at least 0, or None"):
            memory.track(n_threads=wrong)
    with pytest.raises(ValueError, match=r"record .*there\.bin' can't be read as a record of memray's"):
        memory.read(tmp_path / "there.bin")
    with pytest.raises(ValueError, match=r"record .*nowhere' can't be read"):
        memory.read(tmp_path / "nowhere")
    with pytest.raises(TypeError, match="record must be a path, got int"):
        memory.read(3)
    aggregated = tmp_path / "aggregated.bin"
    with memray.Tracker(aggregated, file_format=memray.FileFormat.AGGREGATED_ALLOCATIONS):
        np.empty(10**6)
    with pytest.raises(ValueError, match="is aggregated, its events are gone"):
        memory.read(aggregated)


def test_an_error_in_the_block_passes_and_the_track_stays():
    def fails():
        np.empty(10**6)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), memory.track() as track:
        fails()
    assert track.by_owner["numpy"].most == 8 * 10**6


def test_without_native_stacks_python_lines_decide(tmp_path):
    record = tmp_path / "plain.bin"
    with memray.Tracker(record):
        kept = np.empty(10**6)
    track = memory.read(record)
    assert sum(use.most for use in track.by_line.values()) >= kept.nbytes
    assert "no native stacks" in track.table()


def test_what_the_block_itself_asks_for_is_on_its_lines():
    """No frame of pymec's stands between the block and memray's tracker."""
    with memory.track() as track:
        first = np.empty(10**6, np.uint8)
        second = pymec.conv2d(np.ones((1, 20, 20, 16), np.float32), np.ones((3, 3, 16, 16), np.float32))
    assert on_line(track, "first = np.empty(10**6, np.uint8)")["numpy"].most == first.nbytes
    assert on_line(track, "second = pymec.conv2d")["output"].most == second.nbytes
    # Other threads of the process may ask for a little meanwhile.
    large = {line for (line, _), use in track.by_line.items() if use.most >= 2**12}
    assert {line.file for line in large} == {__file__}


def test_small_blocks_of_one_line_are_looked_at_together():
    def many():
        return [np.empty(2000, np.uint8) for _ in range(1000)]

    with memory.track() as track:
        kept = many()
        grown = []
        for _ in range(10**5):
            grown.append(None)
    assert 2000 * len(kept) <= on_line(track, "np.empty(2000, np.uint8)")["numpy"].most < 2100 * len(kept)
    assert on_line(track, "grown.append(None)")["python"].most >= 8 * len(grown)


def test_many_mappings_take_no_longer_each():
    address, size = 4096, 4096
    records = [record(KIND.MMAP, address * (2 * i + 1), size, 1) for i in range(30_000)]
    records += [record(KIND.MUNMAP, address * (2 * i + 1), size, None) for i in range(30_000)]
    timeline = timeline_of(records)
    assert timeline.peak == 30_000 * size
    assert timeline.in_memory[-1] == 0


# What it shows --------------------------------------------------------------------------------------------


def test_page_and_plot(tmp_path, cnn):
    _, track = run_script(cnn)
    page = track.save_page(tmp_path / "page.html", "<b>mine</b>").read_text()
    assert "<h1>&lt;b&gt;mine&lt;/b&gt;</h1>" in page
    assert html.escape("flat = planes.reshape(-1)  # a silent copy") in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<svg") == 1
    part = track._repr_html_()
    assert part.startswith("<div") and "<html" not in part
    axes = track.plot()
    heights = {text.get_text() for text in axes.get_legend().get_texts()}
    assert heights == {OWNERS[name] for name in track.by_owner}
    assert axes.get_ylim()[1] == pytest.approx(1.15 * track.peak / 2**20)
    with pytest.raises(ValueError, match="exists already"):
        track.save_page(tmp_path / "page.html")


def test_plots_of_many_events_keep_the_peak():
    from pymec.memory import drawing

    heights = np.random.default_rng(0).integers(0, 10**6, 10 * drawing.MOST_POINTS)
    shown = drawing._shown(heights)
    assert len(shown) == drawing.MOST_POINTS
    assert (np.diff(shown) > 0).all()
    assert heights[shown].max() == heights.max()


@pytest.mark.slow
def test_flame_graphs_are_memrays(tmp_path, cnn):
    _, track = run_script(cnn)
    for temporal in (False, True):
        page = track.flamegraph(tmp_path / f"flame{temporal}.html", temporal=temporal).read_text()
        assert "allocate_workspace" in page
        assert not re.search(r"<script[^>]* src=|<link[^>]* href=", page)  # nothing is loaded
        assert ("plotly.js" in page) == temporal  # most of memray's scripts: only the slider needs them
        assert (len(page) < 2**20) != temporal


# From the shell -------------------------------------------------------------------------------------------


def test_profile_runs_a_script(tmp_path, cnn, capsys):
    page, record = tmp_path / "page.html", tmp_path / "record.bin"
    assert main(["profile", "--output", str(page), "--record", str(record), str(cnn)]) == 0
    printed = capsys.readouterr()
    assert printed.out == "(5,)\n"
    assert "planes.reshape(-1)" in printed.err
    assert "a silent copy" in page.read_text()
    assert main(["profile", "--output", str(page), "--read", str(record)]) == 2
    assert "exists already; name another file, or give --force" in capsys.readouterr().err
    assert main(["profile", "--output", str(page), "--force", "--read", str(record)]) == 0
    assert "planes.reshape(-1)" in capsys.readouterr().out
    for arguments in ([], ["--read", str(record), str(cnn)]):
        assert main(["profile", *arguments]) == 2
        assert "name a script to run, or give --read" in capsys.readouterr().err
    for arguments, said in (
        (["--read", "nowhere"], "--read 'nowhere' can't be read as a record"),
        (["--read", str(record), "--record", "x"], "--record goes with a script"),
        (["--output", str(tmp_path), str(cnn)], "is a folder; name a file"),
    ):
        assert main(["profile", *arguments]) == 2
        assert said in capsys.readouterr().err
    assert main(["profile", "nowhere.py"]) == 2
    assert "script 'nowhere.py' is no file" in capsys.readouterr().err


# The examples ---------------------------------------------------------------------------------------------


def test_the_example_of_a_small_network(capsys):
    _, track = run_script(EXAMPLES / "small_cnn.py")
    assert capsys.readouterr().out == "scores: (1, 10)\n"
    copied = on_line(track, "x.transpose(0, 3, 1, 2).reshape(len(x), -1)")["numpy"]
    assert copied.most == 4 * 112 * 112 * 64
    convolved = on_line(track, "pymec.conv2d(x, kernel")["workspace"]
    assert convolved.most == 4 * 112 * 112 * 9 * 64


def test_the_example_of_a_limit_fails_for_im2col_and_passes_for_mec(tmp_path):
    pytest.importorskip("pytest_memray")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--memray",
        "-q",
        "-o",
        f"cache_dir={tmp_path}",
        "test_memory_limit.py",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=EXAMPLES)
    assert "test_memory_limit.py::test_im2col_keeps_the_limit" in done.stdout
    assert "1 failed, 1 passed" in done.stdout
    assert "Test was limited to 2.0MiB but allocated 3.3MiB" in done.stdout


# Side by side ---------------------------------------------------------------------------------------------


def test_two_reports_side_by_side(capsys):
    shape = pymec.ConvShape.from_shapes((1, 20, 20, 8), (3, 3, 8, 16))
    with memory.side_by_side(2) as submit:
        jobs = [submit(shape, name, n_threads=1) for name in ("im2col", "mec")]
        first, second = (job.result() for job in jobs)
    compared = memory.compare(first, second)
    assert compared.names == ("im2col", "mec")
    of = {row.what: row for row in compared.rows}
    assert of["workspace"][1:] == (4 * 18 * 18 * 9 * 8, 4 * 18 * 20 * 3 * 8)
    assert of["workspace"].difference == second.workspace - first.workspace
    assert of["peak"][1:] == (first.peak, second.peak)
    assert f"{second.workspace / first.workspace:.2f}×" in compared.table()
    assert "<td>workspace</td>" in compared._repr_html_()
    arguments = "measure --input 1,20,20,8 --kernel 3,3,8,16 --algorithm mec --against im2col --threads 1"
    assert main(arguments.split()) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["im2col", "mec", "difference", "times"]
    assert main(f"{arguments} --json".split()) == 0
    assert '"algorithm": "im2col"' in capsys.readouterr().out
    assert main(["measure", "cv12", "--against", "mecc"]) == 2
    assert "--against must be 'auto' or one of" in capsys.readouterr().err


def test_two_blocks_side_by_side(tmp_path):
    tracks = []
    for factor in (1, 3):
        script = tmp_path / f"script{factor}.py"
        more = "y = x.copy()\n" if factor > 1 else ""
        script.write_text(f"import numpy as np\nn = {10**5 * factor}\nx = np.empty(n)\n{more}")
        tracks.append(run_script(script)[1])
    compared = memory.compare(*tracks, names=("before", "after"))
    of = {row.what: row for row in compared.rows}
    assert of["NumPy: x = np.empty(n)"][1:] == (8 * 10**5, 24 * 10**5)
    assert of["NumPy: y = x.copy()"][1:] == (0, 24 * 10**5)
    assert of["NumPy"][1:] == (8 * 10**5, 48 * 10**5)
    assert of["peak"][1:] == tuple(track.peak for track in tracks)
    assert compared.table().splitlines()[0].split() == ["before", "after", "difference", "times"]
    with pytest.raises(ValueError, match="names must be two texts, got 'ab'"):
        memory.compare(*tracks, names="ab")
    with pytest.raises(TypeError, match="must be two MemoryReports or two Tracks, got track and int"):
        memory.compare(tracks[0], 3)


# BLAS -----------------------------------------------------------------------------------------------------


def test_after_a_warm_up_no_call_pays_for_blas_on_a_busy_machine(tmp_path):
    """Two threads multiply while other processes keep both CPUs busy: no BLAS maps buffers, 32 MiB for a thread.

    What NumPy's OpenBLAS asks for is a table by which the threads of one product share it, for every product anew.
    """
    code = (
        "import numpy as np, pymec\n"
        "from pymec import memory\n"
        "x, k = np.ones((1, 7, 7, 512), np.float32), np.ones((3, 3, 512, 512), np.float32)\n"
        "with memory.track(n_threads=2) as t:\n"
        "    for _ in range(20):\n"
        "        pymec.conv2d(x, k, algorithm='mec_b', n_threads=2)\n"
        "print(t.by_owner.get('blas', (0, 0))[1])\n"
        "def numpys():\n"
        "    with memory.track(n_threads=2) as t:\n"
        "        x.reshape(49, 512) @ k[0, 0]\n"
        "    return t.by_owner.get('blas', (0, 0))[1]\n"
        "first = numpys()\n"
        "print(first - numpys())\n"
    )
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        for _ in range(3):
            command = [sys.executable, "-c", code]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
            assert done.stdout == "0\n0\n"
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_native_stacks_name_lines_of_pyx_files_in_a_profiling_build(tmp_path):
    """The buffer that BLAS maps for the first product is asked for below blas.pyx; other builds name a C file."""
    code = (
        "import memray, numpy as np, pymec\n"
        "x, k = np.ones((1, 64, 64, 64), np.float32), np.ones((3, 3, 64, 64), np.float32)\n"
        "with memray.Tracker('out.bin', native_traces=True):\n"
        "    pymec.conv2d(x, k, algorithm='im2col', n_threads=1)\n"
        "with memray.FileReader('out.bin') as reader:\n"
        "    for block in reader.get_allocation_records():\n"
        "        stack = block.native_stack_trace() if block.size >= 2**20 else []\n"
        "        print(*(file for function, file, line in stack if 'gemm_rowmajor' in function and line > 0))\n"
    )
    command = [sys.executable, "-c", code]
    files = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.split()
    assert files
    assert {Path(file).name for file in files} == {"blas.pyx" if _build_info.PROFILE else "blas.c"}


def test_warm_up_says_for_how_many_threads():
    assert memory.warm_up(1) == 1
    assert memory.warm_up(3) == pymec.plan((1, 9, 9, 8), (3, 3, 8, 8), n_threads=3).n_threads
    with pytest.raises(ValueError, match="n_threads must be a positive integer"):
        memory.warm_up(0)


# Owners and lines -----------------------------------------------------------------------------------------


def test_owners():
    workspace = str(Path(pymec.__file__).parent / "workspace.py")
    mine = ("main", FILE, 3)
    assert owner_of([("allocate_workspace", workspace, 9), mine], ["PyDataMem_UserNEW"]) == "workspace"
    assert owner_of([("allocate_output", workspace, 9), mine], ["PyDataMem_UserNEW"]) == "output"
    assert owner_of([mine], ["alloc_mmap", "blas_memory_alloc", "gemm_driver"]) == "blas"
    assert owner_of([], ["alloc_mmap", "blas_thread_server"]) == "blas"
    assert owner_of([mine], ["posix_memalign", "c10::alloc_cpu(unsigned long)"]) == "torch"
    assert owner_of([mine], ["default_malloc", "PyDataMem_UserNEW", "array_empty"]) == "numpy"
    assert owner_of([("zeros", "/x/site-packages/numpy/core/numeric.py", 3), mine], []) == "numpy"
    assert owner_of([("fftn", "/x/site-packages/scipy/fft/_basic.py", 3), mine], []) == "fft"
    assert owner_of([mine], ["_PyObject_Malloc", "PyList_New"]) == "python"
    assert owner_of([mine], ["sgemm_thread_nn", "scipy_cblas_sgemm64_", "FLOAT_matmul"]) == "blas"
    assert owner_of([mine], ["FLOAT_matmul", "generic_wrapped_legacy_loop", "PyObject_Call"]) == "numpy"
    assert owner_of([mine], ["_PyObject_New", "long_add", "PyNumber_Add", "PyUFunc_O_O"]) == "python"
    assert owner_of([], ["malloc", "pocketfft::detail::arr<float>::ralloc"]) == "fft"  # of its own threads
    assert owner_of([mine], ["malloc", "some_library"]) == "other"
    assert owner_of([], []) == "other"


def test_the_users_line_is_the_innermost_of_nobodys_package():
    numpy_file, own = np.__file__, Path(pymec.__file__).parent / "conv.py"
    stack = [("zeros", numpy_file, 3), ("conv2d", str(own), 4), ("layer", FILE, 5), ("main", FILE, 9)]
    assert line_of(stack) == Line(FILE, 5, "layer")
    assert str(line_of(stack)) == "net.py:5"
    assert not is_users(numpy_file)
    assert not is_users(os.__file__)
    assert not is_users("<frozen runpy>")
    assert is_users("/tmp/ipykernel_3/77.py")
    assert line_of(stack[:2]) == NOBODY
    assert package_of("/x/site-packages/torch/nn/modules/conv.py") == "torch"
    assert package_of("/home/user/torch/train.py") == package_of("torch.py") == ""
    assert str(line_of([])) == "(no line of the program)"


# The timeline ---------------------------------------------------------------------------------------------


@st.composite
def programs(draw):
    """Allocations and releases of blocks and of parts of mappings, as memray writes them."""
    records, live, mapped, address = [], [], {}, 10**6
    for _ in range(draw(st.integers(0, 40))):
        what = draw(st.sampled_from(["malloc", "free", "mmap", "munmap", "stray"]))
        line = draw(st.integers(1, 4))
        size = draw(st.integers(0, 5)) * 4096
        if what in ("malloc", "mmap"):
            address += 10**6
            records.append(record(KIND.MMAP if what == "mmap" else KIND.MALLOC, address, size, line))
            if what == "mmap":
                mapped[address] = [(address, address + size)]
            else:
                live.append(address)
        elif what == "free" and live:
            records.append(record(KIND.FREE, live.pop(draw(st.integers(0, len(live) - 1))), 0, None))
        elif what == "munmap" and mapped:
            start = draw(st.sampled_from(sorted(mapped)))
            records.append(record(KIND.MUNMAP, start, draw(st.integers(0, 5)) * 4096, None))
        elif what == "stray":
            records.append(record(KIND.FREE, 7, 0, None))  # of a block from before
    return records


def record(allocator, address, size, line):
    stack = [] if line is None else [("f", FILE, line)]
    return SimpleNamespace(
        allocator=allocator, address=address, size=size, stack_id=line, native_stack_id=line,
        stack_trace=lambda: stack, native_stack_trace=lambda: [("PyDataMem_UserNEW", "", 0)] if line == 2 else [],
    )  # fmt: skip


def simulated(records):
    """The bytes of each line in memory after each record, kept in the plainest way."""
    blocks, mapped, after = {}, {}, []
    for r in records:
        if r.allocator == KIND.MALLOC:
            blocks[r.address] = (r.size, r.stack_id)
        elif r.allocator == KIND.FREE:
            blocks.pop(r.address, None)
        elif r.allocator == KIND.MMAP:
            mapped.update(dict.fromkeys(range(r.address, r.address + r.size, 4096), r.stack_id))
        else:
            for page in range(r.address, r.address + r.size, 4096):
                mapped.pop(page, None)
        sums = dict.fromkeys(range(1, 5), 0)
        for size, line in blocks.values():
            sums[line] += size
        for line in mapped.values():
            sums[line] += 4096
        after.append(sums)
    return after


@settings(max_examples=200)
@given(records=programs())
def test_the_timeline_is_what_a_plain_simulation_finds(records):
    timeline = timeline_of(records)
    after = simulated(records)
    totals = [sum(sums.values()) for sums in after]
    peak = max(totals, default=0)
    assert timeline.peak == peak
    at_peak = after[totals.index(peak)] if peak else dict.fromkeys(range(1, 5), 0)
    for line in range(1, 5):
        uses = [use for (where, _), use in timeline.by_line().items() if where.number == line]
        assert sum(use.at_peak for use in uses) == at_peak[line]
        assert max((use.most for use in uses), default=0) == max((sums[line] for sums in after), default=0)
    by_owner = timeline.by_owner()
    of_two = [sums[2] for sums in after if peak]
    small_too = {r.size < 4096 for r in records if r.stack_id == 2}
    if of_two and small_too == {False}:
        assert by_owner["numpy"].most == max(of_two)


def test_a_line_may_have_blocks_of_several_owners():
    """A product in NumPy: the array of its result, and the buffer that BLAS maps for it."""
    records = []
    for native, symbol in ((1, "PyDataMem_UserNEW"), (2, "blas_memory_alloc")):
        made = record(KIND.MALLOC, 4096 * native, 4096 * native, line=3)
        made.native_stack_id = native
        made.native_stack_trace = lambda symbol=symbol: [(symbol, "", 0)]
        records.append(made)
    uses = timeline_of(records).by_line()
    assert {owner: use.most for (_, owner), use in uses.items()} == {"blas": 8192, "numpy": 4096}


def test_a_warning_of_nothing_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with memory.track():
            pass
