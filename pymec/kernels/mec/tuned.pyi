from typing import Literal

from pymec.kernels.shared.arrays import Array
from pymec.kernels.shared.blocking import GemmBlocking
from pymec.shapes import ConvShape

def lower(x: Array, L: Array, shape: ConvShape, n_threads: int = 1) -> None: ...
def multiply(
    L: Array, kernel: Array, out: Array, shape: ConvShape, solution: Literal["A", "B"],
    blocking: GemmBlocking, n_threads: int = 1, bias: Array | None = None, relu: bool = False,
) -> None: ...
def run(
    x: Array, kernel: Array, out: Array, workspace: Array, shape: ConvShape, n_threads: int,
    solution: Literal["A", "B"], blocking: GemmBlocking, bias: Array | None = None, relu: bool = False,
) -> None: ...
