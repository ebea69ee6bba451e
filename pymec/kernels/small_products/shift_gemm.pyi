from pymec.kernels.shared.arrays import Array
from pymec.kernels.shared.blocking import GemmBlocking
from pymec.shapes import ConvShape

def row_pitch(shape: ConvShape) -> int: ...
def padded_size(shape: ConvShape) -> int: ...
def scratch_size(shape: ConvShape) -> int: ...
def pad(x: Array, padded: Array, shape: ConvShape, n_threads: int = 1) -> None: ...
def slide(
    image: Array,
    kernel: Array,
    S: Array,
    shape: ConvShape,
    n_threads: int = 1,
    *,
    blocking: GemmBlocking,
    block: int,
) -> None: ...
def compact(S: Array, out: Array, shape: ConvShape, n_threads: int = 1) -> None: ...
def check_shape(shape: ConvShape) -> None: ...
def run(
    x: Array,
    kernel: Array,
    out: Array,
    workspace: Array,
    shape: ConvShape,
    n_threads: int = 1,
    *,
    blocking: GemmBlocking,
    block: int,
) -> None: ...
