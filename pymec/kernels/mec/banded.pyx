"""MEC on a band of output rows, or of output columns, at a time (ours; an extension of Cho & Brand 2017).

Full MEC keeps the strips of the whole image.  A product only ever looks at the rows of its own window, so
b output rows can be lowered, multiplied and forgotten: L shrinks from r_h rows a strip to the few that b
output rows read, and every product stays what it was.  The price is the e_h - s_h rows that neighbouring
bands share, which are copied twice.

Of a low image with a tall kernel even one output row reads much of L.  Bands of w_b output columns keep their
strips whole and have none in common, so nothing is copied twice; products run along the strips (``_strips``).

Each thread has bands of its own, a slice of the workspace each.  Or there is one slice, and all threads take each
band together, some of its output rows (or columns) and channels each: a small image has too few rows for even
shares, and of a large K each thread then reads its own part.

==========  =====================================  ================================================
array       shape                                  role
==========  =====================================  ================================================
x           (i_n, i_h, i_w, i_c)                   input I
kernel      (k_h, k_w, i_c/G, k_c)                 kernel K
workspace   (slices, w_b, r_b, k_w, i_c/G)         each slice the strips of one band
out         (i_n, o_h, o_w, k_c)                   output O
==========  =====================================  ================================================

Workspace, in elements:  slices·w_b·r_b·k_w·i_c/G, slices <= n_threads: in bands of rows w_b = o_w and r_b, the
image rows that b output rows read, is (b-1)·min(s_h, k_h) + k_h without dilation (as many of those as lie in the
image); in bands of columns r_b is r_h, the image rows that the whole output reads.

Any stride, padding, dilation and number of groups.
"""

from cython cimport floating
from cython.parallel import parallel, prange

from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.mec.lowered_rows cimport Band, band_of_rows
from pymec.kernels.shared.blocking cimport GemmBlocking, blocking_of
from pymec.kernels.mec.strips cimport multiply_strips
from pymec.kernels.mec.tuned cimport Places, lower_strip, multiply_and_finish

from pymec.kernels.shared.blocking import whole_product


cdef struct Bands:
    Py_ssize_t rows, columns    # output rows and columns of a band: one of them is all there are
    bint along_strips           # whether products have the pixels of a column: bands of columns
    Py_ssize_t across, down     # bands side by side, and one below the other


cdef struct Place:
    Py_ssize_t group, n         # which group and image a band is of
    Py_ssize_t x0, n_x          # its output columns; its rows are the Band's
    Band band


cdef inline Place place_of(Py_ssize_t unit, const Bands* bands, const Geometry* g) noexcept nogil:
    """Bands are counted through columns, then rows, images and groups."""
    cdef Place p
    cdef Py_ssize_t y0 = unit / bands.across % bands.down * bands.rows
    p.x0 = unit % bands.across * bands.columns
    p.n_x = min(bands.columns, g.o_w - p.x0)
    p.n = unit / bands.across / bands.down % g.i_n
    p.group = unit / bands.across / bands.down / g.i_n
    p.band = band_of_rows(y0, min(bands.rows, g.o_h - y0), g)
    return p


cdef void lower_part(
    const floating* I, floating* L, Py_ssize_t part, Py_ssize_t parts, const Place* p, const Geometry* g
) noexcept nogil:
    """One of several parts of a band's strips, cut wherever that makes them even."""
    cdef Py_ssize_t rows = p.band.rows, chunk = g.k_w * g.i_cg
    cdef Py_ssize_t r = part * p.n_x * rows / parts, end = (part + 1) * p.n_x * rows / parts  # of all its strips
    cdef Py_ssize_t x, below
    while r < end:
        x = r / rows
        below = min(end - x * rows, rows)
        lower_strip(I, L + x * rows * chunk, p.n, p.x0 + x, p.group, r - x * rows, below, &p.band, g)
        r = x * rows + below


cdef inline Py_ssize_t lines_of(const Place* p, const Bands* bands) noexcept nogil:
    """What a band is shared out by: its output columns, or its rows."""
    return p.n_x if bands.along_strips else p.band.n_y


cdef void multiply_part(
    const floating* L, const floating* K, floating* O, Py_ssize_t part, const Bands* bands, const Place* p,
    const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """A block of a band's output rows, or columns, and a block of its channels; these count fastest."""
    cdef Places at = Places(columns=p.n_x, row_step=g.o_w * g.k_c, ldo=g.k_c, ldk=g.k_c, add=bias_relu.bias != NULL)
    cdef Py_ssize_t blocks = (g.k_cg + blocking.channels - 1) / blocking.channels
    cdef Py_ssize_t i0 = part / blocks * blocking.output_rows
    cdef Py_ssize_t i1 = min(i0 + blocking.output_rows, lines_of(p, bands))
    cdef Py_ssize_t m0 = p.group * g.k_cg + part % blocks * blocking.channels
    cdef Py_ssize_t m1 = min(m0 + blocking.channels, (p.group + 1) * g.k_cg)
    O += ((p.n * g.o_h + p.band.y0) * g.o_w + p.x0) * g.k_c
    if bands.along_strips:
        multiply_strips(L, K, O, i0, i1, m0, m1, &at, &p.band, blocking, bias_relu, g)
    else:
        multiply_and_finish(L, K, O, i0, i1, m0, m1, &at, &p.band, blocking, bias_relu, g)


cdef inline Py_ssize_t parts_of(const Place* p, const Bands* bands, const GemmBlocking* blocking,
                                const Geometry* g) noexcept nogil:
    """How many such parts a band has."""
    cdef Py_ssize_t row_blocks = (lines_of(p, bands) + blocking.output_rows - 1) / blocking.output_rows
    return row_blocks * ((g.k_cg + blocking.channels - 1) / blocking.channels)


cdef void lower_shared(
    const floating* I, floating* L, Py_ssize_t share, Py_ssize_t shares, Py_ssize_t unit, const Bands* bands,
    const Geometry* g
) noexcept nogil:
    """One thread's share of the strips of a band that all threads take together."""
    cdef Place p = place_of(unit, bands, g)
    lower_part(I, L, share, shares, &p, g)


cdef void multiply_shared(
    const floating* L, const floating* K, floating* O, Py_ssize_t share, Py_ssize_t shares, Py_ssize_t unit,
    const Bands* bands, const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """And its share of the products."""
    cdef Place p = place_of(unit, bands, g)
    cdef Py_ssize_t parts = parts_of(&p, bands, blocking, g), part
    for part in range(share * parts / shares, (share + 1) * parts / shares):
        multiply_part(L, K, O, part, bands, &p, blocking, bias_relu, g)


cdef void convolve_share(
    const floating* I, const floating* K, floating* O, floating* L, Py_ssize_t share, Py_ssize_t shares,
    const Bands* bands, const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Lower and multiply the bands of one thread's share, one after another, through one slice of workspace."""
    cdef Py_ssize_t units = g.groups * g.i_n * bands.down * bands.across
    cdef Py_ssize_t unit, part
    cdef Place p
    for unit in range(share * units / shares, (share + 1) * units / shares):
        p = place_of(unit, bands, g)
        lower_part(I, L, 0, 1, &p, g)
        for part in range(parts_of(&p, bands, blocking, g)):
            multiply_part(L, K, O, part, bands, &p, blocking, bias_relu, g)


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads=1, Py_ssize_t band_rows=1, band_columns=None,
    Py_ssize_t slices=1, blocking=None, const floating[::1] bias=None, bint relu=False,
):
    """Convolve in bands of ``band_rows`` output rows, on ``slices`` threads with a slice of workspace each.

    With ``band_columns`` bands are so many columns, of all rows.  With a single slice all ``n_threads`` take each
    band together.  Sums begin with the ``bias``, if there is one.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Bands bands
    cdef Py_ssize_t size
    cdef GemmBlocking cut = blocking_of(blocking or whole_product(shape))
    cdef Py_ssize_t share, unit = 0
    check_threads(n_threads)
    bands.along_strips = band_columns is not None
    if bands.along_strips:
        bands.rows, bands.columns = g.o_h, min(band_columns, g.o_w)
    else:
        bands.rows, bands.columns = min(band_rows, g.o_h), g.o_w
    if bands.rows < 1 or bands.columns < 1 or not 1 <= slices <= 64:
        raise ValueError(
            f"band_rows and band_columns must be positive and slices from 1 to 64, "
            f"got {band_rows}, {band_columns} and {slices}"
        )
    bands.across = (g.o_w + bands.columns - 1) / bands.columns
    bands.down = (g.o_h + bands.rows - 1) / bands.rows
    size = shape.tile_size(bands.rows, bands.columns)
    check_operands(&g, x.shape, kernel.shape, out.shape)
    check_room("workspace", workspace.shape[0], slices * size)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    cdef floating* L = &workspace[0] if workspace.shape[0] else NULL
    if slices == 1 and n_threads > 1:
        with nogil, parallel(num_threads=n_threads):
            for unit in range(g.groups * g.i_n * bands.down * bands.across):
                for share in prange(n_threads, schedule="static", chunksize=1):
                    lower_shared(I, L, share, n_threads, unit, &bands, &g)
                for share in prange(n_threads, schedule="static", chunksize=1):
                    multiply_shared(L, K, O, share, n_threads, unit, &bands, &cut, &bias_relu, &g)
        return
    with nogil:
        for share in prange(slices, num_threads=slices, schedule="static", chunksize=1):
            convolve_share(I, K, O, L + share * size, share, slices, &bands, &cut, &bias_relu, &g)
