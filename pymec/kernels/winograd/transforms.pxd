# The one-dimensional transforms of Winograd's convolution, each a product with one of the matrices of matrices.py.
#
# v = B^T d takes t = t_o + 2 elements of the input to t points, u = G g three kernel taps to t points, and y =
# A^T p the products at t points to t_o outputs.  The points are 0, 1, -1, 2, -2, 1/2, -1/2 and infinity, as
# many as t needs.  The rows of a pair of points z and -z differ in the signs of the odd powers alone, so the
# even part and the odd part of a row are computed once for both.
#
# In each result an element occurs once, with the coefficient of the matrix, and is rounded no more often than the
# row has terms (with G once more, for a coefficient such as 1/6): the error bound rests on that.
#
# Every function does this for `lanes` adjacent channels; elements of a vector are a step apart.  They are inlined:
# their caller is compiled for several CPUs, and the compiler makes vectors of the lanes for each.

from cython cimport floating

from pymec.kernels.shared.per_cpu cimport inlined


cdef inline inlined input_2(
    const floating* d, Py_ssize_t d_step, floating* v, Py_ssize_t v_step, Py_ssize_t lanes
) noexcept nogil:
    cdef floating d1, d2
    cdef Py_ssize_t c
    for c in range(lanes):
        d1, d2 = d[d_step + c], d[2 * d_step + c]
        v[c] = d[c] - d2
        v[v_step + c] = d1 + d2
        v[2 * v_step + c] = d2 - d1
        v[3 * v_step + c] = d1 - d[3 * d_step + c]


cdef inline inlined input_4(
    const floating* d, Py_ssize_t d_step, floating* v, Py_ssize_t v_step, Py_ssize_t lanes
) noexcept nogil:
    cdef floating d1, d2, d3, d4
    cdef floating even_1, odd_1, even_2, odd_2  # at the points 1 and 2
    cdef Py_ssize_t c
    for c in range(lanes):
        d1, d2, d3, d4 = d[d_step + c], d[2 * d_step + c], d[3 * d_step + c], d[4 * d_step + c]
        even_1, odd_1 = d4 - <floating> 4 * d2, d3 - <floating> 4 * d1
        even_2, odd_2 = d4 - d2, <floating> 2 * (d3 - d1)
        v[c] = <floating> 4 * d[c] - <floating> 5 * d2 + d4
        v[v_step + c] = even_1 + odd_1
        v[2 * v_step + c] = even_1 - odd_1
        v[3 * v_step + c] = even_2 + odd_2
        v[4 * v_step + c] = even_2 - odd_2
        v[5 * v_step + c] = <floating> 4 * d1 - <floating> 5 * d3 + d[5 * d_step + c]


cdef inline inlined input_6(
    const floating* d, Py_ssize_t d_step, floating* v, Py_ssize_t v_step, Py_ssize_t lanes
) noexcept nogil:
    cdef floating d1, d2, d3, d4, d5, d6
    cdef floating even_1, odd_1, even_2, odd_2, even_half, odd_half  # at the points 1, 2 and 1/2
    cdef Py_ssize_t c
    for c in range(lanes):
        d1, d2, d3 = d[d_step + c], d[2 * d_step + c], d[3 * d_step + c]
        d4, d5, d6 = d[4 * d_step + c], d[5 * d_step + c], d[6 * d_step + c]
        even_1 = d2 - <floating> 4.25 * d4 + d6
        odd_1 = d1 - <floating> 4.25 * d3 + d5
        even_2 = <floating> 0.25 * d2 - <floating> 1.25 * d4 + d6
        odd_2 = <floating> 0.5 * d1 - <floating> 2.5 * d3 + <floating> 2 * d5
        even_half = <floating> 4 * d2 - <floating> 5 * d4 + d6
        odd_half = <floating> 2 * d1 - <floating> 2.5 * d3 + <floating> 0.5 * d5
        v[c] = d[c] - d6 + <floating> 5.25 * (d4 - d2)
        v[v_step + c] = even_1 + odd_1
        v[2 * v_step + c] = even_1 - odd_1
        v[3 * v_step + c] = even_2 + odd_2
        v[4 * v_step + c] = even_2 - odd_2
        v[5 * v_step + c] = even_half + odd_half
        v[6 * v_step + c] = even_half - odd_half
        v[7 * v_step + c] = d[7 * d_step + c] - d1 + <floating> 5.25 * (d3 - d5)


cdef inline inlined input_points(
    Py_ssize_t t_o, const floating* d, Py_ssize_t d_step, floating* v, Py_ssize_t v_step, Py_ssize_t lanes
) noexcept nogil:
    """v = B^T d."""
    if t_o == 2:
        input_2(d, d_step, v, v_step, lanes)
    elif t_o == 4:
        input_4(d, d_step, v, v_step, lanes)
    else:
        input_6(d, d_step, v, v_step, lanes)


cdef inline inlined kernel_2(
    const floating* g, Py_ssize_t g_step, floating* u, Py_ssize_t u_step, Py_ssize_t lanes
) noexcept nogil:
    cdef floating even_1, odd_1
    cdef Py_ssize_t c
    for c in range(lanes):
        even_1 = (g[c] + g[2 * g_step + c]) * <floating> 0.5
        odd_1 = g[g_step + c] * <floating> 0.5
        u[c] = g[c]
        u[u_step + c] = even_1 + odd_1
        u[2 * u_step + c] = even_1 - odd_1
        u[3 * u_step + c] = g[2 * g_step + c]


cdef inline inlined kernel_4(
    const floating* g, Py_ssize_t g_step, floating* u, Py_ssize_t u_step, Py_ssize_t lanes
) noexcept nogil:
    cdef floating g0, g1, g2, even_1, odd_1, even_2, odd_2
    cdef Py_ssize_t c
    for c in range(lanes):
        g0, g1, g2 = g[c], g[g_step + c], g[2 * g_step + c]
        even_1, odd_1 = (g0 + g2) * <floating> (-1.0 / 6), g1 * <floating> (-1.0 / 6)
        even_2, odd_2 = g0 * <floating> (1.0 / 24) + g2 * <floating> (1.0 / 6), g1 * <floating> (1.0 / 12)
        u[c] = g0 * <floating> 0.25
        u[u_step + c] = even_1 + odd_1
        u[2 * u_step + c] = even_1 - odd_1
        u[3 * u_step + c] = even_2 + odd_2
        u[4 * u_step + c] = even_2 - odd_2
        u[5 * u_step + c] = g2


cdef inline inlined kernel_6(
    const floating* g, Py_ssize_t g_step, floating* u, Py_ssize_t u_step, Py_ssize_t lanes
) noexcept nogil:
    cdef floating g0, g1, g2, even_1, odd_1, even_2, odd_2, even_half, odd_half
    cdef Py_ssize_t c
    for c in range(lanes):
        g0, g1, g2 = g[c], g[g_step + c], g[2 * g_step + c]
        even_1, odd_1 = (g0 + g2) * <floating> (-2.0 / 9), g1 * <floating> (-2.0 / 9)
        even_2, odd_2 = g0 * <floating> (1.0 / 90) + g2 * <floating> (2.0 / 45), g1 * <floating> (1.0 / 45)
        even_half = g0 * <floating> (32.0 / 45) + g2 * <floating> (8.0 / 45)
        odd_half = g1 * <floating> (16.0 / 45)
        u[c] = g0
        u[u_step + c] = even_1 + odd_1
        u[2 * u_step + c] = even_1 - odd_1
        u[3 * u_step + c] = even_2 + odd_2
        u[4 * u_step + c] = even_2 - odd_2
        u[5 * u_step + c] = even_half + odd_half
        u[6 * u_step + c] = even_half - odd_half
        u[7 * u_step + c] = g2


cdef inline inlined kernel_points(
    Py_ssize_t t_o, const floating* g, Py_ssize_t g_step, floating* u, Py_ssize_t u_step, Py_ssize_t lanes
) noexcept nogil:
    """u = G g."""
    if t_o == 2:
        kernel_2(g, g_step, u, u_step, lanes)
    elif t_o == 4:
        kernel_4(g, g_step, u, u_step, lanes)
    else:
        kernel_6(g, g_step, u, u_step, lanes)


cdef inline inlined outputs_2(
    const floating* p, Py_ssize_t p_step, floating* y, Py_ssize_t y_step, Py_ssize_t lanes
) noexcept nogil:
    cdef floating p1, p2
    cdef Py_ssize_t c
    for c in range(lanes):
        p1, p2 = p[p_step + c], p[2 * p_step + c]
        y[c] = p[c] + p1 + p2
        y[y_step + c] = p1 - p2 - p[3 * p_step + c]


cdef inline inlined outputs_4(
    const floating* p, Py_ssize_t p_step, floating* y, Py_ssize_t y_step, Py_ssize_t lanes
) noexcept nogil:
    cdef floating even_1, odd_1, even_2, odd_2
    cdef Py_ssize_t c
    for c in range(lanes):
        even_1, odd_1 = p[p_step + c] + p[2 * p_step + c], p[p_step + c] - p[2 * p_step + c]
        even_2, odd_2 = p[3 * p_step + c] + p[4 * p_step + c], p[3 * p_step + c] - p[4 * p_step + c]
        y[c] = p[c] + even_1 + even_2
        y[y_step + c] = odd_1 + <floating> 2 * odd_2
        y[2 * y_step + c] = even_1 + <floating> 4 * even_2
        y[3 * y_step + c] = odd_1 + <floating> 8 * odd_2 + p[5 * p_step + c]


cdef inline inlined outputs_6(
    const floating* p, Py_ssize_t p_step, floating* y, Py_ssize_t y_step, Py_ssize_t lanes
) noexcept nogil:
    cdef floating even_1, odd_1, even_2, odd_2, even_half, odd_half
    cdef Py_ssize_t c
    for c in range(lanes):
        even_1, odd_1 = p[p_step + c] + p[2 * p_step + c], p[p_step + c] - p[2 * p_step + c]
        even_2, odd_2 = p[3 * p_step + c] + p[4 * p_step + c], p[3 * p_step + c] - p[4 * p_step + c]
        even_half, odd_half = p[5 * p_step + c] + p[6 * p_step + c], p[5 * p_step + c] - p[6 * p_step + c]
        y[c] = p[c] + even_1 + even_2 + even_half
        y[y_step + c] = odd_1 + <floating> 2 * odd_2 + <floating> 0.5 * odd_half
        y[2 * y_step + c] = even_1 + <floating> 4 * even_2 + <floating> 0.25 * even_half
        y[3 * y_step + c] = odd_1 + <floating> 8 * odd_2 + <floating> 0.125 * odd_half
        y[4 * y_step + c] = even_1 + <floating> 16 * even_2 + <floating> 0.0625 * even_half
        y[5 * y_step + c] = odd_1 + <floating> 32 * odd_2 + <floating> 0.03125 * odd_half + p[7 * p_step + c]


cdef inline inlined outputs_of_points(
    Py_ssize_t t_o, const floating* p, Py_ssize_t p_step, floating* y, Py_ssize_t y_step, Py_ssize_t lanes
) noexcept nogil:
    """y = A^T p."""
    if t_o == 2:
        outputs_2(p, p_step, y, y_step, lanes)
    elif t_o == 4:
        outputs_4(p, p_step, y, y_step, lanes)
    else:
        outputs_6(p, p_step, y, y_step, lanes)
