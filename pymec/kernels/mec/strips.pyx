"""Products along the strips of MEC's L (ours): the pixels of an output column, where the paper has those of a row.

The patches of an output column all lie in one strip, each s_h·k_w·i_c elements after the one above.  As rows of a
matrix they overlap: the step from one to the next, its leading dimension, is shorter than a row.  BLAS refuses
that; register tiles take any step.  So a single strip is enough for a product with as many pixels as there are
output rows, and L can be cut into bands of columns, which have no strip in common.
"""

from cython cimport floating

from pymec.kernels.shared.bias_relu cimport BiasRelu, write_bias, apply_relu
from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.mec.lowered_rows cimport Band, Partition, partition
from pymec.kernels.shared.patch cimport zero
from pymec.kernels.shared.blocking cimport GemmBlocking
from pymec.kernels.register_tiles.product cimport tile_product
from pymec.kernels.mec.tuned cimport Places


cdef Py_ssize_t rows_alike(Py_ssize_t i, const Partition* p, const Band* band, const Geometry* g) noexcept nogil:
    """How many output rows of a class, from row i on, have the same kernel rows inside the image."""
    cdef Py_ssize_t n = 1
    cdef Partition below
    while i + n * band.n_classes < band.n_y:
        below = partition(i + n * band.n_classes, band, g)
        if below.a0 != p.a0 or below.a1 != p.a1:
            break
        n += 1
    return n


cdef void multiply_strip(
    const floating* strip, const floating* K, floating* O, Py_ssize_t q, Py_ssize_t channels, const Places* at,
    const Band* band, const GemmBlocking* blocking, const Geometry* g
) noexcept nogil:
    """All output rows of one column: the part of each sum that begins at element q of a whole patch."""
    cdef Py_ssize_t chunk = g.k_w * g.i_cg, step = band.n_classes * at.row_step
    cdef Py_ssize_t j, i, n, pixel, lo, hi
    cdef floating* target
    cdef Partition p
    for j in range(band.n_classes):
        i = j
        while i < band.n_y:
            p = partition(i, band, g)
            n = rows_alike(i, &p, band, g)
            target = O + i * at.row_step
            if p.a1 <= p.a0:  # their patches lie on padding
                for pixel in range(0 if at.add else n):
                    zero(target + pixel * step, channels)
            lo, hi = max(q, p.a0 * chunk), min(q + blocking.reduction, p.a1 * chunk)
            if lo < hi:
                # O_x (n × k_c) = P_x (n × k_h·k_w·i_c) · K, the rows of P_x no further apart than output rows are
                tile_product(n, channels, hi - lo, strip + (p.start - p.a0) * chunk + lo, band.step * chunk,
                             K + lo * at.ldk, at.ldk, at.add or lo > p.a0 * chunk, target, step)
            i += n * band.n_classes


cdef void multiply_strips(
    const floating* L, const floating* K, floating* O, Py_ssize_t x0, Py_ssize_t x1, Py_ssize_t m0, Py_ssize_t m1,
    const Places* at, const Band* band, const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Strips x0 .. x1 of a band, output channels m0 .. m1 of one group, between the two ends of their sums.

    L and O point at the first strip of the band and at its first output pixel.  ``at.add`` must be set if there is
    a bias: the products are added to it.
    """
    cdef Py_ssize_t strip = band.rows * g.k_w * g.i_cg, patch = g.k_h * g.k_w * g.i_cg
    cdef Py_ssize_t x, y, q = 0
    for y in range(band.n_y):
        write_bias(O + y * at.row_step + x0 * at.ldo, x1 - x0, at.ldo, m0, m1, bias_relu)
    while q < patch:
        for x in range(x0, x1):
            multiply_strip(L + x * strip, K + m0, O + x * at.ldo + m0, q, m1 - m0, at, band, blocking, g)
        q += blocking.reduction
    for y in range(band.n_y):
        apply_relu(O + y * at.row_step + x0 * at.ldo, x1 - x0, at.ldo, m0, m1, bias_relu)
