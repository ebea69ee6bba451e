from cython cimport floating


cdef struct GradPair:            # two rows of dI, one above the other, and the rows of dO that meet them
    const char* grad[2]          # of dO: the channels in column 0; zeros for a row that doesn't exist
    Py_ssize_t grad_step[2]      # bytes from column to column; 0 for such a row
    char* row[2]                 # of dI: the channels in column 0, or NULL outside the image
    Py_ssize_t step              # bytes from column to column of dI
    Py_ssize_t p_l, i_w, o_w


cdef struct GradRows:            # rows of outputs and the image under them; distances in bytes
    Py_ssize_t image_row, image_column
    Py_ssize_t grad_row, grad_column
    Py_ssize_t s_h, s_w, p_t, p_l, i_h, i_w, o_w


cdef bint depthwise_grad_pair(
    const GradPair* pair, const floating* K, Py_ssize_t k_step, Py_ssize_t vectors
) noexcept nogil


cdef bint depthwise_grad_taps(
    const GradRows* rows, const floating* I, const floating* dO, floating* dK, Py_ssize_t k_step,
    Py_ssize_t vectors, Py_ssize_t first, Py_ssize_t end, bint afresh
) noexcept nogil
