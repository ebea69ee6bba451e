# _register_tile.pxd's multiply_tile in registers of 64 bytes.

from cython cimport floating

cdef void wide_tile(
    Py_ssize_t pixels, const floating** pixel, Py_ssize_t runs, Py_ssize_t length,
    const floating* K, Py_ssize_t ldk, const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc
) noexcept nogil
