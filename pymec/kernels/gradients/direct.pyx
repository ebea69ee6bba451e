"""Both gradients by their definition: every element is one sum, kept in double precision.

    dK[a,b,c,m] = sum over n, y, x of I[n, y·s_h - p_t + a·d_h, x·s_w - p_l + b·d_w, c] · dO[n,y,x,m]
    dI[n,h,w,c] = sum over a, b, m of dO[n,y,x,m] · K[a,b,c,m],  y·s_h = h + p_t - a·d_h,  x·s_w = w + p_l - b·d_w

where the y and x of the second line must be whole and inside the output.  What the other ways to compute a
gradient are compared with.

==========  =========================  ================================
array       shape                      role
==========  =========================  ================================
x           (i_n, i_h, i_w, i_c)       input I, or its gradient dI
kernel      (k_h, k_w, i_c/G, k_c)     kernel K, or its gradient dK
grad_out    (i_n, o_h, o_w, k_c)       the output's gradient dO
==========  =========================  ================================

Workspace: 0.  Any stride, padding, dilation and number of groups.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_threads, geometry

cdef enum:
    BLOCK = 32  # output channels summed at a time: 32 doubles fit the vector registers of most CPUs


cdef void kernel_grad_element(
    const floating* I, const floating* dO, floating* dK, Py_ssize_t unit, const Geometry* g
) noexcept nogil:
    """dK[a, b, c] of one group: all its output channels, a block at a time."""
    cdef double total[BLOCK]
    cdef double value
    cdef Py_ssize_t c = unit % g.i_cg
    cdef Py_ssize_t b = unit / g.i_cg % g.k_w
    cdef Py_ssize_t a = unit / g.i_cg / g.k_w % g.k_h
    cdef Py_ssize_t group = unit / g.i_cg / g.k_w / g.k_h
    cdef Py_ssize_t n, y, x, h, w, m, m0 = 0, width
    cdef const floating* weights
    while m0 < g.k_cg:
        width = min(BLOCK, g.k_cg - m0)
        for m in range(BLOCK):
            total[m] = 0
        for n in range(g.i_n):
            for y in range(g.o_h):
                h = y * g.s_h - g.p_t + a * g.d_h
                if h < 0 or h >= g.i_h:
                    continue
                for x in range(g.o_w):
                    w = x * g.s_w - g.p_l + b * g.d_w
                    if w < 0 or w >= g.i_w:
                        continue
                    value = I[((n * g.i_h + h) * g.i_w + w) * g.i_c + group * g.i_cg + c]
                    weights = dO + ((n * g.o_h + y) * g.o_w + x) * g.k_c + group * g.k_cg + m0
                    for m in range(width):
                        total[m] += value * weights[m]
        for m in range(width):
            dK[((a * g.k_w + b) * g.i_cg + c) * g.k_c + group * g.k_cg + m0 + m] = <floating> total[m]
        m0 += width


def run_kernel_grad(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] grad_out, floating[:, :, :, ::1] grad_kernel,
    floating[::1] workspace, shape, int n_threads=1,
):
    """The kernel's gradient by the definition; ``workspace`` is not used."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t unit
    check_threads(n_threads)
    check_operands(&g, x.shape, grad_kernel.shape, grad_out.shape)
    cdef const floating* I = &x[0, 0, 0, 0] if g.i_n else NULL
    cdef const floating* dO = &grad_out[0, 0, 0, 0] if g.i_n else NULL
    cdef floating* dK = &grad_kernel[0, 0, 0, 0]
    with nogil:
        for unit in prange(g.groups * g.k_h * g.k_w * g.i_cg, num_threads=n_threads, schedule="static"):
            kernel_grad_element(I, dO, dK, unit, &g)


cdef void input_grad_pixel(
    const floating* dO, const floating* K, floating* dI, Py_ssize_t n, Py_ssize_t h, Py_ssize_t w,
    const Geometry* g
) noexcept nogil:
    """One input pixel: all its channels."""
    cdef double total
    cdef Py_ssize_t a, b, c, m, y, x, top, left, group
    cdef const floating* weights
    cdef const floating* pixel
    for c in range(g.i_c):
        group = c / g.i_cg
        total = 0
        for a in range(g.k_h):
            top = h + g.p_t - a * g.d_h
            y = top / g.s_h
            if top < 0 or y * g.s_h != top or y >= g.o_h:
                continue
            for b in range(g.k_w):
                left = w + g.p_l - b * g.d_w
                x = left / g.s_w
                if left < 0 or x * g.s_w != left or x >= g.o_w:
                    continue
                weights = K + ((a * g.k_w + b) * g.i_cg + c - group * g.i_cg) * g.k_c + group * g.k_cg
                pixel = dO + ((n * g.o_h + y) * g.o_w + x) * g.k_c + group * g.k_cg
                for m in range(g.k_cg):
                    total += <double> pixel[m] * weights[m]
        dI[((n * g.i_h + h) * g.i_w + w) * g.i_c + c] = <floating> total


cdef void input_grad_row(const floating* dO, const floating* K, floating* dI, Py_ssize_t row,
                         const Geometry* g) noexcept nogil:
    """One image row (n, h)."""
    cdef Py_ssize_t w
    for w in range(g.i_w):
        input_grad_pixel(dO, K, dI, row / g.i_h, row % g.i_h, w, g)


def run_input_grad(
    const floating[:, :, :, ::1] grad_out, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] grad_x,
    floating[::1] workspace, shape, int n_threads=1,
):
    """The input's gradient by the definition; ``workspace`` is not used."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t row
    check_threads(n_threads)
    check_operands(&g, grad_x.shape, kernel.shape, grad_out.shape)
    if g.i_n == 0:
        return
    cdef const floating* dO = &grad_out[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* dI = &grad_x[0, 0, 0, 0]
    with nogil:
        for row in prange(g.i_n * g.i_h, num_threads=n_threads, schedule="static"):
            input_grad_row(dO, K, dI, row, &g)
