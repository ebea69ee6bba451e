"""Direct convolution with few filters: dot products along the channels (ours).

A register tile holds a line of output channels, and with one filter, or three, most of it would be zeros.  Here a
register holds channels of the input: a patch and a filter are multiplied register by register, and the lanes of
each sum are added up at the end.  For that the channels of a filter must be adjacent: K is transposed.

==========  ==================================  =========================================================
array       shape                               role
==========  ==================================  =========================================================
x           (i_n, i_h, i_w, i_c)                input I
kernel      (k_h, k_w, i_c/G, k_c)              kernel K; not read
prepared    (k_c, k_h, k_w, i_c/G)              K', the filters one after the other
filters     (k_h, k_w, G, k_c/G, i_c/G)         a view of K', or of any array with these channels adjacent
out         (i_n, o_h, o_w, k_c)                output O
==========  ==================================  =========================================================

Workspace, in elements:  |K|, the transposed kernel, which a plan keeps

A tile (:mod:`pymec.kernels.register_tiles.dot_tiles`) takes up to 4 filters and up to 12 pixels, which lie beside
each other in a row of outputs whose taps are all inside the image.  At the sides, where some columns of taps are
on padding, it takes pixels one below the other: these have the same taps inside.  So no zero of the padding is
ever multiplied.  Threads share the outputs, and where there are many filters, these.

Any stride, padding, dilation and number of groups; groups of at least 64 bytes of input channels, so that a run of
adjacent numbers fills a register.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.register_tiles.dot_tiles cimport MOST_DOTS, MOST_FILTERS, DotRuns, add_dots, pixels_of_dots
from pymec.kernels.register_tiles.pixels cimport taps_adjacent
from pymec.kernels.register_tiles.tile cimport CACHE_LINE
from pymec.kernels.shared.bias_relu cimport bias_relu_of
from pymec.kernels.shared.geometry cimport (
    Geometry, PixelStrides, check_room, check_stage, find_pixels, geometry,
)
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.spans cimport Span, both, ceil_div, innermost, inside, share_of

cdef enum:
    ROWS = 16        # output rows of a task, whose tiles at the sides go down them
    SHARES = 4       # of the filters for each thread, where there are as many


cdef struct Filters:                     # those that meet a task's pixels together
    Py_ssize_t group
    Py_ssize_t first, count              # the first one is counted through all groups


cdef struct FilterSteps:                 # elements of K' from kernel row to row, tap to tap, ...
    Py_ssize_t row, tap, group, filter


cdef struct DotLayer:                    # what all tasks share
    PixelStrides image, out
    FilterSteps k
    Span rows, columns                   # outputs that have all rows, or all columns, of taps inside the image
    bint whole_lines                     # whether the channels of a pixel fill whole cache lines
    const void* bias                     # or NULL
    bint relu
    Py_ssize_t task_rows, task_columns
    Py_ssize_t turns, filter_shares      # a few filters at a time; the shares of these turns among tasks


cdef DotRuns runs_of(Span rows, Span taps, const DotLayer* layer, const Geometry* g) noexcept nogil:
    """The runs of some kernel rows and some columns of taps.

    A row is one run if its taps are adjacent in the image and in the filter, and if a channel then has the same
    lane at every tap: so the sums are the same to the last bit wherever the image lies.
    """
    cdef bint adjacent = layer.whole_lines and layer.k.tap == g.i_c and taps_adjacent(&layer.image, g)
    cdef Py_ssize_t columns = taps.end - taps.first
    return DotRuns(
        rows.end - rows.first, 1 if adjacent else columns, columns * g.i_c if adjacent else g.i_cg,
        g.d_h * layer.image.row, g.d_w * layer.image.pixel, layer.k.row, layer.k.tap, layer.k.filter,
    )


cdef void dots_of_line(
    const floating* I, Py_ssize_t step, const floating* K, floating* O, Py_ssize_t out_step, Py_ssize_t count,
    const DotRuns* runs, const Filters* filters, const DotLayer* layer
) noexcept nogil:
    """``count`` outputs ``out_step`` apart, whose patches are ``step`` apart; the last tile reaches back."""
    cdef floating sums[MOST_DOTS]
    cdef const floating* bias = <const floating*> layer.bias
    cdef floating total
    cdef Py_ssize_t pixels = pixels_of_dots(filters.count, count), done = 0, p, j
    while done < count and not interrupted():
        done = min(done, count - pixels)
        add_dots(filters.count, pixels, I + done * step, step, K, runs, sums)
        for p in range(pixels):
            for j in range(filters.count):
                total = sums[p * filters.count + j]
                if bias != NULL:
                    total += bias[filters.first + j]
                O[(done + p) * out_step + j] = 0 if layer.relu and total < 0 else total
        done += pixels


cdef void dots_of_pixels(
    const floating* I, const floating* K, floating* O, Py_ssize_t y, Py_ssize_t x, Py_ssize_t count, bint down,
    const Filters* filters, const DotLayer* layer, const Geometry* g
) noexcept nogil:
    """``count`` outputs from (y, x) on, one below or beside the other, with the same taps inside the image.

    I and O point at the image, K' at the first of the filters.
    """
    cdef Py_ssize_t top = y * g.s_h - g.p_t, left = x * g.s_w - g.p_l
    cdef Span rows = inside(top, g.d_h, g.i_h, g.k_h), taps = inside(left, g.d_w, g.i_w, g.k_w)
    cdef DotRuns runs = runs_of(rows, taps, layer, g)
    if rows.first == rows.end or taps.first == taps.end:  # a patch of padding alone
        runs.rows = 0
    I += (top + rows.first * g.d_h) * layer.image.row + (left + taps.first * g.d_w) * layer.image.pixel
    I += filters.group * g.i_cg
    K += rows.first * layer.k.row + taps.first * layer.k.tap
    O += y * layer.out.row + x * layer.out.pixel + filters.first
    dots_of_line(I, g.s_h * layer.image.row if down else g.s_w * layer.image.pixel, K, O,
                 layer.out.row if down else layer.out.pixel, count, &runs, filters, layer)


cdef void convolve_part(
    const floating* I, const floating* K, floating* O, Span rows, Span columns, const Filters* filters,
    const DotLayer* layer, const Geometry* g
) noexcept nogil:
    """Some rows and columns of one image's outputs: tiles along the rows, and at the sides along the columns."""
    cdef Span within = both(columns, layer.columns), whole = both(rows, layer.rows)
    cdef Py_ssize_t y, x
    if within.first < within.end:
        for y in range(rows.first, rows.end):
            dots_of_pixels(I, K, O, y, within.first, within.end - within.first, False, filters, layer, g)
    for x in range(columns.first, columns.end):
        if within.first <= x < within.end:
            continue
        if whole.first < whole.end:
            dots_of_pixels(I, K, O, whole.first, x, whole.end - whole.first, True, filters, layer, g)
        for y in range(rows.first, rows.end):
            if not whole.first <= y < whole.end:
                dots_of_pixels(I, K, O, y, x, 1, False, filters, layer, g)


cdef Py_ssize_t column_blocks(const DotLayer* layer) noexcept nogil:
    """Blocks of the columns whose taps are all inside the image; the outer ones have those at the sides, too."""
    return max(1, ceil_div(layer.columns.end - layer.columns.first, layer.task_columns))


cdef void convolve_task(
    const floating* I, const floating* K, floating* O, Py_ssize_t task, const DotLayer* layer, const Geometry* g
) noexcept nogil:
    """A block of rows and columns of one image, for a share of the filters of one group, a few at a time."""
    cdef Py_ssize_t blocks = column_blocks(layer), block = innermost(&task, blocks)
    cdef Py_ssize_t x = layer.columns.first + block * layer.task_columns
    cdef Py_ssize_t y = innermost(&task, ceil_div(g.o_h, layer.task_rows)) * layer.task_rows
    cdef Py_ssize_t group = innermost(&task, g.groups), turn
    cdef Span turns = share_of(layer.turns, innermost(&task, layer.filter_shares), layer.filter_shares)
    cdef Span rows = Span(y, min(y + layer.task_rows, g.o_h)), some
    cdef Span columns = Span(0 if block == 0 else x, g.o_w if block == blocks - 1 else x + layer.task_columns)
    cdef Filters filters
    for turn in range(turns.first, turns.end):
        some = share_of(g.k_cg, turn, layer.turns)
        filters = Filters(group, group * g.k_cg + some.first, some.end - some.first)
        convolve_part(I + task * layer.image.image, K + group * layer.k.group + some.first * layer.k.filter,
                      O + task * layer.out.image, rows, columns, &filters, layer, g)


cdef Span all_inside(
    Py_ssize_t padding, Py_ssize_t stride, Py_ssize_t reach, Py_ssize_t extent, Py_ssize_t count
) noexcept nogil:
    """The outputs of a row, or of a column, whose first and last taps are both inside the image."""
    return both(inside(-padding, stride, extent, count), inside(reach - padding, stride, extent, count))


def run(x, kernel, out, workspace, shape, n_threads, columns, prepared, bias=None, relu=False):
    """Convolve as :func:`convolve` does, with the filters in ``prepared``, (k_c, k_h, k_w, i_c/G)."""
    s = shape
    check_room("prepared", prepared.shape[0], s.kernel_size)
    filters = prepared[:s.kernel_size].reshape(s.groups, s.k_cg, s.k_h, s.k_w, s.i_cg).transpose(2, 3, 0, 1, 4)
    convolve(x, filters, out, shape, n_threads, columns, bias, relu)


def convolve(
    const floating[:, :, :, :] x, const floating[:, :, :, :, :] filters, floating[:, :, :, :] out, shape,
    int n_threads, Py_ssize_t columns, const floating[::1] bias=None, bint relu=False,
):
    """Convolve on ``n_threads`` threads.

    Parameters
    ----------
    x : array (i_n, i_h, i_w, i_c)
    out : array (i_n, o_h, o_w, k_c)
        The pixels of both may lie some distance apart, as those of a slice do.
    filters : array (k_h, k_w, G, k_c/G, i_c/G)
        Channels must be adjacent; the other steps, negative ones, too, are as they come.
    columns : int
        Output columns that are computed for some rows before the next ones, so that the rows of I stay in a cache.
    bias : array (k_c,), optional
        Added to every output.
    relu : bool
        Whether ReLU is applied then.
    """
    cdef Geometry g = geometry(shape)
    cdef DotLayer layer
    cdef Py_ssize_t size = sizeof(floating), tasks, task
    cdef Py_ssize_t[4] taps = [
        filters.shape[0], filters.shape[1], filters.shape[4], filters.shape[2] * filters.shape[3]
    ]
    check_stage(&g, n_threads, x.shape, taps, out.shape)
    if filters.strides[4] != size:
        raise ValueError(f"the channels of a filter must be {size} bytes apart, got {filters.strides[4]}")
    if g.i_cg * <Py_ssize_t> sizeof(floating) < CACHE_LINE:
        raise ValueError(f"direct_dots takes groups of at least 64 bytes of input channels, got {g.i_cg} channels")
    if columns < 1:
        raise ValueError(f"columns must be positive, got {columns}")
    find_pixels(&g, x.shape, x.strides, out.shape, out.strides, sizeof(floating))
    layer.image, layer.out = g.image, g.out
    layer.whole_lines = g.i_c * <Py_ssize_t> sizeof(floating) % CACHE_LINE == 0
    layer.bias, layer.relu = bias_relu_of(bias, relu, &g).bias, relu
    layer.rows = all_inside(g.p_t, g.s_h, (g.k_h - 1) * g.d_h, g.i_h, g.o_h)
    layer.columns = all_inside(g.p_l, g.s_w, (g.k_w - 1) * g.d_w, g.i_w, g.o_w)
    layer.k = FilterSteps(
        filters.strides[0] / size, filters.strides[1] / size, filters.strides[2] / size, filters.strides[3] / size
    )
    layer.turns = ceil_div(g.k_cg, MOST_FILTERS)
    layer.filter_shares = min(layer.turns, SHARES * n_threads)
    layer.task_rows = min(ROWS, g.o_h if layer.filter_shares >= n_threads else ceil_div(g.o_h, n_threads))
    layer.task_columns = columns
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &filters[0, 0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    tasks = g.i_n * layer.filter_shares * g.groups * ceil_div(g.o_h, layer.task_rows) * column_blocks(&layer)
    with nogil:
        for task in prange(tasks, num_threads=n_threads, schedule="dynamic"):
            convolve_task(I, K, O, task, &layer, &g)
