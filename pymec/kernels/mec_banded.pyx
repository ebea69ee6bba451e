"""MEC on a band of output rows at a time (ours; an extension of Cho & Brand 2017).

Full MEC keeps the strips of the whole image.  A product only ever looks at the rows of its own window, so
b output rows can be lowered, multiplied and forgotten: L shrinks from r_h rows a strip to the few that b
output rows read, and every product stays what it was.  The price is the e_h - s_h rows that neighbouring
bands share, which are copied twice.

Each thread has bands of its own, a slice of the workspace each.  Or there is one slice, and all threads take each
band together, some of its output rows and channels each: a small image has too few rows for even shares, and of a
large K each thread then reads its own part.

==========  =====================================  ================================================
array       shape                                  role
==========  =====================================  ================================================
x           (i_n, i_h, i_w, i_c)                   input I
kernel      (k_h, k_w, i_c/G, k_c)                 kernel K
workspace   (slices, o_w, r_b, k_w, i_c/G)         each slice the strips of one band
out         (i_n, o_h, o_w, k_c)                   output O
==========  =====================================  ================================================

Workspace, in elements:  slices·o_w·r_b·k_w·i_c/G, slices <= n_threads, where r_b, the image rows that a
band of b output rows reads, is (b-1)·min(s_h, k_h) + k_h without dilation (as many of those as lie in the image).

Any stride, padding, dilation and number of groups.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels._ends cimport Ends, ends_of
from pymec.kernels._geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels._lowered_rows cimport Band, band_of_rows
from pymec.kernels._pieces cimport Pieces, pieces_of
from pymec.kernels.mec cimport Places, adjacent_pixels, lower_strip, multiply_and_finish

from pymec.kernels._pieces import whole_products


cdef void convolve_band(
    const floating* I, const floating* K, floating* O, floating* L, Py_ssize_t unit, Py_ssize_t band_rows,
    const Places* at, const Pieces* pieces, const Ends* ends, const Geometry* g
) noexcept nogil:
    """Lower and multiply one band of one image and group, as in Algorithm 2 with Solution B."""
    cdef Py_ssize_t bands = (g.o_h + band_rows - 1) / band_rows
    cdef Py_ssize_t y0 = unit % bands * band_rows
    cdef Py_ssize_t n = unit / bands % g.i_n
    cdef Py_ssize_t group = unit / bands / g.i_n
    cdef Band band = band_of_rows(y0, min(band_rows, g.o_h - y0), g)
    cdef Py_ssize_t x, m, m_end = (group + 1) * g.k_cg
    for x in range(g.o_w):
        lower_strip(I, L + x * band.rows * g.k_w * g.i_cg, n, x, group, 0, band.rows, &band, g)
    m = group * g.k_cg
    while m < m_end:
        multiply_and_finish(L, K, O + (n * g.o_h + y0) * at.row_step, 0, band.n_y,
                            m, min(m + pieces.channels, m_end), at, &band, pieces, ends, g)
        m += pieces.channels


cdef void lower_shared(
    const floating* I, floating* L, Py_ssize_t n, Py_ssize_t group, Py_ssize_t share, Py_ssize_t shares,
    const Band* band, const Geometry* g
) noexcept nogil:
    """One thread's share of the strips of a band."""
    cdef Py_ssize_t x
    for x in range(share * g.o_w / shares, (share + 1) * g.o_w / shares):
        lower_strip(I, L + x * band.rows * g.k_w * g.i_cg, n, x, group, 0, band.rows, band, g)


cdef void multiply_shared(
    const floating* L, const floating* K, floating* O, Py_ssize_t group, Py_ssize_t unit, const Places* at,
    const Band* band, const Pieces* pieces, const Ends* ends, const Geometry* g
) noexcept nogil:
    """A block of a band's output rows, O being at the first of them, and a block of its channels."""
    cdef Py_ssize_t blocks = (g.k_cg + pieces.channels - 1) / pieces.channels
    cdef Py_ssize_t i = unit / blocks * pieces.output_rows, m = group * g.k_cg + unit % blocks * pieces.channels
    multiply_and_finish(L, K, O, i, min(i + pieces.output_rows, band.n_y),
                        m, min(m + pieces.channels, (group + 1) * g.k_cg), at, band, pieces, ends, g)


cdef void convolve_share(
    const floating* I, const floating* K, floating* O, floating* L, Py_ssize_t share, Py_ssize_t shares,
    Py_ssize_t band_rows, const Places* at, const Pieces* pieces, const Ends* ends, const Geometry* g
) noexcept nogil:
    """Every band of one thread's share, through one slice of the workspace."""
    cdef Py_ssize_t units = g.groups * g.i_n * ((g.o_h + band_rows - 1) / band_rows)
    cdef Py_ssize_t unit
    for unit in range(share * units / shares, (share + 1) * units / shares):
        convolve_band(I, K, O, L, unit, band_rows, at, pieces, ends, g)


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads=1, Py_ssize_t band_rows=1, Py_ssize_t slices=1, pieces=None,
    const floating[::1] bias=None, bint relu=False,
):
    """Convolve in bands of ``band_rows`` output rows, on ``slices`` threads with a slice of workspace each.

    With a single slice all ``n_threads`` take each band together.  Sums begin with the ``bias``, if there is one.
    """
    cdef Geometry g = geometry(shape)
    cdef Ends ends = ends_of(bias, relu, &g)
    cdef Places at = adjacent_pixels(g.o_w, &g)
    cdef Py_ssize_t size
    cdef Pieces cut = pieces_of(pieces or whole_products(shape))
    cdef Py_ssize_t share, y0, n, group, units
    cdef Band band
    check_threads(n_threads)
    if band_rows < 1 or not 1 <= slices <= 64:
        raise ValueError(f"band_rows must be positive and slices from 1 to 64, got {band_rows} and {slices}")
    band_rows = min(band_rows, g.o_h)
    size = shape.band_size(band_rows)
    check_operands(&g, x.shape, kernel.shape, out.shape)
    check_room("workspace", workspace.shape[0], slices * size)
    if g.i_n == 0:
        return
    at.add = ends.bias != NULL
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    cdef floating* L = &workspace[0] if workspace.shape[0] else NULL
    if slices == 1 and n_threads > 1:
        for group in range(g.groups):
            for n in range(g.i_n):
                for y0 in range(0, g.o_h, band_rows):
                    band = band_of_rows(y0, min(band_rows, g.o_h - y0), &g)
                    units = ((g.k_cg + cut.channels - 1) / cut.channels
                             * ((band.n_y + cut.output_rows - 1) / cut.output_rows))
                    with nogil:
                        for share in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
                            lower_shared(I, L, n, group, share, n_threads, &band, &g)
                        for share in prange(units, num_threads=n_threads, schedule="static"):
                            multiply_shared(L, K, O + (n * g.o_h + y0) * g.o_w * g.k_c, group, share, &at,
                                            &band, &cut, &ends, &g)
        return
    with nogil:
        for share in prange(slices, num_threads=slices, schedule="static", chunksize=1):
            convolve_share(I, K, O, L + share * size, share, slices, band_rows, &at, &cut, &ends, &g)
