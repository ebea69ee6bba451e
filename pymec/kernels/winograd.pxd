# The units of work of winograd.pyx that winograd_banded.pyx runs on a band of tiles.

from cython cimport floating

from pymec.kernels._geometry cimport Geometry


cdef int check_tiles(const Geometry* g, Py_ssize_t m) except -1

cdef void transform_tiles(const floating* I, floating* V, Py_ssize_t first, Py_ssize_t end, Py_ssize_t tiles,
                          Py_ssize_t group, Py_ssize_t m, const Geometry* g) noexcept nogil

cdef void multiply_point(const floating* V, const floating* U, floating* M, Py_ssize_t tiles,
                         const Geometry* g) noexcept nogil

cdef void finish_tiles(const floating* M, floating* O, Py_ssize_t first, Py_ssize_t end, Py_ssize_t tiles,
                       Py_ssize_t group, Py_ssize_t m, const Geometry* g) noexcept nogil
