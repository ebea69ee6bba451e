from cython cimport floating

from pymec.kernels.register_tiles.group_vectors cimport PLACES


cdef struct GradRow:             # what the rows of outputs have in common; distances in bytes
    Py_ssize_t image, tap, row           # in I: under neighbouring outputs, taps and kernel rows
    Py_ssize_t output                    # in dO
    Py_ssize_t channel, kernel_tap, kernel_row   # in the sums
    Py_ssize_t taps, d_w, s_w, i_w, o_w
    int place[PLACES]                    # of each output channel: where the first channel of its group is


cdef void add_grad_row(
    const GradRow* row, const floating* I, Py_ssize_t left, Py_ssize_t shift, const floating* dO, floating* dK,
    Py_ssize_t rows, Py_ssize_t channels
) noexcept nogil
