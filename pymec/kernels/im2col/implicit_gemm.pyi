from pymec.kernels.shared.arrays import Array
from pymec.shapes import ConvShape

def pack_kernel(
    kernel: Array, B: Array, shape: ConvShape, group: int, q0: int, depth: int, m0: int, columns: int,
    n_threads: int = 1,
) -> None: ...
def pack_patches(
    x: Array, A: Array, shape: ConvShape, first: int, end: int, group: int, q0: int, depth: int,
) -> None: ...
def run(
    x: Array, kernel: Array, out: Array, workspace: Array, shape: ConvShape, n_threads: int, rows: int,
    depth: int, columns: int, slices: int,
) -> None: ...
