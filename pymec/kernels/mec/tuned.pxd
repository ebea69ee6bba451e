# The units of work of tuned.pyx that its relatives run too: on a band of rows, a tile, a channel, the other axis.

from cython cimport floating

from pymec.kernels.mec.lowered_rows cimport Band
from pymec.kernels.shared.bias_relu cimport BiasRelu
from pymec.kernels.shared.blocking cimport GemmBlocking
from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.patch cimport zero
from pymec.kernels.shared.spans cimport Span, ceil_div


cdef struct RowStrides:
    Py_ssize_t pixels           # output pixels of a product, one for each strip of L
    Py_ssize_t pixel_step       # elements of O from one of them to the next
    Py_ssize_t row_step         # elements of O from one output row to the next


cdef inline Span span_of_block(Py_ssize_t block, Py_ssize_t size, Py_ssize_t count) noexcept nogil:
    """A block of `count` items, counted in blocks of `size`; the last one may be smaller."""
    cdef Span span
    span.first = block * size
    span.end = min(span.first + size, count)
    return span


cdef inline Span channels_of_block(
    Py_ssize_t block, Py_ssize_t group, const GemmBlocking* blocking, const Geometry* g
) noexcept nogil:
    """A block of one group's output channels."""
    cdef Span channels = span_of_block(block, blocking.channels, g.k_cg)
    channels.first += group * g.k_cg
    channels.end += group * g.k_cg
    return channels


cdef inline Py_ssize_t block_count(
    Py_ssize_t lines, const GemmBlocking* blocking, const Geometry* g
) noexcept nogil:
    """Blocks of the products of one group: of `lines` output rows, or columns, times those of channels."""
    return ceil_div(lines, blocking.output_rows) * ceil_div(g.k_cg, blocking.channels)


cdef inline void zero_pixels(floating* O, Py_ssize_t pixels, Py_ssize_t step, Py_ssize_t channels) noexcept nogil:
    """Zeros in some channels of pixels that lie `step` elements apart."""
    cdef Py_ssize_t pixel
    for pixel in range(pixels):
        zero(O + pixel * step, channels)


cdef void lower_strip(
    const floating* I, floating* strip, Py_ssize_t n, Py_ssize_t x, Py_ssize_t group, Span rows,
    const Band* band, const Geometry* g) noexcept nogil

cdef void multiply_rows(
    const floating* L, const floating* K, floating* O, Span rows, Span channels, Py_ssize_t ldk, bint add,
    const RowStrides* o, const Band* band, const GemmBlocking* blocking, const Geometry* g) noexcept nogil

cdef void finish_rows(
    floating* O, Span rows, Span channels, const RowStrides* o, const BiasRelu* bias_relu) noexcept nogil

cdef void multiply_block(
    const floating* L, const floating* K, floating* O, Py_ssize_t block, Py_ssize_t group, const RowStrides* o,
    const Band* band, const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g) noexcept nogil

cdef void multiply_task(
    const floating* L, const floating* K, floating* O, Py_ssize_t task, Py_ssize_t images, const RowStrides* o,
    const Band* band, const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g) noexcept nogil
