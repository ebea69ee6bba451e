# The product of kn2row.pyx that shift_gemm.pyx lets land where it belongs.

from cython cimport floating

from pymec.kernels._geometry cimport Geometry
from pymec.kernels._pieces cimport Pieces


cdef void multiply_pixels(const floating* I, const floating* K, floating beta, floating* S, Py_ssize_t pixels,
                          Py_ssize_t width, const Pieces* pieces, const Geometry* g) noexcept nogil
