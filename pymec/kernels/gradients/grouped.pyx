"""Both gradients of many small groups, by lines of channels of several groups (ours).

As in :mod:`pymec.kernels.register_tiles.grouped`, a register holds a line of channels of several groups, and a
line of the other array is shuffled so that each channel meets those of its own group.

The input's gradient is a sum over the outputs that have read a pixel:

    dI[n,h,w,c] = sum over a, b, m of dO[n,y,x,m] · K[a,b,c,m],  y·s_h = h + p_t - a·d_h,  x·s_w = w + p_l - b·d_w

With a stride only some taps have such a y and x, the same ones for all pixels of a row that are s_w columns
apart: a *phase* of the stride (:mod:`pymec.kernels.gradients.direct_conv` has a picture).  Under these taps the
columns of dO lie side by side, so the pixels of a phase are summed together, and no zeros are put between the
pixels of dO.  The kernel's gradient adds up a row of outputs at a time.

==========  =========================  =========================================================
array       shape                      role
==========  =========================  =========================================================
x           (i_n, i_h, i_w, i_c)       input I, or its gradient dI
kernel      (k_h, k_w, i_c/G, k_c)     kernel K, or its gradient dK
flipped     (k_h, k_w, k_c/G, i_c)     K flipped, its channels swapped (``flipped_kernel``)
grad_out    (i_n, o_h, o_w, k_c)       the output's gradient dO
==========  =========================  =========================================================

Workspace, in elements:  |K| for the input's gradient, the flipped kernel, which a plan keeps; 0 for the kernel's

Groups as in the forward ``direct_grouped``, for the input's gradient with input and output channels exchanged.
Where this CPU has no registers for whole lines, :mod:`pymec.kernels.gradients.direct` computes the gradient.
"""

from cython cimport floating
from cython.parallel import prange
from libc.string cimport memset

from pymec.kernels.mec.lowered_rows cimport gcd
from pymec.kernels.register_tiles.group_grad_rows cimport GradRow, add_grad_row
from pymec.kernels.register_tiles.group_vectors cimport (
    PLACES, WINDOW, ChannelVector, check_groups, gather, gathers, vector_at, n_vectors, place_groups,
)
from pymec.kernels.register_tiles.group_tiles cimport GroupTile, add_groups, vector_bytes, most_outputs
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, find_pixels, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.patch cimport copy
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, inside, share_of, share_of_blocks

from pymec.kernels.gradients import direct as direct_grad
from pymec.kernels.register_tiles.grouped import whole_vectors

cdef enum:
    SUMS = 512             # lines of dK that are added up before they are written: a level-1 cache full

# The input's gradient -----------------------------------------------------------------------------------


cdef struct PhaseTaps:     # the taps of the flipped kernel that a row (or column) of dI meets: every step-th
    Py_ssize_t first, count
    Py_ssize_t step
    Py_ssize_t output                  # the row or column of dO under the first, which may lie outside
    Py_ssize_t advance                 # from there to the one under the next


cdef struct PhasePixels:   # of a row of dI, s_w columns apart, that are summed together
    Py_ssize_t n, h, w, count
    PhaseTaps rows, columns


cdef PhaseTaps taps_at(
    Py_ssize_t pixel, Py_ssize_t padding, Py_ssize_t k, Py_ssize_t d, Py_ssize_t s
) noexcept nogil:
    """The taps that one row or column of dI meets."""
    cdef PhaseTaps taps
    cdef Py_ssize_t common = gcd(s, d), start = pixel + padding - (k - 1) * d
    taps.step, taps.advance = s / common, d / common
    taps.first = 0
    while taps.first < min(k, taps.step) and (start + taps.first * d) % s:
        taps.first += 1
    taps.output = (start + taps.first * d) / s
    taps.count = 0 if taps.first == min(k, taps.step) else ceil_div(k - taps.first, taps.step)
    return taps


cdef PhaseTaps taps_inside(PhaseTaps taps, Py_ssize_t outputs) noexcept nogil:
    """Those of them whose output lies in dO, which has `outputs` rows."""
    cdef Span kept = inside(taps.output, taps.advance, outputs, taps.count)
    taps.first += kept.first * taps.step
    taps.output += kept.first * taps.advance
    taps.count = kept.end - kept.first
    return taps


cdef inline Py_ssize_t phases_of_row(const Geometry* g) noexcept nogil:
    """The phases of the columns that a row of dI has pixels of."""
    return min(g.s_w, g.i_w)


cdef inline Py_ssize_t tiles_of_phase(const Geometry* g) noexcept nogil:
    """Tiles that hold the pixels of a row and phase."""
    return ceil_div(ceil_div(g.i_w, g.s_w), most_outputs())


cdef PhasePixels pixels_at(Py_ssize_t task, const Geometry* g) noexcept nogil:
    """The pixels of one tile, counted through images, rows, phases of the columns and tiles."""
    cdef PhasePixels at
    cdef Py_ssize_t tiles = tiles_of_phase(g), tile = innermost(&task, tiles)
    cdef Py_ssize_t phase = innermost(&task, phases_of_row(g))
    cdef Span pixels = share_of(ceil_div(g.i_w - phase, g.s_w), tile, tiles)
    at.h = innermost(&task, g.i_h)
    at.n = task
    at.w, at.count = phase + pixels.first * g.s_w, pixels.end - pixels.first
    at.rows = taps_inside(taps_at(at.h, g.p_t, g.k_h, g.d_h, g.s_h), g.o_h)
    at.columns = taps_at(at.w, g.p_l, g.k_w, g.d_w, g.s_w)
    return at


cdef inline Py_ssize_t columns_under(const PhasePixels* at) noexcept nogil:
    """Columns of dO from the first under these pixels to the last."""
    return at.count + (at.columns.count - 1) * at.columns.advance


cdef void fit_tile(
    GroupTile* tile, const PhasePixels* at, Py_ssize_t size, bint gathered, const Geometry* g
) noexcept nogil:
    """Strides for these pixels; where dO is gathered its lines are adjacent."""
    cdef Py_ssize_t pixel = vector_bytes() if gathered else g.out.pixel * size
    tile.taps = 3 if g.k_w % 3 == 0 and g.s_w == g.d_w == 1 else 1
    tile.blocks = at.columns.count / tile.taps
    tile.block_columns = tile.taps * at.columns.advance
    tile.stride = 1
    tile.column = pixel
    tile.row = columns_under(at) * pixel if gathered else at.rows.advance * g.out.row * size
    tile.block = tile.block_columns * pixel
    tile.channel = g.i_c * size
    tile.tap = at.columns.step * g.k_cg * tile.channel
    tile.kernel_row = at.rows.step * g.k_w * g.k_cg * tile.channel
    tile.pixel = g.s_w * g.image.pixel * size
    tile.i_w, tile.i_cg = g.o_w, g.k_cg


cdef Geometry swap_channels(const Geometry* g) noexcept nogil:
    """Input channels in the place of output channels."""
    cdef Geometry swapped = g[0]
    swapped.i_c, swapped.i_cg, swapped.k_c, swapped.k_cg = g.k_c, g.k_cg, g.i_c, g.i_cg
    return swapped


cdef void input_grad_share(
    const floating* dO, const floating* flipped, floating* dI, Py_ssize_t share, Py_ssize_t shares,
    const Geometry* g
) noexcept nogil:
    """A thread's share of the lines, counted through tiles and the lines of one."""
    cdef Geometry swapped = swap_channels(g)
    cdef Py_ssize_t width = vector_bytes() / sizeof(floating), lines = n_vectors(width, &swapped)
    cdef Py_ssize_t tiles = g.i_n * g.i_h * phases_of_row(g) * tiles_of_phase(g), columns = 0, task
    cdef Span mine = share_of_blocks(tiles, g.i_c, width, share, shares)
    cdef floating window[WINDOW * PLACES]
    cdef const floating* under
    cdef bint gathered = False
    cdef GroupTile tile
    cdef PhasePixels at
    cdef ChannelVector line
    place_groups(tile.place, sizeof(floating), &swapped)
    for task in range(mine.first, mine.end):
        if task == mine.first or task % lines == 0:
            if interrupted():
                return
            at = pixels_at(task / lines, g)
            columns = columns_under(&at)
            gathered = gathers(at.rows.count * columns, g.k_cg, g.out.pixel * sizeof(floating))
            fit_tile(&tile, &at, sizeof(floating), gathered, g)
        line = vector_at(task % lines, width, &swapped)
        under = dO + at.n * g.out.image + at.rows.output * g.out.row + at.columns.output * g.out.pixel + line.c
        if gathered:
            gather(under, window, width, at.columns.output, columns, columns, at.rows.count,
                   at.rows.advance * g.out.row, g.o_w, g.out.pixel)
            under = window
        add_groups(
            &tile, under, at.columns.output, line.shift,
            flipped + (at.rows.first * g.k_w + at.columns.first) * g.k_cg * g.i_c + line.m, at.rows.count, NULL,
            dI + at.n * g.image.image + at.h * g.image.row + at.w * g.image.pixel + line.m, at.count, False,
        )


def run_input_grad(
    const floating[:, :, :, :] grad_out, const floating[:, :, :, ::1] kernel, floating[:, :, :, :] grad_x,
    floating[::1] workspace, shape, int n_threads=1, *, const floating[::1] prepared not None,
):
    """The input's gradient; ``prepared`` is the flipped kernel, if the groups fill a vector.

    Otherwise ``kernel`` is read, by the definition.  ``workspace`` is not used.
    """
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t share
    check_stage(&g, n_threads, grad_x.shape, kernel.shape, grad_out.shape)
    check_groups(g.i_cg, "input", g.k_cg, "output")
    if not whole_vectors(shape, swapped=True):
        direct_grad.run_input_grad(grad_out, kernel, grad_x, workspace, shape, n_threads)
        return
    find_pixels(&g, grad_x.shape, grad_x.strides, grad_out.shape, grad_out.strides, sizeof(floating))
    check_room("prepared", prepared.shape[0], shape.kernel_size)
    if g.i_n == 0:
        return
    cdef const floating* dO = &grad_out[0, 0, 0, 0]
    cdef const floating* flipped = &prepared[0]
    cdef floating* dI = &grad_x[0, 0, 0, 0]
    with nogil:
        for share in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            input_grad_share(dO, flipped, dI, share, n_threads, &g)


# The kernel's gradient ----------------------------------------------------------------------------------


cdef void add_outputs(
    const floating* I, const floating* dO, floating* sums, const ChannelVector* line, const GradRow* row,
    Span taps, Py_ssize_t b, const Geometry* g
) noexcept nogil:
    """All rows of outputs, one by one, for a line of channels of the kernel rows `taps`, from column b on."""
    cdef Py_ssize_t lines = row.taps * g.i_cg * vector_bytes() / sizeof(floating), left = b * g.d_w - g.p_l
    cdef Py_ssize_t n, y, a, top, rows
    cdef const floating* numbers
    cdef Span met
    for n in range(g.i_n):
        for y in range(g.o_h):
            if interrupted():
                return
            top = y * g.s_h - g.p_t
            met = inside(top, g.d_h, g.i_h, taps.end)
            a = max(met.first, taps.first)
            while a < met.end:
                rows = 3 if met.end - a >= 3 else 1
                numbers = I + n * g.image.image + (top + a * g.d_h) * g.image.row + left * g.image.pixel + line.c
                add_grad_row(
                    row, numbers, left, line.shift, dO + n * g.out.image + y * g.out.row + line.m,
                    sums + (a - taps.first) * lines, rows, g.i_cg,
                )
                a += rows


cdef void kernel_grad_line(
    const floating* I, const floating* dO, floating* dK, Py_ssize_t i, Span rows, const Geometry* g
) noexcept nogil:
    """A line of channels of some kernel rows, a few of these and of their taps at a time: no more than SUMS."""
    cdef floating sums[SUMS * PLACES]
    cdef Py_ssize_t size = sizeof(floating), width = vector_bytes() / size
    cdef ChannelVector line = vector_at(i, width, g)
    cdef Py_ssize_t most_taps = min(SUMS / g.i_cg, g.k_w), most_rows = SUMS / (most_taps * g.i_cg), a, b, j
    cdef Span taps
    cdef GradRow row
    row.image, row.tap = g.s_w * g.image.pixel * size, g.d_w * g.image.pixel * size
    row.row, row.output = g.d_h * g.image.row * size, g.out.pixel * size
    row.d_w, row.s_w, row.i_w, row.o_w = g.d_w, g.s_w, g.i_w, g.o_w
    row.channel = vector_bytes()
    place_groups(row.place, size, g)
    taps.first = rows.first
    while taps.first < rows.end:
        taps.end = min(taps.first + most_rows, rows.end)
        b = 0
        while b < g.k_w:
            row.taps = min(most_taps, g.k_w - b)
            row.kernel_tap = g.i_cg * row.channel
            row.kernel_row = row.taps * row.kernel_tap
            memset(sums, 0, (taps.end - taps.first) * row.kernel_row)
            add_outputs(I, dO, sums, &line, &row, taps, b, g)
            for a in range(taps.first, taps.end):
                for j in range(row.taps * g.i_cg):
                    copy(dK + ((a * g.k_w + b) * g.i_cg + j) * g.k_c + line.m + line.overlap,
                         sums + ((a - taps.first) * row.taps * g.i_cg + j) * width + line.overlap,
                         width - line.overlap)
            b += row.taps
        taps.first = taps.end


def run_kernel_grad(
    const floating[:, :, :, :] x, const floating[:, :, :, :] grad_out, floating[:, :, :, ::1] grad_kernel,
    floating[::1] workspace, shape, int n_threads=1,
):
    """The kernel's gradient: threads share its lines, or its rows if these are few; ``workspace`` is not used."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t lines, parts, task
    check_stage(&g, n_threads, x.shape, grad_kernel.shape, grad_out.shape)
    check_groups(g.k_cg, "output", g.i_cg, "input")
    if not whole_vectors(shape):
        direct_grad.run_kernel_grad(x, grad_out, grad_kernel, workspace, shape, n_threads)
        return
    find_pixels(&g, x.shape, x.strides, grad_out.shape, grad_out.strides, sizeof(floating))
    if g.i_n == 0:
        memset(&grad_kernel[0, 0, 0, 0], 0, g.k_h * g.k_w * g.i_cg * g.k_c * grad_kernel.itemsize)
        return
    cdef floating* dK = &grad_kernel[0, 0, 0, 0]
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* dO = &grad_out[0, 0, 0, 0]
    lines = n_vectors(vector_bytes() / sizeof(floating), &g)
    # Kernel rows are summed together, which takes half the time of one by one: that is worth uneven shares.
    parts = g.k_h if 2 * ceil_div(lines, n_threads) * n_threads > 3 * lines else 1
    with nogil:
        for task in prange(lines * parts, num_threads=n_threads, schedule="static"):
            kernel_grad_line(I, dO, dK, task / parts, share_of(g.k_h, task % parts, parts), &g)
