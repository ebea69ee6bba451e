# As many sums as a CPU has registers for: a row of neighbouring numbers is the vector, whatever they belong to.

from cython cimport floating

cdef enum:
    LINE = 16            # numbers in a cache line of single precision: a register of 512 bits
    LINE_BYTES = 64      # its bytes: half as many numbers in double precision
    LANES = 96           # sums in registers, 6 lines: 6 registers of 512 bits, or 12 of the 16 of 256 bits


cdef inline Py_ssize_t line(const floating* K) noexcept nogil:
    """Numbers in a cache line, a constant for each type: 16 float or 8 double."""
    return LINE_BYTES // sizeof(floating)


cdef inline Py_ssize_t lanes(const floating* K) noexcept nogil:
    """Sums in registers: 96 float or 48 double."""
    return 6 * line(K)
