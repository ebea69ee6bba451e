# The units of work of im2col.pyx that im2col_blocked.pyx runs on a block of pixels.

from cython cimport floating

from pymec.kernels.shared.geometry cimport Geometry


cdef void lower_pixels(const floating* I, floating* L, Py_ssize_t first, Py_ssize_t end, Py_ssize_t group,
                       const Geometry* g) noexcept nogil
