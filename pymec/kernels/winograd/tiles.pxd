# A tile between pixels and points: Y = A·X·Aᵀ with each of Winograd's three matrices.

from cython cimport floating

from pymec.kernels.shared.bias_relu cimport BiasRelu
from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.spans cimport Span


cdef int check_tiles(const Geometry* g, Py_ssize_t t_o) except -1

cdef void transform_taps(const floating* K, floating* U, Py_ssize_t point, Py_ssize_t channels, Py_ssize_t t_o,
                         const Geometry* g) noexcept nogil

cdef void transform_input_tiles(const floating* I, floating* V, Py_ssize_t point, Py_ssize_t group, Span tiles,
                                Py_ssize_t t_o, const Geometry* g) noexcept nogil

cdef void transform_output_tiles(const floating* M, floating* O, Py_ssize_t point, Py_ssize_t width,
                                 Py_ssize_t channel, Py_ssize_t channels, Span tiles, Py_ssize_t t_o,
                                 const BiasRelu* bias_relu, const Geometry* g) noexcept nogil
