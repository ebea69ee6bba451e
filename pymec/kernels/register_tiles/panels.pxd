# Panels of K: as many output channels as a register tile has.

from cython cimport floating

from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.spans cimport ceil_div


cdef object elements_of_panels(const Geometry* g, Py_ssize_t itemsize)


cdef void pack_block(
    const floating* K, floating* packed, Py_ssize_t lines, Py_ssize_t panels, Py_ssize_t width,
    Py_ssize_t channels, Py_ssize_t step
) noexcept nogil


cdef void pack_turned_block(
    const floating* K, const Py_ssize_t* taps, Py_ssize_t n_taps, floating* packed, Py_ssize_t lines,
    Py_ssize_t panels, Py_ssize_t width, Py_ssize_t channels, const Geometry* g
) noexcept nogil


cdef inline Py_ssize_t n_panels(Py_ssize_t width, const Geometry* g) noexcept nogil:
    """Panels of a group; the last one overlaps the one before it, so that all are ``width`` channels wide."""
    return ceil_div(g.k_cg, width)
