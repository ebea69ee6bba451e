"""Direct convolution: the definition, seven loops (n, y, x, m, a, b, c).

    O[n,y,x,m] = sum over a < k_h, b < k_w, c < i_c/G of
                 I[n, y·s_h - p_t + a·d_h, x·s_w - p_l + b·d_w, c] · K[a,b,c,m]

No lowering, no BLAS, no workspace: what every other algorithm is compared with.  Sums are kept in double
precision, in a small block of output channels at a time, so that K is read along its rows.  Taps that fall
on padding are skipped.

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

from pymec.kernels.shared.geometry cimport Geometry, check_stage, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.spans cimport Span, inside

cdef enum:
    BLOCK = 32  # output channels summed at a time: 32 doubles fit the vector registers of most CPUs


cdef inline void convolve_pixel(
    const floating* I, const floating* K, floating* O, Py_ssize_t n, Py_ssize_t y, Py_ssize_t x,
    Py_ssize_t m0, Py_ssize_t width, const Geometry* g
) noexcept nogil:
    """Output channels m0 .. m0 + width of one pixel, all of one group."""
    cdef double total[BLOCK]
    cdef double value
    cdef Py_ssize_t a, b, c, m, h, w, c0 = m0 / g.k_cg * g.i_cg  # the group's first input channel
    cdef Span rows = inside(y * g.s_h - g.p_t, g.d_h, g.i_h, g.k_h)     # the taps that lie on the image
    cdef Span columns = inside(x * g.s_w - g.p_l, g.d_w, g.i_w, g.k_w)
    cdef const floating* pixel
    cdef const floating* weights
    for m in range(BLOCK):
        total[m] = 0
    for a in range(rows.first, rows.end):
        for b in range(columns.first, columns.end):
            h, w = y * g.s_h - g.p_t + a * g.d_h, x * g.s_w - g.p_l + b * g.d_w
            pixel = I + ((n * g.i_h + h) * g.i_w + w) * g.i_c + c0      # I[n, h, w, c0]
            weights = K + (a * g.k_w + b) * g.i_cg * g.k_c + m0         # K[a, b, 0, m0]
            for c in range(g.i_cg):
                value = pixel[c]
                if width == BLOCK:  # a constant count, so that the compiler keeps the sums in registers
                    for m in range(BLOCK):
                        total[m] += value * weights[c * g.k_c + m]
                else:
                    for m in range(width):
                        total[m] += value * weights[c * g.k_c + m]
    for m in range(width):
        O[((n * g.o_h + y) * g.o_w + x) * g.k_c + m0 + m] = <floating> total[m]


cdef void convolve_row(
    const floating* I, const floating* K, floating* O, Py_ssize_t row, const Geometry* g
) noexcept nogil:
    """One output row y of image n: all its pixels and channels."""
    cdef Py_ssize_t n = row / g.o_h, y = row % g.o_h
    cdef Py_ssize_t group, m, x
    for group in range(g.groups):
        m = 0
        # A block of channels outermost: its part of K stays in cache along the row.
        while m < g.k_cg and not interrupted():
            for x in range(g.o_w):
                convolve_pixel(I, K, O, n, y, x, group * g.k_cg + m, min(BLOCK, g.k_cg - m), g)
            m += BLOCK


def run(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    workspace, shape, int n_threads=1,
):
    """Convolve by the definition, output rows shared among ``n_threads`` threads; ``workspace`` is not used."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t row
    check_stage(&g, n_threads, x.shape, kernel.shape, out.shape)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for row in prange(g.i_n * g.o_h, num_threads=n_threads, schedule="static"):
            convolve_row(I, K, O, row, &g)
