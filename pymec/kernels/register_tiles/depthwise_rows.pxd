from cython cimport floating


cdef struct RowColumns:          # image columns of three pixels, one above the other
    const char* row[3]           # the channels in column 0; 128 bytes of zeros for a row on padding
    Py_ssize_t step[3]           # bytes from column to column; 0 for such a row
    Py_ssize_t first             # the first column of the first output; below 0 on padding
    Py_ssize_t i_w


cdef bint depthwise_row(
    const RowColumns* columns, Py_ssize_t stride, const floating* K, Py_ssize_t k_step, floating* O,
    Py_ssize_t o_step, Py_ssize_t o_w, const floating* bias, bint relu
) noexcept nogil
