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


# Sums of small products ---------------------------------------------------------------------------------


# Winograd -----------------------------------------------------------------------------------------------


# Fourier ------------------------------------------------------------------------------------------------


# Register tiles -----------------------------------------------------------------------------------------


# Gradients ----------------------------------------------------------------------------------------------
