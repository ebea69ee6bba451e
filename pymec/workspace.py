"""The only place that allocates: outputs and scratch, each on a line of its own for memray to name."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pymec.kernels.shared.machine import CACHE_LINE, LARGE_OUTPUT

NOTHING = np.empty(0, np.uint8)
"""The workspace of algorithms that need none: for an empty array NumPy would ask malloc for a byte."""


def allocate_workspace(nbytes: int) -> NDArray[np.uint8]:
    """One block of scratch, exactly as long as the formula says."""
    return np.empty(nbytes, np.uint8) if nbytes else NOTHING


def allocate_output(shape: tuple[int, ...], dtype: np.dtype | str) -> NDArray:
    """An output array, not initialised: every element of it will be written.

    An output of ``LARGE_OUTPUT`` bytes or more takes ``CACHE_LINE`` bytes more, to start at a cache line.
    """
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    if nbytes < LARGE_OUTPUT:
        return np.empty(shape, dtype)
    room = np.empty(nbytes + CACHE_LINE, np.uint8)
    first = -room.ctypes.data % CACHE_LINE
    return room[first : first + nbytes].view(dtype).reshape(shape)
