"""Tuned MEC (``mec``, ours): Cho & Brand's Algorithm 2, changed for speed and for any convolution.

Read ``paper.pyx`` first: names and arrays are the same.  What is changed, and what each change gains
(``docs/results/speed.rst`` has the tables; AMD EPYC with Zen 4 cores where no other machine is named):

* Image rows that no output reads are left out of L, and rows of padding are not stored: the products of border
  rows are shorter instead.  So L never exceeds im2col's matrix (``lowered_rows.pxd``): 0.554 MiB where the paper's
  L takes 0.572, in cv1 with stride 11 (``profiling/stride_sweep.py``).
* Dilation and groups: rows are stored by residue classes, groups one after another.  The paper has neither.
* Each thread lowers the rows that it will read in stage 2, so they are in its cache already: writing to lines that
  another core has read took up to ten times as long.
* Products are cut into blocks for register tiles, or for BLAS's path without packing, and a block of K meets many
  output rows while it is in cache; in ``paper.pyx`` BLAS packs all of K for every product.  The speed rises from
  0.79 to 1.38 times that of im2col (one thread, geometric mean of cv1 to cv12, ``profiling/ladder.py``).
* Such products need less height, so T of line 8 is 10 instead of 100: with several images and two threads
  Solution B is faster from o_w = 12 on, by 20 % on cv2 (Zen 5, ``profiling/solutions.py``).
* A 1×1 kernel with stride 1, no padding and one group needs no L: I is its own lowered matrix.
* Bias and ReLU are applied to each block of outputs while it is in cache.

==========  ==================================================  =============================================
array       shape                                               role
==========  ==================================================  =============================================
x           (i_n, i_h, i_w, i_c)                                input I, n-h-w-c
kernel      (k_h, k_w, i_c/G, k_c)                              kernel K; as a matrix k_h·k_w·i_c/G × k_c
L           (G, i_n, o_w, r_h, k_w, i_c/G)                      lowered matrix, i_n·o_w rows of r_h·k_w·i_c/G
out         (i_n, o_h, o_w, k_c)                                output O, n-h-w-c
==========  ==================================================  =============================================

Workspace, in elements:  |L| = i_n·o_w·r_h·k_w·i_c  (0 for a 1×1 kernel as above).

Any stride, padding, dilation and number of groups; it saves memory over im2col where k_h > s_h.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.mec.lowered_rows cimport (
    Band, Partition, ResidueClass, band_of_rows, evenly_spaced, image_row, partition, residue_class,
)
from pymec.kernels.register_tiles.blocked_product cimport blocked_product
from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of, finish_pixels
from pymec.kernels.shared.blocking cimport GemmBlocking, blocking_of
from pymec.kernels.shared.geometry cimport Geometry, check_room, check_stage, geometry
from pymec.kernels.shared.interrupts cimport interrupted
from pymec.kernels.shared.patch cimport copy_patch_rows
from pymec.kernels.shared.spans cimport Span, ceil_div, innermost, share_of

from pymec.kernels.mec.paper import repair

# Lowering: Algorithm 2, lines 4-6 -----------------------------------------------------------------------


cdef void lower_strip(
    const floating* I, floating* strip, Py_ssize_t n, Py_ssize_t x, Py_ssize_t group, Span rows,
    const Band* band, const Geometry* g
) noexcept nogil:
    """Some rows of the strip of image n at output column x; class by class, copies of evenly spaced image rows."""
    cdef Py_ssize_t kernel_row = g.k_w * g.i_cg, image_width = g.i_w * g.i_c
    cdef Py_ssize_t before = 0  # rows of the strip that belong to the classes before this one
    cdef Py_ssize_t j, r, end, stored, count
    cdef ResidueClass c
    if interrupted():
        return
    for j in range(band.n_classes):
        c = residue_class(j, band, g)
        r = max(rows.first, before)
        end = min(rows.end, before + c.end - c.first)
        while r < end:
            stored = c.first + r - before
            count = min(evenly_spaced(stored, band, g), end - r)
            # line 5:  L[n, x, r, 0:k_w, 0:i_c] = I[n, h, s_w·x : s_w·x + k_w, 0:i_c],  h the image row stored as r
            copy_patch_rows(I + (n * g.i_h + image_row(stored, &c, band, g)) * image_width, g.d_h * image_width,
                            count, strip + r * kernel_row, x, group, g)
            r += count
        before += c.end - c.first


cdef void lower_share(
    const floating* I, floating* L, Py_ssize_t share, Py_ssize_t shares, const Band* band, const Geometry* g
) noexcept nogil:
    """The rows, of every strip, that one thread's output rows will read in stage 2.

    Shares begin at different strips, because neighbouring shares have a cache line of every strip in common.
    """
    cdef Span mine = share_of(g.groups * g.i_n * band.rows, share, shares)
    cdef Span rows
    cdef Py_ssize_t image, i, x
    while mine.first < mine.end:
        image = mine.first / band.rows  # counted through groups and images
        rows.first = mine.first - image * band.rows
        rows.end = min(mine.end - image * band.rows, band.rows)
        for i in range(g.o_w):
            x = (i + share * g.o_w / shares) % g.o_w
            lower_strip(I, L + (image * g.o_w + x) * band.rows * g.k_w * g.i_cg,
                        image % g.i_n, x, image / g.i_n, rows, band, g)
        mine.first += rows.end - rows.first


def lower(const floating[:, :, :, ::1] x, floating[::1] L, shape, int n_threads=1):
    """Lines 4-6: copy the strips of every image into ``L``, ``shape.mec_size`` elements.

    Afterwards it can be read as (G, i_n, o_w, r_h, k_w, i_c/G) with r_h = ``shape.lowered_rows()``.
    """
    cdef Geometry g = geometry(shape)
    cdef Band band = band_of_rows(0, g.o_h, &g)
    cdef Py_ssize_t share
    check_stage(&g, n_threads, x.shape, NULL, NULL)
    check_room("L", L.shape[0], shape.mec_size)
    if g.i_n == 0 or band.rows == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef floating* lowered = &L[0]
    with nogil:
        for share in prange(n_threads, num_threads=n_threads, schedule="static"):
            lower_share(I, lowered, share, n_threads, &band, &g)


# The products: Algorithm 2, lines 9-13 (Solution A) and 21-25 (B) ---------------------------------------


cdef void multiply_rows(
    const floating* L, const floating* K, floating* O, Span rows, Span channels, Py_ssize_t ldk, bint add,
    const RowStrides* o, const Band* band, const GemmBlocking* blocking, const Geometry* g
) noexcept nogil:
    """Some output rows of a band, some output channels of one group.

    L points at the group's first strip, O at the band's first output row; with ``add`` products are added to O.
    """
    cdef Py_ssize_t kernel_row = g.k_w * g.i_cg, strip = band.rows * kernel_row
    cdef Py_ssize_t n_channels = channels.end - channels.first
    cdef Py_ssize_t q = 0, first, end, i
    cdef Partition p
    O += channels.first
    while q < g.k_h * kernel_row:  # every output row meets one block of K before the next block
        for i in range(rows.first, rows.end):
            p = partition(i, band, g)
            # Of K's rows, those of this block whose kernel row a0 .. a1 lies inside the image.
            first, end = max(q, p.a0 * kernel_row), min(q + blocking.reduction, p.a1 * kernel_row)
            if first < end:
                # O_h (o_w × k_c) = P_h (o_w × k_h·k_w·i_c) · K (k_h·k_w·i_c × k_c), from column `first` of P_h on;
                # P_h is L from row s_h·h of every strip on, its leading dimension a whole strip.
                blocked_product(blocking, o.pixels, n_channels, end - first,
                                L + (p.start - p.a0) * kernel_row + first, strip,
                                K + first * ldk + channels.first, ldk, add or first > p.a0 * kernel_row,
                                O + i * o.row_step, o.pixel_step)
            elif p.a1 <= p.a0 and not add:  # all of P_h lies on padding
                zero_pixels(O + i * o.row_step, o.pixels, o.pixel_step, n_channels)
        q += blocking.reduction


cdef void finish_rows(
    floating* O, Span rows, Span channels, const RowStrides* o, const BiasRelu* bias_relu
) noexcept nogil:
    """Bias and ReLU of some output rows and channels, whose sums are complete and still in cache."""
    cdef Py_ssize_t i
    for i in range(rows.first, rows.end):
        finish_pixels(O + i * o.row_step, o.pixels, o.pixel_step, channels.first, channels.end, bias_relu)


cdef void multiply_block(
    const floating* L, const floating* K, floating* O, Py_ssize_t block, Py_ssize_t group, const RowStrides* o,
    const Band* band, const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One of a band's blocks: some output rows by some channels of a group, which count fastest."""
    cdef Py_ssize_t of_channels = innermost(&block, ceil_div(g.k_cg, blocking.channels))
    cdef Span channels = channels_of_block(of_channels, group, blocking, g)
    cdef Span rows = span_of_block(block, blocking.output_rows, band.n_y)
    multiply_rows(L, K, O, rows, channels, g.k_c, False, o, band, blocking, g)
    finish_rows(O, rows, channels, o, bias_relu)


cdef void multiply_task(
    const floating* L, const floating* K, floating* O, Py_ssize_t task, Py_ssize_t images, const RowStrides* o,
    const Band* band, const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One block of one image and group.  Blocks count fastest: a thread stays with the rows it has lowered."""
    cdef Py_ssize_t block = innermost(&task, block_count(band.n_y, blocking, g))
    cdef Py_ssize_t n = innermost(&task, images)
    cdef Py_ssize_t group = task
    multiply_block(L + (group * images + n) * o.pixels * band.rows * g.k_w * g.i_cg, K, O + n * g.o_h * o.row_step,
                   block, group, o, band, blocking, bias_relu, g)


def multiply(const floating[::1] L, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out, shape,
             solution, blocking, int n_threads=1, const floating[::1] bias=None, bint relu=False):
    """All products of output rows, in blocks; Solution ``"A"`` leaves O in h-n-w-c, ``"B"`` in n-h-w-c.

    ``blocking`` is a :class:`pymec.kernels.shared.blocking.GemmBlocking`.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef GemmBlocking blocks = blocking_of(blocking)
    cdef Band band = band_of_rows(0, g.o_h, &g)
    cdef RowStrides o
    cdef Py_ssize_t images, tasks, task
    if solution not in ("A", "B"):
        raise ValueError(f"solution must be 'A' or 'B', got {solution!r}")
    check_stage(&g, n_threads, NULL, kernel.shape, out.shape)
    check_room("L", L.shape[0], shape.mec_size)
    if g.i_n == 0:
        return
    # Solution A's products are those of B for a single image, as wide as all images side by side.
    images = 1 if solution == "A" else g.i_n
    o.pixels = g.i_n * g.o_w / images
    o.pixel_step, o.row_step = g.k_c, o.pixels * g.k_c
    tasks = g.groups * images * block_count(g.o_h, &blocks, &g)
    cdef const floating* lowered = &L[0] if L.shape[0] else NULL
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for task in prange(tasks, num_threads=n_threads, schedule="static"):
            multiply_task(lowered, K, O, task, images, &o, &band, &blocks, &bias_relu, &g)


# The algorithm ------------------------------------------------------------------------------------------


def run(x, kernel, out, workspace, shape, n_threads, solution, blocking, bias=None, relu=False):
    """Algorithm 2 from line 4 on; ``solution`` is the answer of line 8.  Solution A ends with the repair."""
    if shape.is_pointwise:
        # Image rows as images of one row each: L[n, x, 0, 0, :] is I[n, 0, x, :].  Without L no repair, so B.
        shape, solution = shape.rows_as_images(), "B"
        workspace, out = x.reshape(-1), out.reshape(shape.output_shape)
    else:
        lower(x, workspace, shape, n_threads)
    multiply(workspace, kernel, out, shape, solution, blocking, n_threads, bias, relu)
    if solution == "A" and shape.i_n > 1:  # for one image h-n-w-c is n-h-w-c
        repair(out, workspace, shape, n_threads)
