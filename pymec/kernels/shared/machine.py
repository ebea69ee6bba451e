"""The machine's numbers, each once: what it is, its unit, and the script that measured it.

Sizes are in bytes unless a line says otherwise.  They are those of a common server core (32 or 48 KiB of level-1
cache, 1 MiB of level-2 cache); another machine's are read off the same scripts.
"""

from __future__ import annotations

# Caches -------------------------------------------------------------------------------------------------

SLICE_BYTES = 512 * 1024
"""What a thread's slice of a bounded algorithm may take without a limit: half of a 1 MiB level-2 cache."""

# BLAS ---------------------------------------------------------------------------------------------------


# MEC ----------------------------------------------------------------------------------------------------

T_PAPER = 100
"""T of Algorithm 2, line 8, in output columns, for whole products: the paper's value for GPUs.  On a CPU Solution
A was faster up to o_w = 110 (``profiling/solutions.py``)."""

T_TUNED = 10
"""T for products in blocks: Solution A was clearly faster only at o_w = 5 and 10 (``profiling/solutions.py``)."""

TILE_COLUMNS = 64
"""The most output columns of a tile in ``mec_column_split``: more would lower its height for no faster products
(chosen by hand in November 2026)."""

# im2col and direct --------------------------------------------------------------------------------------


# Sums of small products ---------------------------------------------------------------------------------


# Winograd -----------------------------------------------------------------------------------------------


# Fourier ------------------------------------------------------------------------------------------------


# Register tiles -----------------------------------------------------------------------------------------


# Gradients ----------------------------------------------------------------------------------------------
