"""How many threads a call takes, and BLAS held to one thread while pymec runs its own.

Kernels divide their work among OpenMP's threads (``prange``) and call BLAS inside each share.  A BLAS that
started more threads there would oversubscribe the machine.  :func:`single_threaded_blas` holds it to one thread
while any call runs.  The limit holds for the whole process, so calls are counted: the first lowers the limit,
the last restores it.
"""

from __future__ import annotations

import os
import platform
import threading
from functools import cache
from typing import Any

import numpy as np

from pymec import _build_info
from pymec.cpu_quota import cpu_quota
from pymec.kernels.shared import interrupts
from pymec.kernels.shared import openmp as _openmp
from pymec.kernels.shared.blas_library import blas_libraries
from pymec.kernels.shared.geometry import several_threads_ran
from pymec.kernels.shared.guard import Guard
from pymec.kernels.shared.machine import SMALL_WORK
from pymec.spelling import shown

MAX_THREADS = 64
"""OpenBLAS crashes when more threads call it than it has buffers; every build has at least 64."""


def effective_n_threads(n_threads: int | None = None, multiply_adds: int | None = None) -> int:
    """The number of threads a call will use.

    Parameters
    ----------
    n_threads : int, optional
        The caller's choice.  By default what OpenMP offers (``OMP_NUM_THREADS``, or the CPUs this process may
        run on, as many as the quota of its container pays for), and one if ``multiply_adds`` is below
        ``SMALL_WORK`` of :mod:`pymec.kernels.shared.machine`.
    multiply_adds : int, optional
        The size of the work.

    Returns
    -------
    int
        At least 1, at most :data:`MAX_THREADS`.  Always 1 in a build without OpenMP, and in a child that was
        forked after its parent had computed with several: there GNU's OpenMP would wait for ever for the
        parent's threads.
    """
    if n_threads is None:
        if multiply_adds is not None and multiply_adds < SMALL_WORK:
            return 1
        n_threads = _default_n_threads()
    elif isinstance(n_threads, bool) or not isinstance(n_threads, (int, np.integer)):
        raise TypeError(f"n_threads must be a positive integer or None, got {shown(n_threads)}")
    elif n_threads < 1:
        raise ValueError(f"n_threads must be a positive integer or None, got {n_threads}")
    return min(int(n_threads), MAX_THREADS) if _build_info.OPENMP and not _forked else 1


def _default_n_threads() -> int:
    offered = _openmp.max_threads()
    if "OMP_NUM_THREADS" in os.environ:
        return offered
    # Threads beyond the quota are stopped while the others spin, and take several times as long as fewer would.
    quota = cpu_quota()
    paid = offered if quota is None else max(1, int(quota))
    return min(offered, _openmp.n_cpus(), paid)


class _BlasLimit:
    """The calls that hold BLAS to one thread: the first to enter lowers the limit, the last to leave restores it.

    A KeyboardInterrupt may fall between any two lines.  So a member is added before the limit is lowered and
    removed after it is restored.  It may leave twice, which completes a restore that an interrupt cut short.
    A member that enters after a cut-short lowering or restoring finds ``_low`` false, and lowers the limit itself.
    The lock's ``with`` blocks hold calls and no comprehension: CPython 3.13 can miss the exit of a ``with``
    if an interrupt falls inside one.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may call pymec while this thread holds the lock
        self._members: set[object] = set()
        self._before: list[tuple[Any, int]] = []  # the libraries that are, or were to be, lowered
        self._low = False  # whether all of them are

    def enter(self, member: object) -> None:
        with self._lock:
            self._members.add(member)
            if not self._low:
                self.lower()

    def leave(self, member: object) -> None:
        with self._lock:
            if self._members == {member}:
                self.restore()
            self._members.discard(member)

    def lower(self) -> None:
        """Note how many threads each library has, unless that is noted already, and set it to one."""
        self._before = self._before or _several_threaded()
        for library, _ in self._before:
            _set_num_threads(library, 1)
        self._low = True

    def restore(self) -> None:
        """Give the libraries back the threads they had before the first member entered."""
        self._low = False
        for library, n in self._before:
            _set_num_threads(library, n)
        self._before = []


def _several_threaded() -> list[tuple[Any, int]]:
    """The BLAS libraries that may take more than one thread, each with their number."""
    numbers = [(library, library.get_num_threads()) for library in blas_libraries()]
    return [(library, n) for library, n in numbers if n is not None and n > 1]


def _set_num_threads(library: Any, n: int) -> None:
    """Set the process-wide limit of a BLAS from any Python thread.

    Since 3.8 threadpoolctl lets only the first thread that sets OpenBLAS's limit set it again, and silently
    ignores other threads.  Here the last member to leave is often in another thread than the first to enter, and
    the lock around this call already keeps the order.  So threadpoolctl's controlling thread is cleared before
    and after.
    """
    clear = getattr(library, "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)
    library.set_num_threads(n)
    if clear is not None:
        clear(force=True)


_limit = _BlasLimit()


def single_threaded_blas() -> Guard:
    """For a ``with`` statement: BLAS runs on one thread inside its block, whichever Python thread calls it."""
    return Guard(_enter, _leave, object())


def _enter(member: object) -> None:
    _limit.enter(member)  # the limit of this process: a forked child has another


def _leave(member: object) -> None:
    _limit.leave(member)


_forked = False


def forked() -> bool:
    """Whether this process is a forked child that must stay on one thread."""
    return _forked


def _after_fork() -> None:
    """In a forked child no call is running, and OpenMP's threads, if the parent had started them, do not exist."""
    global _forked, _limit
    _limit.restore()
    _limit = _BlasLimit()
    interrupts.forget()
    _forked = several_threads_ran()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@cache
def blas_multiplies_alone() -> int:
    """The multiply-adds up to which SciPy's BLAS computes a product on one thread, whatever its limit.

    OpenBLAS on x86-64: ``SMP_THRESHOLD_MIN``·``GEMM_MULTITHREAD_THRESHOLD`` of its ``interface/gemm.c``.  On
    other CPUs OpenBLAS may compute a product of one row or column as a matrix-vector product, which it splits
    at smaller sizes.  There, and for any other BLAS, the limit is not known, and 0 is returned.
    """
    known = platform.machine().lower() in ("x86_64", "amd64")
    libraries = blas_libraries()
    openblas = bool(libraries) and all(library.internal_api == "openblas" for library in libraries)
    return 65536 * 4 if openblas and known else 0
