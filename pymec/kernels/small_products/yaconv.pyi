import numpy as np
from numpy.typing import NDArray

from pymec.shapes import ConvShape

ROWS: int

def spill_size(shape: ConvShape) -> int: ...
def begin(
    out: NDArray[np.floating],
    spill: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    bias: NDArray[np.floating] | None = None,
) -> None: ...
def add_rows(
    x: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    spill: NDArray[np.floating],
    shape: ConvShape,
    n: int,
    h0: int,
    n_threads: int = 1,
    relu: bool = False,
) -> None: ...
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
