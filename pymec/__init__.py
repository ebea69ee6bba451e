"""pymec: convolution on a CPU, read, measured to the byte, and used.

A call goes down one street, and nothing points back up (``tests/test_rooms.py`` reads every import)::

    arrays ──▶ conv.conv2d ──▶ shapes.ConvShape ──▶ planning ──▶ recipes.Recipe ──▶ execution.execute ──▶ out
               public door     every size, in the     "auto",      shape + row +      checks, allocates in
                               paper's symbols        limits       threads + bytes    workspace.py, runs
                                                        │                             kernels.<family>.run
                                                  registry (one table) ◀── kernels/<family>/rows.py
                                         memory: predicted bytes  ⟷  memray's measured bytes

``kernels`` has a room for each family of algorithms: its page (``__init__.py``), its rows of the table
(``rows.py``) and its kernels.  A kernel knows the arrays and numbers it is given and nothing else: its row
decides, before the call, how the work is cut.  Kernels allocate nothing.  All scratch of a call is one block,
made in :mod:`pymec.workspace`, so memray finds it on one line, and what a formula predicts is what is measured,
to the byte.

``plans`` checks and chooses once for many calls; ``explaining`` answers before anything runs.  ``memory``
measures, ``report`` runs the paper's experiment, ``cli`` is the command line: nothing else imports them.

The paper is Cho & Brand, *MEC: Memory-efficient Convolution for Deep Neural Network* (ICML 2017).  Its
algorithms and names are kept; what goes beyond a paper is marked as ours.  Convolution here is
cross-correlation, as in every deep-learning library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pymec import _build_info as _build_info  # first: it says so where the kernels are not compiled
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
    # memray exists for Linux and macOS only; the library must import without it.
    if name == "memory":
        return import_module("pymec.memory")
    raise AttributeError(f"module 'pymec' has no attribute {name!r}")
