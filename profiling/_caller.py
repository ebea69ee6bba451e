"""A process that makes and times calls of the pymec it imports, told over its standard input: see ``versions.py``.

One JSON object a line.  {"layer", "operation", "algorithm", "n_threads", "batch"} makes a call, checks its answer
and is answered with {"ready": true or false}, false if this pymec has no such algorithm or it can't do the layer.
{"calls": n} is answered with {"seconds": the fastest of n calls}.  Only public names of pymec are used, so that an
old build can be asked as well as a new one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import pymec
from pymec import reference, registry

WAYS = {
    "auto call": {"algorithm": "auto"},
    "auto plan": {"algorithm": "auto"},
    "fast plan": {"algorithm": "auto", "accuracy": "fast"},
}
"""What is timed beside the algorithms by name."""

ORACLES = {
    "conv2d": reference.conv2d,
    "conv2d_input_grad": reference.input_grad,
    "conv2d_kernel_grad": reference.kernel_grad,
}


def make(
    layer: str, operation: str, algorithm: str, n_threads: int, batch: int, memory: dict[Any, Any]
) -> Callable[[], Any] | None:
    """A checked call with ``out`` and workspace given and the kernel prepared, or None."""
    shape = pymec.layers.get(layer).shape(batch)
    key = (layer, operation, batch)
    if key not in memory:
        memory.clear()
        memory[key] = problem(shape, operation)
    first, second, expected = memory[key]
    options = {
        "stride": (shape.s_h, shape.s_w),
        "padding": ((shape.p_t, shape.p_b), (shape.p_l, shape.p_r)),
        "dilation": (shape.d_h, shape.d_w),
        "groups": shape.groups,
        "n_threads": n_threads,
        **WAYS.get(algorithm, {"algorithm": algorithm}),
    }
    if algorithm not in WAYS and (
        algorithm not in registry.TABLES[operation] or registry.get(algorithm, operation).unsupported(shape)
    ):
        return None
    out = np.full(expected.shape, np.nan, np.float32)
    if operation == "conv2d_kernel_grad":
        if "accuracy" in options or algorithm == "auto plan":
            return None
        call = partial(pymec.conv2d_kernel_grad, first, second, expected.shape, out=out, **options)
    elif algorithm == "auto call":
        single = pymec.conv2d if operation == "conv2d" else pymec.conv2d_input_grad
        extents = () if operation == "conv2d" else (expected.shape,)
        call = partial(single, first, second, *extents, out=out, **options)
    else:
        extents = shape.input_shape, shape.kernel_shape
        plan = pymec.plan(*extents, operation=operation, **options).prepare(second)
        workspace = np.full(plan.workspace_nbytes // 4, np.nan, np.float32)
        call = partial(plan, first, out=out, workspace=workspace)
        algorithm = plan.algorithm
    call()
    row = registry.get("direct" if algorithm in WAYS else algorithm, operation)
    bound = row.error_bound(first, second, shape)
    if not np.all(np.abs(out - expected) <= bound):
        sys.exit(f"wrong answer: {operation} by {algorithm} on {layer} with {n_threads} threads")
    return call


def problem(shape: pymec.ConvShape, operation: str) -> tuple[Any, Any, Any]:
    """The operands of an operation, and its right answer."""
    rng = np.random.default_rng(0)
    x, kernel, grad_out = (
        rng.standard_normal(extents, np.float32)
        for extents in (shape.input_shape, shape.kernel_shape, shape.output_shape)
    )
    first, second = {
        "conv2d": (x, kernel),
        "conv2d_input_grad": (grad_out, kernel),
        "conv2d_kernel_grad": (x, grad_out),
    }[operation]
    return first, second, ORACLES[operation](first, second, shape)


def fastest(call: Callable[[], Any], count: int) -> float:
    """Seconds of the fastest of some calls."""
    best = float("inf")
    for _ in range(count):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    """Answer every line until there is none."""
    call, memory = None, {}
    for line in sys.stdin:
        order = json.loads(line)
        if "calls" in order:
            answer = {"seconds": fastest(call, order["calls"])}
        else:
            call = make(**order, memory=memory)
            answer = {"ready": call is not None}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
