"""The machine's numbers, each once: what it is, its unit, and the script that measured it.

Sizes are in bytes unless a line says otherwise.  They are those of a common server core (32 or 48 KiB of level-1
cache, 1 MiB of level-2 cache); another machine's are read off the same scripts.
"""

from __future__ import annotations

# Caches -------------------------------------------------------------------------------------------------

CACHE_LINE = 64
"""One line of every cache (``CACHE_LINE`` of ``register_tiles/tile.pxd`` in compiled code)."""

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
"""T for the paper's own products: the paper's value, for GPUs (``profiling/solutions.py``: on a CPU Solution A won
up to o_w = 110)."""

T_TUNED = 10
"""T for products cut into blocks: Solution A won clearly at o_w = 5 and 10 alone (``profiling/solutions.py``)."""

# im2col and direct --------------------------------------------------------------------------------------


# Sums of small products ---------------------------------------------------------------------------------


# Winograd -----------------------------------------------------------------------------------------------


# Fourier ------------------------------------------------------------------------------------------------


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

SHORT_PATCH = 160
"""Elements of a patch below which BLAS's small products are faster than register tiles, where BLAS has them
(chosen by hand on 25 November 2026)."""

UNEVEN_TILES = 1.05
"""How much longer than with the most even shares a call may take, in exchange for less memory traffic (chosen by
hand)."""


# Gradients ----------------------------------------------------------------------------------------------
