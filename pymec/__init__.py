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

``import pymec`` loads nothing but this page: a name is imported from its module when it is first asked for.
"""

from importlib import import_module
from pkgutil import resolve_name
from typing import Any

from pymec import _build_info as _build_info  # first: it says so where the kernels are not compiled

__version__ = "0.1.0"

# Where the public names are; __init__.pyi says the same to type checkers.
_HOMES = {
    "ConvPlan": "pymec.conv_plans:ConvPlan",
    "ConvShape": "pymec.shapes:ConvShape",
    "Explanation": "pymec.explaining:Explanation",
    "KernelGradPlan": "pymec.conv_plans:KernelGradPlan",
    "UnsupportedShape": "pymec.shapes:UnsupportedShape",
    "algorithms": "pymec.registry:names",
    "conv2d": "pymec.conv:conv2d",
    "conv2d_input_grad": "pymec.conv:conv2d_input_grad",
    "conv2d_kernel_grad": "pymec.conv:conv2d_kernel_grad",
    "explain": "pymec.explaining:explain",
    "layers": "pymec.layers",
    "memory": "pymec.memory",
    "plan": "pymec.plans:plan",
    "show_versions": "pymec.versions:show_versions",
    "workspace_size": "pymec.explaining:workspace_size",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        globals()[name] = value = resolve_name(_HOMES[name])  # asked for again, Python finds it without us
        return value
    if not name.startswith("_"):
        try:
            return import_module(f"pymec.{name}")  # a module that is not among the public names
        except ModuleNotFoundError as error:
            if error.name != f"pymec.{name}":  # it is there, and needs a package that is not
                raise
    raise AttributeError(f"module 'pymec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
