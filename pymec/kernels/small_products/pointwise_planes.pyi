from pymec.kernels.shared.arrays import Array
from pymec.shapes import ConvShape

def keeps_pixels(shape: ConvShape) -> bool: ...
def run(
    x: Array, kernel: Array, out: Array, workspace: Array, shape: ConvShape, n_threads: int = 1,
    bias: Array | None = None, relu: bool = False, *, pixels: int, channels: int,
) -> None: ...
