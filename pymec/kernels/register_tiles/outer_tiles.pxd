# Outer products of a pixel's input and output channels, added up over pixels.

from cython cimport floating

from pymec.kernels.register_tiles.tile cimport CACHE_LINE, Tile


cdef struct Steps:
    Py_ssize_t image, row, column   # elements from an image, row or pixel to the next one


cdef struct Pixels:
    Py_ssize_t images, rows, columns    # what a sum runs over
    Steps input, output                 # and how far apart it lies in I and in dO


cdef Tile outer_tile(Py_ssize_t outputs, Py_ssize_t itemsize) noexcept nogil

# dK[c, m] += sum over the pixels of I[pixel, c] · dO[pixel, m], for `inputs` by `outputs` channels.
cdef void add_outer(
    const Pixels* over, const floating* I, const floating* dO, floating* dK, Py_ssize_t ldk, Py_ssize_t inputs,
    Py_ssize_t outputs
) noexcept nogil
