"""K turned by 180 degrees, its input and output channels swapped: the kernel of the input's gradient.

    flipped[k_h-1-a, k_w-1-b, m, c] = K[a, b, c, m], group by group

The channels of each tap are a matrix that is transposed, block by block (``shared/turning``).
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.patch cimport copy
from pymec.kernels.shared.per_cpu cimport compiled_per_cpu
from pymec.kernels.shared.spans cimport ceil_div, innermost
from pymec.kernels.shared.turning cimport BLOCK, transpose_block


cdef compiled_per_cpu flip_block(
    const floating* K, floating* flipped, Py_ssize_t task, const Py_ssize_t* places, const Geometry* g
) noexcept nogil:
    """BLOCK input channels of one tap, those of each group separately."""
    cdef Py_ssize_t c0 = innermost(&task, ceil_div(g.i_c, BLOCK)) * BLOCK, tap = task
    cdef Py_ssize_t end = min(c0 + BLOCK, g.i_c), c1, group, m0, m1
    cdef const floating* lines
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
            transpose_block(
                lines + c0 * g.k_c + m0, g.k_c, c1 - c0, m1 - m0, flipped + m0 * g.i_c + c0, g.i_c
            )
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
