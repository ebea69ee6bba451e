"""Both gradients of many small groups, by lines of channels of several groups (ours).

As in :mod:`pymec.kernels.register_tiles.grouped`, a register holds channels of several groups, and a line of the other
array is shuffled so that each finds the numbers of its own.

The input's gradient is a sum over the output pixels that have read one of the image:

    dI[n,h,w,c] = sum over a, b, m of dO[n,y,x,m] · K[a,b,c,m],  y·s_h = h + p_t - a·d_h,  x·s_w = w + p_l - b·d_w

With a stride only some taps have such a y and x, the same ones for all image pixels s_w columns apart.  These are
taken together: under them the columns of dO lie side by side.  No zeros are put between the pixels of dO.  The
kernel's gradient adds up a row of outputs at a time.

==========  =========================  =========================================================
array       shape                      role
==========  =========================  =========================================================
x           (i_n, i_h, i_w, i_c)       input I, or its gradient dI
kernel      (k_h, k_w, i_c/G, k_c)     kernel K, or its gradient dK
turned      (k_h, k_w, k_c/G, i_c)     K turned and swapped (:func:`pymec.kernels.gradients.flipped_kernel.turn`): K'
grad_out    (i_n, o_h, o_w, k_c)       the output's gradient dO
==========  =========================  =========================================================

Workspace, in elements:  |K| for the input's gradient, which a plan keeps as K'; 0 for the kernel's

Groups as in ``direct_grouped``, for the input's gradient with input and output channels exchanged.  Where a line
is not whole, :mod:`pymec.kernels.gradients.direct` computes the gradient.
"""

from cython cimport floating
from cython.parallel import prange
from libc.string cimport memset

from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.register_tiles.group_grad_rows cimport GradRow, add_grad_row
from pymec.kernels.register_tiles.group_vectors cimport (
    PLACES, WINDOW, ChannelVector, check_groups, gather, gathers, vector_at, n_vectors, place_groups,
)
from pymec.kernels.register_tiles.group_tiles cimport GroupTile, add_groups, vector_bytes, most_outputs
from pymec.kernels.shared.patch cimport clip, copy, positions_up_to

from pymec.kernels.gradients import direct as direct_grad
from pymec.kernels.register_tiles.grouped import whole_vectors

cdef enum:
    SUMS = 512             # lines of dK that are added up before they are written: a level-1 cache full

# The input's gradient -----------------------------------------------------------------------------------


cdef struct Taps:          # of K', from which an image row or column gets something: every step-th
    Py_ssize_t first, count
    Py_ssize_t step
    Py_ssize_t output                  # the row or column of dO under the first
    Py_ssize_t advance                 # and from one to the next


cdef Taps taps_at(Py_ssize_t pixel, Py_ssize_t padding, Py_ssize_t k, Py_ssize_t d, Py_ssize_t s) noexcept nogil:
    """Those of one image row or column; their output may lie outside of dO."""
    cdef Taps taps
    cdef Py_ssize_t common = s, rest = d, start = pixel + padding - (k - 1) * d
    while rest:
        common, rest = rest, common % rest
    taps.step, taps.advance = s / common, d / common
    taps.first = 0
    while taps.first < min(k, taps.step) and (start + taps.first * d) % s:
        taps.first += 1
    taps.output = (start + taps.first * d) / s
    taps.count = 0 if taps.first == min(k, taps.step) else (k - taps.first + taps.step - 1) / taps.step
    return taps


cdef Taps inside(Taps taps, Py_ssize_t outputs) noexcept nogil:
    """Those whose output is one of so many."""
    while taps.count > 0 and taps.output < 0:
        taps.first += taps.step
        taps.output += taps.advance
        taps.count -= 1
    while taps.count > 0 and taps.output + (taps.count - 1) * taps.advance >= outputs:
        taps.count -= 1
    return taps


cdef struct Pixels:        # of an image row, s_w columns apart, that are summed up together
    Py_ssize_t n, h, w, count
    Taps rows, columns


cdef inline Py_ssize_t first_columns(const Geometry* g) noexcept nogil:
    """Image columns from each of which every s_w-th is taken."""
    return min(g.s_w, g.i_w)


cdef inline Py_ssize_t tiles_of_row(const Geometry* g) noexcept nogil:
    """Tiles of every s_w-th pixel."""
    return ((g.i_w + g.s_w - 1) / g.s_w + most_outputs() - 1) / most_outputs()


cdef Pixels pixels_at(Py_ssize_t i, const Geometry* g) noexcept nogil:
    """Those of one tile, counted through images, rows, first columns and tiles."""
    cdef Pixels at
    cdef Py_ssize_t tiles = tiles_of_row(g), tile = i % tiles
    cdef Py_ssize_t columns = first_columns(g), first = i / tiles % columns, row = i / tiles / columns
    cdef Py_ssize_t pixels = (g.i_w - first + g.s_w - 1) / g.s_w, begin = tile * pixels / tiles
    at.n, at.h = row / g.i_h, row % g.i_h
    at.w, at.count = first + begin * g.s_w, (tile + 1) * pixels / tiles - begin
    at.rows = inside(taps_at(at.h, g.p_t, g.k_h, g.d_h, g.s_h), g.o_h)
    at.columns = taps_at(at.w, g.p_l, g.k_w, g.d_w, g.s_w)
    return at


cdef inline Py_ssize_t columns_of(Py_ssize_t pixels, const Pixels* at) noexcept nogil:
    """Columns of dO from the first under so many pixels to the last."""
    return pixels + (at.columns.count - 1) * at.columns.advance


cdef void fit_tile(
    GroupTile* tile, const Pixels* at, Py_ssize_t size, bint gathered, const Geometry* g
) noexcept nogil:
    """What these pixels' lines have in common; where dO is gathered its lines are adjacent."""
    cdef Py_ssize_t pixel = vector_bytes() if gathered else g.k_c * size
    tile.taps = 3 if g.k_w % 3 == 0 and g.s_w == g.d_w == 1 else 1
    tile.blocks = at.columns.count / tile.taps
    tile.block_columns = tile.taps * at.columns.advance
    tile.stride = 1
    tile.column = pixel
    tile.row = (columns_of(at.count, at) if gathered else at.rows.advance * g.o_w) * pixel
    tile.block = tile.block_columns * pixel
    tile.channel = g.i_c * size
    tile.tap = at.columns.step * g.k_cg * tile.channel
    tile.kernel_row = at.rows.step * g.k_w * g.k_cg * tile.channel
    tile.pixel = g.s_w * g.i_c * size
    tile.i_w, tile.i_cg = g.o_w, g.k_cg


cdef Geometry swap_channels(const Geometry* g) noexcept nogil:
    """Input channels in the place of output channels."""
    cdef Geometry swapped = g[0]
    swapped.i_c, swapped.i_cg, swapped.k_c, swapped.k_cg = g.k_c, g.k_cg, g.i_c, g.i_cg
    return swapped


cdef void input_grad_lines(
    const floating* dO, const floating* turned, floating* dI, Py_ssize_t begin, Py_ssize_t end, const Geometry* g
) noexcept nogil:
    """Some lines of tiles, counted through tiles and the lines of one."""
    cdef Geometry swapped = swap_channels(g)
    cdef Py_ssize_t width = vector_bytes() / sizeof(floating), lines = n_vectors(width, &swapped), columns, unit
    cdef floating window[WINDOW * PLACES]
    cdef const floating* numbers
    cdef bint first = True, gathered
    cdef GroupTile tile
    cdef Pixels at
    cdef ChannelVector line
    place_groups(tile.place, sizeof(floating), &swapped)
    for unit in range(begin, end):
        if first or unit % lines == 0:
            at = pixels_at(unit / lines, g)
            columns = columns_of(at.count, &at)
            gathered = gathers(at.rows.count * columns, g.k_cg, g.k_c * sizeof(floating))
            fit_tile(&tile, &at, sizeof(floating), gathered, g)
            first = False
        line = vector_at(unit % lines, width, &swapped)
        numbers = dO + ((at.n * g.o_h + at.rows.output) * g.o_w + at.columns.output) * g.k_c + line.c
        if gathered:
            gather(numbers, window, width, at.columns.output, columns, columns, at.rows.count,
                   at.rows.advance * g.o_w * g.k_c, g.o_w, g.k_c)
            numbers = window
        add_groups(
            &tile, numbers, at.columns.output, line.shift,
            turned + (at.rows.first * g.k_w + at.columns.first) * g.k_cg * g.i_c + line.m, at.rows.count, NULL,
            dI + ((at.n * g.i_h + at.h) * g.i_w + at.w) * g.i_c + line.m, at.count, False,
        )


# The kernel's gradient ----------------------------------------------------------------------------------


cdef void add_part(
    const floating* I, const floating* dO, floating* sums, const ChannelVector* line, const GradRow* row,
    Py_ssize_t first, Py_ssize_t last, Py_ssize_t b, const Geometry* g
) noexcept nogil:
    """A line of channels of some kernel rows, and of their taps from b on: all rows of outputs, one by one."""
    cdef Py_ssize_t lines = row.taps * g.i_cg * vector_bytes() / sizeof(floating), left = b * g.d_w - g.p_l
    cdef Py_ssize_t n, y, a, end, top, rows
    for n in range(g.i_n):
        for y in range(g.o_h):
            top = y * g.s_h - g.p_t
            a = clip(positions_up_to(-top, g), first, last)
            end = clip(positions_up_to(g.i_h - top, g), a, last)
            while a < end:
                rows = 3 if end - a >= 3 else 1
                add_grad_row(
                    row, I + ((n * g.i_h + top + a * g.d_h) * g.i_w + left) * g.i_c + line.c, left, line.shift,
                    dO + (n * g.o_h + y) * g.o_w * g.k_c + line.m, sums + (a - first) * lines, rows, g.i_cg,
                )
                a += rows


cdef void kernel_grad_line(
    const floating* I, const floating* dO, floating* dK, Py_ssize_t i, Py_ssize_t first, Py_ssize_t last,
    const Geometry* g
) noexcept nogil:
    """A line of channels of some kernel rows, no more of them and of their taps at a time than there are sums."""
    cdef floating sums[SUMS * PLACES]
    cdef Py_ssize_t size = sizeof(floating), width = vector_bytes() / size
    cdef ChannelVector line = vector_at(i, width, g)
    cdef Py_ssize_t most = min(SUMS / g.i_cg, g.k_w), rows = SUMS / (most * g.i_cg), end, a, b, j
    cdef GradRow row
    row.image, row.tap, row.row = g.s_w * g.i_c * size, g.d_w * g.i_c * size, g.d_h * g.i_w * g.i_c * size
    row.output = g.k_c * size
    row.d_w, row.s_w, row.i_w, row.o_w = g.d_w, g.s_w, g.i_w, g.o_w
    row.channel = vector_bytes()
    place_groups(row.place, size, g)
    while first < last:
        end = min(first + rows, last)
        b = 0
        while b < g.k_w:
            row.taps = min(most, g.k_w - b)
            row.kernel_tap = g.i_cg * row.channel
            row.kernel_row = row.taps * row.kernel_tap
            memset(sums, 0, (end - first) * row.kernel_row)
            add_part(I, dO, sums, &line, &row, first, end, b, g)
            for a in range(first, end):
                for j in range(row.taps * g.i_cg):
                    copy(dK + ((a * g.k_w + b) * g.i_cg + j) * g.k_c + line.m + line.overlap,
                         sums + ((a - first) * row.taps * g.i_cg + j) * width + line.overlap, width - line.overlap)
            b += row.taps
        first = end


# What Python calls --------------------------------------------------------------------------------------


def run_input_grad(
    const floating[:, :, :, ::1] grad_out, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] grad_x,
    floating[::1] workspace, shape, int n_threads=1, const floating[::1] prepared=None,
):
    """The input's gradient with ``prepared``, which is K'; ``workspace`` is not used."""
    cdef Geometry g = geometry(shape)
    cdef Geometry swapped = swap_channels(&g)
    cdef Py_ssize_t units, share
    check_threads(n_threads)
    check_operands(&g, grad_x.shape, kernel.shape, grad_out.shape)
    check_groups(g.i_cg, "input", g.k_cg, "output")
    if prepared is None:
        raise ValueError("prepared= is missing: K' as turn_kernel writes it")
    check_room("prepared", prepared.shape[0], shape.kernel_size)
    if not whole_vectors(shape, swapped=True):
        direct_grad.run_input_grad(grad_out, kernel, grad_x, workspace, shape, n_threads)
        return
    if g.i_n == 0:
        return
    cdef const floating* dO = &grad_out[0, 0, 0, 0]
    cdef const floating* turned = &prepared[0]
    cdef floating* dI = &grad_x[0, 0, 0, 0]
    units = g.i_n * g.i_h * first_columns(&g) * tiles_of_row(&g)
    units *= n_vectors(vector_bytes() / sizeof(floating), &swapped)
    with nogil:
        for share in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            input_grad_lines(dO, turned, dI, share * units / n_threads, (share + 1) * units / n_threads, &g)


def run_kernel_grad(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] grad_out, floating[:, :, :, ::1] grad_kernel,
    floating[::1] workspace, shape, int n_threads=1,
):
    """The kernel's gradient: threads share its lines, or its rows if these are few; ``workspace`` is not used."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t lines, parts, unit
    check_threads(n_threads)
    check_operands(&g, x.shape, grad_kernel.shape, grad_out.shape)
    check_groups(g.k_cg, "output", g.i_cg, "input")
    if not whole_vectors(shape):
        direct_grad.run_kernel_grad(x, grad_out, grad_kernel, workspace, shape, n_threads)
        return
    if g.i_n == 0:
        memset(&grad_kernel[0, 0, 0, 0], 0, g.k_h * g.k_w * g.i_cg * g.k_c * grad_kernel.itemsize)
        return
    cdef floating* dK = &grad_kernel[0, 0, 0, 0]
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* dO = &grad_out[0, 0, 0, 0]
    lines = n_vectors(vector_bytes() / sizeof(floating), &g)
    parts = g.k_h if lines % n_threads else 1
    with nogil:
        for unit in prange(lines * parts, num_threads=n_threads, schedule="static"):
            kernel_grad_line(I, dO, dK, unit / parts, unit % parts * g.k_h / parts,
                             (unit % parts + 1) * g.k_h / parts, &g)
