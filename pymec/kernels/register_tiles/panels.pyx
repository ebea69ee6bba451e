"""K packed in panels: the lines that a register tile reads are adjacent, and begin with a cache line.

In h-w-i-o the lines of m_b channels are k_c apart; with many channels they share few sets of a cache, and each is
on another page.  Packed as (G, B, k_h, k_w, i_c/G, m_b), B = ⌈k_c/(G·m_b)⌉, they follow each other.  A group's
last panel overlaps the one before it, so that all are m_b channels wide.  A group of fewer channels than a cache
line holds is filled up with zeros in front; their sums are not written.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.geometry cimport (
    Geometry, check_extents, check_room, check_stage, check_strides, check_threads, geometry, sizes_of,
)
from pymec.kernels.shared.patch cimport copy, zero
from pymec.kernels.shared.per_cpu cimport compiled_per_cpu
from pymec.kernels.shared.spans cimport innermost
from pymec.kernels.shared.turning cimport BLOCK, transpose_block
from pymec.kernels.register_tiles.tile cimport CACHE_LINE, at_cache_line, panel_tile


def panels_size(shape):
    """Elements of K in panels, and of a cache line for their alignment.

    Overlapping channels count twice; zeros count, too.
    """
    cdef Geometry g = sizes_of(shape)
    return elements_of_panels(&g, shape.itemsize)


cdef object elements_of_panels(const Geometry* g, Py_ssize_t itemsize):
    """The same, as a Python integer: of sizes that no array has it may be more than C counts."""
    cdef Py_ssize_t width = panel_tile(g.k_cg, itemsize).channels
    lines = <object> g.k_h * g.k_w * g.i_cg
    return g.groups * n_panels(width, g) * width * lines + CACHE_LINE // itemsize


cdef void move_row(
    floating* row, Py_ssize_t step, floating* panels, bint back, Py_ssize_t rows, Py_ssize_t width,
    const Geometry* g
) noexcept nogil:
    """Copy one row of K, whose output channels are ``step`` apart, into its line of each panel; or back."""
    cdef Py_ssize_t zeros = max(width - g.k_cg, 0), group, first, i
    cdef floating* channels
    for group in range(g.groups):
        first = 0
        while first < g.k_cg:
            channels = row + (group * g.k_cg + min(first, g.k_cg - width + zeros)) * step
            if back:
                copy(channels, panels + zeros, width - zeros)
            elif step == 1:
                zero(panels, zeros)
                copy(panels + zeros, channels, width - zeros)
            else:
                zero(panels, zeros)
                for i in range(width - zeros):
                    panels[zeros + i] = channels[i * step]
            panels += rows * width
            first += width


def pack(const floating[:, :, :, :] kernel, floating[::1] panels, shape, int n_threads=1):
    """Pack K in panels, in an array of :func:`panels_size` elements, from its first cache line on.

    K may have any positive strides; :func:`pack_filters` is faster where it lies in memory as o-i-h-w.
    """
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t size = sizeof(floating), rows = g.k_h * g.k_w * g.i_cg, row, tap, at
    cdef Py_ssize_t width = panel_tile(g.k_cg, sizeof(floating)).channels
    check_stage(&g, n_threads, NULL, kernel.shape, NULL)
    check_strides("kernel", kernel.shape, kernel.strides, size)
    check_room("panels", panels.shape[0], elements_of_panels(&g, sizeof(floating)))
    cdef floating* K = <floating*> &kernel[0, 0, 0, 0]
    cdef floating* to = at_cache_line(&panels[0])
    with nogil:
        for row in prange(rows, num_threads=n_threads, schedule="static"):
            tap, at = row / g.i_cg, row % g.i_cg * kernel.strides[2]
            at = at + tap / g.k_w * kernel.strides[0] + tap % g.k_w * kernel.strides[1]
            move_row(K + at / size, kernel.strides[3] / size, to + row * width, False, rows, width, &g)


cdef void pack_block(
    const floating* K, floating* packed, Py_ssize_t lines, Py_ssize_t panels, Py_ssize_t width,
    Py_ssize_t channels, Py_ssize_t step
) noexcept nogil:
    """Pack some lines of K, ``step`` apart, from the first channel of some panels on: lines of ``width`` channels.

    ``channels`` are left in the group from there on: the last panel reaches back.
    """
    cdef Py_ssize_t line, panel
    for line in range(lines):
        for panel in range(panels):
            copy(packed + (panel * lines + line) * width, K + min(panel * width, channels - width), width)
        K += step


cdef compiled_per_cpu turn_lines(
    const floating* K, Py_ssize_t pitch, floating* panel, Py_ssize_t lines, Py_ssize_t width
) noexcept nogil:
    """``width`` output channels of ``lines`` adjacent input channels, transposed into lines of a panel."""
    cdef Py_ssize_t i = 0, j
    while i < width:
        j = 0
        while j < lines:
            transpose_block(K + i * pitch + j, pitch, min(BLOCK, width - i), min(BLOCK, lines - j),
                            panel + j * width + i, width)
            j += BLOCK
        i += BLOCK


cdef void pack_turned_block(
    const floating* K, const Py_ssize_t* taps, Py_ssize_t n_taps, floating* packed, Py_ssize_t lines,
    Py_ssize_t panels, Py_ssize_t width, Py_ssize_t channels, const Geometry* g
) noexcept nogil:
    """The same from the kernel of the layer whose input's gradient this convolution is.

    ``taps`` are the places in it of the block's taps, with ``lines`` / ``n_taps`` input channels each: its output
    channels, which are adjacent.  The output channels here are its input channels, g.i_c apart.
    """
    cdef Py_ssize_t depth = lines / n_taps, tap, panel
    cdef const floating* first
    for tap in range(n_taps):
        first = K + taps[tap] * g.k_cg * g.i_c
        for panel in range(panels):
            turn_lines(first + min(panel * width, channels - width) * g.i_c, g.i_c,
                       packed + (panel * lines + tap * depth) * width, depth, width)


def unpack(const floating[::1] panels, floating[:, :, :, ::1] kernel, shape):
    """K again, from what :func:`pack` wrote."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t rows = g.k_h * g.k_w * g.i_cg
    cdef Py_ssize_t width = panel_tile(g.k_cg, sizeof(floating)).channels
    cdef Py_ssize_t row
    check_stage(&g, 1, NULL, kernel.shape, NULL)
    check_room("panels", panels.shape[0], elements_of_panels(&g, sizeof(floating)))
    cdef floating* K = &kernel[0, 0, 0, 0]
    cdef floating* packed = at_cache_line(&panels[0])
    with nogil:
        for row in range(rows):
            move_row(K + row * g.k_c, 1, packed + row * width, True, rows, width, &g)


# From o-i-h-w -------------------------------------------------------------------------------------------


cdef compiled_per_cpu turn_block(
    const floating* filters, floating* panel, Py_ssize_t rows, Py_ssize_t first, Py_ssize_t count,
    Py_ssize_t width, const Geometry* g
) noexcept nogil:
    """Copy ``count`` numbers of some filters, from the number ``first`` on, into the lines of a panel."""
    cdef floating block[BLOCK * BLOCK]
    cdef Py_ssize_t taps = g.k_h * g.k_w, c = first // taps, tap = first % taps, i
    transpose_block(filters + first, g.i_cg * taps, rows, count, block, BLOCK)
    for i in range(count):
        copy(panel + (tap * g.i_cg + c) * width, block + i * BLOCK, rows)
        tap += 1
        if tap == taps:
            c, tap = c + 1, 0


cdef void turn_filters(
    const floating* K, floating* panels, Py_ssize_t task, Py_ssize_t width, const Geometry* g
) noexcept nogil:
    """Copy BLOCK filters of a panel, i_c/G by k_h by k_w numbers each, into its lines."""
    cdef Py_ssize_t length = g.i_cg * g.k_h * g.k_w, channels = min(width, g.k_cg), block
    cdef Py_ssize_t m = innermost(&task, ceil_div(channels, BLOCK)) * BLOCK
    cdef Py_ssize_t panel = task % n_panels(width, g), group = task // n_panels(width, g)
    K += (group * g.k_cg + min(panel * width, g.k_cg - channels) + m) * length
    panels += task * length * width
    if channels < width:  # a panel of one task: only panels of a cache line, BLOCK channels at most, have zeros
        zero(panels, length * width)
    for block in range(ceil_div(length, BLOCK)):
        turn_block(K, panels + width - channels + m, min(BLOCK, channels - m), block * BLOCK,
                   min(BLOCK, length - block * BLOCK), width, g)


def pack_filters(const floating[:, :, :, ::1] kernel, floating[::1] panels, shape, int n_threads=1):
    """:func:`pack` of a kernel in o-i-h-w."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t width = panel_tile(g.k_cg, sizeof(floating)).channels, task, tasks
    check_threads(n_threads)
    check_extents("kernel", kernel.shape, (g.k_c, g.i_cg, g.k_h, g.k_w))
    check_room("panels", panels.shape[0], elements_of_panels(&g, sizeof(floating)))
    tasks = g.groups * n_panels(width, &g) * ceil_div(min(width, g.k_cg), BLOCK)
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* to = at_cache_line(&panels[0])
    with nogil:
        for task in prange(tasks, num_threads=n_threads, schedule="static"):
            turn_filters(K, to, task, width, &g)
