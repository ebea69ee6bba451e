from pymec.kernels.shared.arrays import Array
from pymec.shapes import ConvShape

def run(
    x: Array, kernel: Array, out: Array, workspace: Array, shape: ConvShape, n_threads: int,
    columns: int, prepared: Array, bias: Array | None = None, relu: bool = False,
) -> None: ...
def convolve(
    x: Array, filters: Array, out: Array, shape: ConvShape, n_threads: int, columns: int,
    bias: Array | None = None, relu: bool = False,
) -> None: ...
