# The product of kn2row.pyx that shift_gemm.pyx lets land where it belongs.

from cython cimport floating

from pymec.kernels.shared.bias_relu cimport BiasRelu
from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.blocking cimport GemmBlocking


cdef void multiply_pixels(const floating* I, const floating* K, bint add, floating* S, Py_ssize_t pixels,
                          Py_ssize_t m0, Py_ssize_t m1, const GemmBlocking* blocking, const BiasRelu* bias_relu,
                          const Geometry* g) noexcept nogil
