"""K turned by 180 degrees, its input and output channels swapped: the kernel of the input's gradient.

    flipped[k_h-1-a, k_w-1-b, m, c] = K[a, b, c, m], group by group

A block of channels at a time, through a copy.  Lines of K, or of the result, that are a multiple of 4 KiB apart
would evict each other from a level-1 cache, so each is read, or written, once.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.patch cimport copy
from pymec.kernels.shared.spans cimport ceil_div, innermost

cdef enum:
    BLOCK = 16  # channels of a block, either way


cdef void flip_block(
    const floating* K, floating* flipped, Py_ssize_t task, const Py_ssize_t* places, const Geometry* g
) noexcept nogil:
    """BLOCK input channels of one tap, those of each group separately."""
    cdef Py_ssize_t c0 = innermost(&task, ceil_div(g.i_c, BLOCK)) * BLOCK, tap = task
    cdef Py_ssize_t end = min(c0 + BLOCK, g.i_c), c1, group, m0, m1, m, c
    cdef const floating* lines
    cdef floating block[BLOCK * BLOCK]
    K += tap * g.i_cg * g.k_c
    flipped += (places[tap] if places != NULL else g.k_h * g.k_w - 1 - tap) * g.k_cg * g.i_c
    if g.i_cg == g.k_cg == 1:
        copy(flipped + c0, K + c0, end - c0)
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
                    flipped[m * g.i_c + c] = block[(c - c0) * BLOCK + m - m0]
            m0 = m1
        c0 = c1


def flip_and_swap(const floating[:, :, :, ::1] kernel, floating[::1] flipped, shape, int n_threads=1,
                  const Py_ssize_t[::1] places=None):
    """Write the flipped kernel, |K| elements: (k_h, k_w, k_c/G, i_c).

    ``places``, if given, are where its k_h·k_w taps go instead: each of 0 .. k_h·k_w - 1 once.
    """
    cdef Geometry g = geometry(shape)
    cdef const Py_ssize_t* place = NULL
    cdef Py_ssize_t tasks = g.k_h * g.k_w * ceil_div(g.i_c, BLOCK), task
    check_stage(&g, n_threads, NULL, kernel.shape, NULL)
    check_room("flipped", flipped.shape[0], shape.kernel_size)
    if places is not None:
        if sorted(places) != list(range(g.k_h * g.k_w)):
            raise ValueError(f"places must be the numbers below {g.k_h * g.k_w} in some order, got {list(places)}")
        place = &places[0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* to = &flipped[0]
    with nogil:
        for task in prange(tasks, num_threads=n_threads, schedule="static"):
            flip_block(K, to, task, place, &g)
