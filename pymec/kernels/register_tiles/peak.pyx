"""How many multiply-adds a second the CPU can do at most: chains of them in registers, nothing from memory.

``profiling/compare.py`` measures this limit in the run whose speeds it is compared with.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.geometry cimport check_threads
from pymec.kernels.register_tiles.registers cimport (
    PYMEC_HAS_NARROW, PYMEC_HAS_WIDE, compiled_narrow, compiled_wide, narrow, narrow_doubles, narrow_floats, wide,
    wide_doubles, wide_floats,
)

# A row of results holds two dozen cache lines of ones, with which chains begin, then a line of f and one of g.


cdef compiled_wide wide_chains(wide* result, Py_ssize_t steps) noexcept nogil:
    """s = s·f + g for two dozen registers, so often: more than any CPU has begun before the first is done.

    With f = g = 1/2 every s stays 1, which the compiler can't know.
    """
    cdef wide s0 = result[0], s1 = result[1], s2 = result[2], s3 = result[3]
    cdef wide s4 = result[4], s5 = result[5], s6 = result[6], s7 = result[7]
    cdef wide s8 = result[8], s9 = result[9], s10 = result[10], s11 = result[11]
    cdef wide s12 = result[12], s13 = result[13], s14 = result[14], s15 = result[15]
    cdef wide s16 = result[16], s17 = result[17], s18 = result[18], s19 = result[19]
    cdef wide s20 = result[20], s21 = result[21], s22 = result[22], s23 = result[23]
    cdef wide f = result[24], g = result[25]
    cdef Py_ssize_t _
    for _ in range(steps):
        s0, s1, s2, s3 = s0 * f + g, s1 * f + g, s2 * f + g, s3 * f + g
        s4, s5, s6, s7 = s4 * f + g, s5 * f + g, s6 * f + g, s7 * f + g
        s8, s9, s10, s11 = s8 * f + g, s9 * f + g, s10 * f + g, s11 * f + g
        s12, s13, s14, s15 = s12 * f + g, s13 * f + g, s14 * f + g, s15 * f + g
        s16, s17, s18, s19 = s16 * f + g, s17 * f + g, s18 * f + g, s19 * f + g
        s20, s21, s22, s23 = s20 * f + g, s21 * f + g, s22 * f + g, s23 * f + g
    result[0] = (s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11
                 + s12 + s13 + s14 + s15 + s16 + s17 + s18 + s19 + s20 + s21 + s22 + s23)


cdef compiled_narrow narrow_chains(narrow* result, Py_ssize_t steps) noexcept nogil:
    """The same for a dozen narrow registers."""
    cdef narrow s0 = result[0], s1 = result[1], s2 = result[2], s3 = result[3], s4 = result[4], s5 = result[5]
    cdef narrow s6 = result[6], s7 = result[7], s8 = result[8], s9 = result[9], s10 = result[10], s11 = result[11]
    cdef narrow f = result[48], g = result[50]
    cdef Py_ssize_t _
    for _ in range(steps):
        s0, s1, s2, s3 = s0 * f + g, s1 * f + g, s2 * f + g, s3 * f + g
        s4, s5, s6, s7 = s4 * f + g, s5 * f + g, s6 * f + g, s7 * f + g
        s8, s9, s10, s11 = s8 * f + g, s9 * f + g, s10 * f + g, s11 * f + g
    result[0] = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11
    result[0] += result[0]


cdef void plain_chains(floating* result, Py_ssize_t steps) noexcept nogil:
    """The same in an array, for whatever the compiler makes of it."""
    cdef floating s[384]
    cdef Py_ssize_t lanes = 64 / sizeof(floating), i, _
    cdef floating f = result[24 * lanes], g = result[25 * lanes]
    for i in range(24 * lanes):
        s[i] = result[i]
    for _ in range(steps):
        for i in range(24 * lanes):
            s[i] = s[i] * f + g
    result[0] = 0
    for i in range(24):
        result[0] += s[i * lanes]


cdef void chains(floating* result, Py_ssize_t steps) noexcept nogil:
    """The widest chains that this CPU has; four dozen narrow steps do what two dozen wide ones do."""
    if PYMEC_HAS_WIDE:
        if floating is float:
            wide_chains(<wide_floats*> result, steps)
        else:
            wide_chains(<wide_doubles*> result, steps)
    elif PYMEC_HAS_NARROW:
        if floating is float:
            narrow_chains(<narrow_floats*> result, 4 * steps)
        else:
            narrow_chains(<narrow_doubles*> result, 4 * steps)
    else:
        plain_chains(result, steps)


def run(floating[:, ::1] results, Py_ssize_t steps, int n_threads=1):
    """Do 24·64/itemsize multiply-adds ``steps`` times on each thread.

    Parameters
    ----------
    results : array (n_threads, at least 416), the dtype that is multiplied
        Afterwards each row begins with 24, the sum of what was multiplied.
    steps : int
    n_threads : int
    """
    cdef int thread, lanes = 64 // sizeof(floating)
    check_threads(n_threads)
    if results.shape[0] < n_threads or results.shape[1] < 416:
        raise ValueError(f"results must have {n_threads} rows of 416, got {results.shape[0]} × {results.shape[1]}")
    results[:n_threads, :24 * lanes] = 1
    results[:n_threads, 24 * lanes:26 * lanes] = 0.5
    with nogil:
        for thread in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            chains(&results[thread, 0], steps)
