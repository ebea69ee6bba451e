# The units of work of mec.pyx that mec_banded.pyx runs on a band of rows.

from cython cimport floating

from pymec.kernels._geometry cimport Geometry
from pymec.kernels._lowered_rows cimport Band
from pymec.kernels._pieces cimport Pieces


cdef void lower_strip(const floating* I, floating* strip, Py_ssize_t n, Py_ssize_t x, Py_ssize_t group,
                      Py_ssize_t r0, Py_ssize_t r1,
                      const Band* band, const Geometry* g) noexcept nogil

cdef void multiply_rows(const floating* L, const floating* K, floating* O, Py_ssize_t columns,
                        Py_ssize_t i0, Py_ssize_t i1, Py_ssize_t m0, Py_ssize_t m1,
                        const Band* band, const Pieces* pieces, const Geometry* g) noexcept nogil
