"""pymec: convolution on a CPU, read, measured to the byte, and used.

A call goes down one street, and nothing points back up::

    arrays ──▶ conv.conv2d ──▶ shapes.ConvShape ──▶ planning.recipe ──▶ execution.execute ──▶ out
               public door     sizes and checks     registry row:       allocates in workspace.py,
                               in the paper's        supported? bytes?  runs kernels.<family>.run
                               symbols               run                (prange + BLAS, no allocation)
                                                         │
                                     memory: predicted bytes  ⟷  memray's measured bytes

``registry.ALGORITHMS`` is the one table that names every algorithm, and ``registry.TABLES`` has it beside the
gradients'; the rows are in ``families``, a module each.  The kernels allocate nothing: all
scratch is one block made by :mod:`pymec.workspace`, so memray finds it on one line, and what a formula
predicts is what is measured, to the byte.

The algorithms and their names are those of Cho & Brand, *MEC: Memory-efficient Convolution for Deep Neural
Network* (ICML 2017), with what goes beyond the paper marked as ours.  Convolution here is
cross-correlation, as in every deep-learning library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pymec import layers
from pymec.conv import conv2d, conv2d_input_grad, conv2d_kernel_grad
from pymec.explaining import Explanation, explain, workspace_size
from pymec.plans import ConvPlan, plan
from pymec.registry import names as algorithms
from pymec.shapes import ConvShape, UnsupportedShape
from pymec.show_versions import show_versions

if TYPE_CHECKING:
    from pymec import memory

__version__ = "0.1.0"

__all__ = [
    "ConvPlan",
    "ConvShape",
    "Explanation",
    "UnsupportedShape",
    "algorithms",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_kernel_grad",
    "explain",
    "layers",
    "memory",
    "plan",
    "show_versions",
    "workspace_size",
]


def __getattr__(name: str) -> Any:
    # memray exists on Linux and macOS only; the library must import without it.
    if name == "memory":
        return import_module("pymec.memory")
    raise AttributeError(f"module 'pymec' has no attribute {name!r}")
