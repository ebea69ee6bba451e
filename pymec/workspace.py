"""The only place that allocates: outputs and scratch, each on a line of its own for memray to name."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NOTHING = np.empty(0, np.uint8)
"""The workspace of algorithms that need none; NumPy would ask malloc for a byte."""


def allocate_workspace(nbytes: int) -> NDArray[np.uint8]:
    """One block of scratch, exactly as long as the formula says."""
    return np.empty(nbytes, np.uint8) if nbytes else NOTHING


def allocate_output(shape: tuple[int, ...], dtype: str) -> NDArray:
    """An output array; every element of it will be written."""
    return np.empty(shape, dtype)
