# Depthwise convolution of few channels: a whole row of numbers is the vector, whatever channels they belong to.

from cython cimport floating

from pymec.kernels.shared.bias_relu cimport BiasRelu
from pymec.kernels.shared.geometry cimport Geometry

cdef bint rows_pay(Py_ssize_t itemsize, const Geometry* g) noexcept nogil

cdef void convolve_rows(
    const floating* I, const floating* K, floating* O, Py_ssize_t first, Py_ssize_t end,
    const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil
