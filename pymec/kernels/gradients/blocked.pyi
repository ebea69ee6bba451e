from pymec.kernels.shared.arrays import Array
from pymec.shapes import ConvShape

def slice_size(shape: ConvShape) -> int: ...
def run_kernel_grad(
    x: Array, grad_out: Array, grad_kernel: Array, workspace: Array, shape: ConvShape, n_threads: int = 1, *,
    copies: bool,
) -> None: ...
