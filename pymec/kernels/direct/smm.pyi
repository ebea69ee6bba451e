import numpy as np
from numpy.typing import NDArray

from pymec.shapes import ConvShape

def pack(x: NDArray[np.floating], P: NDArray[np.floating], shape: ConvShape, n: int, c: int, b: int) -> None: ...
def units(shape: ConvShape) -> int: ...
def run(
    x: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    workspace: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    slices: int = 1,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
