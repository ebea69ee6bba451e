"""K turned by 180 degrees with its input and output channels swapped: the kernel of the input's gradient.

In blocks of channels whose lines a level-1 cache holds, both those read and those written.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels._geometry cimport Geometry, check_operands, check_room, check_threads, geometry

cdef enum:
    BLOCK = 16


cdef void turn_lines(const floating* K, floating* turned, Py_ssize_t unit, const Geometry* g) noexcept nogil:
    """BLOCK input channels of one tap and group."""
    cdef Py_ssize_t blocks = (g.i_cg + BLOCK - 1) / BLOCK, taps = g.k_h * g.k_w
    cdef Py_ssize_t c0 = unit % blocks * BLOCK, group = unit / blocks % g.groups, tap = unit / blocks / g.groups
    cdef Py_ssize_t c1 = min(c0 + BLOCK, g.i_cg), m0 = 0, m1, m, c
    cdef const floating* lines = K + tap * g.i_cg * g.k_c + group * g.k_cg
    turned += (taps - 1 - tap) * g.k_cg * g.i_c + group * g.i_cg
    while m0 < g.k_cg:
        m1 = min(m0 + BLOCK, g.k_cg)
        for m in range(m0, m1):
            for c in range(c0, c1):
                turned[m * g.i_c + c] = lines[c * g.k_c + m]
        m0 = m1


def turn(const floating[:, :, :, ::1] kernel, floating[::1] turned, shape, int n_threads=1):
    """K'[k_h-1-a, k_w-1-b, m, c] = K[a, b, c, m], group by group, in an array of as many elements."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t units = g.k_h * g.k_w * g.groups * ((g.i_cg + BLOCK - 1) / BLOCK)
    cdef Py_ssize_t unit
    check_threads(n_threads)
    check_operands(&g, NULL, kernel.shape, NULL)
    check_room("turned", turned.shape[0], shape.kernel_size)
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* to = &turned[0]
    with nogil:
        for unit in prange(units, num_threads=n_threads, schedule="static"):
            turn_lines(K, to, unit, &g)
