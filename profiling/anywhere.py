"""Is what "auto" takes the best that pymec has, and that others have, on shapes far from the paper's?

Some 300 convolutions in families, each family with its motive.  On every one of them all of pymec's algorithms
that can do it are called.  Those within twice the time of the fastest then take turns with "auto", called and
planned, with ``accuracy="fast"``, and with what SciPy and torch offer for the same; every answer is checked.
The worst ratios are printed first.

    python profiling/anywhere.py --threads 1
    python profiling/anywhere.py --families grey,signals --json profiling/results/anywhere.json
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import (
    comma_integers,
    comma_list,
    command_line,
    geometric_mean,
    machine,
    machine_line,
    markdown_table,
    progress,
)
from _peers import CannotDo, symmetric_padding, to_oihw
from _timing import Canary, random_arrays, refuse_what_means_nothing, take_turns
from numpy.typing import NDArray

import pymec
from pymec import layouts, registry
from pymec.operations import OPERATIONS

CONTENDER = 2.0
"""An algorithm takes part if its first calls were no slower than this many times the fastest one's."""

HOPELESS = 10.0
"""Its first call is not repeated if it took this many times as long as the fastest so far."""

Call = Callable[[], Any]


# The shapes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    motive: str
    shapes: Callable[[], Iterator[pymec.ConvShape]]


def shape(n: int, h: int, w: int, c: int, k: Any, m: int, **options: Any) -> pymec.ConvShape:
    """An n-h-w-c image and a k_h × k_w filter with m outputs; padding="same" unless the options say otherwise."""
    k_h, k_w = k if isinstance(k, tuple) else (k, k)
    options = {"padding": ((k_h // 2, k_h // 2), (k_w // 2, k_w // 2)), **options}
    return pymec.ConvShape.from_shapes((n, h, w, c), (k_h, k_w, c // options.get("groups", 1), m), **options)


def grey() -> Iterator[pymec.ConvShape]:
    for h, w in ((256, 256), (512, 512), (1080, 1920)):
        for k in (3, 5, 7, 9, 15, 31, 63, 127):
            if h * w * k * k < 3e9:
                yield shape(1, h, w, 1, k, 1)
    for k in ((1, 31), (31, 1)):
        yield shape(1, 512, 512, 1, k, 1)
    for m in (2, 4, 8, 16, 32, 64):
        for k in (3, 7, 15):
            yield shape(1, 256, 256, 1, k, m)


def colour() -> Iterator[pymec.ConvShape]:
    for k, s in ((3, 1), (3, 2), (5, 1), (7, 2), (11, 4), (16, 16)):
        for m in (3, 8, 16, 32, 64):
            yield shape(1, 224, 224, 3, k, m, stride=s)


def signals() -> Iterator[pymec.ConvShape]:
    for length in (16_000, 500_000):
        for c, m in ((1, 1), (1, 4), (1, 16), (16, 16), (64, 64)):
            for k, s in ((3, 1), (8, 2), (25, 1), (101, 1)):
                if length * c * m * k / s < 3e9:
                    yield shape(1, 1, length, c, (1, k), m, stride=(1, s))
                    yield shape(1, length, 1, c, (k, 1), m, stride=(s, 1))


def few_channels() -> Iterator[pymec.ConvShape]:
    for c in (1, 2, 3, 4, 6, 8, 12):
        for m in (1, 2, 3, 5, 8, 12, 20):
            yield shape(1, 128, 128, c, 3, m)
    for c in (16, 64):  # few filters of many channels, as the last layers of a segmentation have
        for m in (1, 2, 4, 5, 8, 12):
            for k in (1, 3, (1, 9)):
                yield shape(1, 128, 128, c, k, m)


def many_channels() -> Iterator[pymec.ConvShape]:
    for c, pixels in ((512, 14), (1024, 7), (2048, 7), (512, 4), (1000, 10)):
        for k in (1, 3):
            yield shape(1, pixels, pixels, c, k, c if c < 2048 else 512)
    for c, m, pixels, k in ((1024, 1024, 14, 3), (1024, 1024, 28, 3), (512, 1024, 32, 3), (256, 2048, 14, 1)):
        yield shape(1, pixels, pixels, c, k, m)  # a row of K is a page of memory, or two


def depthwise() -> Iterator[pymec.ConvShape]:
    for c in (1, 3, 8, 16, 24, 31, 32, 64, 96, 144, 200, 256, 1000):
        for k in (3, 5, 9):
            pixels = 112 if c <= 64 else 28
            yield shape(1, pixels, pixels, c, k, c, groups=c)
            if k == 3:
                yield shape(1, pixels, pixels, c, k, c, groups=c, stride=2)
    for c in (16, 128):
        yield shape(1, 56, 56, c, 31, c, groups=c)
        yield shape(1, 56, 56, c, 3, c, groups=c, dilation=2)
    yield shape(1, 56, 56, 32, 3, 64, groups=32)


def groups() -> Iterator[pymec.ConvShape]:
    for g, c_g, m_g in (
        (2, 48, 48),
        (3, 5, 7),
        (32, 4, 4),
        (32, 8, 8),
        (7, 3, 3),
        (8, 6, 6),
        (5, 12, 24),
        (16, 1, 3),
    ):
        for k in (1, 3, 5):
            yield shape(1, 56, 56, g * c_g, k, g * m_g, groups=g)


def pointwise() -> Iterator[pymec.ConvShape]:
    for c, m, pixels in ((16, 96, 112), (24, 144, 56), (64, 64, 56), (3, 8, 224), (512, 512, 7), (320, 1280, 7)):
        for s in (1, 2):
            yield shape(1, pixels, pixels, c, 1, m, stride=s)


def sizes() -> Iterator[pymec.ConvShape]:
    for pixels in (1, 2, 3, 5, 8):
        for c, m in ((4, 4), (32, 32), (256, 256)):
            yield shape(1, pixels, pixels, c, 3, m)
    for c, m in ((1, 8), (3, 16), (8, 8), (16, 16)):
        yield shape(1, 1500, 1500, c, 3, m)
    yield shape(1, 1000, 15, 64, 1, 64)
    yield shape(1, 16, 4096, 16, 3, 16)


def planes() -> Iterator[pymec.ConvShape]:
    for c, pixels, k, s in ((3, 224, 7, 2), (64, 56, 3, 1), (64, 56, 1, 1), (128, 28, 3, 1), (256, 14, 3, 1),
                            (512, 14, 3, 1), (512, 7, 3, 1), (512, 7, 1, 1), (32, 112, 3, 2)):  # fmt: skip
        yield replace(shape(1, pixels, pixels, c, k, max(64, c), stride=s), layout="NCHW")
    yield replace(shape(1, 1000, 15, 64, 1, 64), layout="NCHW")
    for c, pixels, k, s in ((96, 112, 3, 1), (96, 112, 3, 2), (120, 28, 5, 1), (960, 7, 3, 1), (3, 512, 9, 1)):
        yield replace(shape(1, pixels, pixels, c, k, c, stride=s, groups=c), layout="NCHW")
    for c, pixels, m in ((32, 112, 16), (24, 56, 144), (576, 14, 96), (320, 7, 1280)):
        yield replace(shape(1, pixels, pixels, c, 1, m), layout="NCHW")
    yield replace(shape(8, 28, 28, 128, 3, 128), layout="NCHW")


def batches() -> Iterator[pymec.ConvShape]:
    for n in (8, 64, 256):
        for h, c, k, m in ((28, 1, 5, 6), (12, 6, 5, 16), (32, 3, 3, 32), (8, 64, 3, 64), (7, 256, 1, 256)):
            yield shape(n, h, h, c, k, m, padding=0)


FAMILIES = {
    "grey": Family("a grey photograph with one filter, or a few: what everybody tries first", grey),
    "colour": Family("the first layer of a network", colour),
    "signals": Family("one dimension, along rows and along columns", signals),
    "few": Family("fewer channels than a register has lanes", few_channels),
    "many": Family("many channels, few pixels: the kernel is larger than the image", many_channels),
    "depthwise": Family("a filter of its own for each channel, any number of these", depthwise),
    "groups": Family("groups of any size", groups),
    "pointwise": Family("1×1", pointwise),
    "sizes": Family("tiny images, large ones, narrow ones", sizes),
    "batches": Family("many small images", batches),
    "planes": Family("the layout of most networks, NCHW, beside the same arrays in NHWC", planes),
}


def described(s: pymec.ConvShape) -> str:
    """A shape in a few words, with what differs from the usual."""
    text = f"{s.i_n}×{s.i_h}×{s.i_w}×{s.i_c}, {s.k_h}×{s.k_w}, {s.k_c} outputs"
    for name, values in (("stride", (s.s_h, s.s_w)), ("dilation", (s.d_h, s.d_w))):
        if values != (1, 1):
            text += f", {name} {values[0]}×{values[1]}"
    text += f", {s.groups} groups" if s.groups > 1 else ""
    return text + (", NCHW" if s.layout == "NCHW" else "")


# One shape ----------------------------------------------------------------------------------------------


class Problem:
    """An operation on a shape: its operands, its answer in double precision, and the ways to get it."""

    def __init__(self, operation: str, s: pymec.ConvShape) -> None:
        self.operation, self.shape = operation, s
        x, kernel = random_arrays(s)
        grad_out = np.random.default_rng(1).standard_normal(s.output_shape, np.float32)
        arrays = {"input": x, "kernel": kernel, "output": grad_out}
        self.roles = OPERATIONS[operation].roles
        self.operands = arrays[self.roles[0]], arrays[self.roles[1]]  # in n-h-w-c and h-w-i-o
        self.function = getattr(pymec, operation)
        # In double precision by another algorithm than those that win; and the same of absolute values.
        name = "im2col_blocked" if operation == "conv2d" else "pixel_gemm"
        exact, absolute = (
            self.function(
                *(change(array).astype(np.float64) for array in self.operands),
                *self.shape_of_result("NHWC"),
                algorithm=name,
                **s.arguments,
            )
            for change in (np.asarray, np.abs)
        )
        self.expected, self.scale = exact, float(absolute.max())
        self.products = (
            math.prod(s.kernel_shape[:3]) if operation != "conv2d_kernel_grad" else s.i_n * s.o_h * s.o_w
        )

    def extents(self, role: str, layout: str) -> tuple[int, ...]:
        """The shape of an array in a layout."""
        return layouts.outer_extents(role, replace(self.shape, layout=layout))

    def shape_of_result(self, layout: str) -> tuple[Any, ...]:
        """What a gradient is told besides its operands."""
        return () if self.operation == "conv2d" else (self.extents(self.roles[2], layout),)

    def given(self, layout: str) -> list[NDArray]:
        """The operands in a layout, C-contiguous."""
        in_layout = replace(self.shape, layout=layout)
        return [
            np.ascontiguousarray(layouts.outer_view(array, role, in_layout))
            for array, role in zip(self.operands, self.roles, strict=False)
        ]

    def call(self, algorithm: str, n_threads: int, layout: str | None = None, **options: Any) -> Call:
        """A plain call, which allocates its workspace, with ``out`` given."""
        layout = layout or self.shape.layout
        out = np.full(self.extents(self.roles[2], layout), np.nan, np.float32)
        return partial(
            self.function,
            *self.given(layout),
            *self.shape_of_result(layout),
            out=out,
            algorithm=algorithm,
            n_threads=n_threads,
            layout=layout,
            **self.shape.arguments,
            **options,
        )

    def plan(self, algorithm: str, n_threads: int, layout: str | None = None, **options: Any) -> Call:
        """A call of a plan whose kernel is prepared and whose workspace is given."""
        layout = layout or self.shape.layout
        made = pymec.plan(
            self.extents("input", layout),
            self.extents("kernel", layout),
            algorithm=algorithm,
            n_threads=n_threads,
            operation=self.operation,
            layout=layout,
            **self.shape.arguments,
            **options,
        )
        operands = self.given(layout)
        if isinstance(made, pymec.ConvPlan):
            made.prepare(operands.pop())
        out = np.full(self.extents(self.roles[2], layout), np.nan, np.float32)
        return partial(made, *operands, out=out, workspace=np.empty(made.workspace_nbytes, np.uint8))

    def check(self, answer: NDArray, what: str, layout: str) -> None:
        """Exit at an answer that rounding does not explain."""
        answer = layouts.inner_view(answer, self.roles[2], replace(self.shape, layout=layout))
        off = float(np.max(np.abs(answer - self.expected), initial=0))
        if not off <= self.scale * max(1e-5, 2e-7 * math.sqrt(self.products)):
            sys.exit(f"wrong answer: {what} is off by {off:.3g} of {self.scale:.3g}; nothing was timed after that")


def peers(problem: Problem, n_threads: int) -> dict[str, Call]:
    """What others offer for the same forward convolution of one image; answers in n-h-w-c."""
    found = {}
    for name, make in (
        ("torch", torch_call),
        ("ndimage", ndimage_call),
        ("scipy direct", scipy_direct),
        ("scipy oaconvolve", scipy_oaconvolve),
    ):
        try:
            found[name] = make(problem.shape, *problem.operands, n_threads)
        except (CannotDo, ImportError):
            continue
    return found


def torch_call(s: pymec.ConvShape, x: NDArray, kernel: NDArray, n_threads: int) -> Call:
    """``conv2d`` on channels-last tensors, or on contiguous ones where there is a single channel."""
    import torch

    torch.set_num_threads(n_threads)
    where = {"stride": (s.s_h, s.s_w), "padding": symmetric_padding(s), "dilation": (s.d_h, s.d_w)}
    image = torch.from_numpy(x).permute(0, 3, 1, 2)
    weight = torch.from_numpy(to_oihw(kernel)).contiguous(memory_format=torch.channels_last)

    def run() -> NDArray:
        with torch.inference_mode():
            return np.asarray(
                torch.nn.functional.conv2d(image, weight, **where, groups=s.groups).permute(0, 2, 3, 1)
            )

    return run


def one_channel(s: pymec.ConvShape) -> None:
    """SciPy filters planes: one channel in and out, odd filters, stride 1, zeros as far as the filter reaches."""
    same = (s.p_t, s.p_b, s.p_l, s.p_r) == (s.k_h // 2, s.k_h // 2, s.k_w // 2, s.k_w // 2)
    plain = (s.i_n, s.i_c, s.k_c, s.s_h, s.s_w, s.d_h, s.d_w) == (1,) * 7
    if not (same and plain and s.k_h % 2 and s.k_w % 2):
        raise CannotDo


def ndimage_call(s: pymec.ConvShape, x: NDArray, kernel: NDArray, n_threads: int) -> Call:
    """``scipy.ndimage.correlate``."""
    from scipy import ndimage

    one_channel(s)
    return lambda: ndimage.correlate(x[0, ..., 0], kernel[..., 0, 0], mode="constant")[None, ..., None]


def scipy_direct(s: pymec.ConvShape, x: NDArray, kernel: NDArray, n_threads: int) -> Call:
    """``scipy.signal.correlate`` by the definition."""
    from scipy import signal

    one_channel(s)
    if s.multiply_adds > 3e9:
        raise CannotDo
    return lambda: signal.correlate(x[0, ..., 0], kernel[..., 0, 0], "same", "direct")[None, ..., None]


def scipy_oaconvolve(s: pymec.ConvShape, x: NDArray, kernel: NDArray, n_threads: int) -> Call:
    """``scipy.signal.oaconvolve``, by Fourier transforms: to be compared with ``accuracy="fast"``."""
    from scipy import signal

    one_channel(s)
    return lambda: signal.oaconvolve(x[0, ..., 0], kernel[::-1, ::-1, 0, 0], "same")[None, ..., None]


# Measuring ----------------------------------------------------------------------------------------------


def screened(makers: dict[Any, Callable[[], Call]], problem: Problem, layout: str) -> dict[Any, Call]:
    """The calls no slower than CONTENDER times the fastest, by three first calls of each; answers checked."""
    kept: dict[Any, tuple[float, Call]] = {}
    fastest = math.inf
    for label, make in makers.items():
        call = make()
        best = math.inf
        for _ in range(3):
            start = time.perf_counter()
            answer = call()
            best = min(best, time.perf_counter() - start)
            if best > HOPELESS * fastest:
                break
        problem.check(answer, f"{label} on {described(problem.shape)}", layout)
        fastest = min(fastest, best)
        kept[label] = best, call
        kept = {name: entry for name, entry in kept.items() if entry[0] <= CONTENDER * fastest}
    return {label: call for label, (_, call) in kept.items()}


def measure(problem: Problem, n_threads: int, seconds: float, canary: Canary) -> dict[str, Any]:
    """The best time of every way that took part, by what it is compared with."""
    s, operation = problem.shape, problem.operation
    able = [name for name, row in registry.TABLES[operation].items() if row.unsupported(s) is None]
    calls: dict[Any, Call] = {}
    for way in ("call", "plan"):
        makers = {name: partial(getattr(problem, way), name, n_threads) for name in able}
        calls |= {(way, name): call for name, call in screened(makers, problem, s.layout).items()}
        calls[way, "auto"] = getattr(problem, way)("auto", n_threads)
        if operation == "conv2d":
            calls[way, "fast"] = getattr(problem, way)("auto", n_threads, accuracy="fast")
    if operation == "conv2d":
        others = {name: (lambda call=call: call) for name, call in peers(problem, n_threads).items()}
        calls |= {("peer", name): call for name, call in screened(others, problem, "NHWC").items()}
    if s.layout != "NHWC":
        calls |= {("NHWC", way): getattr(problem, way)("auto", n_threads, "NHWC") for way in ("call", "plan")}
    for (way, name), call in calls.items():
        problem.check(call(), f"{way} {name} on {described(s)}", s.layout if way in ("call", "plan") else "NHWC")
    times = take_turns(calls, n_threads, seconds, canary)
    return {label: min(found) for label, found in times.items() if found}


def ratios_of(best: dict[Any, float], operation: str) -> dict[str, tuple[float, str]]:
    """For each question the ratio and the fastest rival.

    Among pymec's own no ratio is below 1, as the choice is one of them: what noise there is makes means larger.
    """
    exact = {name for name, row in registry.TABLES[operation].items() if row.accuracy == "exact"}
    found = {}
    for way in ("call", "plan"):
        own = {name: t for (kind, name), t in best.items() if kind == way and name not in ("auto", "fast")}
        for choice, allowed in (("auto", exact), ("fast", set(own))):
            rivals = {name: t for name, t in own.items() if name in allowed}
            if (way, choice) in best and rivals:
                name = min(rivals, key=lambda key: rivals[key])
                found[f"{choice} {way}"] = (best[way, choice] / min(rivals[name], best[way, choice]), name)
        if ("NHWC", way) in best and (way, "auto") in best:
            found[f"{way} beside NHWC"] = (best[way, "auto"] / best["NHWC", way], "NHWC")
    for choice, names in (("auto", ("torch", "ndimage", "scipy direct")), ("fast", ("scipy oaconvolve",))):
        rivals = {name: best["peer", name] for name in names if ("peer", name) in best}
        if rivals and ("call", choice) in best:
            name = min(rivals, key=lambda key: rivals[key])
            found[f"{choice} beside others"] = (best["call", choice] / rivals[name], name)
    return found


# The script ---------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Time every shape, print the worst ratios and each family's geometric mean; 1 if a shape is missing."""
    options = parse(arguments)
    refuse_what_means_nothing(options.threads)
    canary = Canary(options.patience)
    cases = [(name, s) for name in options.families for s in FAMILIES[name].shapes()]
    cases = [(name, s) for name, s in cases if s.multiply_adds <= options.largest]
    print(f"{machine_line()}\n")
    records, missing = [], False
    with progress(len(cases) * len(options.threads) * len(options.operations), "anywhere") as step:
        for family, s in cases:
            for operation in options.operations:
                problem = Problem(operation, s)
                time.sleep(0.05)  # until BLAS's own threads have gone to sleep
                for n_threads in options.threads:
                    best = measure(problem, n_threads, options.seconds, canary)
                    missing |= not best
                    for question, (ratio, rival) in ratios_of(best, operation).items():
                        record = {"family": family, "shape": described(s), "operation": operation}
                        record |= {"n_threads": n_threads, "question": question}
                        records.append(record | {"ratio": ratio, "rival": rival})
                    step(f"{family} {described(s)} {operation} t{n_threads}")
    print_tables(records, options)
    print(canary)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        found = {"machine": machine(), "records": records, "canary": canary.as_dict()}
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if missing else 0


def print_tables(records: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """The worst ratios of each question, then the families."""
    questions = list(dict.fromkeys(record["question"] for record in records))
    for question in questions:
        asked = sorted((r for r in records if r["question"] == question), key=lambda r: -r["ratio"])
        print(f"{question}: time ÷ that of the best, the worst of {len(asked)}\n")
        rows = [
            [r["family"], r["shape"], r["operation"], str(r["n_threads"]), f"{r['ratio']:.2f}", r["rival"]]
            for r in asked[: options.worst]
        ]
        print(markdown_table(["family", "shape", "operation", "threads", "ratio", "best"], rows) + "\n")
    rows = []
    for family in options.families:
        row = [family]
        for question in questions:
            found = [r["ratio"] for r in records if (r["family"], r["question"]) == (family, question)]
            row.append(f"{geometric_mean(found):.2f}" if found else "-")
        rows.append(row)
    print(markdown_table(["geometric means", *questions], rows))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--families", type=comma_list(list(FAMILIES)), default=list(FAMILIES))
    parser.add_argument("--operations", type=comma_list(list(registry.TABLES)), default=["conv2d"])
    parser.add_argument("--threads", type=comma_integers, default=[1, 2])
    parser.add_argument("--largest", type=float, default=1e9, help="multiply-adds of the largest shape")
    parser.add_argument("--seconds", type=float, default=0.05, help="timing of one way on one shape")
    parser.add_argument("--patience", type=int, default=40, help="dropped bursts before a shape is given up")
    parser.add_argument("--worst", type=int, default=20, help="rows of each table")
    parser.add_argument("--json", type=Path, help="write every ratio here, too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
