"""Direct convolution: the definition, seven loops (n, y, x, m, a, b, c).

    O[n,y,x,m] = sum over a < k_h, b < k_w, c < i_c/G of
                 I[n, y·s_h - p_t + a·d_h, x·s_w - p_l + b·d_w, c] · K[a,b,c,m]

No lowering, no BLAS, no workspace: what every other algorithm is compared with.  Sums are kept in double
precision, in a small block of output channels at a time, so that K is read along its rows.  Taps that fall
on padding are skipped.  A bias is what sums begin with; ReLU clears a block as it is written.

==========  =========================  ==========================
array       shape                      role
==========  =========================  ==========================
x           (i_n, i_h, i_w, i_c)       input I
kernel      (k_h, k_w, i_c/G, k_c)     kernel K
out         (i_n, o_h, o_w, k_c)       output O
==========  =========================  ==========================

Workspace: 0.  Any stride, padding, dilation and number of groups.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.bias_relu cimport BiasRelu, apply_relu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_threads, geometry

cdef enum:
    BLOCK = 32  # output channels summed at a time: 32 doubles fit the vector registers of most CPUs


cdef inline void convolve_pixel(
    const floating* I, const floating* K, floating* O, Py_ssize_t n, Py_ssize_t y, Py_ssize_t x,
    Py_ssize_t m0, Py_ssize_t width, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Output channels m0 .. m0 + width of one pixel; m0 and its neighbours belong to one group."""
    cdef double total[BLOCK]
    cdef double value
    cdef Py_ssize_t a, b, c, m, h, w
    cdef Py_ssize_t group = m0 / g.k_cg
    cdef const floating* pixel
    cdef const floating* weights
    cdef floating* target = O + ((n * g.o_h + y) * g.o_w + x) * g.k_c + m0
    for m in range(BLOCK):
        total[m] = 0
    for m in range(0 if bias_relu.bias == NULL else width):
        total[m] = (<const floating*> bias_relu.bias)[m0 + m]
    for a in range(g.k_h):
        h = y * g.s_h - g.p_t + a * g.d_h
        if h < 0 or h >= g.i_h:
            continue
        for b in range(g.k_w):
            w = x * g.s_w - g.p_l + b * g.d_w
            if w < 0 or w >= g.i_w:
                continue
            pixel = I + ((n * g.i_h + h) * g.i_w + w) * g.i_c + group * g.i_cg
            weights = K + (a * g.k_w + b) * g.i_cg * g.k_c + m0
            for c in range(g.i_cg):
                value = pixel[c]
                if width == BLOCK:  # a constant count, so that the compiler keeps the sums in registers
                    for m in range(BLOCK):
                        total[m] += value * weights[c * g.k_c + m]
                else:
                    for m in range(width):
                        total[m] += value * weights[c * g.k_c + m]
    for m in range(width):
        target[m] = <floating> total[m]
    apply_relu(target, 1, 0, 0, width, bias_relu)  # a branch on each sum would cost more than this second look


cdef void convolve_row(
    const floating* I, const floating* K, floating* O, Py_ssize_t row, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One output row (n, y): all its pixels and channels."""
    cdef Py_ssize_t n = row / g.o_h
    cdef Py_ssize_t y = row - n * g.o_h
    cdef Py_ssize_t group, m, x
    for group in range(g.groups):
        m = 0
        # A block of channels outermost: its part of K stays in cache along the row.
        while m < g.k_cg:
            for x in range(g.o_w):
                convolve_pixel(I, K, O, n, y, x, group * g.k_cg + m, min(BLOCK, g.k_cg - m), bias_relu, g)
            m += BLOCK


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads=1, const floating[::1] bias=None, bint relu=False,
):
    """Convolve by the definition, output rows shared among ``n_threads`` threads; ``workspace`` is not used.

    Sums begin with the ``bias``, if there is one; with ``relu`` what ends below zero becomes zero.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Py_ssize_t row
    check_threads(n_threads)
    check_operands(&g, x.shape, kernel.shape, out.shape)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for row in prange(g.i_n * g.o_h, num_threads=n_threads, schedule="static"):
            convolve_row(I, K, O, row, &bias_relu, &g)
