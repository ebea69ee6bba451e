"""Indirect convolution: a buffer of pointers in place of a lowered matrix (Marat Dukhan, *The Indirect
Convolution Algorithm*, 2019, arXiv:1907.02129).

im2col copies, for every output pixel and tap, the i_c numbers that the two have in common; here only the
address of those numbers is written down.  A tap on padding gets the address of i_c zeros.  The inner loop reads
the addresses of a tile of pixels, tap by tap, and multiplies what it finds there, which BLAS can't do.

==========  =========================  ========================================================================
array       shape                      role
==========  =========================  ========================================================================
x           (i_n, i_h, i_w, i_c)       input I
kernel      (k_h, k_w, i_c/G, k_c)     kernel K
buffer      (tiles, k_h·k_w, 6)        an entry per output pixel of one image and tap; the pixels of a tile of
                                       six side by side, in the last tile as many as are left
zeros       (i_c,)                     behind the buffer: what taps on padding point to
out         (i_n, o_h, o_w, k_c)       output O
==========  =========================  ========================================================================

Workspace, in elements:  ⌈e·k_h·k_w·o_h·o_w / itemsize⌉ + i_c
(an entry has e bytes: 8 for ``indirect``, the size of a pointer, and 4 for ``indirect_offsets``;
``indirect_tiled``: slices·⌈8·k_h·k_w·m_b / itemsize⌉ + i_c, slices <= n_threads).

The entries describe the first image.  In the others everything lies at the same distance, so one number added to
an address does for the whole batch; the zeros alone stay where they are.  ``indirect_offsets`` (ours) writes the
number of an image's pixel in place of its address, -1 on padding.  ``indirect_tiled`` (ours) writes the entries
of m_b pixels at a time, each thread into a slice of its own.  With few input channels a pointer is hardly
smaller than what it points to, and a lowered matrix that shares what its rows have in common may be smaller than
the buffer.

A workspace may begin at any multiple of an element's size, which is less than addresses may demand.  So entries
are moved as bytes, by memcpy, of which the compiler makes one load or store.

Any stride, padding, dilation and number of groups; ``indirect_offsets`` counts up to 2^31 - 1 pixels an image.
"""

from cython cimport floating
from cython.parallel import prange
from libc.stdint cimport int32_t
from libc.string cimport memcpy

from pymec.kernels.shared.bias_relu cimport BiasRelu, bias_relu_of
from pymec.kernels.shared.geometry cimport Geometry, check_operands, check_room, check_threads, geometry
from pymec.kernels.shared.microkernel cimport (
    PIXELS, POINTERS, SUMS, TAPS, ChannelBlock, begin_sums, channel_block, channel_blocks, end_sums, multiply_add,
    store,
)
from pymec.kernels.shared.patch cimport zero

POINTER_BYTES = sizeof(void*)
OFFSET_BYTES = sizeof(int32_t)


cdef inline void write_entry(
    const floating* I, const floating* zeros, char* entry, Py_ssize_t entry_bytes, Py_ssize_t pixel,
    const Geometry* g
) noexcept nogil:
    """The pixel of that number, -1 being padding: its number in 4 bytes, or its address in the first image."""
    cdef int32_t number = <int32_t> pixel
    cdef const floating* address = zeros if pixel < 0 else I + pixel * g.i_c
    if entry_bytes == sizeof(int32_t):
        memcpy(entry, &number, sizeof(int32_t))
    else:
        memcpy(entry, &address, sizeof(void*))


cdef inline const floating* read_entry(
    const floating* I, const floating* zeros, const char* entry, Py_ssize_t entry_bytes, Py_ssize_t distance,
    const Geometry* g
) noexcept nogil:
    """What an entry stands for, `distance` elements further: in another image or group."""
    cdef int32_t number
    cdef const floating* address
    if entry_bytes == sizeof(int32_t):
        memcpy(&number, entry, sizeof(int32_t))
        return zeros if number < 0 else I + number * g.i_c + distance
    memcpy(&address, entry, sizeof(void*))
    return zeros if address == zeros else address + distance


# Stage 1: the buffer ----------------------------------------------------------------------------------


cdef void describe_tile(
    const floating* I, const floating* zeros, char* buffer, Py_ssize_t entry_bytes, Py_ssize_t first,
    Py_ssize_t pixels, const Geometry* g
) noexcept nogil:
    """The entries of `pixels` output pixels from `first` on: tap after tap, the pixels side by side."""
    cdef Py_ssize_t a, b, h, w, p, tap
    for p in range(pixels):
        for a in range(g.k_h):
            h = (first + p) / g.o_w * g.s_h - g.p_t + a * g.d_h
            for b in range(g.k_w):
                w = (first + p) % g.o_w * g.s_w - g.p_l + b * g.d_w
                tap = a * g.k_w + b
                write_entry(I, zeros, buffer + (tap * pixels + p) * entry_bytes, entry_bytes,
                            h * g.i_w + w if 0 <= h < g.i_h and 0 <= w < g.i_w else -1, g)


cdef inline void describe(
    const floating* I, const floating* zeros, char* buffer, Py_ssize_t entry_bytes, Py_ssize_t first,
    Py_ssize_t end, Py_ssize_t tile, const Geometry* g
) noexcept nogil:
    """The entries of one tile of those that output pixels first .. end of an image are cut into."""
    cdef Py_ssize_t skip = tile * PIXELS
    describe_tile(I, zeros, buffer + skip * g.k_h * g.k_w * entry_bytes, entry_bytes, first + skip,
                  min(PIXELS, end - first - skip), g)


# Stage 2: the products --------------------------------------------------------------------------------


cdef void convolve_tile(
    const floating* I, const floating* zeros, const floating* K, floating* O, const char* buffer,
    Py_ssize_t entry_bytes, Py_ssize_t pixels, Py_ssize_t distance, const ChannelBlock* block, const BiasRelu* bias_relu,
    const Geometry* g
) noexcept nogil:
    """O (pixels × 16) = sum over taps of what the tile's entries point to (pixels × i_c/G) · K[a, b]."""
    cdef const floating* pixel[POINTERS]
    cdef floating sums[SUMS]
    cdef Py_ssize_t tap, taps, p, t
    begin_sums(sums, block, bias_relu)
    tap = 0
    while tap < g.k_h * g.k_w:
        taps = min(TAPS, g.k_h * g.k_w - tap)
        for t in range(taps):
            for p in range(PIXELS):  # past the tile's last pixel, that one again
                pixel[t * PIXELS + p] = read_entry(
                    I, zeros, buffer + ((tap + t) * pixels + min(p, pixels - 1)) * entry_bytes, entry_bytes,
                    distance, g)
        multiply_add(pixel, taps, K + tap * g.i_cg * g.k_c + block.start, g.k_c, g.i_cg, block.width, sums)
        tap += TAPS
    end_sums(sums, bias_relu)
    store(sums, O, pixels, block, g)


cdef inline void convolve_described(
    const floating* I, const floating* zeros, const floating* K, floating* O, const char* buffer,
    Py_ssize_t entry_bytes, Py_ssize_t first, Py_ssize_t end, Py_ssize_t tile, Py_ssize_t n, Py_ssize_t blocks,
    const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One tile of the described pixels, in image n; channel blocks are counted through all groups."""
    cdef Py_ssize_t group = blocks / channel_blocks(g)
    cdef ChannelBlock block = channel_block(group, blocks - group * channel_blocks(g), g)
    cdef Py_ssize_t skip = tile * PIXELS
    convolve_tile(I, zeros, K, O + (n * g.o_h * g.o_w + first + skip) * g.k_c,
                  buffer + skip * g.k_h * g.k_w * entry_bytes, entry_bytes, min(PIXELS, end - first - skip),
                  n * g.i_h * g.i_w * g.i_c + group * g.i_cg, &block, bias_relu, g)


cdef void convolve_unit(
    const floating* I, const floating* zeros, const floating* K, floating* O, const char* buffer,
    Py_ssize_t entry_bytes, Py_ssize_t unit, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One tile of one image and block of channels; tiles count fastest, so a block's part of K stays in cache."""
    cdef Py_ssize_t pixels = g.o_h * g.o_w
    cdef Py_ssize_t tiles = (pixels + PIXELS - 1) / PIXELS
    convolve_described(I, zeros, K, O, buffer, entry_bytes, 0, pixels, unit % tiles, unit / tiles % g.i_n,
                       unit / tiles / g.i_n, bias_relu, g)


cdef void convolve_share(
    const floating* I, const floating* zeros, const floating* K, floating* O, char* buffer,
    Py_ssize_t share, Py_ssize_t shares, Py_ssize_t block, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """Every run of `block` pixels of one thread's share: described in its slice, then convolved."""
    cdef Py_ssize_t pixels = g.o_h * g.o_w
    cdef Py_ssize_t runs = (pixels + block - 1) / block
    cdef Py_ssize_t unit, first, end, tile, tiles, channels
    for unit in range(share * g.i_n * runs / shares, (share + 1) * g.i_n * runs / shares):
        first = unit % runs * block
        end = min(first + block, pixels)
        tiles = (end - first + PIXELS - 1) / PIXELS
        for tile in range(tiles):
            describe(I, zeros, buffer, sizeof(void*), first, end, tile, g)
        for channels in range(g.groups * channel_blocks(g)):
            for tile in range(tiles):
                convolve_described(I, zeros, K, O, buffer, sizeof(void*), first, end, tile, unit / runs,
                                   channels, bias_relu, g)


# What Python calls -------------------------------------------------------------------------------------

def buffer_size(shape, Py_ssize_t pixels, Py_ssize_t entry_bytes):
    """Elements that the entries of so many output pixels take: their bytes, rounded up to whole elements."""
    return -(-pixels * shape.k_h * shape.k_w * entry_bytes // shape.itemsize)


cdef Py_ssize_t check_entry(Py_ssize_t entry_bytes, shape) except -1:
    """Refuse entries that are neither pointers nor offsets, and offsets that 31 bits don't hold."""
    if entry_bytes not in (POINTER_BYTES, OFFSET_BYTES):
        raise ValueError(f"entry_bytes must be {POINTER_BYTES} or {OFFSET_BYTES}, got {entry_bytes}")
    if entry_bytes == OFFSET_BYTES and shape.i_h * shape.i_w > 2**31 - 1:
        raise ValueError(f"an image of {shape.i_h * shape.i_w} pixels is more than 31 bits count")
    return 0


def point(const floating[:, :, :, ::1] x, floating[::1] workspace, shape, int n_threads=1,
          Py_ssize_t entry_bytes=POINTER_BYTES):
    """Stage 1: write the entries of one image into the workspace, and the zeros behind them.

    Parameters
    ----------
    x : array (i_n, i_h, i_w, i_c)
        Only its address is used.
    workspace : array, one-dimensional, at least ``buffer_size(shape, o_h·o_w, entry_bytes) + i_c`` elements
    shape : pymec.ConvShape
    n_threads : int
    entry_bytes : int
        :data:`POINTER_BYTES` for addresses, :data:`OFFSET_BYTES` for the numbers of pixels.
    """
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t pixels = g.o_h * g.o_w, tile
    check_threads(n_threads)
    check_entry(entry_bytes, shape)
    check_operands(&g, x.shape, NULL, NULL)
    cdef Py_ssize_t size = buffer_size(shape, pixels, entry_bytes)
    check_room("workspace", workspace.shape[0], size + g.i_c)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef char* buffer = <char*> &workspace[0]
    cdef floating* zeros = &workspace[size]
    zero(zeros, g.i_c)
    with nogil:
        for tile in prange((pixels + PIXELS - 1) / PIXELS, num_threads=n_threads, schedule="static"):
            describe(I, zeros, buffer, entry_bytes, 0, pixels, tile, &g)


def multiply(const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
             const floating[::1] workspace, shape, int n_threads=1, Py_ssize_t entry_bytes=POINTER_BYTES,
             const floating[::1] bias=None, bint relu=False):
    """Stage 2: convolve the batch through the entries that :func:`point` has written for this ``x``.

    Sums begin with the ``bias``, if there is one.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Py_ssize_t pixels = g.o_h * g.o_w, unit
    cdef Py_ssize_t units = g.groups * channel_blocks(&g) * g.i_n * ((pixels + PIXELS - 1) / PIXELS)
    check_threads(n_threads)
    check_entry(entry_bytes, shape)
    check_operands(&g, x.shape, kernel.shape, out.shape)
    cdef Py_ssize_t size = buffer_size(shape, pixels, entry_bytes)
    check_room("workspace", workspace.shape[0], size + g.i_c)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    cdef const char* buffer = <const char*> &workspace[0]
    cdef const floating* zeros = &workspace[size]
    with nogil:
        for unit in prange(units, num_threads=n_threads, schedule="static"):
            convolve_unit(I, zeros, K, O, buffer, entry_bytes, unit, &bias_relu, &g)


def run(x, kernel, out, workspace, shape, n_threads=1, bias=None, relu=False):
    """A pointer per output pixel of an image and tap, for the whole batch.  Sums begin with the bias."""
    point(x, workspace, shape, n_threads)
    multiply(x, kernel, out, workspace, shape, n_threads, POINTER_BYTES, bias, relu)


def run_offsets(x, kernel, out, workspace, shape, n_threads=1, bias=None, relu=False):
    """The same with numbers of pixels in four bytes."""
    point(x, workspace, shape, n_threads, OFFSET_BYTES)
    multiply(x, kernel, out, workspace, shape, n_threads, OFFSET_BYTES, bias, relu)


def run_tiled(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] kernel, floating[:, :, :, ::1] out,
    floating[::1] workspace, shape, int n_threads=1, Py_ssize_t block=PIXELS, Py_ssize_t slices=1,
    const floating[::1] bias=None, bint relu=False,
):
    """Pointers of ``block`` output pixels at a time, on ``slices`` threads with a slice of workspace each.

    Sums begin with the bias.
    """
    cdef Geometry g = geometry(shape)
    cdef BiasRelu bias_relu = bias_relu_of(bias, relu, &g)
    cdef Py_ssize_t share
    check_threads(n_threads)
    if block < 1 or not 1 <= slices <= 64:
        raise ValueError(f"block must be positive and slices from 1 to 64, got {block} and {slices}")
    block = min(block, g.o_h * g.o_w)
    cdef Py_ssize_t size = buffer_size(shape, block, POINTER_BYTES)
    check_operands(&g, x.shape, kernel.shape, out.shape)
    check_room("workspace", workspace.shape[0], slices * size + g.i_c)
    if g.i_n == 0:
        return
    cdef const floating* I = &x[0, 0, 0, 0]
    cdef const floating* K = &kernel[0, 0, 0, 0]
    cdef floating* O = &out[0, 0, 0, 0]
    cdef floating* buffers = &workspace[0]
    cdef floating* zeros = buffers + slices * size
    zero(zeros, g.i_c)
    with nogil:
        for share in prange(slices, num_threads=slices, schedule="static", chunksize=1):
            convolve_share(I, zeros, K, O, <char*> (buffers + share * size), share, slices, block, &bias_relu, &g)
