"""BLAS's buffers and OpenMP's threads, which a process gets once: made before anything is measured."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np

from pymec.conv import conv2d
from pymec.threads import effective_n_threads

EXTENT = 1024
"""Of the matrices that are multiplied: their product takes some hundredths of a second."""


def warm_up(n_threads: int | None = None) -> int:
    """Make BLAS map its buffers, and OpenMP start its threads, so that no later call does.

    OpenBLAS maps a buffer of 32 MiB for each product that runs beside others, and keeps it.  Which call pays for
    one depends on how busy the machine is: a thread that comes late finds the other's buffer free again.  So here
    as many products as there are threads begin together, and each takes long enough for all to have begun.
    NumPy's own BLAS is warmed up in the same way.

    Parameters
    ----------
    n_threads : int, optional
        By default as many as pymec takes (see :func:`pymec.conv2d`).

    Returns
    -------
    int
        The number of threads.

    Examples
    --------
    A fixture for tests that limit memory::

        @pytest.fixture(scope="session", autouse=True)
        def warm():
            pymec.memory.warm_up()
    """
    threads = effective_n_threads(n_threads)
    x = np.zeros((1, EXTENT // 32, 32, EXTENT), np.float32)
    kernel = np.zeros((1, 1, EXTENT, EXTENT), np.float32)
    all_ready = Barrier(threads)

    def multiply(_: int) -> None:
        all_ready.wait()
        conv2d(x, kernel, algorithm="im2col", n_threads=1)  # one product: a 1×1 layer needs no lowering
        all_ready.wait()
        x.reshape(EXTENT, EXTENT) @ kernel[0, 0]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(multiply, range(threads)))
    conv2d(x, kernel, algorithm="im2col", n_threads=threads)
    return threads
