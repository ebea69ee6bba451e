"""K packed in panels: the lines that a register tile reads are adjacent, and begin with a cache line.

In h-w-i-o the lines of m_b channels are k_c apart; with many channels they share few sets of a cache, and each is
on another page.  Packed as (G, B, k_h, k_w, i_c/G, m_b), B = ⌈k_c/(G·m_b)⌉, they follow each other.  A group's
last panel overlaps the one before it, so that all are m_b channels wide.  A group of fewer channels than a cache
line holds is filled up with zeros in front; their sums are not written.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry, sizes_of
from pymec.kernels.shared.patch cimport copy, zero
from pymec.kernels.register_tiles.tile cimport CACHE_LINE, at_cache_line, panel_tile


def panels_size(shape):
    """Elements of K in panels, and of a cache line for their alignment.

    Overlapping channels count twice; zeros count, too.
    """
    cdef Geometry g = sizes_of(shape)
    cdef Py_ssize_t width = panel_tile(g.k_cg, shape.itemsize).channels
    panels = g.groups * n_panels(width, &g) * width * shape.k_h * shape.k_w * shape.i_cg
    return panels + CACHE_LINE // shape.itemsize


cdef void move_row(
    floating* K, floating* panels, bint back, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t width, const Geometry* g
) noexcept nogil:
    """Copy one row of K, all output channels, into its line of each panel; or back from there."""
    cdef Py_ssize_t zeros = max(width - g.k_cg, 0), group, first
    cdef floating* channels
    for group in range(g.groups):
        first = 0
        while first < g.k_cg:
            channels = K + row * g.k_c + group * g.k_cg + min(first, g.k_cg - width + zeros)
            if back:
                copy(channels, panels + zeros, width - zeros)
            else:
                zero(panels, zeros)
                copy(panels + zeros, channels, width - zeros)
            panels += rows * width
            first += width


def pack(const floating[:, :, :, ::1] kernel, floating[::1] panels, shape, int n_threads=1):
    """Pack K in panels, in an array of :func:`panels_size` elements, from its first cache line on."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t rows = g.k_h * g.k_w * g.i_cg
    cdef Py_ssize_t width = panel_tile(g.k_cg, sizeof(floating)).channels
    cdef Py_ssize_t row
    check_stage(&g, n_threads, NULL, kernel.shape, NULL)
    check_room("panels", panels.shape[0], panels_size(shape))
    cdef floating* K = <floating*> &kernel[0, 0, 0, 0]
    cdef floating* to = at_cache_line(&panels[0])
    with nogil:
        for row in prange(rows, num_threads=n_threads, schedule="static"):
            move_row(K, to + row * width, False, row, rows, width, &g)


def unpack(const floating[::1] panels, floating[:, :, :, ::1] kernel, shape):
    """K again, from what :func:`pack` wrote."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t rows = g.k_h * g.k_w * g.i_cg
    cdef Py_ssize_t width = panel_tile(g.k_cg, sizeof(floating)).channels
    cdef Py_ssize_t row
    check_stage(&g, 1, NULL, kernel.shape, NULL)
    check_room("panels", panels.shape[0], panels_size(shape))
    cdef floating* K = &kernel[0, 0, 0, 0]
    cdef floating* packed = at_cache_line(&panels[0])
    with nogil:
        for row in range(rows):
            move_row(K, packed + row * width, True, row, rows, width, &g)
