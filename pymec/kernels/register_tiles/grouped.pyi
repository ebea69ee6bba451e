import numpy as np
from numpy.typing import NDArray

from pymec.shapes import ConvShape

def whole_lines(shape: ConvShape, swapped: bool = False) -> bool: ...
def run(
    x: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    workspace: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
