"""What a fresh process does: a warm-up, the resident set's growth, then the call under memray."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import math
import resource
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import memray
import numpy as np

from pymec import conv, planning
from pymec.memory.owners import ALLOCATORS, SMALL_BYTES, owner_of, symbols_of
from pymec.operations import CONV2D, operation_named
from pymec.shapes import ConvShape

NUMPY_CACHE_BYTES = 1024
"""NumPy caches freed blocks up to this size, and memray does not see them used again."""


def read_symbols(record: str) -> None:
    """Have memray read the symbols of Python and NumPy, before processes are forked that would each read them.

    That takes it half a second.  What goes wrong here, as on a full disk, goes wrong again where it is reported.
    """
    with contextlib.suppress(Exception):
        with memray.Tracker(record, native_traces=True):
            array = np.ones(SMALL_BYTES)
        del array
        with memray.FileReader(record) as reader:
            for block in reader.get_high_watermark_allocation_records(merge_threads=True):
                symbols_of(block)


def serve(job: dict[str, Any]) -> None:
    """Run one job and print its answer as a line of JSON."""
    try:
        answer = measured(job)
    except MemoryError as error:
        answer = {"no_room": str(error) or "no room for the arrays of the call"}
    print(json.dumps(answer))


def measured(job: dict[str, Any]) -> dict[str, Any]:
    """Make the call that the job describes, three times, the last under memray; return a report's fields."""
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
            **shape.arguments,
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
    # On a busy machine a thread may have had nothing to multiply in the warm-up.  If BLAS maps its buffer now, the
    # measurement was part of the warm-up, and is made again.
    split = traced(call, job["record"])
    for _ in range(job["n_threads"]):
        if split["blas"] == 0:
            break
        Path(job["record"]).unlink()
        split = traced(call, job["record"])
    del held
    return {
        "algorithm": job["algorithm"],
        "n_threads": job["n_threads"],
        "predicted": recipe.workspace_nbytes,
        "resident": resident,
        **split,
    }


def traced(call: Callable[[], None], record: str) -> dict[str, int]:
    """What was alive at the peak of a call, by who asked for it."""
    gc.collect()
    with memray.Tracker(record, native_traces=True):
        call()
    with memray.FileReader(record) as reader:
        split = split_by_asker(reader.get_high_watermark_allocation_records(merge_threads=True))
    return split


def split_by_asker(records: Iterable[Any]) -> dict[str, int]:
    """Sort what was alive at the peak by who asked for it."""
    records = list(records)
    split = dict.fromkeys(("workspace", "output", "blas", "other", "fft"), 0)
    # Each allocator makes one array: its data and a small object.  Where the data is large, what is small needs no
    # symbols to tell that it is the object.
    large = {_array_of(record) for record in records if record.size >= SMALL_BYTES}
    for record in records:
        part = _array_of(record)
        if part is None or (record.size < SMALL_BYTES and (part in large or not _is_data(record))):
            part = _asked_by(record)
        split[part] += record.size
    return split


def _array_of(record: Any) -> str | None:
    """Which of pymec's arrays, if any, the block belongs to."""
    return next((ALLOCATORS.get(function) for function, _, _ in record.stack_trace(1)), None)


def _is_data(record: Any) -> bool:
    """Whether the block was allocated as NumPy allocates an array's data."""
    return any("PyDataMem" in symbol for symbol in symbols_of(record))


def _asked_by(record: Any) -> str:
    """Who asked for a block of none of pymec's arrays."""
    symbols = symbols_of(record) if record.size >= SMALL_BYTES else []
    owner = owner_of(record.stack_trace(), symbols)
    return owner if owner in ("blas", "fft") else "other"


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
