# The transforms of banded.pyx: taps, some tiles of the input, and the way back to the output.

from cython cimport floating

from pymec.kernels.shared.geometry cimport Geometry


cdef struct Outputs:
    Py_ssize_t channel     # the first output channel, counted through all groups
    Py_ssize_t count       # how many there are
    Py_ssize_t pitch       # elements of M from tile to tile
    const void* bias       # of all output channels, or NULL
    bint relu              # whether ReLU is applied


cdef int check_tiles(const Geometry* g, Py_ssize_t t_o) except -1

cdef void transform_taps(const floating* taps, Py_ssize_t tap, floating* U, Py_ssize_t point, Py_ssize_t channels,
                         Py_ssize_t t_o) noexcept nogil

cdef void transform_tiles(const floating* I, floating* V, Py_ssize_t first, Py_ssize_t end, Py_ssize_t tiles,
                          Py_ssize_t group, Py_ssize_t t_o, const Geometry* g) noexcept nogil

cdef void finish_tiles(const floating* M, floating* O, Py_ssize_t first, Py_ssize_t end, Py_ssize_t tiles,
                       const Outputs* outputs, Py_ssize_t t_o, const Geometry* g) noexcept nogil
