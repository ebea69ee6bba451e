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
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from _common import comma_integers, comma_list, command_line
from _store import Record, Store
from _tables import Table, groups, number, plural, ratio, show
from _timing import Contender, check, random_arrays, refuse_what_means_nothing, time_cells, timing_arguments

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


BY = {
    "depthwise": ("direct_blocked", "depthwise"),
    "direct_grouped": ("direct_blocked", "direct_grouped"),
    "group_grad_rows": ("direct:conv2d_kernel_grad", "direct_grouped:conv2d_kernel_grad"),
}
"""The algorithms without and with a mechanism, where it is no option of ``direct_blocked``."""


def main(arguments: list[str] | None = None) -> int:
    """Time every mechanism on its layers and print a table for each number of threads."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    store = Store("mechanisms", options.records)
    cells = [
        {"mechanism": name, "layer": layer, "n_threads": n_threads}
        for n_threads, name in itertools.product(options.threads, options.mechanisms)
        for layer in MECHANISMS[name][1]
    ]
    failed = time_cells(store, cells, options, contenders, how=lambda cell: {})
    show(tables(store.here(cells)))
    return 1 if failed else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--mechanisms", type=comma_list(tuple(MECHANISMS)), default=list(MECHANISMS))
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    timing_arguments(parser, seconds=1.0, patience=100)
    return parser.parse_args(arguments)


def shape_of(layer: str) -> pymec.ConvShape:
    """A layer by name; the 5×5 depthwise one of MobileNetV3 is in no list."""
    if layer == "5x5 depthwise":
        return pymec.ConvShape.from_shapes((1, 28, 28, 240), (5, 5, 1, 240), padding=2, groups=240)
    return pymec.layers.get(layer).shape(1)


def contenders(cell: dict[str, Any]) -> dict[str, Contender]:
    """The two calls; exits if an answer is off by more than rounding."""
    name, layer = cell["mechanism"], cell["layer"]
    shape = shape_of(layer)
    *calls, out = MECHANISMS[name][0](shape, cell["n_threads"])
    x, kernel = random_arrays(shape)
    if name == "group_grad_rows":
        ones = np.ones(shape.output_shape, np.float32)
        expected = reference.kernel_grad(x, ones, shape)
        bound = reference.kernel_grad_bound(x, ones, shape)
    else:
        expected, bound = reference.conv2d(x, kernel, shape), reference.error_bound(x, kernel, shape)
    made = {}
    algorithms = BY.get(name, ("direct_blocked", "direct_blocked"))
    for which, call, algorithm in zip(("without", "with"), calls, algorithms, strict=True):
        out[...] = np.nan
        call()
        check(out, expected, bound, f"{layer} {which} {name}")
        made[which] = Contender(call, algorithm)
    return made


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """A table for each number of threads."""
    header = ["mechanism", "layer", "without", "with", "without ÷ with"]
    for (n_threads,), found in groups(records, "n_threads").items():
        rows = [
            [
                record.cell["mechanism"],
                record.cell["layer"],
                *(
                    number(1e3 * record.values[which]["best"], record, which, form="{:.3f}")
                    for which in header[2:4]
                ),
                number(ratio(record, "without", "with"), record, "without", "with", form="{:.2f}"),
            ]
            for record in found
        ]
        title = f"Milliseconds of the best call, batch 1, float32, {plural(n_threads)}"
        yield Table(title, header, rows, found, "mechanisms")


if __name__ == "__main__":
    sys.exit(main())
