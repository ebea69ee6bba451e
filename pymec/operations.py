"""The three operations of a convolution layer, and what each array is to the layer.

A layer has an input, a kernel and an output, in whichever direction it runs: the forward pass computes the
output from the other two, and a gradient has the shape of what it is the gradient of.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Operand:
    """An array that an operation reads: the caller's name for it, and its role in the layer."""

    name: str
    role: str


@dataclass(frozen=True)
class Operation:
    """What is computed from what; ``result`` is the role of the array that is written."""

    name: str
    operands: tuple[Operand, Operand]
    result: str


CONV2D = Operation("conv2d", (Operand("x", "input"), Operand("kernel", "kernel")), "output")
INPUT_GRAD = Operation("conv2d_input_grad", (Operand("grad_out", "output"), Operand("kernel", "kernel")), "input")
KERNEL_GRAD = Operation("conv2d_kernel_grad", (Operand("x", "input"), Operand("grad_out", "output")), "kernel")

OPERATIONS = {operation.name: operation for operation in (CONV2D, INPUT_GRAD, KERNEL_GRAD)}


def operation_named(name: str) -> Operation:
    """The operation of that name, or a ValueError that lists the names."""
    if not isinstance(name, str) or name not in OPERATIONS:
        raise ValueError(f"operation must be one of {', '.join(OPERATIONS)}; got {name!r}")
    return OPERATIONS[name]
