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


# Sums of small products ---------------------------------------------------------------------------------


# Winograd -----------------------------------------------------------------------------------------------


# Fourier ------------------------------------------------------------------------------------------------


# Register tiles -----------------------------------------------------------------------------------------


# Gradients ----------------------------------------------------------------------------------------------

GRAD_PHASES = 16
"""Phases of a stride up to which "auto" takes a convolution for each: each is one more parallel region
(``profiling/gradients.py``)."""

GRAD_CHANNELS = 32
"""Input channels of a group from which on products per tap are as fast as products with a lowered matrix
(``profiling/atlas.py``)."""
