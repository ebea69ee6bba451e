import numpy as np
from numpy.typing import NDArray

from pymec.kernels.shared.blocking import GemmBlocking
from pymec.shapes import ConvShape

def multiply(
    x: NDArray[np.floating],
    kernel: NDArray[np.floating],
    planes: NDArray[np.floating],
    shape: ConvShape,
    taps: range,
    n_threads: int = 1,
    blocking: GemmBlocking | None = None,
    block: int = ...,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
def shift_add(
    planes: NDArray[np.floating],
    out: NDArray[np.floating],
    shape: ConvShape,
    taps: range,
    n_threads: int = 1,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
def check_taps(shape: ConvShape, taps: range) -> None: ...
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
def run_aa(
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
def add_in_turns(
    x: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    workspace: NDArray[np.floating],
    shape: ConvShape,
    n_planes: int,
    n_threads: int = 1,
    blocking: GemmBlocking | None = None,
    block: int = ...,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
