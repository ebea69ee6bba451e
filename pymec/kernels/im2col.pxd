# The units of work of im2col.pyx that im2col_blocked.pyx runs on a block of pixels.

from cython cimport floating

from pymec.kernels._ends cimport Ends
from pymec.kernels._geometry cimport Geometry


cdef void lower_pixels(const floating* I, floating* L, Py_ssize_t first, Py_ssize_t end, Py_ssize_t group,
                       const Geometry* g) noexcept nogil

cdef void multiply_pixels(const floating* L, const floating* K, floating* O, Py_ssize_t pixels,
                          Py_ssize_t m0, Py_ssize_t m1, const Ends* ends, const Geometry* g) noexcept nogil
