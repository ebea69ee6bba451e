"""How many threads a call takes, and BLAS held to one thread while pymec runs its own.

Kernels share their work by OpenMP (``prange``) and call BLAS inside each share; a BLAS that started threads
of its own there would oversubscribe the machine.  :func:`single_threaded_blas` keeps it at one for as long
as any call is inside.  The limit is the whole process's, so the guard counts: the first one in lowers the
limit, the last one out restores it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

from pymec import _build_info
from pymec.kernels import _openmp

MAX_THREADS = 64
"""More callers at once than OpenBLAS has buffers for would crash it; every build has at least so many."""

SMALL_WORK = 1_000_000
"""Multiply-adds below which a call stays on one thread, unless it is told a number: waking costs more."""


def effective_n_threads(n_threads: int | None = None, multiply_adds: int | None = None) -> int:
    """The number of threads a call will use.

    Parameters
    ----------
    n_threads : int, optional
        What the caller asked for.  By default what OpenMP offers (``OMP_NUM_THREADS``, or the CPUs this
        process may run on), and one where ``multiply_adds`` is below :data:`SMALL_WORK`.
    multiply_adds : int, optional
        The size of the work.

    Returns
    -------
    int
        At least 1, at most :data:`MAX_THREADS`; always 1 in a build without OpenMP.
    """
    if n_threads is None:
        if multiply_adds is not None and multiply_adds < SMALL_WORK:
            return 1
        n_threads = _default_n_threads()
    elif isinstance(n_threads, bool) or not hasattr(n_threads, "__index__"):
        raise TypeError(f"n_threads must be a positive integer or None, got {n_threads!r}")
    elif n_threads < 1:
        raise ValueError(f"n_threads must be a positive integer or None, got {n_threads}")
    return min(int(n_threads), MAX_THREADS) if _build_info.OPENMP else 1


def _default_n_threads() -> int:
    offered = _openmp.max_threads()
    if "OMP_NUM_THREADS" in os.environ or not hasattr(os, "sched_getaffinity"):
        return offered
    return min(offered, len(os.sched_getaffinity(0)))


class _BlasLimit:
    """Counts who is inside; talks to the BLAS libraries only when the first comes and the last goes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: list[tuple[Any, int]] = []

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                before = [(library, library.get_num_threads()) for library in blas_libraries()]
                self._before = [(library, n) for library, n in before if n is not None and n > 1]
                for library, _ in self._before:
                    _set_num_threads(library, 1)
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for library, n in self._before:
                    _set_num_threads(library, n)


def _set_num_threads(library: Any, n: int) -> None:
    """Set the process-wide limit of a BLAS from any Python thread.

    Since 3.8 threadpoolctl lets only the first thread that sets OpenBLAS's limit set it again; others do
    nothing, silently.  Here the last one out is often another thread than the first one in, and the lock
    around this call already keeps the order.  So control is taken, and given back to whoever comes next.
    """
    clear = getattr(library, "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)
    library.set_num_threads(n)
    if clear is not None:
        clear(force=True)


_limit = _BlasLimit()


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """BLAS runs on one thread inside this block, however many Python threads are in it."""
    _limit.enter()
    try:
        yield
    finally:
        _limit.leave()


@cache
def blas_libraries() -> tuple[Any, ...]:
    """threadpoolctl's controllers of the BLAS that SciPy calls (scanning for them takes a while: once).

    SciPy's wheels bring a BLAS of their own; elsewhere SciPy shares one with NumPy.
    """
    found = [lib for lib in ThreadpoolController().lib_controllers if lib.user_api == "blas"]
    own = [lib for lib in found if "scipy" in os.path.basename(os.path.dirname(lib.filepath)).lower()]
    return tuple(own or found)


@cache
def blas_multiplies_small_products_unpacked() -> bool:
    """Whether SciPy's BLAS has the path that :mod:`pymec.kernels._pieces` cuts its products for.

    OpenBLAS has it in its builds for AVX-512 CPUs.
    """
    return any(
        lib.internal_api == "openblas"
        and getattr(lib, "architecture", None) in ("SkylakeX", "Cooperlake", "SapphireRapids")
        for lib in blas_libraries()
    )
