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

BAND_BYTES = 640 * 1024
"""What V and a panel of M may take of a band without a limit: most of a 1 MiB level-2 cache, as U only streams by.

Chosen by hand on an AMD EPYC (Zen 4) in November 2026, as are the numbers below.
"""

LEAST_TILES = 12
"""Tiles in a band without a limit, even where they take more than BAND_BYTES: fewer would read U too often."""

SHARED_CACHE_STREAM = 10
"""Bytes of K or U per cycle to a thread from the cache that all share (``profiling/winograd_choice.py``)."""

POINT_CYCLES = 8
"""Cycles per point and 64 bytes of channels, from the image to V or from M to the output
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


# Gradients ----------------------------------------------------------------------------------------------
