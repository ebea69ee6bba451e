"""How many multiply-adds a second the CPU can do at most: chains of them in registers, nothing from memory.

``profiling/compare.py`` measures this limit in the run whose speeds it is compared with.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels._geometry cimport check_threads
from pymec.kernels._microkernel cimport SUMS, compiled_per_cpu


cdef enum:
    CHAINS = 192  # twelve registers of 64 bytes in single precision; CPUs wait for eight at most


cdef compiled_per_cpu few_chains(floating* result, Py_ssize_t steps) noexcept nogil:
    """s = s/2 + 1/2 for SUMS numbers, so often: as many independent chains as 16 registers of 32 bytes hold.

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


cdef compiled_per_cpu many_chains(floating* result, Py_ssize_t steps) noexcept nogil:
    """The same for CHAINS numbers, as many as 32 registers of 64 bytes hold."""
    cdef floating s[CHAINS]
    cdef floating factor = result[0], summand = result[1]
    cdef Py_ssize_t i, _
    for i in range(CHAINS):
        s[i] = 1
    for _ in range(steps):
        for i in range(CHAINS):
            s[i] = s[i] * factor + summand
    result[0] = 0
    for i in range(CHAINS):
        result[0] += s[i]


def run(floating[:, ::1] results, Py_ssize_t steps, int n_threads=1, bint many=False):
    """Do 96·``steps`` multiply-adds on each thread, or 192·``steps`` in twice as many chains.

    Which of the two reaches the limit is the CPU's affair: take the faster.

    Parameters
    ----------
    results : array (n_threads, at least 64), the dtype that is multiplied
        Rows a cache line or more apart.  Afterwards each begins with 96, or 192, the sum of what was multiplied.
    steps : int
    n_threads : int
    many : bool
    """
    cdef int thread
    check_threads(n_threads)
    if results.shape[0] < n_threads or results.shape[1] < 64:
        raise ValueError(f"results must have {n_threads} rows of 64, got {results.shape[0]} × {results.shape[1]}")
    for thread in range(n_threads):
        results[thread, 0], results[thread, 1] = 0.5, 0.5
    with nogil:
        for thread in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            if many:
                many_chains(&results[thread, 0], steps)
            else:
                few_chains(&results[thread, 0], steps)
