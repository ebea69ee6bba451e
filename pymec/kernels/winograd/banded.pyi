from pymec.kernels.shared.arrays import Array
from pymec.shapes import ConvShape

def line_size(shape: ConvShape) -> int: ...
def kernel_size(shape: ConvShape, t_o: int) -> int: ...
def tile_size(shape: ConvShape, t_o: int) -> int: ...
def transform_kernel(kernel: Array, U: Array, shape: ConvShape, t_o: int, n_threads: int = 1) -> None: ...
def run(
    x: Array,
    kernel: Array,
    out: Array,
    workspace: Array,
    shape: ConvShape,
    n_threads: int,
    t_o: int,
    band_tiles: int,
    slices: int,
    channel_shares: int,
    prepared: Array | None = None,
    bias: Array | None = None,
    relu: bool = False,
) -> None: ...
