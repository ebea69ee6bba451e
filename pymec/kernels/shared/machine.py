"""The machine's numbers, each once: what it is, its unit, and the script that measured it.

Sizes are in bytes unless a line says otherwise.  They are those of a common server core (32 or 48 KiB of level-1
cache, 1 MiB of level-2 cache); another machine's are read off the same scripts.
"""

from __future__ import annotations

# Caches -------------------------------------------------------------------------------------------------

CACHE_LINE = 64
"""One line of every cache (``CACHE_LINE`` of ``register_tiles/tile.pxd`` in compiled code)."""

HALF_L1_BYTES = 16 * 1024
"""Half of a 32 KiB level-1 cache."""

HALF_L2_BYTES = 512 * 1024
"""Half of a common 1 MiB level-2 cache: what is kept there while other arrays pass through the other half."""

SLICE_BYTES = HALF_L2_BYTES
"""What a thread's slice of a bounded algorithm may take without a limit."""

L2_SETS = 1024
"""Sets of such a cache."""

L2_WAYS = 8
"""Lines of one set that K may take: half of 16, the others are left to I and O."""

# BLAS ---------------------------------------------------------------------------------------------------

PRODUCT_CHANNELS = 128
"""Output channels per product.  Fewer would re-read L for little gain; more would leave too short a reduction
under BLAS's small-product limit (chosen by hand on 22 November 2026)."""

PRODUCT_PIXELS = 32
"""Output pixels per product that make enough use of each load of K; more may leave too short a reduction (chosen
by hand on 22 November 2026)."""

PRODUCT_ROUND = 4
"""Pixels that BLAS's kernels take at a time: 27 of them ran a tenth slower than 28 (chosen by hand on 22 November
2026)."""

UNEVEN_ROWS = 1.1
"""How much more than an even share of the output rows a thread may get before channels are shared instead (chosen
by hand)."""


# MEC ----------------------------------------------------------------------------------------------------

T_PAPER = 100
"""T of Algorithm 2, line 8, in output columns, for whole products: the paper's value for GPUs.  On a CPU Solution
A was faster up to o_w = 110 (``profiling/solutions.py``)."""

T_TUNED = 10
"""T for products in blocks: Solution A was clearly faster only at o_w = 5 and 10 (``profiling/solutions.py``)."""

TILE_COLUMNS = 64
"""The most output columns of a tile in ``mec_column_split``: more would lower its height for no faster products
(chosen by hand in November 2026)."""

SMALL_WORKSPACE = 2**20
"""Bytes of a lowered matrix that are not worth saving: past it "auto" takes the bounded forms of MEC (chosen by
hand)."""

# im2col and direct --------------------------------------------------------------------------------------

PACKED_PIXELS = 64
"""m_c of ``implicit_gemm``, pixels in a thread's block: it shares the level-2 cache with a panel of K.

Chosen by hand in 2026, with ``profiling/atlas.py``; so are the other numbers of ``implicit_gemm``.
"""

PACKED_DEPTH = 256
"""d_c of ``implicit_gemm``, elements of a patch in a block: 16 columns of K are then 16 KiB of floats."""

PACKED_CHANNELS = 512
"""n_c of ``implicit_gemm``, output channels in a block of K: with fewer, patches would be packed more often."""

PACKED_STEP = 4
"""A block's depth is a multiple of this many elements: its rows begin where vectors do, or nearly."""

SHALLOW = 16
"""Elements of a patch in a block of ``implicit_gemm`` below which threads do without slices first."""


# Winograd -----------------------------------------------------------------------------------------------

BAND_BYTES = 640 * 1024
"""What V and a panel of M may take of a band without a limit: most of a 1 MiB level-2 cache, as U only streams by.

Chosen by hand on an AMD EPYC (Zen 4) in November 2026, as are the numbers below.
"""

LEAST_TILES = 12
"""Tiles in a band without a limit, even where they take more than BAND_BYTES: fewer would read U too often."""

WINOGRAD_CHANNELS = 32
"""Channels of a group, in and out, from which Winograd by BLAS is faster than exact products
(``profiling/winograd_choice.py``)."""

WINOGRAD_TILES = 36
"""And tiles of 4×4 outputs (``profiling/winograd_choice.py``)."""

SHARED_CACHE_STREAM = 10
"""Bytes of K or U per cycle to a thread from the cache that all share (``profiling/winograd_choice.py``)."""

POINT_CYCLES = 8
"""Cycles per point and register of channels, from the image to V or from M to the output
(``profiling/winograd_choice.py``)."""

KERNEL_POINT_CYCLES = 16
"""The same for the kernel, whose points are far apart in U, in memory that is written for the first time
(``profiling/winograd_choice.py``)."""

# Fourier ------------------------------------------------------------------------------------------------

FFT_BYTES = 512 * 1024
"""Bytes of spectra that one call of SciPy returns: smaller calls take more time, larger ones more memory.

Chosen by hand in November 2026.
"""

FFT_CHANNELS = 8
"""Planes transformed together even where their spectra are larger: adjacent channels fill a cache line of 64 bytes
in double precision."""

FFT_SMALL_WORK = 2**20
"""Multiply-adds, or numbers to transform, below which one thread is faster than waking others.  Chosen by hand in
November 2026."""

# Register tiles -----------------------------------------------------------------------------------------

KERNEL_ROWS_BYTES = 2 * HALF_L2_BYTES
"""Rows of K, read in place, in one block of the reduction.  Deliberately larger than half of L2: shorter blocks
reload O more often, which costs more than the extra L2 misses (chosen by hand on 26 November 2026)."""

SHORT_BLOCK = 128
"""Lines of K in a block of the reduction below which fewer panels go together, because every block reads and
writes its sums (chosen by hand on 26 November 2026)."""

PADDING_PRODUCTS = 512
"""Products with the padding's zeros per kernel row of a tile, from which on going tap by tap, with partial sums in
O, is faster (chosen by hand on 26 November 2026; ``profiling/mechanisms.py`` measures what it brings)."""

WINDOW_ELEMENTS = 2048
"""Elements of the largest copy of a tile's part of the image with the padding around it (chosen by hand on 25
November 2026; ``profiling/mechanisms.py`` measures what it brings)."""

PANEL_SHARE = 1 / 4
"""The share of a panel that must be channels, not zeros, to be faster than a BLAS that packs all it multiplies
(``profiling/anywhere.py``, family few)."""

PANEL_SHARE_HIGH = 1 / 2
"""The same beside a BLAS that multiplies small products without packing them (chosen by hand on 25 November 2026),
and in pointwise layers, which are one product for any BLAS (``profiling/anywhere.py``, family few)."""

DOT_SHARE = 1 / 2
"""The share of a cache line that output channels fill, up to which dot products along the input channels are
faster than panels full of zeros and than any BLAS, if sums are long: measured on an AMD EPYC (Zen 3) on 29
November 2026 with 12 layers of 1 to 12 filters, as is DOT_PRODUCTS."""

DOT_PRODUCTS = 400
"""Products of a sum per cache line of output channels, below which adding up the lanes takes too long."""

DOT_PRODUCTS_WIDE = 1300
"""The same where a register is as long as a cache line, and BLAS as fast with few columns: measured on an AMD EPYC
(Zen 5) on 30 November 2026 with 84 layers of 1 to 8 filters."""

LONG_DOT = 64
"""Products of a sum, for each phase of the stride, from which on dot products are as fast as MEC for the input's
gradient beside a BLAS that packs all it multiplies: phases lie apart from each other in dI.  Measured on an AMD
EPYC (Zen 5) on 1 December 2026 with 96 layers of 1 and 3 input channels, strides 1, 2 and 4."""

SHORT_PATCH = 160
"""Elements of a patch below which BLAS's small products are faster than register tiles, where BLAS has them
(chosen by hand on 25 November 2026)."""

UNEVEN_TILES = 1.05
"""How much longer than with the most even shares a call may take, in exchange for less memory traffic (chosen by
hand)."""

SMALL_PANELS = 64 * 1024
"""Bytes of panels into which a single call re-lays K at most.  Re-laying costs about ten cycles per line of K, and
saves each tile some 3 % of its dozen cycles per line (chosen by hand)."""

MANY_PIXELS = 1024
"""Output pixels from which a single call does so (chosen by hand)."""

# Gradients ----------------------------------------------------------------------------------------------

REPAID_FLIP = 1024
"""Pixels of a phase of dI from which on a single call flips all of K first.  With fewer it is flipped as blocks of
it are packed; their sums are stored and loaded again for each block (``profiling/gradients.py``: an AMD EPYC
(Zen 5) in November 2026, 62 layers of networks)."""

REPAID_PACKING = 6
"""Outputs, all images together, from which on K is packed for the input's gradient.  With up to 4 of them, dot
products with K where it lies took 0.4 to 0.8 of the time of packing it; with 9, 1.0 to 1.3 of it (an AMD EPYC
(Zen 5) in December 2026, 24 kernels)."""

GRAD_PHASES = 16
"""Phases of a stride up to which "auto" takes a convolution for each: each is one more parallel region
(``profiling/gradients.py``)."""

GRAD_CHANNELS = 32
"""Input channels of a group from which on products per tap are as fast as products with a lowered matrix
(``profiling/atlas.py``)."""

GRAD_ROWS = 4
"""Rows of a tile of the kernel's gradient, up to which MEC is faster beside a BLAS that packs nothing: with 6 they
are even (an AMD EPYC (Zen 5) on 1 December 2026, 56 layers of 1 to 16 channels whose taps lie apart)."""

SHORT_ROW = 8
"""Outputs of a row up to which a product for each tap and row is slower than a lowered matrix, whatever its size:
it takes twice the time with 2 and 5 of them (an AMD EPYC (Zen 5) on 1 December 2026)."""

NARROW_TILE = 96
"""Outputs of a row in the narrowest tile of ``depthwise_windows``: the float32 sums that it keeps in registers."""

WINDOW_TAPS = 10
"""Taps of a window of ``depthwise_windows`` from which on it is faster than ``direct_grouped``, which gathers
nothing (8 to 31 channels, ``profiling/anywhere.py``), where registers are shorter than cache lines."""

WINDOW_SHARE = 1 / 2
"""The share of a cache line that the outputs of a single channel fill, up to which ``depthwise_windows``, one
output after the other, is faster than all of them side by side: measured on an AMD EPYC (Zen 5) on 1 December 2026
with 1, 4 and 8 channels, 6 kernels and 2 to 15 outputs, as are the two numbers below."""

WINDOW_SHARE_OF_LARGE = 3 / 16
"""The same for a single channel and a large kernel, whose products fill BLAS's registers."""

FEW_TAPS_BYTES = 512
"""Bytes of a channel's taps, 128 in float32, from which on a kernel is large."""

LONG_TAP_ROW = 9
"""Columns of a depthwise kernel from which on ``direct_grouped`` is faster than ``depthwise``, if threes make up
their number; from twice as many on it always is (``profiling/anywhere.py``)."""

KERNEL_BLOCK_LINES = 512
"""Lines of K that ``direct_packed`` packs at a time."""

KERNEL_BLOCK_PANELS = 4
"""And panels: with tiles of 128 bytes a quarter of a level-2 cache.  Measured, as are the four numbers below, on
an AMD EPYC (Zen 5) in November 2026: 12 kernels with 256 to 2048 output channels each, 1 to 784 output pixels."""

PAGE = 4096
"""Bytes of a row of K, all output channels of a tap and input channel, from which packing pays: a page."""

REPAID_PIXELS = 48
"""Output pixels from which it pays: with 28 it is as fast to read K in place, with 14 faster."""

LARGE_KERNEL = 8 * 2**20
"""Bytes of K from which packing pays whatever the rows, if there are many pixels: by 1.0 to 1.7 with 784."""

REPAID_PIXELS_OF_LARGE = 512
"""How many: with 196 packing and reading in place were as fast."""

HALO_SHARE = 1 / 4
"""The share of a part of an image, its halo, that ``direct_planes`` may turn again for the next part (by hand)."""

# Fourier transforms -------------------------------------------------------------------------------------

FFT_POINT = 200
"""Multiply-adds of the definition that take as long as one point of a transform: measured on an AMD EPYC (Zen 4)
in November 2026 with filters of 3 to 65 on 1 to 256 channels, as are the two numbers below."""

FFT_READ = 30
"""And as one number of the kernel's spectrum, read once for all images."""

FFT_PRODUCT = 4
"""And as multiplying it with a number of one image's spectrum."""

FFT_ARRAYS = 32
"""The most memory that accuracy="fast" gives a transform: so many times that of the call's arrays."""

# Calls --------------------------------------------------------------------------------------------------

SMALL_WORK = 1_000_000
"""Multiply-adds below which a call stays on one thread by default: waking others would take longer (chosen by
hand)."""

FILL_RATE = 20_000_000_000
"""Bytes a second, more than threads fill of fresh memory: no call is faster than filling what it needs (chosen by
hand)."""

LARGE_OUTPUT = 4 * 2**20
"""Bytes from which an output is aligned to a cache line; NumPy, too, treats such arrays differently."""
