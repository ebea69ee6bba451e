# The one copy that all lowerings share.
#
# A patch is the k_h x k_w x i_c piece of the input under the kernel at one output pixel.  One row of it,
# k_w x i_c elements, lies contiguous in an NHWC image row (d_w = 1, one group): the natural memcpy unit,
# and why MEC prefers NHWC.  Taps outside the image are the zeros of the padding.

from cython cimport floating
from libc.string cimport memcpy, memset

from pymec.kernels._geometry cimport Geometry


cdef inline Py_ssize_t clip(Py_ssize_t value, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    return low if value < low else (high if value > high else value)


cdef inline void zero(floating* target, Py_ssize_t count) noexcept nogil:
    memset(target, 0, count * sizeof(floating))


cdef inline void copy_patch_row(
    const floating* image_row, floating* target, Py_ssize_t x, Py_ssize_t group, const Geometry* g
) noexcept nogil:
    """target[b, c] = I[n, h, x*s_w - p_l + b*d_w, group*i_cg + c]; image_row points at I[n, h, 0, 0]."""
    cdef Py_ssize_t first = x * g.s_w - g.p_l
    cdef Py_ssize_t b, column, before, inside
    if g.d_w == 1 and g.groups == 1:
        if first >= 0 and first + g.k_w <= g.i_w:
            memcpy(target, image_row + first * g.i_c, g.k_w * g.i_c * sizeof(floating))
            return
        # Offsets into an NHWC row count elements: a padding of p_l columns is p_l * i_c of them.
        before = clip(-first, 0, g.k_w)
        inside = clip(g.i_w - first, before, g.k_w) - before
        zero(target, before * g.i_c)
        memcpy(target + before * g.i_c, image_row + (first + before) * g.i_c, inside * g.i_c * sizeof(floating))
        zero(target + (before + inside) * g.i_c, (g.k_w - before - inside) * g.i_c)
        return
    for b in range(g.k_w):
        column = first + b * g.d_w
        if 0 <= column < g.i_w:
            memcpy(target + b * g.i_cg, image_row + column * g.i_c + group * g.i_cg, g.i_cg * sizeof(floating))
        else:
            zero(target + b * g.i_cg, g.i_cg)
