from pymec.kernels.shared.arrays import Array
from pymec.shapes import ConvShape

POINTER_BYTES: int

def buffer_size(shape: ConvShape) -> int: ...
def point(x: Array, workspace: Array, shape: ConvShape, n_threads: int = 1) -> None: ...
def multiply(
    x: Array, kernel: Array, out: Array, workspace: Array, shape: ConvShape, n_threads: int = 1,
    bias: Array | None = None, relu: bool = False,
) -> None: ...
def run(
    x: Array, kernel: Array, out: Array, workspace: Array, shape: ConvShape, n_threads: int = 1,
    bias: Array | None = None, relu: bool = False,
) -> None: ...
