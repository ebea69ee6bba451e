import numpy as np
from numpy.typing import NDArray

BLAS_INT_MAX: int

def gemm(
    A: NDArray[np.floating], B: NDArray[np.floating], C: NDArray[np.floating], beta: float = 0,
    transpose_A: bool = False, transpose_B: bool = False,
) -> None: ...
