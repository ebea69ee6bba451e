import numpy as np
from numpy.typing import NDArray

from pymec.kernels.shared.blocking import GemmBlocking
from pymec.shapes import ConvShape

def run_pixel_gemm(
    x: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    workspace: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    blocking: GemmBlocking | None = None,
    block: int = ...,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
def run_pointwise(
    x: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    workspace: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    blocking: GemmBlocking | None = None,
    block: int = ...,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
def all_in_one_row(shape: ConvShape) -> ConvShape: ...
def add_filter_rows(
    x: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    workspace: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    blocking: GemmBlocking | None = None,
    block: int = ...,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
def run_filter_row_gemm(
    x: NDArray[np.floating],
    kernel: NDArray[np.floating],
    out: NDArray[np.floating],
    workspace: NDArray[np.floating],
    shape: ConvShape,
    n_threads: int = 1,
    blocking: GemmBlocking | None = None,
    block: int = ...,
    bias: NDArray[np.floating] | None = None,
    relu: bool = False,
) -> None: ...
def images_in_one(shape: ConvShape) -> ConvShape: ...
