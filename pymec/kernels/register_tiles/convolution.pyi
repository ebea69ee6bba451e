import numpy as np
from numpy.typing import NDArray

from pymec.kernels.register_tiles.schedule import TileCut
from pymec.shapes import ConvShape

def run(
    x: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    workspace: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    cut: TileCut | None = None,
    prepared: NDArray[np.floating] | None = None,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
