"""Tuned MEC in bands of output rows (``mec_banded``, ours, after Cho & Brand 2017).

Tuned MEC keeps the strips of the whole image.  But the product of an output row reads only the rows under its own
window, so b output rows can be lowered, multiplied and forgotten: L shrinks from r_h rows a strip to the r_b that
b output rows read, and every product stays what it was.  The price: neighbouring bands overlap by k_h - s_h image
rows, which are copied twice.

Each thread takes bands through its own slice of the workspace.  With a single slice all threads share each band:
some of its strips each, then some of its output rows and channels.  That suits small images, which have too few
rows for even shares, and large kernels, of which each thread then reads only a part.

==========  =====================================  ================================================
array       shape                                  role
==========  =====================================  ================================================
x           (i_n, i_h, i_w, i_c)                   input I
kernel      (k_h, k_w, i_c/G, k_c)                 kernel K
workspace   (slices, o_w, r_b, k_w, i_c/G)         each slice the strips of one band
out         (i_n, o_h, o_w, k_c)                   output O
==========  =====================================  ================================================

Workspace, in elements:  slices·o_w·r_b·k_w·i_c/G, slices <= n_threads.  r_b, the image rows that b output rows
read, is (b-1)·min(s_h, k_h) + k_h without dilation (as many of those as lie in the image).

Any stride, padding, dilation and number of groups.  Under limits with no room for one output row on each thread,
``mec_banded`` takes bands of columns: ``column_bands.pyx``.
"""

from cython cimport floating
from cython.parallel import parallel, prange

from pymec.kernels.mec.lowered_rows cimport Band, band_of_rows
from pymec.kernels.mec.tuned cimport RowStrides, block_count, lower_strip, multiply_block
from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.blocking cimport GemmBlocking, blocking_of
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, share_of


cdef Band band_of_task(Py_ssize_t* task, Py_ssize_t band_rows, const Geometry* g) noexcept nogil:
    """The task's band; left in ``task`` is its image, counted through groups and images."""
    cdef Py_ssize_t y0 = innermost(task, ceil_div(g.o_h, band_rows)) * band_rows
    return band_of_rows(y0, min(band_rows, g.o_h - y0), g)


cdef void lower_share(
    const floating* I, floating* L, Py_ssize_t share, Py_ssize_t shares, Py_ssize_t task, Py_ssize_t band_rows,
    const Geometry* g
) noexcept nogil:
    """One thread's share of a band's strips."""
    cdef Band band = band_of_task(&task, band_rows, g)
    cdef Span strips = share_of(g.o_w, share, shares)
    cdef Span rows = Span(0, band.rows)
    cdef Py_ssize_t x
    for x in range(strips.first, strips.end):
        lower_strip(I, L + x * band.rows * g.k_w * g.i_cg, task % g.i_n, x, task / g.i_n, rows, &band, g)


cdef void multiply_share(
    const floating* L, const floating* K, floating* O, Py_ssize_t share, Py_ssize_t shares, Py_ssize_t task,
    Py_ssize_t band_rows, const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One thread's share of a band's products."""
    cdef Band band = band_of_task(&task, band_rows, g)
    cdef RowStrides o = RowStrides(pixels=g.o_w, pixel_step=g.k_c, row_step=g.o_w * g.k_c)
    cdef Span blocks = share_of(block_count(band.n_y, blocking, g), share, shares)
    cdef Py_ssize_t block
    O += (task % g.i_n * g.o_h + band.y0) * o.row_step
    for block in range(blocks.first, blocks.end):
        multiply_block(L, K, O, block, task / g.i_n, &o, &band, blocking, bias_relu, g)


cdef void convolve_share(
    const floating* I, const floating* K, floating* O, floating* L, Py_ssize_t share, Py_ssize_t shares,
    Py_ssize_t tasks, Py_ssize_t band_rows, const GemmBlocking* blocking, const BiasRelu* bias_relu,
    const Geometry* g
) noexcept nogil:
    """One thread's share of all bands, one after another, each lowered and multiplied alone."""
    cdef Span mine = share_of(tasks, share, shares)
    cdef Py_ssize_t task
    for task in range(mine.first, mine.end):
        lower_share(I, L, 0, 1, task, band_rows, g)
        multiply_share(L, K, O, 0, 1, task, band_rows, blocking, bias_relu, g)


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads, Py_ssize_t band_rows, Py_ssize_t slices, blocking,
    const floating[::1] bias=None, bint relu=False,
):
    """Convolve in bands of ``band_rows`` rows, on ``slices`` threads; one slice is shared by ``n_threads``."""
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef GemmBlocking blocks = blocking_of(blocking)
    cdef Py_ssize_t tasks, size, task = 0, share
    if band_rows < 1 or not 1 <= slices <= 64:
        raise ValueError(f"band_rows must be positive and slices from 1 to 64, got {band_rows} and {slices}")
    band_rows = min(band_rows, g.o_h)
    tasks = g.groups * g.i_n * ceil_div(g.o_h, band_rows)
    size = shape.band_size(band_rows)
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
                convolve_share(I, K, O, L + share * size, share, slices, tasks, band_rows, &blocks, &bias_relu, &g)
        return
    with nogil, parallel(num_threads=n_threads):
        for task in range(tasks):
            for share in prange(n_threads, schedule="static"):
                lower_share(I, L, share, n_threads, task, band_rows, &g)
            for share in prange(n_threads, schedule="static"):
                multiply_share(L, K, O, share, n_threads, task, band_rows, &blocks, &bias_relu, &g)
