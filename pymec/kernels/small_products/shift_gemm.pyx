"""shift-GEMM: kn2row whose products land where they belong (ours; the sum of shifted 1×1 convolutions is that of
Vasudevan, Anderson & Gregg, *Parallel Multi Channel Convolution using General Matrix Multiplication*, ASAP 2017).

Give the output the row pitch of the input.  Then a tap's shift is one distance in memory for all pixels, rows and
columns alike, and the whole convolution is k_h·k_w tall products, each reading I from its tap's place on and
adding to the same S.  Pixels past o_w in a row of S run into the image's next row; they are garbage that no one
reads, and copying the rows of S without them gives O.

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

Padding above and below costs nothing: those rows are left out of the products.  Padding beside the image can't
be: a tap left of a row would read the end of the row above, into pixels that count.  Taking it out again would
not be exact, and infinities never come out; so the rows are copied apart, with zeros that the end of one row
and the beginning of the next share.  Any dilation and number of groups.  Stride 1 only: with another, pixels
would lie further apart in I than in S, and computing all of them would be s_h·s_w times the work.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.bias_relu cimport BiasRelu, apply_relu, bias_relu_of, write_bias_or_zeros
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.shared.patch cimport clip, copy, zero
from pymec.kernels.shared.blocking cimport GemmBlocking, check_block, blocking_of
from pymec.kernels.small_products.kn2row cimport multiply_pixels

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
    """One image row and the zeros before it; behind the last row, those too."""
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
    check_threads(n_threads)
    check_operands(&g, x.shape, NULL, NULL)
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


cdef struct Reach:
    Py_ssize_t lo, hi           # pixels of S; none where lo >= hi


cdef inline Reach reach_of(
    Py_ssize_t a, Py_ssize_t first, Py_ssize_t end, Py_ssize_t pitch, const Geometry* g
) noexcept nogil:
    """The pixels of a block, first .. end, that have kernel row a on the image: those of output rows y0 .. y1."""
    cdef Py_ssize_t y0 = clip(g.p_t - a * g.d_h, 0, g.o_h)
    cdef Py_ssize_t y1 = clip(g.i_h + g.p_t - a * g.d_h, 0, g.o_h)
    if y0 >= y1:
        return Reach(first, first)
    return Reach(max(first, y0 * pitch), min(end, (y1 - 1) * pitch + g.o_w))


cdef void add_taps(
    const floating* I, const floating* K, floating* S, Py_ssize_t first, Py_ssize_t end, Py_ssize_t group,
    Py_ssize_t m0, Py_ssize_t m1, Py_ssize_t pitch, const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Pixels first .. end of S, channels m0 .. m1: the sum over all taps, between its two bias_relu."""
    cdef Py_ssize_t a, b, pixel, a0 = 0, a1 = g.k_h  # the kernel rows that some of these pixels have on the image
    cdef bint begins
    cdef BiasRelu here
    cdef Reach r
    while a0 < a1:
        r = reach_of(a0, first, end, pitch, g)
        if r.lo < r.hi:
            break
        a0 += 1
    while a0 < a1:
        r = reach_of(a1 - 1, first, end, pitch, g)
        if r.lo < r.hi:
            break
        a1 -= 1
    for a in range(a0, a1):
        r = reach_of(a, first, end, pitch, g)
        if r.lo >= r.hi:
            continue
        if a == a0:  # the first products overwrite (beta = 0) or find the bias; here is what they leave out
            write_bias_or_zeros(S + first * g.k_c, r.lo - first, g.k_c, m0, m1, bias_relu)
            write_bias_or_zeros(S + r.hi * g.k_c, end - r.hi, g.k_c, m0, m1, bias_relu)
        for b in range(g.k_w):
            begins = a == a0 and b == 0
            here = BiasRelu(NULL, bias_relu.relu and a == a1 - 1 and b == g.k_w - 1)
            if begins:
                here.bias = bias_relu.bias
            # S[lo:hi] += I[lo + shift : hi + shift] · K[a, b], the shift (a·d_h - p_t)·pitch + b·d_w
            multiply_pixels(I + (r.lo + (a * g.d_h - g.p_t) * pitch + b * g.d_w) * g.i_c + group * g.i_cg,
                            K + (a * g.k_w + b) * g.i_cg * g.k_c, not begins, S + r.lo * g.k_c, r.hi - r.lo,
                            m0, m1, blocking, &here, g)
        if a == a1 - 1:  # and what the last ones leave out
            apply_relu(S + first * g.k_c, r.lo - first, g.k_c, m0, m1, bias_relu)
            apply_relu(S + r.hi * g.k_c, end - r.hi, g.k_c, m0, m1, bias_relu)
    for pixel in range(first, end if a0 == a1 else first):  # without a product: both ends at once
        write_bias_or_zeros(S + pixel * g.k_c, 1, g.k_c, m0, m1, bias_relu)
        apply_relu(S + pixel * g.k_c, 1, g.k_c, m0, m1, bias_relu)


cdef void slide_unit(
    const floating* I, const floating* K, floating* S, Py_ssize_t unit, Py_ssize_t block, Py_ssize_t pitch,
    const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One unit of parallel work, counted through groups, blocks of pixels and of channels."""
    cdef Py_ssize_t pixels = (g.o_h - 1) * pitch + g.o_w
    cdef Py_ssize_t channel_blocks = (g.k_cg + blocking.channels - 1) / blocking.channels
    cdef Py_ssize_t pixel_blocks = (pixels + block - 1) / block
    cdef Py_ssize_t m0 = unit % channel_blocks * blocking.channels
    cdef Py_ssize_t first = unit / channel_blocks % pixel_blocks * block
    cdef Py_ssize_t group = unit / channel_blocks / pixel_blocks
    add_taps(I, K, S, first, min(first + block, pixels), group,
             group * g.k_cg + m0, group * g.k_cg + min(m0 + blocking.channels, g.k_cg), pitch, blocking, bias_relu, g)


def slide(
    const floating[::1] image, const floating[:, :, :, ::1] kernel, floating[::1] S, shape,
    int n_threads=1, blocking=None, Py_ssize_t block=2**31 - 1, const floating[::1] bias=None, bint relu=False,
):
    """Stage 2: all products of one image, padded by :func:`pad` if it must be.

    ``blocking`` cuts the products, ``block`` is the most pixels of S that one thread takes at a time.

    Sums begin with the ``bias``, if there is one.  With ``relu``, what is below zero is cleared after each piece
    of the last tap's product; where products are whole, that is a thread's block.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Py_ssize_t pitch = row_pitch(shape)
    cdef Py_ssize_t pixels = (g.o_h - 1) * pitch + g.o_w
    cdef GemmBlocking cut = blocking_of(blocking or (g.i_cg, pixels, g.k_cg, 1))
    cdef Py_ssize_t unit, units
    check_threads(n_threads)
    check_operands(&g, NULL, kernel.shape, NULL)
    check_shape(shape)
    check_room("image", image.shape[0], padded_size(shape) or shape.input_size)
    check_room("S", S.shape[0], pixels * g.k_c)
    check_block(block)
    units = g.groups * ((pixels + block - 1) / block) * ((g.k_cg + cut.channels - 1) / cut.channels)
    cdef const floating* I = &image[0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* target = &S[0]
    with nogil:
        for unit in prange(units, num_threads=n_threads, schedule="static"):
            slide_unit(I, K, target, unit, block, pitch, &cut, &bias_relu, &g)


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
    check_threads(n_threads)
    check_operands(&g, NULL, NULL, out.shape)
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


def run(x, kernel, out, workspace, shape, n_threads=1, blocking=None, block=2**31 - 1, bias=None, relu=False):
    """Image after image: pad, slide, compact, as far as the shape needs them.  Sums begin with the bias."""
    image = shape.single_image()
    padded, S, _ = np.split(workspace, [padded_size(image), padded_size(image) + scratch_size(image)])
    for n in range(shape.i_n):
        source, target = x[n].reshape(-1), out[n].reshape(-1)
        if padded.size:
            pad(x[n:n + 1], padded, image, n_threads)
            source = padded
        slide(source, kernel, S if S.size else target, image, n_threads, blocking, block, bias, relu)
        if S.size:
            compact(S, out[n:n + 1], image, n_threads)
