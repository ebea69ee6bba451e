"""What the machine can do at most: multiply-adds a second in registers, bytes a second from each of its caches."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import as_strided

from pymec.kernels.register_tiles import peak

FMA_LIMIT = "FMA limit"
STEPS = 5_000

USUAL_CACHES = {"level 1": 32 * 2**10, "level 2": 2**20, "level 3": 32 * 2**20}
"""Bytes of a common server core's caches, where the system doesn't say."""

COPIED = 4 * 2**20
"""Bytes that one call copies at least: far more work than calling NumPy is."""


def peak_call(n_threads: int) -> tuple[Callable[[], object], int]:
    """A call of multiply-adds in registers, its answer checked here, and the number of its operations."""
    results = np.zeros((n_threads, 416), np.float32)
    peak.run(results, 10, n_threads)
    if not (results[:, 0] == 24).all():
        sys.exit("wrong answer: the machine's limit was not reached by multiply-adds")
    return partial(peak.run, results, STEPS, n_threads), 2 * 24 * 16 * STEPS * n_threads


def caches() -> dict[str, int]:
    """Bytes of the data caches that a thread reads through, by level, as Linux reports them."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind, level, size = ((index / name).read_text().strip() for name in ("type", "level", "size"))
        if kind != "Instruction":
            found[f"level {level}"] = int(size.rstrip("KM")) * {"K": 2**10, "M": 2**20}.get(size[-1], 1)
    return found or dict(USUAL_CACHES)


def copy_calls() -> dict[str, tuple[Callable[[], object], int]]:
    """For each cache, and for memory, a call that copies there, and its bytes: those read and those written.

    Source and target together take half of a cache, or four times the last one.
    """
    sizes = {name: size // 4 for name, size in caches().items()}
    sizes["memory"] = 2 * max(caches().values())
    return {name: copy_call(size) for name, size in sizes.items()}


def copy_call(nbytes: int) -> tuple[Callable[[], object], int]:
    """A call of NumPy that copies ``nbytes`` again and again, and all the bytes that it reads and writes.

    Each copy begins a cache line further on than the one before it, so that NumPy sees the rows of a matrix, and
    takes one after the other.
    """
    line, length = 64 // 8, nbytes // 8
    times = max(1, COPIED // nbytes)
    source = np.arange(length + times * line, dtype=np.float64)
    target = np.zeros_like(source)
    rows = [as_strided(array, (times, length), (8 * line, 8)) for array in (target, source)]
    np.copyto(*rows)
    copied = length + (times - 1) * line
    if not np.array_equal(target[:copied], source[:copied]):
        sys.exit(f"wrong answer: copying {nbytes} bytes")
    return partial(np.copyto, *rows), 2 * 8 * length * times
