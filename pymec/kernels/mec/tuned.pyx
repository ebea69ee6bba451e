"""MEC: Algorithms 1 and 2 of Cho & Brand, *MEC: Memory-efficient Convolution for Deep Neural Network*
(ICML 2017, arXiv:1706.06873).

For every output column x, a vertical strip of the image, k_w pixels wide, is copied once into L.  The
patches of output row y are then a window of that matrix: k_h·k_w·i_c columns of it, starting at
y·s_h·k_w·i_c.  Windows of neighbouring rows overlap, so nothing is copied twice for them; each is
multiplied with K by one GEMM whose leading dimension steps from strip to strip.

==========  ==================================================  =============================================
array       shape                                               role
==========  ==================================================  =============================================
x           (i_n, i_h, i_w, i_c)                                input I, n-h-w-c
kernel      (k_h, k_w, i_c, k_c)                                kernel K; as a matrix (k_h·k_w·i_c) × k_c
L           (i_n, o_w, r_h, k_w, i_c)                           lowered matrix, i_n·o_w rows of r_h·k_w·i_c
out         (i_n, o_h, o_w, k_c)                                output O, n-h-w-c
==========  ==================================================  =============================================

r_h, the image rows that some output row reads, is i_h in the paper; ``_lowered_rows`` says where it is less.
With G groups L is (G, i_n, o_w, r_h, k_w, i_c/G), the group outermost, and each group is multiplied by itself.

Workspace, in elements:  |L| = i_n·o_w·r_h·k_w·i_c
(``mec_vanilla``, an image at a time: |L|/i_n;  Solution A with i_n > 1: max(|L|, |O|), as L takes a copy of O;
none for a 1×1 kernel with stride 1, no padding and one group, where I is its own lowered matrix).

Any stride, padding, dilation and number of groups; it saves memory over im2col where k_h > s_h.
"""

from cython cimport floating
from cython.parallel import prange
from libc.string cimport memcpy

from pymec.kernels.shared.blas cimport gemm_rowmajor
from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.mec.lowered_rows cimport (
    Band, Partition, RowClass, band_of_rows, image_row, partition, row_class, rows_in_step,
)
from pymec.kernels.shared.patch cimport copy_patch_rows, zero
from pymec.kernels.shared.blocking cimport GemmBlocking, blocking_of
from pymec.kernels.register_tiles.product cimport tile_product

from pymec.kernels.shared.blocking import whole_product
from pymec.kernels.shared.machine import T_PAPER, T_TUNED
from pymec.kernels.register_tiles.schedule import gemm_blocking

# Stage 1: lowering (Algorithm 1, lines 2-6; Algorithm 2, lines 4-7) ------------------------------------


cdef void lower_strip(
    const floating* I, floating* strip, Py_ssize_t n, Py_ssize_t x, Py_ssize_t group,
    Py_ssize_t r0, Py_ssize_t r1, const Band* band, const Geometry* g
) noexcept nogil:
    """L[n, x, h, 0:k_w, 0:i_c] = I[n, h, x·s_w : x·s_w + k_w, 0:i_c] for rows r0 .. r1 of those the band keeps."""
    cdef Py_ssize_t chunk = g.k_w * g.i_cg, row = g.i_w * g.i_c
    cdef Py_ssize_t before = 0  # rows kept by the classes before this one
    cdef Py_ssize_t j, r, end, slot, run
    cdef RowClass kept
    for j in range(band.n_classes):
        kept = row_class(j, band, g)
        r = max(r0, before)
        end = min(r1, before + kept.end - kept.first)
        while r < end:
            slot = kept.first + r - before
            run = min(rows_in_step(slot, band, g), end - r)
            copy_patch_rows(I + (n * g.i_h + image_row(slot, &kept, band, g)) * row, g.d_h * row, run,
                            strip + r * chunk, x, group, g)
            r += run
        before += kept.end - kept.first


cdef void lower_share(
    const floating* I, floating* L, Py_ssize_t share, Py_ssize_t shares, const Band* band, const Geometry* g
) noexcept nogil:
    """One thread's share of L: the rows, in every strip, that its output rows will read in stage 2.

    What stays with one core needn't cross to another: copying over lines that another core has read took up
    to ten times as long.  Shares begin at different strips, so as not to meet at a line that two have in common.
    """
    cdef Py_ssize_t rows = g.groups * g.i_n * band.rows
    cdef Py_ssize_t first = share * rows / shares, end = (share + 1) * rows / shares
    cdef Py_ssize_t image, r0, r1, i, x
    while first < end:
        image = first / band.rows  # counted through groups and images
        r0 = first - image * band.rows
        r1 = min(r0 + end - first, band.rows)
        for i in range(g.o_w):
            x = (i + share * g.o_w / shares) % g.o_w
            lower_strip(I, L + (image * g.o_w + x) * band.rows * g.k_w * g.i_cg,
                        image % g.i_n, x, image / g.i_n, r0, r1, band, g)
        first += r1 - r0


# Stage 2: the products (Algorithm 1, lines 7-11; Algorithm 2, lines 9-13 and 21-25) ---------------------


cdef void multiply_rows(
    const floating* L, const floating* K, floating* O, Py_ssize_t i0, Py_ssize_t i1, Py_ssize_t m0, Py_ssize_t m1,
    const Places* at, const Band* band, const GemmBlocking* blocking, const Geometry* g
) noexcept nogil:
    """Output rows i0 .. i1 of a band, output channels m0 .. m1 of one group.

    L and O point at the group's first strip and at the band's first output row.  Solution B has
    at.columns = o_w; Solution A has at.columns = i_n·o_w, the images side by side.
    """
    cdef Py_ssize_t chunk = g.k_w * g.i_cg
    cdef Py_ssize_t ldl = band.rows * chunk
    cdef Py_ssize_t q, lo, hi, i, x, n_x, pixel
    cdef bint add
    cdef floating* target
    cdef const floating* window
    cdef Partition p
    q = 0
    while q < g.k_h * chunk:
        for i in range(i0, i1):
            p = partition(i, band, g)
            target = O + i * at.row_step + m0
            if p.a1 <= p.a0:  # the whole patch row lies on padding
                for pixel in range(0 if at.add else at.columns):
                    zero(target + pixel * at.ldo, m1 - m0)
                continue
            lo, hi = max(q, p.a0 * chunk), min(q + blocking.reduction, p.a1 * chunk)
            if lo >= hi:
                continue
            add = at.add or lo > p.a0 * chunk
            x = 0
            while x < at.columns:
                n_x = min(blocking.columns, at.columns - x)
                # O_y (columns × k_c) = P_y (columns × k_h·k_w·i_c) · K (k_h·k_w·i_c × k_c),
                # P_y = L from row y·s_h of every strip on, its leading dimension a whole strip;
                # in pieces: some pixels, some channels and a part of the sum, which beta = 1 adds up.
                window = L + x * ldl + (p.start - p.a0) * chunk + lo
                if blocking.registers:
                    tile_product(n_x, m1 - m0, hi - lo, window, ldl, K + lo * at.ldk + m0, at.ldk, add,
                                 target + x * at.ldo, at.ldo)
                else:
                    gemm_rowmajor(n_x, m1 - m0, hi - lo, window, ldl, K + lo * at.ldk + m0, at.ldk, <floating> add,
                                  target + x * at.ldo, at.ldo)
                x += n_x
        q += blocking.reduction


cdef void multiply_unit(
    const floating* L, const floating* K, floating* O, Py_ssize_t unit, Py_ssize_t images,
    const Places* at, const Band* band, const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One unit of parallel work: a block of output rows of one image, a block of channels of one group.

    Channels count fastest, then rows, images and groups: a thread stays with the rows of L it has lowered.
    """
    cdef Py_ssize_t row_blocks = (band.n_y + blocking.output_rows - 1) / blocking.output_rows
    cdef Py_ssize_t channel_blocks = (g.k_cg + blocking.channels - 1) / blocking.channels
    cdef Py_ssize_t block = unit % channel_blocks
    cdef Py_ssize_t i0 = unit / channel_blocks % row_blocks * blocking.output_rows
    cdef Py_ssize_t n = unit / channel_blocks / row_blocks % images
    cdef Py_ssize_t group = unit / channel_blocks / row_blocks / images
    cdef Py_ssize_t m0 = group * g.k_cg + block * blocking.channels
    multiply_and_finish(L + (group * images + n) * at.columns * band.rows * g.k_w * g.i_cg, K,
                        O + n * g.o_h * at.row_step,
                        i0, min(i0 + blocking.output_rows, band.n_y),
                        m0, min(m0 + blocking.channels, (group + 1) * g.k_cg),
                        at, band, blocking, bias_relu, g)


# Stage 3: Solution A's repair, h-n-w-c to n-h-w-c through L (Algorithm 2, lines 14-19) ------------------


cdef void repair_row(const floating* L, floating* O, Py_ssize_t unit, const Geometry* g) noexcept nogil:
    """O[n, y, :, :] = L[y, n, :, :], L now read as the copy of the output in h-n-w-c."""
    cdef Py_ssize_t n = unit / g.o_h, y = unit % g.o_h, row = g.o_w * g.k_c
    memcpy(O + unit * row, L + (y * g.i_n + n) * row, row * sizeof(floating))


cdef void copy_row(const floating* O, floating* L, Py_ssize_t unit, const Geometry* g) noexcept nogil:
    """One row of the output, wherever it belongs, into the same place of L."""
    cdef Py_ssize_t row = g.o_w * g.k_c
    memcpy(L + unit * row, O + unit * row, row * sizeof(floating))


# What Python calls -------------------------------------------------------------------------------------

def choose_solution(shape, int T):
    """Algorithm 2, line 8: ``"A"`` if o_w <= T and \\|O\\| <= \\|L\\|, otherwise ``"B"``.

    T is the widest output for which Solution A's taller products are worth its repair.
    """
    return "A" if shape.o_w <= T and shape.output_size <= shape.mec_size else "B"


def lower(const floating[:, :, :, ::1] x, floating[::1] L, shape, int n_threads=1):
    """Stage 1: copy the strips of every image into L.

    Parameters
    ----------
    x : array (i_n, i_h, i_w, i_c)
    L : array, one-dimensional, at least ``shape.mec_size`` elements
        Afterwards, read as (G, i_n, o_w, r_h, k_w, i_c/G) with r_h = ``shape.lowered_rows()``.
    shape : pymec.ConvShape
    n_threads : int
    """
    cdef Geometry g = geometry(shape)
    cdef Band band = band_of_rows(0, g.o_h, &g)
    cdef Py_ssize_t share
    check_threads(n_threads)
    check_operands(&g, x.shape, NULL, NULL)
    check_room("L", L.shape[0], shape.mec_size)
    if g.i_n == 0 or band.rows == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef floating* to = &L[0]
    with nogil:
        for share in prange(n_threads, num_threads=n_threads, schedule="static"):
            lower_share(I, to, share, n_threads, &band, &g)


def multiply(const floating[::1] L, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out, shape,
             solution="B", blocking=None, int n_threads=1, const floating[::1] bias=None, bint relu=False):
    """Stage 2: one product per partition of L (:mod:`pymec.kernels.shared.blocking` cuts them smaller).

    Solution B writes ``out`` as it shall be; Solution A writes it in h-n-w-c, which is the same for one
    image and needs :func:`repair` for several.  Sums begin with the ``bias``, if there is one (beta = 1).
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Band band = band_of_rows(0, g.o_h, &g)
    cdef GemmBlocking cut = blocking_of(blocking or whole_product(shape))
    if solution not in ("A", "B"):
        raise ValueError(f"solution must be 'A' or 'B', got {solution!r}")
    # Solution A sees the strips of all images as those of one, wide image.
    cdef Py_ssize_t images = 1 if solution == "A" else g.i_n
    cdef Places at = adjacent_pixels(g.i_n * g.o_w if solution == "A" else g.o_w, &g)
    cdef Py_ssize_t row_blocks = (g.o_h + cut.output_rows - 1) / cut.output_rows
    cdef Py_ssize_t channel_blocks = (g.k_cg + cut.channels - 1) / cut.channels
    cdef Py_ssize_t units = g.groups * channel_blocks * images * row_blocks, unit
    at.add = bias_relu.bias != NULL
    check_threads(n_threads)
    check_room("L", L.shape[0], shape.mec_size)
    check_operands(&g, NULL, kernel.shape, out.shape)
    if g.i_n == 0:
        return
    cdef const floating* lowered = &L[0] if L.shape[0] else NULL
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    with nogil:
        for unit in prange(units, num_threads=n_threads, schedule="static"):
            multiply_unit(lowered, K, O, unit, images, &at, &band, &cut, &bias_relu, &g)


def repair(floating[:, :, :, ::1] out, floating[::1] L, shape, int n_threads=1):
    """Stage 3, Solution A with several images: h-n-w-c to n-h-w-c, the dead L holding the copy."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t row
    check_threads(n_threads)
    check_operands(&g, NULL, NULL, out.shape)
    check_room("L", L.shape[0], shape.output_size)
    if g.i_n == 0:
        return
    cdef floating* O = &out[0, 0, 0, 0]
    cdef floating* copy = &L[0]
    with nogil:
        for row in prange(g.i_n * g.o_h, num_threads=n_threads, schedule="static"):
            copy_row(O, copy, row, &g)
        for row in prange(g.i_n * g.o_h, num_threads=n_threads, schedule="static"):
            repair_row(copy, O, row, &g)


def run_a(x, kernel, out, workspace, shape, n_threads=1, blocking=None, bias=None, relu=False):
    """Algorithm 2, Solution A (lines 9-19): o_h products of i_n·o_w rows, then the repair."""
    if shape.is_pointwise:
        return run_b(x, kernel, out, workspace, shape, n_threads, blocking, bias, relu)
    lower(x, workspace, shape, n_threads)
    multiply(workspace, kernel, out, shape, "A", blocking, n_threads, bias, relu)
    if shape.i_n > 1:
        repair(out, workspace, shape, n_threads)


def run_b(x, kernel, out, workspace, shape, n_threads=1, blocking=None, bias=None, relu=False):
    """Algorithm 2, Solution B (lines 21-25): i_n·o_h products of o_w rows, straight into n-h-w-c."""
    if shape.is_pointwise:
        # Image rows as images of one row each: L[n, x, 0, 0, :] is I[n, 0, x, :], nothing to copy.
        shape = shape.rows_as_images()
        workspace, out = x.reshape(-1), out.reshape(shape.output_shape)
    else:
        lower(x, workspace, shape, n_threads)
    multiply(workspace, kernel, out, shape, "B", blocking, n_threads, bias, relu)


def run(x, kernel, out, workspace, shape, n_threads=1, T=None, cut="small_blas", bias=None, relu=False):
    """Algorithm 2 with the choice of line 8, by the products of ``schedule.gemm_blocking``."""
    run_solution, columns = run_b, shape.o_w
    if choose_solution(shape, (T_PAPER if cut == "blas" else T_TUNED) if T is None else T) == "A":
        run_solution, columns = run_a, shape.i_n * shape.o_w
    blocking = gemm_blocking(cut, shape, columns, n_threads)
    run_solution(x, kernel, out, workspace, shape, n_threads, blocking, bias, relu)
