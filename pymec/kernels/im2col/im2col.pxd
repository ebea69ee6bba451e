# What blocked.pyx takes from im2col.pyx: the lowering of some pixels.

from cython cimport floating

from pymec.kernels.shared.geometry cimport Geometry


cdef void lower_pixels(
    const floating* I, floating* L, Py_ssize_t first, Py_ssize_t end, const Geometry* g
) noexcept nogil
