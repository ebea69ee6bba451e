import numpy as np
from numpy.typing import NDArray

from pymec.kernels.shared.blocking import GemmBlocking
from pymec.shapes import ConvShape

def prepare(
    kernel: NDArray[np.floating],
    prepared: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    cut: str = "small_blas",
) -> None: ...
def lower(x: NDArray[np.floating], L: NDArray[np.floating], shape: ConvShape, n_threads: int = 1) -> None: ...
def multiply(
    L: NDArray[np.floating],
    prepared: NDArray[np.floating],
    out: NDArray[np.floating],
    shape: ConvShape,
    blocking: GemmBlocking | None = None,
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
    prepared: NDArray[np.floating] | None = None,
    cut: str = "small_blas",
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
