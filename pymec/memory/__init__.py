"""The bytes a convolution takes: predicted by formula, and measured by memray in a fresh process.

One call is measured, after a warm-up with the same number of threads: the first product makes BLAS map its
packing buffers and OpenMP start its threads, and neither is the algorithm's memory.  For every allocation
alive at the peak memray knows the Python line and the native stack that asked for it, so the peak is split by
who asked, not by subtraction:

==============  ======================================================================================
``workspace``   asked for by :func:`pymec.workspace.allocate_workspace`
``output``      asked for by :func:`pymec.workspace.allocate_output`
``blas``        asked for below ``gemm_rowmajor``, the one function that calls SciPy's BLAS
``other``       everything else: some kilobytes of Python's own objects
``fft``         asked for by SciPy's transforms, for padded inputs, results and internal buffers
==============  ======================================================================================

memray counts what is requested, whether or not a page is ever touched; ``resident`` counts touched pages, in a
separate call without memray.

Any code is tracked where it runs: :func:`track` is for a block of it, :func:`read` for a record that exists, and
:func:`warm_up` takes BLAS's buffers out of what is measured afterwards.  :func:`compare` sets two measurements
side by side.
"""

from pymec.memory.comparing import Comparison, compare
from pymec.memory.measuring import MemoryReport, measure, measure_shape, side_by_side
from pymec.memory.tracking import Track, read, track
from pymec.memory.warming import warm_up

__all__ = [
    "Comparison", "MemoryReport", "Track", "compare", "measure", "measure_shape", "read", "side_by_side", "track",
    "warm_up",
]  # fmt: skip
