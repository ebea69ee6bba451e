"""Room for threads, asked for before they start, where a limit on the address space may leave none.

Where a thread can't be started, GNU's OpenMP ends the process.  Where OpenBLAS finds no room for a packing
buffer, it tries again for ever.  Neither can be undone once a kernel runs.  So under such a limit (``ulimit -v``,
common on clusters) the room is mapped, and given back, before the first call of that many threads; the call raises
a MemoryError if there was none.
"""

from __future__ import annotations

import mmap
import threading

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

BLAS_BUFFER_NBYTES = 2**25 + 2**16
"""The packing buffer that OpenBLAS maps for every thread that multiplies: 32 MiB on x86-64 and 64-bit ARM."""

USUAL_STACK_NBYTES = 2**23

_had = threading.local()  # by this Python thread: OpenMP keeps a team of threads for each


def available_memory() -> float:
    """Bytes that a process can take without swapping, as the system estimates them; infinity if it doesn't say."""
    try:
        with open("/proc/meminfo") as file:
            kilobytes = next(line.split()[1] for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return float("inf")
    return float(kilobytes) * 1024


def find_room_for_threads(n_threads: int, uses_blas: bool) -> None:
    """Raise a MemoryError if the address space has no room for the threads of a call and their BLAS buffers."""
    if n_threads == 1 and not uses_blas:
        return
    stacks = n_threads - getattr(_had, "threads", 1)
    buffers = n_threads - getattr(_had, "buffers", 0) if uses_blas else 0
    if stacks <= 0 and buffers <= 0:
        return
    if resource is None or resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        return  # and nothing is remembered: a small product has no buffer yet that a later limit could forbid
    _map_once(n_threads, max(stacks, 0), max(buffers, 0))
    _had.threads = max(n_threads, getattr(_had, "threads", 1))
    if uses_blas:
        _had.buffers = max(n_threads, getattr(_had, "buffers", 0))


def _map_once(n_threads: int, stacks: int, buffers: int) -> None:
    """Map the room that these stacks and buffers take, and give it back."""
    assert resource is not None
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    stack = USUAL_STACK_NBYTES if stack == resource.RLIM_INFINITY else stack
    needed = stacks * stack + buffers * BLAS_BUFFER_NBYTES
    try:
        mmap.mmap(-1, needed).close()
    except OSError:
        raise MemoryError(
            f"no room for the stacks and BLAS buffers of {n_threads} thread{'s' if n_threads > 1 else ''}: "
            f"{needed} bytes more than the limit on this process's address space (ulimit -v) allows"
        ) from None
