from pymec.kernels.shared.arrays import Array
from pymec.shapes import ConvShape

def multiply(
    L: Array, prepared: Array, out: Array, shape: ConvShape, n_threads: int = 1, bias: Array | None = None,
    relu: bool = False,
) -> None: ...
def run(
    x: Array, kernel: Array, out: Array, workspace: Array, shape: ConvShape, n_threads: int, prepared: Array,
    bias: Array | None = None, relu: bool = False,
) -> None: ...
