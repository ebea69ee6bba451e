import numpy as np
from numpy.typing import NDArray

from pymec.shapes import ConvShape

def pack_kernel(
    kernel: NDArray[np.floating],
    B: NDArray[np.floating],
    shape: ConvShape,
    group: int = 0,
    q0: int = 0,
    depth: int = 256,
    m0: int = 0,
    columns: int = 512,
    n_threads: int = 1,
) -> None: ...
def pack_patches(
    x: NDArray[np.floating],
    A: NDArray[np.floating],
    shape: ConvShape,
    first: int,
    end: int,
    group: int = 0,
    q0: int = 0,
    depth: int = 256,
) -> None: ...
def run(
    x: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    workspace: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    rows: int = 64,
    depth: int = 256,
    columns: int = 512,
    slices: int = 1,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
