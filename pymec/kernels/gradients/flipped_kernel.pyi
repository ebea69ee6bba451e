import numpy as np
from numpy.typing import NDArray

from pymec.shapes import ConvShape

def turn(
    kernel: NDArray[np.floating],
    turned: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    places: NDArray[np.intp] | None = None,
) -> None: ...
