"""The bytes a convolution takes: predicted by formula, and measured by memray in a fresh process.

One call is measured, after a warm-up with the same number of threads: the first product makes BLAS map its
packing buffers and OpenMP start its threads, and neither is the algorithm's memory.  For every allocation
alive at the peak memray knows the Python line and the native stack that asked for it, so the peak is split by
who asked, not by subtraction:

==============  ======================================================================================
``workspace``   asked for by :func:`pymec.workspace.allocate_workspace`
``output``      asked for by :func:`pymec.workspace.allocate_output`
``blas``        asked for below ``gemm_rowmajor``, the one function that calls SciPy's BLAS
``other``       everything else: a few kilobytes of Python's own objects
``fft``         asked for by SciPy's transforms, for padded inputs, results and internal buffers
==============  ======================================================================================

memray counts what is requested, whether or not a page is ever touched; ``resident`` counts touched pages, in a
separate call without memray.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import math
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pymec import conv, planning
from pymec.execution import as_array, checked_operand
from pymec.operations import CONV2D, operation_named
from pymec.recipes import parse_bytes
from pymec.shapes import ConvShape, Padding, Pair, dtype_name

_ALLOCATORS = {"allocate_workspace": "workspace", "allocate_output": "output"}

NUMPY_CACHE_BYTES = 1024
"""NumPy caches freed blocks up to this size, and memray does not see them used again."""


@dataclass(frozen=True)
class MemoryReport:
    """The bytes of one call.

    Attributes
    ----------
    algorithm : str
    n_threads : int
    predicted : int
        Workspace by the algorithm's formula.
    workspace, output, blas, other, fft : int
        What was alive at the peak, by who asked for it; their sum is :attr:`peak`.  An output of 4 MiB or more
        takes 64 bytes more than its size, so that it can start at a cache line.
    resident : int
        Growth of the resident set (pages touched) in a call without memray; on systems without ``/proc``, growth
        beyond the peak so far, that of the warm-up included.
    """

    algorithm: str
    n_threads: int
    predicted: int
    workspace: int
    output: int
    blas: int
    other: int
    resident: int
    fft: int = 0

    @property
    def peak(self) -> int:
        """Peak heap of the call: all that memray saw alive at once."""
        return self.workspace + self.output + self.blas + self.other + self.fft

    @property
    def exact(self) -> bool:
        """Whether the formula and memray agree to the byte."""
        return self.predicted == self.workspace

    def as_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return asdict(self)


def measure(
    x: Any,
    kernel: Any,
    *,
    algorithm: str = "auto",
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    layout: str = "NHWC",
    operation: str = "conv2d",
    workspace_limit: int | str | None = None,
    n_threads: int | None = None,
    record: str | Path | None = None,
) -> MemoryReport:
    """Measure the memory of one :func:`pymec.conv2d` call, or of one call of a gradient.

    The call is made in a fresh process, on arrays of the same shapes and dtype: bytes do not depend on values.

    Parameters
    ----------
    x, kernel, algorithm, stride, padding, dilation, groups, layout, workspace_limit, n_threads
        As in :func:`pymec.conv2d`.
    operation : {"conv2d", "conv2d_input_grad", "conv2d_kernel_grad"}
        For a gradient, the other operand is made in that process, with the shape that fits.
    record : path, optional
        Keep memray's record here, for ``memray flamegraph`` and its other reporters.

    Returns
    -------
    MemoryReport

    Raises
    ------
    RuntimeError
        If memray is not installed, or the process fails; its error output is in the message.
    """
    x, kernel = as_array("x", x), as_array("kernel", kernel)
    shape = ConvShape.from_shapes(
        x.shape, kernel.shape, stride=stride, padding=padding, dilation=dilation, groups=groups,
        dtype=dtype_name("x", x.dtype), layout=layout,
    )  # fmt: skip
    limit = parse_bytes("workspace_limit", workspace_limit)
    checked_operand(planning.recipe(shape, "auto", "exact", None, n_threads), 1, kernel)
    return measure_shape(
        shape, algorithm, operation=operation, workspace_limit=limit, n_threads=n_threads, record=record
    )


def measure_shape(
    shape: ConvShape,
    algorithm: str = "auto",
    *,
    operation: str = "conv2d",
    workspace_limit: int | str | None = None,
    n_threads: int | None = None,
    record: str | Path | None = None,
) -> MemoryReport:
    """As :func:`measure`, for a shape instead of arrays."""
    limit = parse_bytes("workspace_limit", workspace_limit)
    # The caller's mistakes raise here, not in the other process.
    recipe = planning.recipe(shape, algorithm, "exact", limit, n_threads, operation_named(operation))
    if record is not None and not Path(record).absolute().parent.is_dir():
        raise ValueError(f"record {str(record)!r} lies in a folder that does not exist")
    with tempfile.TemporaryDirectory(prefix="pymec-") as folder:
        path = Path(folder) / "record.bin" if record is None else Path(record).absolute()
        if path.exists():
            raise ValueError(f"record {str(path)!r} exists already; name another file or remove it")
        job = {
            "path": sys.path,
            "shape": asdict(shape),
            "algorithm": recipe.algorithm.name,
            "operation": operation,
            "limit": limit,
            "n_threads": recipe.n_threads,
            "record": str(path),
        }
        return MemoryReport(**_in_fresh_process(job))


def _in_fresh_process(job: dict[str, Any]) -> dict[str, Any]:
    command = "import json, sys; job = json.load(sys.stdin); sys.path[:] = job.pop('path'); "
    command += "from pymec.memory import _serve; _serve(job)"
    done = subprocess.run([sys.executable, "-c", command], input=json.dumps(job), capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
        raise RuntimeError(f"the measuring process failed: {reason[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


# In the fresh process -----------------------------------------------------------------------------------


def _serve(job: dict[str, Any]) -> None:
    """Run one job and print its report as a line of JSON."""
    try:
        import memray
    except ImportError:
        sys.exit("memray is not installed (it exists for Linux and macOS): pip install 'pymec[profile]'")

    shape = ConvShape(**job["shape"])
    operation = operation_named(job["operation"])
    recipe = planning.recipe(shape, job["algorithm"], "exact", job["limit"], job["n_threads"], operation)
    function = getattr(conv, operation.name)
    arguments: list[Any] = [np.ones(recipe.extents[operand.role], shape.dtype) for operand in operation.operands]
    if operation != CONV2D:  # a gradient is told the shape of its result
        arguments.append(recipe.extents[operation.result])

    def call() -> None:
        function(
            *arguments,
            stride=(shape.s_h, shape.s_w),
            padding=((shape.p_t, shape.p_b), (shape.p_l, shape.p_r)),
            dilation=(shape.d_h, shape.d_w),
            groups=shape.groups,
            layout=shape.layout,
            algorithm=job["algorithm"],
            workspace_limit=job["limit"],
            n_threads=job["n_threads"],
        )

    call()  # the warm-up
    resident = _resident_growth(call)
    result_nbytes = math.prod(recipe.extents[operation.result]) * shape.itemsize
    # With all cached blocks of these sizes in use, NumPy must ask malloc for the next one.
    held = [
        np.empty(nbytes, np.uint8)
        for nbytes in (recipe.workspace_nbytes, result_nbytes)
        if nbytes <= NUMPY_CACHE_BYTES
        for _ in range(8)
    ]
    gc.collect()
    with memray.Tracker(job["record"], native_traces=True):
        call()
    del held
    with memray.FileReader(job["record"]) as reader:
        split = _split(reader.get_high_watermark_allocation_records(merge_threads=True))
    report = MemoryReport(
        algorithm=job["algorithm"],
        n_threads=job["n_threads"],
        predicted=recipe.workspace_nbytes,
        resident=resident,
        **split,
    )
    print(json.dumps(report.as_dict()))


def _split(records: Iterable[Any]) -> dict[str, int]:
    """Sort what was alive at the peak by who asked for it."""
    split = dict.fromkeys(("workspace", "output", "blas", "other", "fft"), 0)
    for record in records:
        split[_asked_by(record)] += record.size
    return split


def _asked_by(record: Any) -> str:
    symbols = [symbol for symbol, _, _ in record.native_stack_trace()]
    for function, _, _ in record.stack_trace(1):
        part = _ALLOCATORS.get(function)
        # An array is its data and a small object; NumPy allocates the data in PyDataMem_*.
        if part and any("PyDataMem" in symbol for symbol in symbols):
            return part
    # gemm_rowmajor allocates nothing itself.  OpenBLAS's own threads don't pass through it, but have its names.
    if any("gemm_rowmajor" in symbol or symbol.startswith("blas_") for symbol in symbols):
        return "blas"
    # pocketfft's results are arrays, made below the Python of scipy.fft; its own threads have no Python stack.
    # pymec.kernels.fourier makes the padded planes that it transforms.
    modules = (Path(file).parts for _, file, _ in record.stack_trace())
    transforms = {("scipy", "fft"), ("kernels", "fourier")}
    if any(transforms & set(pairwise(parts)) for parts in modules) or any("pocketfft" in s for s in symbols):
        return "fft"
    return "other"


def _resident_growth(call: Any) -> int:
    """The growth of the resident set's peak over one call, in bytes."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc: give back what the warm-up freed
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far
        before = _status_bytes("VmRSS")
        call()
        return max(0, _status_bytes("VmHWM") - before)
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        call()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before


def _status_bytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}")
