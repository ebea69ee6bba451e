import numpy as np
from numpy.typing import NDArray

from pymec.kernels.shared.arrays import Array
from pymec.shapes import ConvShape

def flip_and_swap(
    kernel: Array, flipped: Array, shape: ConvShape, n_threads: int = 1,
    places: NDArray[np.intp] | None = None,
) -> None: ...
