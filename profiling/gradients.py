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
from typing import Any

import numpy as np
from _common import (
    comma_integers,
    comma_list,
    command_line,
    geometric_mean,
    machine_line,
    markdown_table,
    progress,
)
from _peers import symmetric_padding
from _timing import Canary, check, random_arrays, refuse_what_means_nothing, take_turns
from numpy.typing import NDArray

import pymec
from pymec import reference

GRADIENTS = ("input", "kernel")


def main(arguments: list[str] | None = None) -> int:
    """Time every layer and print a table for each number of threads; 1 if some cell is missing."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    canary = Canary(options.patience)
    print(f"{machine_line()}\n")
    missing = False
    for i_n, n_threads in itertools.product(options.batch, options.threads):
        rows, ratios = [], {gradient: [] for gradient in GRADIENTS}
        with progress(len(options.layers), f"gradients b{i_n} t{n_threads}") as step:
            for name in options.layers:
                times = measure(pymec.layers.get(name).shape(i_n), n_threads, options.seconds, canary)
                row = [name]
                for gradient in GRADIENTS:
                    ours, torchs = times[gradient, "pymec"], times[gradient, "torch"]
                    row += ["-" if not found else f"{1e6 * min(found):.0f}" for found in (ours, torchs)]
                    row.append(f"{min(torchs) / min(ours):.2f}" if ours and torchs else "-")
                    if ours and torchs:
                        ratios[gradient].append(min(torchs) / min(ours))
                missing |= "-" in row
                rows.append(row)
                step(name)
        print(f"float32, batch {i_n}, threads: {n_threads}; µs of the best call\n")
        columns = [f"{gradient}, {what}" for gradient in GRADIENTS for what in ("pymec", "torch", "torch ÷ pymec")]
        print(markdown_table(["layer", *columns], rows) + "\n")
        for gradient, found in ratios.items():
            if found:
                print(f"- {gradient}: geometric mean {geometric_mean(found):.2f}, least {min(found):.2f}")
        print()
    print(canary)
    return 1 if missing else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.names()), default=list(pymec.layers.PAPER))
    parser.add_argument("--batch", type=comma_integers, default=[1])
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=0.3, help="timing of one gradient of one layer")
    parser.add_argument("--patience", type=int, default=40, help="dropped bursts before a cell is given up")
    return parser.parse_args(arguments)


def measure(shape: pymec.ConvShape, n_threads: int, seconds: float, canary: Canary) -> Any:
    """The times of both libraries' gradients, by gradient and library."""
    x, kernel = random_arrays(shape)
    grad_out = np.random.default_rng(1).standard_normal(shape.output_shape).astype(shape.dtype)
    calls = {}
    for gradient in GRADIENTS:
        calls[gradient, "pymec"] = pymec_gradient(gradient, shape, x, kernel, grad_out, n_threads)
        calls[gradient, "torch"] = torch_gradient(gradient, shape, x, kernel, grad_out, n_threads)
    exact = {
        "input": reference.input_grad(grad_out, kernel, shape),
        "kernel": reference.kernel_grad(x, grad_out, shape),
    }
    bounds = {
        "input": reference.input_grad_bound(grad_out, kernel, shape),
        "kernel": reference.kernel_grad_bound(x, grad_out, shape),
    }
    for (gradient, library), call in calls.items():
        check(call(), exact[gradient], bounds[gradient], f"{library}'s gradient of the {gradient}")
    return take_turns(calls, n_threads, seconds, canary)


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


if __name__ == "__main__":
    sys.exit(main())
