"""A process that makes and times calls of the pymec it imports, as ordered by ``versions.py``.

Orders come over standard input, one JSON object a line.  The order {"layer", "operation", "algorithm",
"n_threads", "batch"} makes a call and checks its result.  Its answer is {"ready": true}, or false if this
pymec has no such algorithm or the algorithm can't do the layer.  The order {"calls": n} has the answer
{"seconds": the fastest of n calls}.  Only public names of pymec are used, so that an old build understands
the orders as well as a new one.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pymec
from pymec import reference, registry

WAYS = {
    "auto call": {"algorithm": "auto"},
    "auto plan": {"algorithm": "auto"},
    "fast plan": {"algorithm": "auto", "accuracy": "fast"},
}
"""What is timed beside the named algorithms."""

ORACLES = {
    "conv2d": reference.conv2d,
    "conv2d_input_grad": reference.input_grad,
    "conv2d_kernel_grad": reference.kernel_grad,
}


Call = Callable[[], Any]


def make(
    layer: str, operation: str, algorithm: str, n_threads: int, batch: int, memory: dict[Any, Any]
) -> Callable[[], Call] | None:
    """A function that makes calls, each on new arrays; None if this pymec can't.  One call is checked here.

    Calls have ``out`` given; a plan's calls also have the workspace given and the kernel prepared.
    """
    shape = pymec.layers.get(layer).shape(batch)
    key = (layer, operation, batch)
    if key not in memory:
        memory.clear()
        memory[key] = problem(shape, operation)
    operands, expected = memory[key]
    options = {
        "stride": (shape.s_h, shape.s_w),
        "padding": ((shape.p_t, shape.p_b), (shape.p_l, shape.p_r)),
        "dilation": (shape.d_h, shape.d_w),
        "groups": shape.groups,
        "n_threads": n_threads,
        **WAYS.get(algorithm, {"algorithm": algorithm}),
    }
    known = algorithm in WAYS or algorithm in registry.TABLES[operation]
    if not known or (algorithm not in WAYS and registry.get(algorithm, operation).unsupported(shape)):
        return None
    if operation == "conv2d_kernel_grad" and algorithm.endswith("plan"):
        return None  # the kernel's gradient has no kernel to prepare
    if operation != "conv2d" and algorithm == "fast plan":
        return None  # gradients have exact algorithms only

    def fresh(out: NDArray | None = None) -> Call:
        first, second = (operand.copy() for operand in operands)
        out = np.empty(expected.shape, np.float32) if out is None else out
        if operation == "conv2d_kernel_grad":
            return partial(pymec.conv2d_kernel_grad, first, second, expected.shape, out=out, **options)
        if algorithm == "auto call" and operation == "conv2d":
            return partial(pymec.conv2d, first, second, out=out, **options)
        if algorithm == "auto call":
            return partial(pymec.conv2d_input_grad, first, second, expected.shape, out=out, **options)
        plan = pymec.plan(shape.input_shape, shape.kernel_shape, operation=operation, **options).prepare(second)
        return partial(plan, first, out=out, workspace=np.empty(plan.workspace_nbytes, np.uint8))

    out = np.full(expected.shape, np.nan, np.float32)
    fresh(out)()
    row = registry.get("winograd_f6" if algorithm == "fast plan" else "direct", operation)
    row = row if algorithm in WAYS else registry.get(algorithm, operation)
    if algorithm == "fast plan" and row.unsupported(shape):
        row = registry.get("direct", operation)
    if not np.all(np.abs(out - expected) <= row.error_bound(*operands, shape)):
        sys.exit(f"wrong answer: {operation} by {algorithm} on {layer} with {n_threads} threads")
    return fresh


def problem(shape: pymec.ConvShape, operation: str) -> tuple[tuple[NDArray, NDArray], NDArray]:
    """The operands of an operation, and its right answer."""
    rng = np.random.default_rng(0)
    x, kernel, grad_out = (
        rng.standard_normal(extents, np.float32)
        for extents in (shape.input_shape, shape.kernel_shape, shape.output_shape)
    )
    operands = {
        "conv2d": (x, kernel),
        "conv2d_input_grad": (grad_out, kernel),
        "conv2d_kernel_grad": (x, grad_out),
    }[operation]
    return operands, ORACLES[operation](*operands, shape)


def fastest(call: Call, count: int) -> float:
    """Seconds of the fastest of some calls."""
    best = float("inf")
    for _ in range(count):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    """Answer every line of standard input.

    Every burst gets new arrays.  The last few are kept, so that new ones get other pages: the place of the
    arrays in memory can make a call faster or slower by a third.
    """
    fresh, memory, kept = None, {}, deque(maxlen=4)
    for line in sys.stdin:
        order = json.loads(line)
        if "calls" in order:
            call = fresh()
            call()
            kept.append(call)
            answer = {"seconds": fastest(call, order["calls"])}
        else:
            kept.clear()
            fresh = make(**order, memory=memory)
            answer = {"ready": fresh is not None}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
