# The units of work of mec.pyx that its relatives run: on a band of rows, a block of columns, a channel,
# the other axis.

from cython cimport floating

from pymec.kernels.shared.bias_relu cimport BiasRelu, write_bias, apply_relu
from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.mec.lowered_rows cimport Band
from pymec.kernels.shared.blocking cimport GemmBlocking


cdef struct Places:
    Py_ssize_t columns          # output pixels of a product: the strips of L that it reads
    Py_ssize_t row_step         # elements of O from one output row to the next
    Py_ssize_t ldo              # elements of O from one pixel of a product to the next
    Py_ssize_t ldk              # elements of K from one row to the next
    bint add                    # whether the products are added to what O holds


cdef inline Places adjacent_pixels(Py_ssize_t columns, const Geometry* g) noexcept nogil:
    """Products of all pixels of an output row, the rows one after another: the paper's own."""
    cdef Places at
    at.columns, at.row_step = columns, columns * g.k_c
    at.ldo = at.ldk = g.k_c
    at.add = False
    return at


cdef void lower_strip(const floating* I, floating* strip, Py_ssize_t n, Py_ssize_t x, Py_ssize_t group,
                      Py_ssize_t r0, Py_ssize_t r1,
                      const Band* band, const Geometry* g) noexcept nogil

cdef void multiply_rows(const floating* L, const floating* K, floating* O,
                        Py_ssize_t i0, Py_ssize_t i1, Py_ssize_t m0, Py_ssize_t m1,
                        const Places* at, const Band* band, const GemmBlocking* blocking, const Geometry* g) noexcept nogil

cdef inline void multiply_and_finish(
    const floating* L, const floating* K, floating* O, Py_ssize_t i0, Py_ssize_t i1, Py_ssize_t m0, Py_ssize_t m1,
    const Places* at, const Band* band, const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """:c:func:`multiply_rows` between the two ends of its sums, while these rows of O are in a cache.

    ``at.add`` must be set if there is a bias: the products are added to it.
    """
    cdef Py_ssize_t i
    for i in range(i0, i1):
        write_bias(O + i * at.row_step, at.columns, at.ldo, m0, m1, bias_relu)
    multiply_rows(L, K, O, i0, i1, m0, m1, at, band, blocking, g)
    for i in range(i0, i1):
        apply_relu(O + i * at.row_step, at.columns, at.ldo, m0, m1, bias_relu)


cdef void multiply_unit(const floating* L, const floating* K, floating* O, Py_ssize_t unit, Py_ssize_t images,
                        const Places* at, const Band* band, const GemmBlocking* blocking, const BiasRelu* bias_relu,
                        const Geometry* g) noexcept nogil
