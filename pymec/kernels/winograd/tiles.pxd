# A tile between pixels and points: Y = A·X·Aᵀ with each of Winograd's three matrices.

from cython cimport floating

from pymec.kernels.shared.bias_relu cimport BiasRelu
from pymec.kernels.shared.geometry cimport Geometry


cdef int check_tiles(const Geometry* g, Py_ssize_t t_o) except -1

cdef void transform_taps(const floating* K, floating* U, Py_ssize_t point, Py_ssize_t channels, Py_ssize_t t_o,
                         const Geometry* g) noexcept nogil

cdef void transform_input_tile(const floating* I, floating* V, Py_ssize_t point, Py_ssize_t group, Py_ssize_t tile,
                               Py_ssize_t t_o, const Geometry* g) noexcept nogil

cdef void transform_output_tile(const floating* M, floating* O, Py_ssize_t point, Py_ssize_t channel,
                                Py_ssize_t channels, Py_ssize_t tile, Py_ssize_t t_o, const BiasRelu* bias_relu,
                                const Geometry* g) noexcept nogil
