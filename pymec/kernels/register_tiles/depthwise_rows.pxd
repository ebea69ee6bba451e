from cython cimport floating


cdef struct Columns:             # of three image pixels, one below the other
    const char* row[3]           # where column 0 has the channels; 128 bytes of zeros for a row on padding
    Py_ssize_t step[3]           # bytes from column to column; 0 for such a row
    Py_ssize_t first             # the first output's first column, below 0 on padding
    Py_ssize_t i_w


cdef bint depthwise_row(
    const Columns* columns, Py_ssize_t stride, const floating* K, Py_ssize_t k_step, floating* O,
    Py_ssize_t o_step, Py_ssize_t o_w, const floating* bias, bint relu
) noexcept nogil
