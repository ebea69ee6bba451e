import numpy as np
from numpy.typing import NDArray

from pymec.kernels.shared.blocking import Pieces
from pymec.shapes import ConvShape

T_WHOLE: int
T_CUT: int

def choose_solution(shape: ConvShape, T: int) -> str: ...
def lower(x: NDArray[np.floating], L: NDArray[np.floating], shape: ConvShape, n_threads: int = 1) -> None: ...
def multiply(
    L: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    shape: ConvShape,
    solution: str = "B",
    pieces: Pieces | None = None,
    n_threads: int = 1,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
def repair(out: NDArray[np.floating], L: NDArray[np.floating], shape: ConvShape, n_threads: int = 1) -> None: ...
def run_vanilla(
    x: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    workspace: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
def run_a(
    x: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    workspace: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    pieces: Pieces | None = None,
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
    pieces: Pieces | None = None,
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
    cut: str = "small",
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
