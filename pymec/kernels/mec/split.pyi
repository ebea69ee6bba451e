import numpy as np
from numpy.typing import NDArray

from pymec.kernels.shared.blocking import GemmBlocking
from pymec.shapes import ConvShape

def run(
    x: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    workspace: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    band_rows: int = 1,
    columns: int = 64,
    channels: int = 0,
    slices: int = 1,
    blocking: GemmBlocking | None = None,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
