from pymec.kernels.shared.arrays import Array
from pymec.kernels.shared.blocking import GemmBlocking
from pymec.shapes import ConvShape

def prepare(
    kernel: Array, prepared: Array, shape: ConvShape, n_threads: int = 1,
    blocking: GemmBlocking | None = None,
) -> None: ...
def lower(x: Array, L: Array, shape: ConvShape, n_threads: int = 1) -> None: ...
def multiply(
    L: Array, prepared: Array, out: Array, shape: ConvShape, blocking: GemmBlocking, n_threads: int = 1,
    bias: Array | None = None, relu: bool = False,
) -> None: ...
def run(
    x: Array, kernel: Array, out: Array, workspace: Array, shape: ConvShape, n_threads: int,
    blocking: GemmBlocking, prepared: Array, bias: Array | None = None, relu: bool = False,
) -> None: ...
