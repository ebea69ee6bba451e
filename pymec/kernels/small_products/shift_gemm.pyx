"""shift-GEMM: kn2row whose products land where they belong (ours; the sum of shifted 1×1 convolutions is that of
Vasudevan, Anderson & Gregg, *Parallel Multi Channel Convolution using General Matrix Multiplication*, ASAP 2017).

Give the output the row pitch of the input.  Then a tap's shift is one distance in memory for all pixels, rows and
columns alike, and the whole convolution is k_h·k_w tall products, each reading I from its tap's place on and
adding to the same S.  Pixels past o_w in a row of S run into the image's next row; nobody reads them, and copying
the rows of S without them gives O.

==========  =====================================  =========================================================
array       shape                                  role
==========  =====================================  =========================================================
x           (i_n, i_h, i_w, i_c)                   input I
kernel      (k_h, k_w, i_c/G, k_c)                 kernel K; a tap is a matrix i_c × k_c
padded      ((i_h - 1)·pitch + p_l + i_w + p_r,    the image with zeros between its rows, if p_l + p_r > 0;
            i_c)                                   otherwise the image itself
S           ((o_h - 1)·pitch + o_w, k_c)           the output, its rows a pitch apart
out         (i_n, o_h, o_w, k_c)                   output O
==========  =====================================  =========================================================

Workspace, in elements, with pitch = max(i_w + max(p_l, p_r), o_w):
((o_h - 1)·pitch + o_w)·k_c, or 0 where the pitch is o_w and S can be O itself; and with p_l + p_r > 0
((i_h - 1)·pitch + p_l + i_w + p_r)·i_c more.  Images take turns.

Padding above and below costs nothing: those rows are left out of the products.  Padding left and right can't be
left out: a tap left of a row would read the end of the row above.  Subtracting that again would not be exact, and
infinities would become NaN.  So the rows are copied apart, with zeros between them that the end of one row and the
beginning of the next share.  Any dilation and number of groups.  Stride 1 only: otherwise pixels would be further
apart in I than in S, and computing all of them would be s_h·s_w times the work.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.blocked_product cimport blocked_gemm
from pymec.kernels.shared.blocking cimport GemmBlocking, blocking_of, check_block
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.patch cimport clip, copy, zero
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, inside
from pymec.kernels.small_products.sums cimport zero_beside

import numpy as np


def row_pitch(shape):
    """Pixels from a row to the next, in the padded image and in S."""
    return max(shape.i_w + max(shape.p_l, shape.p_r), shape.o_w)


def padded_size(shape):
    """Elements of the image with zeros between its rows; 0 if the image itself will do."""
    if shape.p_l == shape.p_r == 0:
        return 0
    return ((shape.i_h - 1) * row_pitch(shape) + shape.p_l + shape.i_w + shape.p_r) * shape.i_c


def scratch_size(shape):
    """Elements of S; 0 if S can be O itself."""
    pitch = row_pitch(shape)
    return 0 if pitch == shape.o_w else ((shape.o_h - 1) * pitch + shape.o_w) * shape.k_c


# Stage 1: zeros between the rows ------------------------------------------------------------------------


cdef void pad_row(
    const floating* I, floating* padded, Py_ssize_t h, Py_ssize_t pitch, Py_ssize_t p_r, const Geometry* g
) noexcept nogil:
    """One image row and the zeros before it; after the last row, the zeros there too."""
    cdef floating* target = padded + (h * pitch + g.p_l) * g.i_c
    cdef Py_ssize_t gap = g.p_l if h == 0 else pitch - g.i_w
    zero(target - gap * g.i_c, gap * g.i_c)
    copy(target, I + h * g.i_w * g.i_c, g.i_w * g.i_c)
    if h == g.i_h - 1:
        zero(target + g.i_w * g.i_c, p_r * g.i_c)


def pad(const floating[:, :, :, ::1] x, floating[::1] padded, shape, int n_threads=1):
    """Stage 1, only with p_l + p_r > 0: copy the rows of one image a pitch apart, zeros between them."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t pitch = row_pitch(shape), p_r = shape.p_r
    cdef Py_ssize_t h
    check_stage(&g, n_threads, x.shape, NULL, NULL)
    check_shape(shape)
    check_room("padded", padded.shape[0], padded_size(shape))
    if padded_size(shape) == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef floating* target = &padded[0]
    with nogil:
        for h in prange(g.i_h, num_threads=n_threads, schedule="static"):
            pad_row(I, target, h, pitch, p_r, &g)


# Stage 2: the products ----------------------------------------------------------------------------------


cdef inline Span reached_by(
    Py_ssize_t a, Py_ssize_t first, Py_ssize_t end, Py_ssize_t pitch, const Geometry* g
) noexcept nogil:
    """The pixels first .. end of S that have kernel row a inside the image: those of some output rows."""
    cdef Span rows = inside(a * g.d_h - g.p_t, 1, g.i_h, g.o_h)
    cdef Span pixels
    pixels.first = clip(rows.first * pitch, first, end)
    pixels.end = clip((rows.end - 1) * pitch + g.o_w, pixels.first, end)
    return pixels


cdef void add_taps(
    const floating* I, const floating* K, floating* S, Py_ssize_t first, Py_ssize_t end, Py_ssize_t channels,
    Py_ssize_t pitch, const GemmBlocking* blocking, const Geometry* g
) noexcept nogil:
    """Pixels first .. end of S: the first tap's product overwrites, the others add."""
    cdef Py_ssize_t a, b, shift
    cdef Span reached
    for a in range(g.k_h):
        reached = reached_by(a, first, end, pitch, g)
        if a == 0:
            zero_beside(S, g.k_c, reached, first, end, channels)
        for b in range(g.k_w):
            shift = (a * g.d_h - g.p_t) * pitch + b * g.d_w
            # S[reached] (pixels × channels) += I[reached + shift] (pixels × i_c/G) · K[a, b] (i_c/G × channels)
            blocked_gemm(
                blocking, reached.end - reached.first, channels, g.i_cg,
                I + (reached.first + shift) * g.i_c, g.i_c,
                K + (a * g.k_w + b) * g.i_cg * g.k_c, g.k_c,
                a > 0 or b > 0, S + reached.first * g.k_c, g.k_c,
            )


cdef void slide_task(
    const floating* I, const floating* K, floating* S, Py_ssize_t task, Py_ssize_t block, Py_ssize_t pitch,
    const GemmBlocking* blocking, const Geometry* g
) noexcept nogil:
    """One task, counted through groups, blocks of pixels and of output channels."""
    cdef Py_ssize_t pixels = (g.o_h - 1) * pitch + g.o_w
    cdef Py_ssize_t m = innermost(&task, ceil_div(g.k_cg, blocking.channels)) * blocking.channels
    cdef Py_ssize_t first = innermost(&task, ceil_div(pixels, block)) * block
    cdef Py_ssize_t group = task
    add_taps(I + group * g.i_cg, K + group * g.k_cg + m, S + group * g.k_cg + m, first, min(first + block, pixels),
             min(blocking.channels, g.k_cg - m), pitch, blocking, g)


def slide(
    const floating[::1] image, const floating[:, :, :, ::1] kernel, floating[::1] S, shape,
    int n_threads=1, *, blocking, Py_ssize_t block,
):
    """Stage 2: all products of one image, which :func:`pad` has padded if there is padding left or right.

    ``blocking`` cuts the products, ``block`` is the most pixels of S that one thread takes at a time.
    """
    cdef Geometry g = geometry(shape)
    cdef GemmBlocking blocks = blocking_of(blocking)
    cdef Py_ssize_t pitch = row_pitch(shape)
    cdef Py_ssize_t pixels = (g.o_h - 1) * pitch + g.o_w
    cdef Py_ssize_t task, tasks
    check_stage(&g, n_threads, NULL, kernel.shape, NULL)
    check_shape(shape)
    check_room("image", image.shape[0], padded_size(shape) or shape.input_size)
    check_room("S", S.shape[0], pixels * g.k_c)
    check_block(block)
    tasks = g.groups * ceil_div(pixels, block) * ceil_div(g.k_cg, blocks.channels)
    cdef const floating* I = &image[0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* target = &S[0]
    with nogil:
        for task in prange(tasks, num_threads=n_threads, schedule="static"):
            slide_task(I, K, target, task, block, pitch, &blocks, &g)


# Stage 3: O is S without what lies past o_w -------------------------------------------------------------


cdef void compact_row(
    const floating* S, floating* O, Py_ssize_t y, Py_ssize_t pitch, const Geometry* g
) noexcept nogil:
    copy(O + y * g.o_w * g.k_c, S + y * pitch * g.k_c, g.o_w * g.k_c)


def compact(const floating[::1] S, floating[:, :, :, ::1] out, shape, int n_threads=1):
    """Stage 3, unless S is O: copy the rows of S, a pitch apart, to those of one image of the output."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t pitch = row_pitch(shape)
    cdef Py_ssize_t y
    check_stage(&g, n_threads, NULL, NULL, out.shape)
    check_shape(shape)
    check_room("S", S.shape[0], ((g.o_h - 1) * pitch + g.o_w) * g.k_c)
    cdef const floating* source = &S[0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for y in prange(g.o_h, num_threads=n_threads, schedule="static"):
            compact_row(source, O, y, pitch, &g)


def check_shape(shape):
    """Refuse what the stages, which see one image at stride 1, would compute wrongly."""
    if shape.i_n != 1 or shape.s_h != 1 or shape.s_w != 1:
        raise ValueError(f"a stage takes one image at stride 1, got {shape}")


def run(x, kernel, out, workspace, shape, n_threads=1, *, blocking, block):
    """Image after image: pad, slide, compact, as far as the shape needs them."""
    image = shape.single_image()
    padded, S, _ = np.split(workspace, [padded_size(image), padded_size(image) + scratch_size(image)])
    for n in range(shape.i_n):
        source, target = x[n].reshape(-1), out[n].reshape(-1)
        if padded.size:
            pad(x[n:n + 1], padded, image, n_threads)
            source = padded
        slide(source, kernel, S if S.size else target, image, n_threads, blocking=blocking, block=block)
        if S.size:
            compact(S, out[n:n + 1], image, n_threads)
