# Which image rows MEC's lowered matrix keeps, and where in it each output row finds its own.
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
# MEC-w keeps columns by the same rules: it hands in the geometry of the transposed shape.  Read column for row.

from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.patch cimport clip, positions_up_to


cdef struct Band:
    Py_ssize_t y0, n_y          # its output rows: y0 .. y0 + n_y
    Py_ssize_t n_classes        # d_h/g, or fewer when the band is lower than that
    Py_ssize_t stride           # s_h/g: kernel rows from one output row of a class to the next
    Py_ssize_t step             # the same as stored: min(s_h/g, k_h)
    Py_ssize_t rows             # image rows kept, over all classes


cdef struct RowClass:
    Py_ssize_t base             # image row under tap 0 of the class's first output row (may be negative)
    Py_ssize_t above, below     # first tap position inside the image, first one past it
    Py_ssize_t first, end       # the stored slots, of the class's own count
    Py_ssize_t offset           # where slot `first` lies in a strip of L


cdef struct Partition:
    Py_ssize_t start            # row of the strip where this output row's own rows begin
    Py_ssize_t a0, a1           # its kernel rows inside the image; a1 <= a0 if there are none


cdef inline Py_ssize_t gcd(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    while b:
        a, b = b, a % b
    return a


cdef inline Py_ssize_t slots_before(Py_ssize_t position, Py_ssize_t n_slots, const Band* band,
                                    const Geometry* g) noexcept nogil:
    """The number of stored slots before a tap position: all of them where taps overlap or touch."""
    cdef Py_ssize_t periods = position / band.stride
    cdef Py_ssize_t rest = position - periods * band.stride
    return clip(periods * band.step + clip(rest, 0, g.k_h), 0, n_slots)


cdef inline RowClass row_class(Py_ssize_t j, const Band* band, const Geometry* g) noexcept nogil:
    """Class j of a band, its offset left at 0."""
    cdef RowClass c
    cdef Py_ssize_t n_rows = (band.n_y - j + band.n_classes - 1) / band.n_classes
    cdef Py_ssize_t n_slots = (n_rows - 1) * band.step + g.k_h
    c.base = (band.y0 + j) * g.s_h - g.p_t
    c.above = positions_up_to(-c.base, g)
    c.below = positions_up_to(g.i_h - c.base, g)
    c.first = slots_before(c.above, n_slots, band, g)
    c.end = slots_before(c.below, n_slots, band, g)
    c.offset = 0
    return c


cdef inline RowClass placed_class(Py_ssize_t j, const Band* band, const Geometry* g) noexcept nogil:
    """Class j of a band, with its place in L: behind all classes before it."""
    cdef Py_ssize_t i, offset = 0
    cdef RowClass c
    for i in range(j):
        c = row_class(i, band, g)
        offset += c.end - c.first
    c = row_class(j, band, g)
    c.offset = offset
    return c


cdef inline Band band_of_rows(Py_ssize_t y0, Py_ssize_t n_y, const Geometry* g) noexcept nogil:
    cdef Band band
    cdef RowClass last
    cdef Py_ssize_t common = gcd(g.s_h, g.d_h)
    band.y0, band.n_y = y0, n_y
    band.n_classes = clip(g.d_h / common, 1, n_y)
    band.stride = g.s_h / common
    band.step = clip(band.stride, 1, g.k_h)
    band.rows = 0
    if n_y > 0:
        last = placed_class(band.n_classes - 1, &band, g)
        band.rows = last.offset + last.end - last.first
    return band


cdef inline Py_ssize_t image_row(Py_ssize_t slot, const RowClass* c, const Band* band,
                                 const Geometry* g) noexcept nogil:
    """The image row that a class keeps in a slot."""
    cdef Py_ssize_t period
    if band.stride <= g.k_h:
        return c.base + slot * g.d_h
    period = slot / band.step
    return c.base + (period * band.stride + slot - period * band.step) * g.d_h


cdef inline Py_ssize_t stored_image_row(Py_ssize_t r, const Band* band, const Geometry* g) noexcept nogil:
    """The image row that a strip keeps as its row r; no two of them are the same."""
    cdef Py_ssize_t j
    cdef RowClass kept
    for j in range(band.n_classes):
        kept = row_class(j, band, g)
        if r < kept.end - kept.first:
            return image_row(kept.first + r, &kept, band, g)
        r -= kept.end - kept.first
    return -1  # there are not so many rows


cdef inline Py_ssize_t rows_in_step(Py_ssize_t slot, const Band* band, const Geometry* g) noexcept nogil:
    """How many stored rows, from a slot on, are each d_h below the one before in the image."""
    if band.stride <= g.k_h:
        return g.i_h  # all of them
    return band.step - slot % band.step


cdef inline Partition partition(Py_ssize_t i, const Band* band, const Geometry* g) noexcept nogil:
    """Where output row y0 + i of a band finds its rows in L."""
    cdef RowClass c = placed_class(i % band.n_classes, band, g)
    cdef Py_ssize_t q = i / band.n_classes
    cdef Partition p
    p.a0 = clip(c.above - q * band.stride, 0, g.k_h)
    p.a1 = clip(c.below - q * band.stride, 0, g.k_h)
    p.start = c.offset + q * band.step + p.a0 - c.first
    return p
