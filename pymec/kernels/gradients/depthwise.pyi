from pymec.kernels.shared.arrays import Array
from pymec.shapes import ConvShape

def has_vectors() -> bool: ...
def run_input_grad(
    grad_out: Array, kernel: Array, grad_x: Array, workspace: Array, shape: ConvShape, n_threads: int = 1,
) -> None: ...
def run_kernel_grad(
    x: Array, grad_out: Array, grad_kernel: Array, workspace: Array, shape: ConvShape, n_threads: int = 1, *,
    rows_at_once: int,
) -> None: ...
