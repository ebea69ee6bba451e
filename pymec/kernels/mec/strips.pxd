# Products along the strips of MEC's L: _strips.pyx.

from cython cimport floating

from pymec.kernels.shared.bias_relu cimport BiasRelu
from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.mec.lowered_rows cimport Band
from pymec.kernels.shared.blocking cimport GemmBlocking
from pymec.kernels.mec.tuned cimport Places


cdef void multiply_strips(const floating* L, const floating* K, floating* O,
                          Py_ssize_t x0, Py_ssize_t x1, Py_ssize_t m0, Py_ssize_t m1, const Places* at,
                          const Band* band, const GemmBlocking* blocking, const BiasRelu* bias_relu,
                          const Geometry* g) noexcept nogil
