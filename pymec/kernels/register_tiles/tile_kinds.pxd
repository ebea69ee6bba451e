from cython cimport floating


cdef void wide_tile(
    Py_ssize_t pixels, const floating** pixel, Py_ssize_t runs, Py_ssize_t length, const floating* K,
    Py_ssize_t ldk, const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, bint relu
) noexcept nogil

cdef void wide_row(
    Py_ssize_t pixels, Py_ssize_t tiles, const floating* pixel, Py_ssize_t step, Py_ssize_t runs,
    Py_ssize_t run_step, Py_ssize_t length, const floating* K, Py_ssize_t ldk,
    const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, bint relu
) noexcept nogil

cdef void half_tile(
    Py_ssize_t pixels, const floating** pixel, Py_ssize_t runs, Py_ssize_t length, const floating* K,
    Py_ssize_t ldk, const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, bint relu
) noexcept nogil

cdef void half_row(
    Py_ssize_t pixels, Py_ssize_t tiles, const floating* pixel, Py_ssize_t step, Py_ssize_t runs,
    Py_ssize_t run_step, Py_ssize_t length, const floating* K, Py_ssize_t ldk,
    const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, bint relu
) noexcept nogil

cdef void narrow_tile(
    Py_ssize_t pixels, const floating** pixel, Py_ssize_t runs, Py_ssize_t length, const floating* K,
    Py_ssize_t ldk, const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, bint relu
) noexcept nogil

cdef void narrow_row(
    Py_ssize_t pixels, Py_ssize_t tiles, const floating* pixel, Py_ssize_t step, Py_ssize_t runs,
    Py_ssize_t run_step, Py_ssize_t length, const floating* K, Py_ssize_t ldk,
    const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, bint relu
) noexcept nogil
