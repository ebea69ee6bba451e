from pymec.kernels.shared.arrays import Array
from pymec.kernels.shared.blocking import GradBlocking, InputGradBlocking
from pymec.shapes import ConvShape

def kernel_grad(
    L: Array, grad_out: Array, grad_kernel: Array, shape: ConvShape, n_threads: int = 1, *,
    blocking: GradBlocking,
) -> None: ...
def run_kernel_grad(
    x: Array, grad_out: Array, grad_kernel: Array, workspace: Array, shape: ConvShape, n_threads: int = 1, *,
    blocking: GradBlocking,
) -> None: ...
def lowered_grad(
    grad_out: Array, transposed: Array, L: Array, shape: ConvShape, n_threads: int = 1, *,
    blocking: InputGradBlocking,
) -> None: ...
def mec2im(L: Array, grad_x: Array, shape: ConvShape, n_threads: int = 1) -> None: ...
def run_input_grad(
    grad_out: Array, kernel: Array, grad_x: Array, workspace: Array, shape: ConvShape, n_threads: int = 1, *,
    prepared: Array, blocking: InputGradBlocking,
) -> None: ...
