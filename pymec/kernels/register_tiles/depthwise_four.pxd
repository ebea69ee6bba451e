from cython cimport floating


cdef struct DepthwiseStrides:     # bytes from one to the next
    Py_ssize_t pixel, row, tap    # under neighbouring outputs, kernel rows and taps, in I
    Py_ssize_t kernel_row, kernel_tap
    Py_ssize_t output


cdef bint depthwise_four(
    const floating* I, const DepthwiseStrides* s, Py_ssize_t rows, Py_ssize_t taps, const floating* K, floating* O,
    const floating* bias, bint relu
) noexcept nogil
