"""Tuned MEC in bands of output columns: ``mec_banded`` where a limit has no room for a row on every thread (ours).

Of a low image with a tall kernel even one output row reads much of L, a quarter of it in cv6.  The patches of an
output column, though, all lie in one strip.  So w_b strips can be lowered, multiplied and forgotten, and bands
have no strip in common: nothing is copied twice.

The products run along the strips, where each patch begins s_h·k_w·i_c elements after the one above.  As rows of a
matrix they overlap, because this step, the leading dimension, is shorter than a row.  BLAS refuses that; register
tiles take any step.

==========  =====================================  ================================================
array       shape                                  role
==========  =====================================  ================================================
x           (i_n, i_h, i_w, i_c)                   input I
kernel      (k_h, k_w, i_c/G, k_c)                 kernel K
workspace   (slices, w_b, r_h, k_w, i_c/G)         each slice the strips of one band
out         (i_n, o_h, o_w, k_c)                   output O
==========  =====================================  ================================================

Workspace, in elements:  slices·w_b·r_h·k_w·i_c/G, slices <= n_threads, shared as in ``banded.pyx``.  r_h, the
image rows that some output row reads, is ``mec``'s.

Any stride, padding, dilation and number of groups.  It pays for a limit of |L|/8 on cv5, cv6, cv10 and cv11: with
two threads 1.2 to 2.2 times as fast as ``mec_column_split`` (``profiling/bands.py``).
"""

from cython cimport floating
from cython.parallel import parallel, prange

from pymec.kernels.mec.lowered_rows cimport Band, Partition, band_of_rows, partition
from pymec.kernels.mec.tuned cimport (
    RowStrides, block_count, channels_of_block, finish_rows, lower_strip, span_of_block, zero_pixels,
)
from pymec.kernels.register_tiles.product cimport tile_product
from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.blocking cimport GemmBlocking, blocking_of
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, share_of


cdef Py_ssize_t rows_alike(Py_ssize_t i, const Partition* p, const Band* band, const Geometry* g) noexcept nogil:
    """How many output rows of a residue class, from row i on, have the same kernel rows inside the image."""
    cdef Py_ssize_t n = 1
    cdef Partition below
    while i + n * band.n_classes < band.n_y:
        below = partition(i + n * band.n_classes, band, g)
        if below.a0 != p.a0 or below.a1 != p.a1:
            break
        n += 1
    return n


cdef void multiply_strip(
    const floating* strip, const floating* K, floating* O, Py_ssize_t q, Py_ssize_t channels, Py_ssize_t row_step,
    const Band* band, const GemmBlocking* blocking, const Geometry* g
) noexcept nogil:
    """All output rows of one column; of every sum the block that begins at element q of a patch."""
    cdef Py_ssize_t kernel_row = g.k_w * g.i_cg, step = band.n_classes * row_step
    cdef Py_ssize_t j, i, n, first, end
    cdef Partition p
    for j in range(band.n_classes):
        i = j
        while i < band.n_y:
            p = partition(i, band, g)
            n = rows_alike(i, &p, band, g)
            first, end = max(q, p.a0 * kernel_row), min(q + blocking.reduction, p.a1 * kernel_row)
            if first < end:
                # O_x (n × k_c) = P_x (n × k_h·k_w·i_c) · K (k_h·k_w·i_c × k_c), from column `first` of P_x on;
                # the rows of P_x begin as far apart in the strip as output rows do.
                tile_product(n, channels, end - first, strip + (p.start - p.a0) * kernel_row + first,
                             band.stored_stride * kernel_row, K + first * g.k_c, g.k_c, first > p.a0 * kernel_row,
                             O + i * row_step, step)
            elif p.a1 <= p.a0:  # all of P_x lies on padding
                zero_pixels(O + i * row_step, n, step, channels)
            i += n * band.n_classes


cdef void multiply_block(
    const floating* L, const floating* K, floating* O, Py_ssize_t columns, Py_ssize_t block, Py_ssize_t group,
    const Band* band, const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One of a band's blocks: some columns by some channels of a group, which count fastest."""
    cdef Py_ssize_t of_channels = innermost(&block, ceil_div(g.k_cg, blocking.channels))
    cdef Span channels = channels_of_block(of_channels, group, blocking, g)
    cdef Span strips = span_of_block(block, blocking.output_rows, columns)
    cdef Span rows = Span(0, band.n_y)
    cdef RowStrides o = RowStrides(strips.end - strips.first, g.k_c, g.o_w * g.k_c)
    cdef Py_ssize_t x, q = 0
    while q < g.k_h * g.k_w * g.i_cg:  # every strip meets one block of K before the next block
        for x in range(strips.first, strips.end):
            multiply_strip(L + x * band.rows * g.k_w * g.i_cg, K + channels.first, O + x * g.k_c + channels.first,
                           q, channels.end - channels.first, o.row_step, band, blocking, g)
        q += blocking.reduction
    finish_rows(O + strips.first * g.k_c, rows, channels, &o, bias_relu)


cdef Span columns_of_task(Py_ssize_t* task, Py_ssize_t band_columns, const Geometry* g) noexcept nogil:
    """The columns of the task's band; left in ``task`` is its image, counted through groups and images."""
    return span_of_block(innermost(task, ceil_div(g.o_w, band_columns)), band_columns, g.o_w)


cdef void lower_share(
    const floating* I, floating* L, Py_ssize_t share, Py_ssize_t shares, Py_ssize_t task, Py_ssize_t band_columns,
    const Band* band, const Geometry* g
) noexcept nogil:
    """One thread's share of a band's strips: some rows of each."""
    cdef Span columns = columns_of_task(&task, band_columns, g)
    cdef Span rows = share_of(band.rows, share, shares)
    cdef Py_ssize_t x
    for x in range(columns.first, columns.end):
        lower_strip(I, L + (x - columns.first) * band.rows * g.k_w * g.i_cg, task % g.i_n, x, task / g.i_n, rows,
                    band, g)


cdef void multiply_share(
    const floating* L, const floating* K, floating* O, Py_ssize_t share, Py_ssize_t shares, Py_ssize_t task,
    Py_ssize_t band_columns, const Band* band, const GemmBlocking* blocking, const BiasRelu* bias_relu,
    const Geometry* g
) noexcept nogil:
    """One thread's share of a band's products."""
    cdef Span columns = columns_of_task(&task, band_columns, g)
    cdef Span blocks = share_of(block_count(columns.end - columns.first, blocking, g), share, shares)
    cdef Py_ssize_t block
    O += (task % g.i_n * g.o_h * g.o_w + columns.first) * g.k_c
    for block in range(blocks.first, blocks.end):
        multiply_block(L, K, O, columns.end - columns.first, block, task / g.i_n, band, blocking, bias_relu, g)


cdef void convolve_share(
    const floating* I, const floating* K, floating* O, floating* L, Py_ssize_t share, Py_ssize_t shares,
    Py_ssize_t tasks, Py_ssize_t band_columns, const Band* band, const GemmBlocking* blocking,
    const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One thread's share of all bands, one after another, each lowered and multiplied alone."""
    cdef Span mine = share_of(tasks, share, shares)
    cdef Py_ssize_t task
    for task in range(mine.first, mine.end):
        lower_share(I, L, 0, 1, task, band_columns, band, g)
        multiply_share(L, K, O, 0, 1, task, band_columns, band, blocking, bias_relu, g)


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads, Py_ssize_t band_columns, Py_ssize_t slices, blocking,
    const floating[::1] bias=None, bint relu=False,
):
    """Convolve in bands of ``band_columns`` columns, on ``slices`` threads; one slice is shared by ``n_threads``.

    ``blocking.output_rows`` counts columns here.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef GemmBlocking blocks = blocking_of(blocking)
    cdef Band band = band_of_rows(0, g.o_h, &g)
    cdef Py_ssize_t tasks, size, task = 0, share
    if band_columns < 1 or not 1 <= slices <= 64:
        raise ValueError(f"band_columns must be positive and slices from 1 to 64, got {band_columns} and {slices}")
    band_columns = min(band_columns, g.o_w)
    tasks = g.groups * g.i_n * ceil_div(g.o_w, band_columns)
    size = shape.tile_size(g.o_h, band_columns)
    check_stage(&g, n_threads, x.shape, kernel.shape, out.shape)
    check_room("workspace", workspace.shape[0], slices * size)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    cdef floating* L = &workspace[0] if workspace.shape[0] else NULL
    if slices > 1:
        with nogil:
            for share in prange(slices, num_threads=slices, schedule="static"):
                convolve_share(I, K, O, L + share * size, share, slices, tasks, band_columns, &band, &blocks,
                               &bias_relu, &g)
        return
    with nogil, parallel(num_threads=n_threads):
        for task in range(tasks):
            for share in prange(n_threads, schedule="static"):
                lower_share(I, L, share, n_threads, task, band_columns, &band, &g)
            for share in prange(n_threads, schedule="static"):
                multiply_share(L, K, O, share, n_threads, task, band_columns, &band, &blocks, &bias_relu, &g)
