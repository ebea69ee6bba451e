"""Both gradients of layers beside torch's, in turns in one process, every answer checked.

torch's gradients are computed by ``aten::convolution_backward`` on channels-last tensors, one at a time, as
its autograd calls it; pymec's by ``conv2d_input_grad`` and ``conv2d_kernel_grad``.  Nothing is prepared
beforehand, and both libraries allocate their results.

    python profiling/gradients.py --threads 1,2
    python profiling/gradients.py --layers resnet50,mobilenetv2,unet --threads 2 --batch 1,8
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from _common import comma_integers, comma_list, command_line, counted
from _peers import symmetric_padding
from _store import Record, Store
from _tables import Table, by_network, groups, number, plural, ratio, show, spread
from _timing import Contender, check, random_arrays, refuse_what_means_nothing, time_cells, timing_arguments
from numpy.typing import NDArray

import pymec
from pymec import reference

GRADIENTS = ("input", "kernel")


def main(arguments: list[str] | None = None) -> int:
    """Time every layer and print a table for each number of threads; 1 if some cell could not be timed."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    store = Store("gradients", options.records)
    cells = [
        {"layer": layer, "i_n": i_n, "n_threads": n_threads}
        for i_n, n_threads, layer in itertools.product(options.batch, options.threads, options.layers)
    ]
    failed = time_cells(store, cells, options, contenders, how=lambda cell: {})
    found = store.here(cells)
    show([*summary(found), *tables(found)])
    return 1 if failed else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.names()), default=list(pymec.layers.PAPER))
    parser.add_argument("--batch", type=comma_integers, default=[1])
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    timing_arguments(parser, seconds=0.3, patience=40)
    return parser.parse_args(arguments)


def contenders(cell: dict[str, Any]) -> dict[str, Contender]:
    """The calls of both libraries' gradients, answers checked."""
    return gradients_of(pymec.layers.get(cell["layer"]).shape(cell["i_n"]), cell["n_threads"])


def gradients_of(shape: pymec.ConvShape, n_threads: int) -> dict[str, Contender]:
    """The same for any shape: "input, pymec", "input, torch" and so on."""
    x, kernel = random_arrays(shape)
    grad_out = np.random.default_rng(1).standard_normal(shape.output_shape).astype(shape.dtype)
    exact = {
        "input": reference.input_grad(grad_out, kernel, shape),
        "kernel": reference.kernel_grad(x, grad_out, shape),
    }
    bounds = {
        "input": reference.input_grad_bound(grad_out, kernel, shape),
        "kernel": reference.kernel_grad_bound(x, grad_out, shape),
    }
    made = {}
    for gradient in GRADIENTS:
        operation = f"conv2d_{gradient}_grad"
        plan = pymec.plan(
            shape.input_shape, shape.kernel_shape, operation=operation, n_threads=n_threads, **shape.arguments
        )
        for library, make in (("pymec", pymec_gradient), ("torch", torch_gradient)):
            call = make(gradient, shape, x, kernel, grad_out, n_threads)
            check(call(), exact[gradient], bounds[gradient], f"{library}'s gradient of the {gradient}")
            by = f"{plan.algorithm}:{operation}" if library == "pymec" else None
            made[f"{gradient}, {library}"] = Contender(call, by, chosen=by is not None)
    return made


def pymec_gradient(
    gradient: str, shape: pymec.ConvShape, x: NDArray, kernel: NDArray, grad_out: NDArray, n_threads: int
) -> Any:
    """A call of pymec's, without arguments."""
    options = {**shape.arguments, "n_threads": n_threads}
    if gradient == "input":
        return lambda: pymec.conv2d_input_grad(grad_out, kernel, shape.input_shape, **options)
    return lambda: pymec.conv2d_kernel_grad(x, grad_out, shape.kernel_shape, **options)


def torch_gradient(
    gradient: str, shape: pymec.ConvShape, x: NDArray, kernel: NDArray, grad_out: NDArray, n_threads: int
) -> Any:
    """A call of torch's, without arguments; the result is a view with the axes in pymec's order."""
    try:
        import torch
    except ImportError:
        sys.exit("torch, which the gradients are compared with, is not installed: pip install torch")
    torch.set_num_threads(n_threads)
    image, output = torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(grad_out).permute(0, 3, 1, 2)
    weight = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    geometry = (shape.s_h, shape.s_w), symmetric_padding(shape), (shape.d_h, shape.d_w)
    wanted = [gradient == "input", gradient == "kernel", False]

    def call() -> NDArray:
        grads = torch.ops.aten.convolution_backward(
            output, image, weight, None, *geometry, False, (0, 0), shape.groups, wanted
        )
        if gradient == "input":
            return np.asarray(grads[0].permute(0, 2, 3, 1).numpy())
        return np.asarray(grads[1].permute(2, 3, 1, 0).numpy())

    return call


def torch_by_pymec(record: Record, gradient: str) -> float | None:
    """torch's time divided by pymec's."""
    return ratio(record, f"{gradient}, torch", f"{gradient}, pymec")


def summary(records: Sequence[Record]) -> Iterator[Table]:
    """torch ÷ pymec: a row per network, batch and thread count."""
    rows = []
    for (i_n, n_threads), found in groups(records, "i_n", "n_threads").items():
        for network, layers in by_network(found).items():
            marks = "".join(sorted({mark for record in layers for mark in record.marks()}))
            row = [f"{network}, {counted(len(layers), 'layer')}", str(i_n), str(n_threads)]
            for gradient in GRADIENTS:
                mean, *ends = spread(layers, lambda record, g=gradient: torch_by_pymec(record, g))
                row += [mean + marks, *ends]
            rows.append(row)
    header = ["network", "batch", "threads"]
    header += [f"{gradient}, {what}" for gradient in GRADIENTS for what in ("geometric mean", "least", "most")]
    if rows:
        yield Table("torch's time ÷ pymec's, float32", header, rows, records, "gradients")


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """A table for each batch and number of threads, a row per layer."""
    header = ["layer", *(f"{g}, {what}" for g in GRADIENTS for what in ("pymec", "torch", "torch ÷ pymec"))]
    for (i_n, n_threads), found in groups(records, "i_n", "n_threads").items():
        rows = []
        for record in found:
            row = [record.cell["layer"]]
            for gradient in GRADIENTS:
                names = [f"{gradient}, {library}" for library in ("pymec", "torch")]
                row += [number(1e6 * record.values[name]["best"], record, name) for name in names]
                row.append(number(torch_by_pymec(record, gradient), record, *names, form="{:.2f}"))
            rows.append(row)
        title = f"Microseconds of the best call, batch {i_n}, float32, {plural(n_threads)}"
        yield Table(title, header, rows, found, "gradients")


if __name__ == "__main__":
    sys.exit(main())
