"""What a formula predicts, memray measures, to the byte; each cell in a fresh process."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import pymec
from pymec import ConvShape, memory, registry

pytest.importorskip("memray", reason="memray exists for Linux and macOS only")

pytestmark = pytest.mark.memory

# The whole grid, layer x algorithm x batch x threads x dtype, is profiling/memory_sweep.py's; here every
# algorithm meets every layer once, the other three turning with them.
GRID = [
    (name, algorithm, 1 if (i + j) % 3 else 4, 1 + (i + j) % 2, ("float32", "float64")[i % 2])
    for i, name in enumerate(pymec.layers.PAPER)
    for j, algorithm in enumerate(pymec.algorithms())
    if not (algorithm == "direct" and name == "cv4")  # a minute of plain loops; its workspace is none
]


def measured(cell):
    name, algorithm, batch, n_threads, dtype = cell
    return memory.measure_shape(pymec.layers.get(name).shape(batch, dtype), algorithm, n_threads=n_threads)


@pytest.fixture(scope="module")
def reports():
    """All cells, two processes at a time: bytes do not mind company."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(GRID, pool.map(measured, GRID), strict=True))


@pytest.mark.parametrize("cell", GRID, ids=lambda cell: "-".join(map(str, cell)))
def test_predicted_is_measured(reports, cell):
    name, algorithm, batch, n_threads, dtype = cell
    report = reports[cell]
    layer = pymec.layers.get(name)
    shape = layer.shape(batch, dtype)
    predicted = pymec.workspace_size(
        shape.input_shape, shape.kernel_shape, stride=(layer.s_h, layer.s_w), algorithm=algorithm,
        n_threads=n_threads, dtype=dtype,
    )  # fmt: skip
    assert report.predicted == predicted
    assert report.workspace == predicted
    assert report.output == shape.output_nbytes
    assert report.other < 64 * 1024


def test_measure_takes_the_arguments_of_conv2d():
    x = np.ones((2, 6, 9, 9), np.float64)
    kernel = np.ones((8, 3, 3, 2), np.float64)
    options = {"stride": 2, "padding": "same", "groups": 2, "layout": "NCHW", "n_threads": 2}
    for algorithm in pymec.algorithms():
        report = memory.measure(x, kernel, algorithm=algorithm, **options)
        shape = ConvShape.from_shapes(
            x.shape, kernel.shape, stride=2, padding="same", groups=2, dtype="float64", layout="NCHW"
        )
        # the conversions of NCHW are part of the workspace
        assert report.predicted >= (shape.input_size + shape.kernel_size + shape.output_size) * 8
        assert report.workspace == report.predicted
        assert report.exact


def test_tiny_blocks_are_counted_too():
    """Below a kilobyte NumPy recycles blocks in a cache that memray does not see, unless it is emptied."""
    x, kernel = np.ones((1, 3, 3, 1), np.float32), np.ones((2, 2, 1, 1), np.float32)
    report = memory.measure(x, kernel, algorithm="mec", n_threads=1)
    assert (report.workspace, report.output) == (48, 16)


def test_a_limit_is_a_guarantee():
    shape = pymec.layers.get("cv9").shape()
    for limit in ("20KiB", "200KiB", "1MiB"):
        report = memory.measure_shape(shape, workspace_limit=limit, n_threads=2)
        assert 0 < report.workspace <= int(limit[:-3]) * (1024 if "K" in limit else 2**20)
        assert report.exact


def test_the_first_product_maps_blas_buffers(tmp_path):
    """Without a warm-up BLAS's own memory shows, on its own row and not in the workspace."""
    import subprocess
    import sys

    record = tmp_path / "cold.bin"
    script = f"""
import numpy as np, memray, pymec
from pymec.memory import _split
x, kernel = np.ones((1, 12, 12, 32), np.float32), np.ones((3, 3, 32, 64), np.float32)
with memray.Tracker({str(record)!r}, native_traces=True):
    pymec.conv2d(x, kernel, algorithm="mec_b", n_threads=1)
with memray.FileReader({str(record)!r}) as reader:
    split = _split(reader.get_high_watermark_allocation_records(merge_threads=True))
assert split["blas"] > 2**20, split
assert split["workspace"] == pymec.workspace_size(x.shape, kernel.shape, algorithm="mec_b"), split
assert split["output"] == 4 * 10 * 10 * 64, split
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_algorithm_that_allocates_is_found_out(monkeypatch):
    """The measurement itself must be able to fail: a formula that promises too little."""
    row = registry.ALGORITHMS["im2col"]
    honest = row.schedule

    class Short:
        def __call__(self, shape, n_threads, limit):
            return registry.Schedule(honest(shape, n_threads, limit).size + 25)

    report = memory.measure_shape(pymec.layers.get("cv12").shape(), "im2col", n_threads=1)
    monkeypatch.setitem(
        registry.ALGORITHMS, "im2col", registry.Algorithm(**{**vars(row), "schedule": Short()})
    )
    pymec.planning.recipe.cache_clear()
    try:
        wrong = pymec.workspace_size((1, 7, 7, 512), (3, 3, 512, 512), algorithm="im2col")
    finally:
        monkeypatch.undo()
        pymec.planning.recipe.cache_clear()
    assert report.exact
    assert report.workspace != wrong


def test_the_record_can_be_kept(tmp_path):
    record = tmp_path / "kept.bin"
    memory.measure_shape(pymec.layers.get("cv12").shape(), "mec", n_threads=1, record=record)
    assert record.stat().st_size > 0
    with pytest.raises(ValueError, match="exists already"):
        memory.measure_shape(pymec.layers.get("cv12").shape(), "mec", n_threads=1, record=record)


def test_mistakes_surface_here_and_not_in_the_other_process():
    with pytest.raises(ValueError, match="algorithm must be"):
        memory.measure_shape(pymec.layers.get("cv12").shape(), "mecc")
    with pytest.raises(ValueError, match="too small"):
        memory.measure_shape(pymec.layers.get("cv12").shape(), "mec", workspace_limit=10)


def test_a_failing_process_is_reported(monkeypatch):
    monkeypatch.setattr(memory.sys, "path", [])
    with pytest.raises(RuntimeError, match="the measuring process failed"):
        memory.measure_shape(pymec.layers.get("cv12").shape(), "mec")
