"""One call measured: the arguments checked here, the call made in a fresh process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pymec import planning
from pymec.execution import as_array, checked_operand
from pymec.figures import counted, html_table
from pymec.memory.processes import Processes
from pymec.operations import operation_named
from pymec.recipes import parse_bytes
from pymec.shapes import ConvShape, Padding, Pair, dtype_name


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
        takes 64 bytes more than its size, so that it can start at a cache line.  Blocks of BLAS under 4 KiB are
        counted as ``other``.
    resident : int
        Growth of the resident set (pages touched) in a call without memray, which is about the peak: within a per
        cent on a large layer.  On systems without ``/proc``, growth beyond the peak so far, that of the warm-up
        included.
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

    def _repr_html_(self) -> str:
        head = f"{self.algorithm}, {counted(self.n_threads, 'thread')}"
        parts = ("predicted", "workspace", "output", "blas", "fft", "other", "peak", "resident")
        return html_table((head, "bytes"), [(name, f"{getattr(self, name):,}") for name in parts])

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

    The call is made in a fresh process, on C-contiguous arrays of the same shapes and dtype: bytes do not depend
    on values.

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
    MemoryError
        If the call has no room.
    RuntimeError
        If memray is not installed, or the process fails; the end of its error output is in the message.
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
    with Processes() as processes:
        return _measured(processes, shape, algorithm, operation, workspace_limit, n_threads, record)


@contextmanager
def side_by_side(at_once: int) -> Iterator[Callable[..., Future[MemoryReport]]]:
    """Measure several shapes at once: the block gets a function like :func:`measure_shape` that returns futures.

    Bytes do not depend on how busy the machine is.  Leaving the block ends what still runs.

    Parameters
    ----------
    at_once : int
        Processes that run at the same time.

    Examples
    --------
    >>> with pymec.memory.side_by_side(2) as submit:  # doctest: +SKIP
    ...     futures = [submit(shape, name) for name in ("im2col", "mec")]
    ...     reports = [future.result() for future in futures]
    """
    processes = Processes()
    pool = ThreadPoolExecutor(at_once)

    def submit(
        shape: ConvShape,
        algorithm: str = "auto",
        *,
        operation: str = "conv2d",
        workspace_limit: int | str | None = None,
        n_threads: int | None = None,
        record: str | Path | None = None,
    ) -> Future[MemoryReport]:
        return pool.submit(_measured, processes, shape, algorithm, operation, workspace_limit, n_threads, record)

    try:
        yield submit
    finally:
        processes.end()
        pool.shutdown(cancel_futures=True)


def _measured(
    processes: Processes,
    shape: ConvShape,
    algorithm: str,
    operation: str,
    workspace_limit: int | str | None,
    n_threads: int | None,
    record: str | Path | None,
) -> MemoryReport:
    limit = parse_bytes("workspace_limit", workspace_limit)
    # The caller's mistakes raise here, not in the other process.
    recipe = planning.recipe(shape, algorithm, "exact", limit, n_threads, operation_named(operation))
    kept = None if record is None else new_file("record", record)
    job = {
        "shape": asdict(shape),
        "algorithm": recipe.algorithm.name,
        "operation": operation,
        "limit": limit,
        "n_threads": recipe.n_threads,
    }
    return MemoryReport(**processes.run(job, kept))


def new_file(argument: str, value: str | Path) -> Path:
    """The path of a file that does not exist yet, in a folder that may be written."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{argument} must be a path, got {type(value).__name__}")
    path = Path(value).absolute()
    if path.is_dir():
        raise ValueError(f"{argument} must be a file's path, got {str(value)!r}, which is a folder")
    if not path.parent.is_dir():
        raise ValueError(f"{argument} {str(value)!r} lies in a folder that does not exist")
    if path.exists():
        raise ValueError(f"{argument} {str(path)!r} exists already; name another file or remove it")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"{argument} {str(path)!r} lies in a folder that can't be written")
    return path
