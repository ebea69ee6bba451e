import numpy as np
from numpy.typing import NDArray

from pymec.shapes import ConvShape

def tile_count(shape: ConvShape, m: int) -> int: ...
def sizes(shape: ConvShape, m: int) -> tuple[int, int, int]: ...
def transform_kernel(
    kernel: NDArray[np.floating], U: NDArray[np.floating], shape: ConvShape, m: int, n_threads: int = 1
) -> None: ...
def transform_input(
    x: NDArray[np.floating], V: NDArray[np.floating], shape: ConvShape, m: int, n_threads: int = 1
) -> None: ...
def multiply(
    V: NDArray[np.floating],
    U: NDArray[np.floating],
    M: NDArray[np.floating],
    shape: ConvShape,
    m: int,
    n_threads: int = 1,
) -> None: ...
def transform_output(
    M: NDArray[np.floating],
    out: NDArray[np.floating],
    shape: ConvShape,
    m: int,
    n_threads: int = 1,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
def run(
    x: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    workspace: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    m: int = 4,
    prepared: NDArray[np.floating] | None = None,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
