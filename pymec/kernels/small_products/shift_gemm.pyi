import numpy as np
from numpy.typing import NDArray

from pymec.kernels.shared.blocking import GemmBlocking
from pymec.shapes import ConvShape

def row_pitch(shape: ConvShape) -> int: ...
def padded_size(shape: ConvShape) -> int: ...
def scratch_size(shape: ConvShape) -> int: ...
def pad(x: NDArray[np.floating], padded: NDArray[np.floating], shape: ConvShape, n_threads: int = 1) -> None: ...
def slide(
    image: NDArray[np.floating],
    kernel: NDArray[np.floating],
    S: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    blocking: GemmBlocking | None = None,
    block: int = ...,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
def compact(S: NDArray[np.floating], out: NDArray[np.floating], shape: ConvShape, n_threads: int = 1) -> None: ...
def check_shape(shape: ConvShape) -> None: ...
def run(
    x: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    workspace: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    blocking: GemmBlocking | None = None,
    block: int = ...,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
