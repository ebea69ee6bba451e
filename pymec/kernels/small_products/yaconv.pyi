from pymec.kernels.shared.arrays import Array
from pymec.shapes import ConvShape

ROWS: int

def spill_size(shape: ConvShape) -> int: ...
def begin(out: Array, spill: Array, shape: ConvShape, n_threads: int = 1) -> None: ...
def add_rows(
    x: Array,
    kernel: Array,
    out: Array,
    spill: Array,
    shape: ConvShape,
    n: int,
    h0: int,
    n_threads: int = 1,
) -> None: ...
def run(x: Array, kernel: Array, out: Array, workspace: Array, shape: ConvShape, n_threads: int = 1) -> None: ...
