"""The three operations of a convolution layer, and the role of each array in the layer.

A layer has an input, a kernel and an output, in whichever direction it runs: the forward pass computes the
output from the other two, and the gradient with respect to an array has the shape of that array.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pymec.spelling import shown


@dataclass(frozen=True)
class Operand:
    """An array that an operation reads: the caller's name for it, and its role in the layer."""

    name: str
    role: str


@dataclass(frozen=True, eq=False)
class Operation:
    """The arrays that an operation reads, and as ``result`` the role of the array that it writes."""

    name: str
    operands: tuple[Operand, Operand]
    result: str

    def __eq__(self, other: object) -> bool:
        """By name: a copy is the same operation, and every call asks."""
        return isinstance(other, Operation) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    @cached_property
    def roles(self) -> tuple[str, str, str]:
        """The roles of both operands and of the result."""
        return self.operands[0].role, self.operands[1].role, self.result

    @cached_property
    def planned_roles(self) -> tuple[str, str]:
        """The roles of what the call of a plan is given, which has the kernel already, and of the result."""
        return self.operands[0].role, self.result


CONV2D = Operation("conv2d", (Operand("x", "input"), Operand("kernel", "kernel")), "output")
INPUT_GRAD = Operation("conv2d_input_grad", (Operand("grad_out", "output"), Operand("kernel", "kernel")), "input")
KERNEL_GRAD = Operation("conv2d_kernel_grad", (Operand("x", "input"), Operand("grad_out", "output")), "kernel")

OPERATIONS = {operation.name: operation for operation in (CONV2D, INPUT_GRAD, KERNEL_GRAD)}


def operation_named(name: str) -> Operation:
    """The operation of that name, or a ValueError that lists the names."""
    if not isinstance(name, str) or name not in OPERATIONS:
        raise ValueError(f"operation must be one of {', '.join(OPERATIONS)}; got {shown(name)}")
    return OPERATIONS[name]
