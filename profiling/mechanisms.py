"""What each mechanism of the register tiles brings: the same call with and without it, in turns, answers checked.

Options of the schedule switch off windows, going tap by tap, and tiles that end with rows.  The kernels for
depthwise layers and small groups are compared with ``direct_blocked``, and the gradient of small groups with
plain loops, which would compute these layers otherwise.  There is no switch for the registers alone: no row
compares such a kernel with the same loops without registers.

    python profiling/mechanisms.py --threads 1,2
    python profiling/mechanisms.py --mechanisms "window,tap by tap" --seconds 2
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from _common import comma_integers, comma_list, command_line, machine_line, markdown_table, progress
from _timing import Canary, check, random_arrays, refuse_what_means_nothing, take_turns

import pymec
from pymec import reference
from pymec.kernels.direct import depthwise
from pymec.kernels.gradients import direct as direct_grad
from pymec.kernels.gradients import grouped as grouped_grad
from pymec.kernels.register_tiles import convolution, grouped
from pymec.kernels.register_tiles.schedule import tile_schedule

Call = Callable[[], object]

NEVER = 2**31
"""More products with zeros than any tile has."""

NOTHING = np.empty(0, np.float32)


def tiles_without(shape: pymec.ConvShape, n_threads: int, **off: Any) -> tuple[Call, Call, Any]:
    """``direct_blocked`` without and with a mechanism, and the output that both write."""
    x, kernel = random_arrays(shape)
    out = np.empty(shape.output_shape, np.float32)
    schedule = tile_schedule(shape, n_threads, in_panels=False)
    run = partial(convolution.run, x, kernel, out, NOTHING, shape, n_threads)
    return partial(run, schedule._replace(**off)), partial(run, schedule), out


def kernel_without(run: Callable, shape: pymec.ConvShape, n_threads: int) -> tuple[Call, Call, Any]:
    """``direct_blocked`` beside another kernel, and the output that both write."""
    x, kernel = random_arrays(shape)
    out = np.empty(shape.output_shape, np.float32)
    arguments = x, kernel, out, NOTHING, shape, n_threads
    schedule = tile_schedule(shape, n_threads, in_panels=False)
    return partial(convolution.run, *arguments, schedule), partial(run, *arguments), out


def grad_without(shape: pymec.ConvShape, n_threads: int) -> tuple[Call, Call, Any]:
    """The kernel's gradient in plain loops and by vectors, and the array that both write."""
    x, grad_kernel = random_arrays(shape)
    grad_out = np.ones(shape.output_shape, np.float32)
    arguments = x, grad_out, grad_kernel, NOTHING, shape, n_threads
    return (
        partial(direct_grad.run_kernel_grad, *arguments),
        partial(grouped_grad.run_kernel_grad, *arguments),
        grad_kernel,
    )


MECHANISMS: dict[str, tuple[Callable[[pymec.ConvShape, int], tuple[Call, Call, Any]], tuple[str, ...]]] = {
    "tiles end with rows": (partial(tiles_without, in_rows=False), ("vgg16.conv1_1", "resnet50.conv1")),
    "window": (partial(tiles_without, window=0), ("resnet50.conv1", "vgg16.conv1_1")),
    "tap by tap": (
        partial(tiles_without, padding_products=NEVER),
        ("resnet50.conv4_3x3", "resnet50.conv5_3x3", "vgg16.conv2_1"),
    ),
    "depthwise": (
        partial(kernel_without, depthwise.run),
        ("mobilenet.1_depthwise", "mobilenet.7_depthwise", "5x5 depthwise"),
    ),
    "direct_grouped": (partial(kernel_without, grouped.run), ("resnext50.conv2_3x3", "resnext50.conv4_3x3")),
    "group_grad_rows": (grad_without, ("resnext50.conv2_3x3", "mobilenet.7_depthwise")),
}


def main(arguments: list[str] | None = None) -> int:
    """Time every mechanism on its layers and print a table for each number of threads."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    canary = Canary(options.patience)
    cells = [(name, layer) for name in options.mechanisms for layer in MECHANISMS[name][1]]
    print(f"{machine_line()}\n")
    missing = False
    for n_threads in options.threads:
        rows = []
        with progress(len(cells), f"mechanisms t{n_threads}") as step:
            for name, layer in cells:
                rows.append(row_of(name, layer, n_threads, options.seconds, canary))
                missing |= "-" in rows[-1]
                step(f"{name}, {layer}")
        print(f"float32, batch 1, threads: {n_threads}; milliseconds of the best call\n")
        print(markdown_table(["mechanism", "layer", "without", "with", "without ÷ with"], rows) + "\n")
    print(canary)
    return 1 if missing else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--mechanisms", type=comma_list(tuple(MECHANISMS)), default=list(MECHANISMS))
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=1.0, help="timing of one call")
    parser.add_argument("--patience", type=int, default=100, help="dropped bursts before a layer is given up")
    return parser.parse_args(arguments)


def shape_of(layer: str) -> pymec.ConvShape:
    """A layer by name; the 5×5 depthwise one of MobileNetV3 is in no list."""
    if layer == "5x5 depthwise":
        return pymec.ConvShape.from_shapes((1, 28, 28, 240), (5, 5, 1, 240), padding=2, groups=240)
    return pymec.layers.get(layer).shape(1)


def row_of(name: str, layer: str, n_threads: int, seconds: float, canary: Canary) -> list[str]:
    """One line of the table; exits if the two calls disagree by more than rounding."""
    shape = shape_of(layer)
    without, with_it, out = MECHANISMS[name][0](shape, n_threads)
    x, kernel = random_arrays(shape)
    if name == "group_grad_rows":
        ones = np.ones(shape.output_shape, np.float32)
        expected = reference.kernel_grad(x, ones, shape)
        bound = reference.kernel_grad_bound(x, ones, shape)
    else:
        expected, bound = reference.conv2d(x, kernel, shape), reference.error_bound(x, kernel, shape)
    for call, which in ((without, "without"), (with_it, "with")):
        out[...] = np.nan
        call()
        check(out, expected, bound, f"{layer} {which} {name}")
    times = take_turns({"without": without, "with": with_it}, n_threads, seconds, canary)
    if not all(times.values()):
        return [name, layer, "-", "-", "-"]
    off, on = min(times["without"]), min(times["with"])
    return [name, layer, f"{1e3 * off:.3f}", f"{1e3 * on:.3f}", f"{off / on:.2f}"]


if __name__ == "__main__":
    sys.exit(main())
