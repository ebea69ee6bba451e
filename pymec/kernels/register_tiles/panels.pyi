import numpy as np
from numpy.typing import NDArray

from pymec.shapes import ConvShape

def panels_size(shape: ConvShape) -> int: ...
def pack(
    kernel: NDArray[np.floating], panels: NDArray[np.floating], shape: ConvShape, n_threads: int = 1
) -> None: ...
