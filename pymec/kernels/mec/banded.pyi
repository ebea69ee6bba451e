from pymec.kernels.shared.arrays import Array
from pymec.kernels.shared.blocking import GemmBlocking
from pymec.shapes import ConvShape

def run(
    x: Array, kernel: Array, out: Array, workspace: Array, shape: ConvShape, n_threads: int, band_rows: int,
    slices: int, blocking: GemmBlocking, bias: Array | None = None, relu: bool = False,
) -> None: ...
