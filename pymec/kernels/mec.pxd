# The units of work of mec.pyx that mec_banded.pyx runs on a band of rows.

from cython cimport floating

from pymec.kernels._geometry cimport Geometry
from pymec.kernels._lowered_rows cimport Band


cdef struct Pieces:
    Py_ssize_t reduction        # elements of a patch summed in one product
    Py_ssize_t columns          # rows of the product: output pixels
    Py_ssize_t channels         # columns of the product: output channels
    Py_ssize_t output_rows      # output rows that go through one piece of K before the next piece


cdef void lower_strip(const floating* I, floating* strip, Py_ssize_t n, Py_ssize_t x, Py_ssize_t group,
                      const Band* band, const Geometry* g) noexcept nogil

cdef void multiply_rows(const floating* L, const floating* K, floating* O, Py_ssize_t columns,
                        Py_ssize_t i0, Py_ssize_t i1, Py_ssize_t m0, Py_ssize_t m1,
                        const Band* band, const Pieces* pieces, const Geometry* g) noexcept nogil

cdef Pieces pieces_of(object pieces) except *
