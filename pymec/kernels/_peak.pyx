"""How many multiply-adds a second the CPU can do at most: chains of them in registers, nothing from memory.

``profiling/compare.py`` measures this limit in the run whose speeds it is compared with.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels._geometry cimport check_threads
from pymec.kernels._microkernel cimport SUMS, compiled_per_cpu


cdef compiled_per_cpu multiply_adds(floating* result, Py_ssize_t steps) noexcept nogil:
    """s = s/2 + 1/2 for SUMS numbers, so often: as many independent chains as the inner loop of a product has.

    Every s begins with 1 and stays there, which the compiler can't know: result holds the factors.
    """
    cdef floating s[SUMS]
    cdef floating factor = result[0], summand = result[1]
    cdef Py_ssize_t i, _
    for i in range(SUMS):
        s[i] = 1
    for _ in range(steps):
        for i in range(SUMS):
            s[i] = s[i] * factor + summand
    result[0] = 0
    for i in range(SUMS):
        result[0] += s[i]


def run(floating[:, ::1] results, Py_ssize_t steps, int n_threads=1):
    """Do 96·``steps`` multiply-adds on each thread.

    Parameters
    ----------
    results : array (n_threads, at least 64), the dtype that is multiplied
        Rows a cache line or more apart.  Afterwards each begins with 96, the sum of what was multiplied.
    steps : int
    n_threads : int
    """
    cdef int thread
    check_threads(n_threads)
    if results.shape[0] < n_threads or results.shape[1] < 64:
        raise ValueError(f"results must have {n_threads} rows of 64, got {results.shape[0]} × {results.shape[1]}")
    for thread in range(n_threads):
        results[thread, 0], results[thread, 1] = 0.5, 0.5
    with nogil:
        for thread in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            multiply_adds(&results[thread, 0], steps)
