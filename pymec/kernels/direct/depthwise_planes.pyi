from pymec.kernels.shared.arrays import Array
from pymec.shapes import ConvShape

def window_size(shape: ConvShape, rows: int, columns: int) -> int: ...
def run(
    x: Array, kernel: Array, out: Array, workspace: Array, shape: ConvShape, n_threads: int = 1,
    bias: Array | None = None, relu: bool = False, *, slices: int, rows: int, columns: int,
) -> None: ...
