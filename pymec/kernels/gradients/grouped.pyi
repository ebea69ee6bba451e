import numpy as np
from numpy.typing import NDArray

from pymec.shapes import ConvShape

def run_kernel_grad(
    x: NDArray[np.floating],
    grad_out: NDArray[np.floating],
    grad_kernel: NDArray[np.floating],
    workspace: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
) -> None: ...
def run_input_grad(
    grad_out: NDArray[np.floating],
    kernel: NDArray[np.floating],
    grad_x: NDArray[np.floating],
    workspace: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    prepared: NDArray[np.floating] | None = None,
) -> None: ...
