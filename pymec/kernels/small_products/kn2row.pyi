from collections.abc import Sequence

from pymec.kernels.shared.arrays import Array
from pymec.kernels.shared.blocking import GemmBlocking
from pymec.shapes import ConvShape

def multiply(
    x: Array, kernel: Array, planes: Array, shape: ConvShape, taps: range, n_threads: int = 1, *,
    blocking: GemmBlocking, block: int,
) -> None: ...
def shift_add(planes: Array, out: Array, shape: ConvShape, taps: range, n_threads: int = 1) -> None: ...
def check_taps(shape: ConvShape, taps: range) -> None: ...
def run(
    x: Array, kernel: Array, out: Array, workspace: Array, shape: ConvShape, n_threads: int = 1, *,
    blocking: GemmBlocking, block: int,
) -> None: ...

run_aa = run

def add_taps(
    x: Array, kernel: Array, out: Array, workspace: Array, shape: ConvShape, turns: Sequence[range],
    n_threads: int, blocking: GemmBlocking, block: int,
) -> None: ...
