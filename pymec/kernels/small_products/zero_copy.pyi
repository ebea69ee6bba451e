from pymec.kernels.shared.arrays import Array
from pymec.kernels.shared.blocking import GemmBlocking
from pymec.shapes import ConvShape

def run_pixel_gemm(
    x: Array, kernel: Array, out: Array, workspace: Array, shape: ConvShape, n_threads: int = 1, *,
    blocking: GemmBlocking, block: int,
) -> None: ...

run_pointwise = run_pixel_gemm
add_filter_rows = run_pixel_gemm
run_filter_row_gemm = run_pixel_gemm

def all_in_one_row(shape: ConvShape) -> ConvShape | None: ...
def images_in_one(shape: ConvShape) -> ConvShape: ...
