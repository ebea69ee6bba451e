"""K turned by 180 degrees with its input and output channels swapped: the kernel of the input's gradient.

In blocks of channels, through a copy of each: lines of K a multiple of 4 KiB apart, or of K', would push each
other out of a level-1 cache, so each is read or written at once.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.shared.patch cimport copy

cdef enum:
    BLOCK = 16


cdef void turn_lines(
    const floating* K, floating* turned, Py_ssize_t unit, const Py_ssize_t* places, const Geometry* g
) noexcept nogil:
    """BLOCK input channels of one tap, those of each group by themselves."""
    cdef Py_ssize_t blocks = (g.i_c + BLOCK - 1) / BLOCK, tap = unit / blocks
    cdef Py_ssize_t c0 = unit % blocks * BLOCK, c1, end = min(c0 + BLOCK, g.i_c), group, m0, m1, m, c
    cdef const floating* lines
    cdef floating block[BLOCK * BLOCK]
    K += tap * g.i_cg * g.k_c
    turned += (places[tap] if places != NULL else g.k_h * g.k_w - 1 - tap) * g.k_cg * g.i_c
    if g.i_cg == g.k_cg == 1:
        copy(turned + c0, K + c0, end - c0)
        return
    while c0 < end:
        group = c0 / g.i_cg
        c1 = min(end, (group + 1) * g.i_cg)
        lines = K + group * g.k_cg - group * g.i_cg * g.k_c
        m0 = 0
        while m0 < g.k_cg:
            m1 = min(m0 + BLOCK, g.k_cg)
            for c in range(c0, c1):
                copy(block + (c - c0) * BLOCK, lines + c * g.k_c + m0, m1 - m0)
            for m in range(m0, m1):
                for c in range(c0, c1):
                    turned[m * g.i_c + c] = block[(c - c0) * BLOCK + m - m0]
            m0 = m1
        c0 = c1


def turn(const floating[:, :, :, ::1] kernel, floating[::1] turned, shape, int n_threads=1,
         const Py_ssize_t[::1] places=None):
    """K'[k_h-1-a, k_w-1-b, m, c] = K[a, b, c, m], group by group, in an array of as many elements.

    ``places`` are others for the k_h·k_w taps, the place of each being one of 0 .. k_h·k_w - 1.
    """
    cdef Geometry g = geometry(shape)
    cdef const Py_ssize_t* place = NULL
    cdef Py_ssize_t units = g.k_h * g.k_w * ((g.i_c + BLOCK - 1) / BLOCK)
    cdef Py_ssize_t unit
    check_threads(n_threads)
    check_operands(&g, NULL, kernel.shape, NULL)
    check_room("turned", turned.shape[0], shape.kernel_size)
    if places is not None:
        if sorted(places) != list(range(g.k_h * g.k_w)):
            raise ValueError(f"places must be the numbers below {g.k_h * g.k_w} in some order, got {list(places)}")
        place = &places[0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* to = &turned[0]
    with nogil:
        for unit in prange(units, num_threads=n_threads, schedule="static"):
            turn_lines(K, to, unit, place, &g)
