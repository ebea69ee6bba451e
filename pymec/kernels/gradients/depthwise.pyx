"""Both gradients of depthwise convolutions with 3×3 taps, by vectors of channels (ours).

    dI[n,h,w,m]  =  sum over a, b of dO[n,y,x,m] · K[a,b,0,m],  2y = h + p_t - a,  2x = w + p_l - b
    dK[a,b,0,m]  =  sum over n, y, x of I[n, y·s_h - p_t + a, x·s_w - p_l + b, m] · dO[n,y,x,m]

The channels of a pixel lie side by side, and none has to do with another: they are the elements of vectors.

**The input's gradient, with stride 2.**  Two rows of dI are summed at once, which meet two rows of dO: each
pixel of dO is loaded once for the pixels that it meets there
(:mod:`pymec.kernels.register_tiles.depthwise_grads`).  With stride 1 the gradient is a forward convolution of dO
(``direct_conv``).

**The kernel's gradient.**  The nine sums of a vector stay in registers over as many rows of outputs as fit into
half of a level-2 cache with the image under them, all channels counted: so the next vectors, whose numbers lie in
the same pixels, find them there.

===========  ========================  ==================================
array        shape                     role
===========  ========================  ==================================
x            (i_n, i_h, i_w, G)        input I, i_c = G, or its gradient dI
kernel       (3, 3, 1, G)              kernel K, or its gradient dK
grad_out     (i_n, o_h, o_w, G)        the output's gradient dO
===========  ========================  ==================================

Workspace, in elements:  0

3×3 taps without dilation, a kernel per channel, channels of 64 bytes or more; for the input's gradient only stride
2.  Where this CPU has no vector registers, :mod:`pymec.kernels.gradients.direct`
computes the gradient.
"""

from cython cimport floating
from cython.parallel import prange
from libc.string cimport memset

from pymec.kernels.register_tiles.depthwise_grads cimport (
    GradPair, GradRows, depthwise_grad_pair, depthwise_grad_taps,
)
from pymec.kernels.shared.geometry cimport Geometry, check_stage, find_pixels, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.spans cimport Span, ceil_div, share_of, share_of_blocks

from pymec.kernels.gradients import direct as direct_grad
from pymec.kernels.register_tiles.tile import register_nbytes

cdef enum:
    VECTOR_BYTES = 64
    VECTOR = 16        # channels of it, at most

cdef double zeros[16]  # two vectors, in place of a row of dO that doesn't exist


cdef struct Vectors:   # one, or two side by side
    Py_ssize_t count
    Py_ssize_t m        # the first channel
    Py_ssize_t overlap  # channels that the vector before has, too


cdef Vectors vectors_from(Py_ssize_t i, Py_ssize_t end, const floating* K, const Geometry* g) noexcept nogil:
    """Vector i, and the next one if that is whole and before `end`.

    The last vector reaches back over the one before it, so that no number of channels leaves a rest.
    """
    cdef Py_ssize_t width = VECTOR_BYTES / sizeof(floating)
    cdef Vectors these
    these.m = min(i * width, g.k_c - width)
    these.overlap = i * width - these.m
    these.count = 2 if i + 2 <= end and (i + 2) * width <= g.k_c else 1
    return these


cdef int check_shape(const Geometry* g, Py_ssize_t itemsize) except -1:
    """Raise if the shape is not one of these; the stride is checked apart."""
    if g.i_cg != 1 or g.k_cg != 1 or g.i_c * itemsize < VECTOR_BYTES:
        raise ValueError(
            f"each group must have one input and one output channel, and all together {VECTOR_BYTES} bytes or "
            f"more, got {g.i_cg} and {g.k_cg}, and {g.i_c * itemsize} bytes"
        )
    if g.k_h != 3 or g.k_w != 3 or g.d_h != 1 or g.d_w != 1:
        raise ValueError(f"the taps must be 3×3 side by side, got {g.k_h}×{g.k_w}, {g.d_h} and {g.d_w} apart")
    return 0


def has_vectors():
    """Whether this CPU has vector registers for these; only then are slices read where they lie."""
    return register_nbytes() >= 32


# The input's gradient -----------------------------------------------------------------------------------


cdef inline Py_ssize_t first_pair(const Geometry* g) noexcept nogil:
    """The first y whose pair of rows of dI, 2y - p_t + 1 and the next, is not all above the image."""
    return (g.p_t + 1) / 2 - 1


cdef inline Py_ssize_t pairs_of_rows(const Geometry* g) noexcept nogil:
    """How many such pairs the rows of dI need."""
    return (g.i_h + g.p_t) / 2 - first_pair(g)


cdef GradPair pair_at(
    const floating* dO, floating* dI, Py_ssize_t n, Py_ssize_t y, const Geometry* g
) noexcept nogil:
    """The rows 2y - p_t + 1 and 2y - p_t + 2 of dI, and the rows y and y + 1 of dO that meet them."""
    cdef Py_ssize_t size = sizeof(floating), h = 2 * y - g.p_t + 1, i
    cdef GradPair pair
    pair.step, pair.p_l, pair.i_w, pair.o_w = g.image.pixel * size, g.p_l, g.i_w, g.o_w
    for i in range(2):
        pair.grad[i], pair.grad_step[i] = <const char*> zeros, 0
        if 0 <= y + i < g.o_h:
            pair.grad[i] = <const char*> (dO + n * g.out.image + (y + i) * g.out.row)
            pair.grad_step[i] = g.out.pixel * size
        pair.row[i] = NULL
        if 0 <= h + i < g.i_h:
            pair.row[i] = <char*> (dI + n * g.image.image + (h + i) * g.image.row)
    return pair


cdef void input_grad_share(
    const floating* dO, const floating* K, floating* dI, Py_ssize_t share, Py_ssize_t shares, const Geometry* g
) noexcept nogil:
    """A thread's share of the vectors, counted through images, pairs of rows and the vectors of one."""
    cdef Py_ssize_t width = VECTOR_BYTES / sizeof(floating), in_pair = ceil_div(g.i_c, width)
    cdef Py_ssize_t pairs = pairs_of_rows(g), task, row, i
    cdef Span mine = share_of_blocks(g.i_n * pairs, g.i_c, width, share, shares)
    cdef Vectors these
    cdef GradPair pair
    task = mine.first
    while task < mine.end:
        if interrupted():
            return
        row, i = task / in_pair, task % in_pair
        these = vectors_from(i, min(in_pair, i + mine.end - task), K, g)
        pair = pair_at(dO + these.m, dI + these.m, row / pairs, first_pair(g) + row % pairs, g)
        depthwise_grad_pair(&pair, K + these.m, g.k_c * sizeof(floating), these.count)
        task += these.count


def run_input_grad(
    const floating[:, :, :, :] grad_out, const floating[:, :, :, ::1] kernel, floating[:, :, :, :] grad_x,
    floating[::1] workspace, shape, int n_threads=1,
):
    """The input's gradient with stride 2, vectors of pairs of rows shared among threads; no ``workspace``."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t share
    check_stage(&g, n_threads, grad_x.shape, kernel.shape, grad_out.shape)
    check_shape(&g, sizeof(floating))
    if g.s_h != 2 or g.s_w != 2:
        raise ValueError(f"the stride must be 2, got {g.s_h}×{g.s_w}")
    if not has_vectors():
        direct_grad.run_input_grad(grad_out, kernel, grad_x, workspace, shape, n_threads)
        return
    find_pixels(&g, grad_x.shape, grad_x.strides, grad_out.shape, grad_out.strides, sizeof(floating))
    if g.i_n == 0:
        return
    cdef const floating* dO = &grad_out[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* dI = &grad_x[0, 0, 0, 0]
    with nogil:
        for share in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            input_grad_share(dO, K, dI, share, n_threads, &g)


# The kernel's gradient ----------------------------------------------------------------------------------


cdef void add_rows(
    const GradRows* rows, const floating* I, const floating* dO, floating* dK, const Vectors* these,
    Py_ssize_t first, Py_ssize_t end, bint afresh, const Geometry* g
) noexcept nogil:
    """Rows first .. end of an image's outputs, added to some vectors of dK: to channels that no other one has."""
    cdef floating sums[9 * VECTOR]
    cdef Py_ssize_t width = VECTOR_BYTES / sizeof(floating), tap, m
    I, dO, dK = I + these.m, dO + these.m, dK + these.m
    if these.overlap == 0:
        depthwise_grad_taps(rows, I, dO, dK, g.k_c * sizeof(floating), these.count, first, end, afresh)
        return
    depthwise_grad_taps(rows, I, dO, sums, VECTOR_BYTES, 1, first, end, True)
    for tap in range(9):
        for m in range(these.overlap, width):
            dK[tap * g.k_c + m] = sums[tap * width + m] + (0 if afresh else dK[tap * g.k_c + m])


cdef void kernel_grad_share(
    const floating* I, const floating* dO, floating* dK, Py_ssize_t rows_at_once, Py_ssize_t share,
    Py_ssize_t shares, const Geometry* g
) noexcept nogil:
    """A thread's share of the vectors: rows of all images, a few at a time, added to each of them."""
    cdef Py_ssize_t size = sizeof(floating), n, y, i
    cdef Span mine = share_of(ceil_div(g.i_c * size, VECTOR_BYTES), share, shares)
    cdef Vectors these
    cdef GradRows rows
    rows.image_row, rows.image_column = g.image.row * size, g.image.pixel * size
    rows.grad_row, rows.grad_column = g.out.row * size, g.out.pixel * size
    rows.s_h, rows.s_w, rows.p_t, rows.p_l = g.s_h, g.s_w, g.p_t, g.p_l
    rows.i_h, rows.i_w, rows.o_w = g.i_h, g.i_w, g.o_w
    for n in range(g.i_n):
        y = 0
        while y < g.o_h:
            i = mine.first
            while i < mine.end:
                if interrupted():
                    return
                these = vectors_from(i, mine.end, dK, g)
                add_rows(
                    &rows, I + n * g.image.image, dO + n * g.out.image, dK, &these, y,
                    min(y + rows_at_once, g.o_h), n == y == 0, g,
                )
                i += these.count
            y += rows_at_once


def run_kernel_grad(
    const floating[:, :, :, :] x, const floating[:, :, :, :] grad_out, floating[:, :, :, ::1] grad_kernel,
    floating[::1] workspace, shape, int n_threads=1, *, Py_ssize_t rows_at_once,
):
    """The kernel's gradient, its channels shared among threads, ``rows_at_once`` of an image's outputs at a time.

    ``workspace`` is not used.
    """
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t share
    if rows_at_once < 1:
        raise ValueError(f"rows_at_once must be at least 1, got {rows_at_once}")
    check_stage(&g, n_threads, x.shape, grad_kernel.shape, grad_out.shape)
    check_shape(&g, sizeof(floating))
    if not has_vectors():
        direct_grad.run_kernel_grad(x, grad_out, grad_kernel, workspace, shape, n_threads)
        return
    find_pixels(&g, x.shape, x.strides, grad_out.shape, grad_out.strides, sizeof(floating))
    cdef floating* dK = &grad_kernel[0, 0, 0, 0]
    if g.i_n == 0:
        memset(dK, 0, 9 * g.k_c * grad_kernel.itemsize)
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* dO = &grad_out[0, 0, 0, 0]
    with nogil:
        for share in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            kernel_grad_share(I, dO, dK, rows_at_once, share, n_threads, &g)
