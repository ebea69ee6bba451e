import numpy as np
from numpy.typing import NDArray

from pymec.shapes import ConvShape

def line_size(shape: ConvShape) -> int: ...
def kernel_size(shape: ConvShape, m: int) -> int: ...
def tile_size(shape: ConvShape, m: int) -> int: ...
def transform_kernel(
    kernel: NDArray[np.floating], U: NDArray[np.floating], shape: ConvShape, m: int, n_threads: int = 1
) -> None: ...
def run(
    x: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    workspace: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    m: int = 4,
    band_tiles: int = 1,
    slices: int = 1,
    channel_shares: int = 1,
    prepared: NDArray[np.floating] | None = None,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
