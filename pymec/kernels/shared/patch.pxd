# The one copy that all lowerings share.
#
# A patch is the k_h x k_w x i_c piece of the input under the kernel at one output pixel.  One row of it,
# k_w x i_c elements, lies contiguous in an NHWC image row (d_w = 1, one group): the natural memcpy unit,
# and why MEC prefers NHWC.  Taps outside the image are the zeros of the padding.

from cython cimport floating
from libc.string cimport memcpy, memset

from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.interrupts cimport interrupted


cdef enum:
    MOVE = 16         # bytes in one move: a 128-bit register, which every 64-bit CPU has
    SMALL_COPY = 256  # bytes from which on the library's memcpy is as fast


cdef inline Py_ssize_t clip(Py_ssize_t value, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    return low if value < low else (high if value > high else value)


cdef inline void zero(floating* target, Py_ssize_t count) noexcept nogil:
    memset(target, 0, count * sizeof(floating))


cdef inline void copy(floating* target, const floating* source, Py_ssize_t count) noexcept nogil:
    """memcpy, in single moves where calling the library would cost more than moving the bytes.

    The last move reaches back over the one before it, so that no size needs a loop for its rest.
    """
    cdef char* to = <char*> target
    cdef const char* of = <const char*> source
    cdef Py_ssize_t size = count * sizeof(floating)
    cdef Py_ssize_t i = 0
    if count == 1:  # a channel of its own: depthwise, or lowered by itself
        target[0] = source[0]
        return
    if size < MOVE or size > SMALL_COPY:
        memcpy(to, of, size)
        return
    while i < size - MOVE:
        memcpy(to + i, of + i, MOVE)  # a known size: the compiler makes it a load and a store
        i += MOVE
    memcpy(to + size - MOVE, of + size - MOVE, MOVE)


cdef inline void copy_patch_row(
    const floating* image_row, floating* target, Py_ssize_t x, Py_ssize_t group, const Geometry* g
) noexcept nogil:
    """target[b, c] = I[n, h, x*s_w - p_l + b*d_w, group*i_cg + c]; image_row points at I[n, h, 0, 0]."""
    cdef Py_ssize_t first = x * g.s_w - g.p_l
    cdef Py_ssize_t b, column, before, inside
    if g.d_w == 1 and g.groups == 1:
        # Offsets into an NHWC row count elements: a padding of p_l columns is p_l * i_c of them.
        before = clip(-first, 0, g.k_w)
        inside = clip(g.i_w - first, before, g.k_w) - before
        zero(target, before * g.i_c)
        copy(target + before * g.i_c, image_row + (first + before) * g.i_c, inside * g.i_c)
        zero(target + (before + inside) * g.i_c, (g.k_w - before - inside) * g.i_c)
        return
    for b in range(g.k_w):
        column = first + b * g.d_w
        if 0 <= column < g.i_w:
            copy(target + b * g.i_cg, image_row + column * g.i_c + group * g.i_cg, g.i_cg)
        else:
            zero(target + b * g.i_cg, g.i_cg)


cdef inline void copy_padded_patch_row(
    const floating* I, Py_ssize_t n, Py_ssize_t h, Py_ssize_t x, floating* target, const Geometry* g
) noexcept nogil:
    """target[b, c] = I[n, h, x*s_w + b*d_w, c] of the padded image, whose rows are counted from its padding on."""
    cdef Py_ssize_t row = h - g.p_t
    if interrupted():
        return
    if 0 <= row < g.i_h:
        copy_patch_row(I + (n * g.i_h + row) * g.i_w * g.i_c, target, x, 0, g)
    else:
        zero(target, g.k_w * g.i_c)


cdef inline void copy_patch_rows(
    const floating* image_row, Py_ssize_t row_step, Py_ssize_t rows, floating* target,
    Py_ssize_t x, Py_ssize_t group, const Geometry* g
) noexcept nogil:
    """target[r] = row r of the patch at column x, from image rows that lie row_step elements apart."""
    cdef Py_ssize_t chunk = g.k_w * g.i_cg
    cdef Py_ssize_t first = x * g.s_w - g.p_l
    cdef Py_ssize_t r
    if g.d_w == 1 and g.groups == 1 and first >= 0 and first + g.k_w <= g.i_w:
        image_row += first * g.i_c
        for r in range(rows):
            copy(target + r * chunk, image_row + r * row_step, chunk)
        return
    for r in range(rows):
        copy_patch_row(image_row + r * row_step, target + r * chunk, x, group, g)


cdef inline void add_patch_row(
    const floating* patch_row, floating* image_row, Py_ssize_t x, Py_ssize_t group, const Geometry* g
) noexcept nogil:
    """The adjoint of copy_patch_row: image_row[x*s_w - p_l + b*d_w, group*i_cg + c] += patch_row[b, c]."""
    cdef Py_ssize_t first = x * g.s_w - g.p_l
    cdef Py_ssize_t b, c, column, before, inside
    if g.d_w == 1 and g.groups == 1:
        before = clip(-first, 0, g.k_w)
        inside = clip(g.i_w - first, before, g.k_w) - before
        image_row += (first + before) * g.i_c
        patch_row += before * g.i_c
        for c in range(inside * g.i_c):
            image_row[c] += patch_row[c]
        return
    for b in range(g.k_w):
        column = first + b * g.d_w
        if 0 <= column < g.i_w:
            for c in range(g.i_cg):
                image_row[column * g.i_c + group * g.i_cg + c] += patch_row[b * g.i_cg + c]
