# The register tile to READ: an outer product, summed up in registers, in plain loops.  The one to RUN is
# register_tiles, the same idea with larger tiles for each kind of CPU.  direct/blocked.pyx is the shortest
# algorithm on this one and says why a tile is 6 x 16; indirect, implicit_gemm, im2win and yaconv share it.
#
# At every step of the reduction six pixels meet sixteen output channels in 96 sums.  The sums are a local array
# of fixed size and every loop over it has a fixed count, so the compiler keeps them in vector registers of
# whatever width the CPU has: there are no intrinsics here.
#
# A pixel is a pointer to its channels, and the six may lie anywhere.  So a tile of pixels may go on from the end
# of one row to the start of the next, a pixel on padding is a pointer to zeros, and a tile that has fewer than
# six pixels points at its last one again; the sums of the repeated pixels are not stored.
#
# The output channels of a group are cut into blocks of sixteen.  The last block overlaps the one before it, so
# that it reads a whole row of 16 inside K, and stores only the channels that the other did not.

from cython cimport floating

from pymec.kernels.shared.bias_relu cimport BiasRelu
from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.patch cimport copy, zero
from pymec.kernels.shared.per_cpu cimport compiled_per_cpu
from pymec.kernels.shared.spans cimport ceil_div

cdef enum:
    PIXELS = 6     # o_b: with 16 channels in two 256-bit registers, 12 of the 16 registers hold sums
    CHANNELS = 16  # m_b: 64 bytes of single precision, a cache line of K
    SUMS = 96      # PIXELS * CHANNELS, written out: with all its checks on, Cython multiplies no constants here
    TAPS = 16      # taps whose pointers are gathered for one call
    POINTERS = 96  # TAPS * PIXELS


cdef struct ChannelBlock:
    Py_ssize_t start    # its first output channel, counted through all groups
    Py_ssize_t width    # its channels: CHANNELS, or fewer where the group has no more
    Py_ssize_t skip     # those at its beginning that the block before stores


cdef inline Py_ssize_t channel_blocks(const Geometry* g) noexcept nogil:
    """Blocks of output channels in a group."""
    return ceil_div(g.k_cg, CHANNELS)


cdef inline ChannelBlock channel_block(Py_ssize_t group, Py_ssize_t block, const Geometry* g) noexcept nogil:
    cdef ChannelBlock found
    cdef Py_ssize_t first = block * CHANNELS
    found.width = min(CHANNELS, g.k_cg)
    found.skip = max(first + found.width - g.k_cg, 0)
    found.start = group * g.k_cg + first - found.skip
    return found


cdef inline compiled_per_cpu add_products(
    const floating** pixel, Py_ssize_t taps, const floating* K, Py_ssize_t ldk, Py_ssize_t length, floating* sums
) noexcept nogil:
    """sums[p, m] += sum over t < taps and c < length of pixel[t, p][c] * K[t*length + c, m], m < CHANNELS."""
    cdef floating total[PIXELS][CHANNELS]
    cdef const floating* p0
    cdef const floating* p1
    cdef const floating* p2
    cdef const floating* p3
    cdef const floating* p4
    cdef const floating* p5
    cdef floating v0, v1, v2, v3, v4, v5
    cdef Py_ssize_t c, m, p, _
    for p in range(PIXELS):
        for m in range(CHANNELS):
            total[p][m] = sums[p * CHANNELS + m]
    for _ in range(taps):
        p0, p1, p2, p3, p4, p5 = pixel[0], pixel[1], pixel[2], pixel[3], pixel[4], pixel[5]
        pixel += PIXELS
        for c in range(length):
            v0, v1, v2, v3, v4, v5 = p0[c], p1[c], p2[c], p3[c], p4[c], p5[c]
            # Six lines in place of a loop over pixels: gcc turns this form, and not the loop, into registers.
            for m in range(CHANNELS):
                total[0][m] += v0 * K[m]
                total[1][m] += v1 * K[m]
                total[2][m] += v2 * K[m]
                total[3][m] += v3 * K[m]
                total[4][m] += v4 * K[m]
                total[5][m] += v5 * K[m]
            K += ldk
    for p in range(PIXELS):
        for m in range(CHANNELS):
            sums[p * CHANNELS + m] = total[p][m]


cdef inline void multiply_add(
    const floating** pixel, Py_ssize_t taps, const floating* K, Py_ssize_t ldk, Py_ssize_t length,
    Py_ssize_t width, floating* sums
) noexcept nogil:
    """The same for a block of any width.  K points at its first channel in the rows of the first tap."""
    cdef Py_ssize_t c, m, p, t
    if width == CHANNELS:
        add_products(pixel, taps, K, ldk, length, sums)
        return
    for p in range(PIXELS):
        for t in range(taps):
            for c in range(length):
                for m in range(width):
                    sums[p * CHANNELS + m] += pixel[t * PIXELS + p][c] * K[(t * length + c) * ldk + m]


cdef inline void begin_sums(floating* sums, const ChannelBlock* block, const BiasRelu* bias_relu) noexcept nogil:
    """Zeros, or the bias of the block's channels for every pixel."""
    cdef Py_ssize_t p
    zero(sums, SUMS)
    for p in range(0 if bias_relu.bias == NULL else PIXELS):
        copy(sums + p * CHANNELS, <const floating*> bias_relu.bias + block.start, block.width)


cdef inline void end_sums(floating* sums, const BiasRelu* bias_relu) noexcept nogil:
    """With ReLU, sums below zero become zero before they are stored; NaN stays NaN."""
    cdef Py_ssize_t i
    for i in range(SUMS if bias_relu.relu else 0):
        sums[i] = 0 if sums[i] < 0 else sums[i]


cdef inline void store(
    const floating* sums, floating* O, Py_ssize_t pixels, const ChannelBlock* block, const Geometry* g
) noexcept nogil:
    """The block's new channels into O, which points at channel 0 of the first of `pixels` adjacent pixels."""
    cdef Py_ssize_t p, m
    for p in range(pixels):
        for m in range(block.skip, block.width):
            O[p * g.k_c + block.start + m] = sums[p * CHANNELS + m]


cdef inline void load(
    floating* sums, const floating* O, Py_ssize_t pixels, const ChannelBlock* block, const Geometry* g
) noexcept nogil:
    """The reverse of store: sums go on from those in O."""
    cdef Py_ssize_t p, m
    for p in range(pixels):
        for m in range(block.skip, block.width):
            sums[p * CHANNELS + m] = O[p * g.k_c + block.start + m]
