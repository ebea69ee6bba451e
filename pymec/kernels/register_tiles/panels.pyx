"""K re-laid in panels: what a register tile reads of it lies in one piece of memory, from a cache line on.

In h-w-i-o the lines of a few channels are k_c apart; with many channels they share few sets of a cache, and every
one is on a page of its own.  Re-laid, (G, B, k_h, k_w, i_c/G, m_b) with B = ⌈k_c/(G·m_b)⌉, they follow each other.
The last panel of a group reaches back over the one before it, so that it is as wide as they are.  One of fewer
channels than a cache line holds begins with zeros: the sums of these are written nowhere.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.shared.patch cimport copy, zero
from pymec.kernels.register_tiles.tile cimport CACHE_LINE, at_cache_line, panel_tile


def panels_size(shape):
    """The elements of K in panels, and of a cache line for their alignment.

    Channels count twice where the last panel of a group reaches back; zeros count, too.
    """
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t width = panel_tile(g.k_cg, shape.itemsize).channels
    panels = g.groups * blocks_of(width, &g) * width * shape.k_h * shape.k_w * shape.i_cg
    return panels + CACHE_LINE // shape.itemsize


cdef void pack_row(
    const floating* K, floating* panels, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t width, const Geometry* g
) noexcept nogil:
    """One row of K, all output channels, into its line of each panel."""
    cdef Py_ssize_t zeros = max(width - g.k_cg, 0), group, first
    for group in range(g.groups):
        first = 0
        while first < g.k_cg:
            zero(panels, zeros)
            copy(panels + zeros, K + row * g.k_c + group * g.k_cg + min(first, g.k_cg - width + zeros),
                 width - zeros)
            panels += rows * width
            first += width


def pack(const floating[:, :, :, ::1] kernel, floating[::1] panels, shape, int n_threads=1):
    """Re-lay K in panels, in an array of :func:`panels_size` elements, from its first cache line on."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t rows = g.k_h * g.k_w * g.i_cg
    cdef Py_ssize_t width = panel_tile(g.k_cg, sizeof(floating)).channels
    cdef Py_ssize_t row
    check_threads(n_threads)
    check_operands(&g, NULL, kernel.shape, NULL)
    check_room("panels", panels.shape[0], panels_size(shape))
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* to = at_cache_line(&panels[0])
    with nogil:
        for row in prange(rows, num_threads=n_threads, schedule="static"):
            pack_row(K, to + row * width, row, rows, width, &g)
