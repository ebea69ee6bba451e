# Which image rows the lowered matrix of tuned MEC keeps, and where in it each output row finds its own.
#
# For the paper's layers (no vertical padding, no dilation, s_h <= k_h) all of this says one line:
# row h of the image is row h of every strip, and the partition of output row y starts at row y*s_h.
#
# In general, output row y reads image rows y*s_h - p_t + a*d_h, a < k_h.  Three rules keep its k_h rows
# adjacent in L, so that one product per output row still does:
#
#   padding    rows above and below the image are zeros: they are not stored, the products get shorter
#   dilation   rows are stored by residue: with g = gcd(s_h, d_h), output rows y, y + d_h/g, y + 2 d_h/g, ...
#              read the same class of image rows, d_h apart.  Within a class it is a convolution without
#              dilation and with stride s_h/g, and the d_h/g classes share no image row
#   stride     where s_h/g > k_h the rows that no output reads are left out, so L never exceeds im2col's
#
# A band is a run of output rows lowered together; the whole image is the band of all o_h rows.
#
# mec_w keeps columns by the same rules, with the geometry of the transposed shape: read column for row.

from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.patch cimport clip
from pymec.kernels.shared.spans cimport ceil_div, steps_to


cdef struct Band:
    Py_ssize_t y0, n_y          # its output rows: y0 .. y0 + n_y
    Py_ssize_t n_classes        # d_h/g, or fewer when the band is lower than that
    Py_ssize_t image_stride     # s_h/g: kernel rows from one output row of a class to the next
    Py_ssize_t stored_stride    # the same as stored: min(s_h/g, k_h)
    Py_ssize_t rows             # image rows stored, over all classes


cdef struct ResidueClass:
    Py_ssize_t first_row        # image row under kernel row 0 of the class's first output row (may be negative)
    Py_ssize_t first_inside     # the first tap position inside the image,
    Py_ssize_t past_inside      # and the first one past it
    Py_ssize_t first, end       # its stored rows, counted within the class from tap position 0 on
    Py_ssize_t offset           # the row of a strip that holds stored row `first`


cdef struct Partition:
    Py_ssize_t start            # row of the strip where the rows that this output row reads begin
    Py_ssize_t a0, a1           # its kernel rows inside the image; a1 <= a0 if there are none


cdef inline Py_ssize_t gcd(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    while b:
        a, b = b, a % b
    return a


cdef inline Py_ssize_t stored_before(Py_ssize_t position, Py_ssize_t n_stored, const Band* band,
                                     const Geometry* g) noexcept nogil:
    """The number of stored rows before a tap position: equal to it where neighbouring taps overlap or touch."""
    cdef Py_ssize_t periods = position // band.image_stride
    cdef Py_ssize_t rest = position - periods * band.image_stride
    return clip(periods * band.stored_stride + clip(rest, 0, g.k_h), 0, n_stored)


cdef inline ResidueClass residue_class(Py_ssize_t j, const Band* band, const Geometry* g) noexcept nogil:
    """Class j of a band; its offset is not set."""
    cdef ResidueClass c
    cdef Py_ssize_t n_rows = ceil_div(band.n_y - j, band.n_classes)
    cdef Py_ssize_t n_stored = (n_rows - 1) * band.stored_stride + g.k_h
    c.first_row = (band.y0 + j) * g.s_h - g.p_t
    c.first_inside = steps_to(-c.first_row, g.d_h)
    c.past_inside = steps_to(g.i_h - c.first_row, g.d_h)
    c.first = stored_before(c.first_inside, n_stored, band, g)
    c.end = stored_before(c.past_inside, n_stored, band, g)
    c.offset = 0
    return c


cdef inline ResidueClass residue_class_at(Py_ssize_t j, const Band* band, const Geometry* g) noexcept nogil:
    """Class j of a band and its place in a strip: behind all classes before it."""
    cdef Py_ssize_t i, offset = 0
    cdef ResidueClass c
    for i in range(j):
        c = residue_class(i, band, g)
        offset += c.end - c.first
    c = residue_class(j, band, g)
    c.offset = offset
    return c


cdef inline Band band_of_rows(Py_ssize_t y0, Py_ssize_t n_y, const Geometry* g) noexcept nogil:
    """The band of output rows y0 .. y0 + n_y."""
    cdef Band band
    cdef ResidueClass last
    cdef Py_ssize_t common = gcd(g.s_h, g.d_h)
    band.y0, band.n_y = y0, n_y
    band.n_classes = clip(g.d_h // common, 1, n_y)
    band.image_stride = g.s_h // common
    band.stored_stride = clip(band.image_stride, 1, g.k_h)
    band.rows = 0
    if n_y > 0:
        last = residue_class_at(band.n_classes - 1, &band, g)
        band.rows = last.offset + last.end - last.first
    return band


cdef inline Py_ssize_t image_row(Py_ssize_t stored, const ResidueClass* c, const Band* band,
                                 const Geometry* g) noexcept nogil:
    """The image row that a class keeps as one of its stored rows."""
    cdef Py_ssize_t period
    if band.image_stride <= g.k_h:
        return c.first_row + stored * g.d_h
    period = stored // band.stored_stride
    return c.first_row + (period * band.image_stride + stored - period * band.stored_stride) * g.d_h


cdef inline Py_ssize_t stored_image_row(Py_ssize_t r, const Band* band, const Geometry* g) noexcept nogil:
    """The image row that a strip keeps as its row r; no two of them are the same."""
    cdef Py_ssize_t j
    cdef ResidueClass c
    for j in range(band.n_classes):
        c = residue_class(j, band, g)
        if r < c.end - c.first:
            return image_row(c.first + r, &c, band, g)
        r -= c.end - c.first
    return -1  # a strip has fewer rows


cdef inline Py_ssize_t evenly_spaced(Py_ssize_t stored, const Band* band, const Geometry* g) noexcept nogil:
    """How many stored rows, from this one on, are each d_h below the one before in the image."""
    if band.image_stride <= g.k_h:
        return g.i_h  # all of them
    return band.stored_stride - stored % band.stored_stride


cdef inline Partition partition(Py_ssize_t i, const Band* band, const Geometry* g) noexcept nogil:
    """Where output row y0 + i of a band finds its rows in L."""
    cdef ResidueClass c = residue_class_at(i % band.n_classes, band, g)
    cdef Py_ssize_t q = i // band.n_classes
    cdef Partition p
    p.a0 = clip(c.first_inside - q * band.image_stride, 0, g.k_h)
    p.a1 = clip(c.past_inside - q * band.image_stride, 0, g.k_h)
    p.start = c.offset + q * band.stored_stride + p.a0 - c.first
    return p
