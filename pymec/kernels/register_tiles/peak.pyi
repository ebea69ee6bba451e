from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Floating = TypeVar("_Floating", np.float32, np.float64)

def run(results: NDArray[_Floating], steps: int, n_threads: int = 1) -> None: ...
