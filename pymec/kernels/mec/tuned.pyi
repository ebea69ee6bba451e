import numpy as np
from numpy.typing import NDArray

from pymec.kernels.shared.blocking import GemmBlocking
from pymec.shapes import ConvShape

T_PAPER: int
T_TUNED: int

def choose_solution(shape: ConvShape, T: int) -> str: ...
def lower(x: NDArray[np.floating], L: NDArray[np.floating], shape: ConvShape, n_threads: int = 1) -> None: ...
def multiply(
    L: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    shape: ConvShape,
    solution: str = "B",
    blocking: GemmBlocking | None = None,
    n_threads: int = 1,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
def repair(out: NDArray[np.floating], L: NDArray[np.floating], shape: ConvShape, n_threads: int = 1) -> None: ...
def run_a(
    x: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    workspace: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    blocking: GemmBlocking | None = None,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
def run_b(
    x: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    workspace: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    blocking: GemmBlocking | None = None,
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
    T: int | None = None,
    cut: str = "small_blas",
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
