import numpy as np
from numpy.typing import NDArray

from pymec.kernels.register_tiles.schedule import TileSchedule
from pymec.kernels.shared.arrays import Array
from pymec.shapes import ConvShape

MOST_RUNS: int
MOST_ZEROS: int

def run(
    x: Array, kernel: Array | None, out: Array, workspace: Array, shape: ConvShape, n_threads: int,
    schedule: TileSchedule, prepared: Array | None = None, bias: Array | None = None, relu: bool = False,
    slices: int = 0, taps: NDArray[np.intp] | None = None,
) -> None: ...
def packed_size(schedule: TileSchedule, shape: ConvShape) -> int: ...
