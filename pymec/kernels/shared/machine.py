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

FFT_BYTES = 512 * 1024
"""Bytes of spectra that one call of SciPy returns: more calls than this makes take time, fewer take memory.

Chosen by hand in November 2026.
"""

FFT_CHANNELS = 8
"""Planes transformed together even where their spectra are larger than that: in double precision, adjacent channels
fill a cache line of 64 bytes."""

FFT_SMALL_WORK = 2**20
"""Multiply-adds, or numbers to transform, below which one thread is faster than waking others.  Chosen by hand in
November 2026."""

# Register tiles -----------------------------------------------------------------------------------------


# Gradients ----------------------------------------------------------------------------------------------
