# Panels of output channels, as many as a register tile has.

from pymec.kernels.shared.geometry cimport Geometry


cdef inline Py_ssize_t blocks_of(Py_ssize_t width, const Geometry* g) noexcept nogil:
    """Panels of a group; the last reaches back over the one before it, so that it is as wide as they are."""
    return (g.k_cg + width - 1) / width
