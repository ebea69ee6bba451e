"""How much memory whole networks take above their weights: pymec's calls and plans, and torch.

ResNet-18 and MobileNetV2 with random weights, batch-norm folded into bias, no classifier.  Each network runs in a
process of its own.  It loads the library, makes the weights and the input, notes its resident memory, runs the
network twice and reports the peak above that note.  Plans are made in the first run; they keep their kernels in
the form that they multiply with and give the arrays up, so that form takes the place of the noted weights.
The last feature maps of all ways are compared.

    python profiling/networks.py --batch 1,8 --threads 2
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from _common import comma_integers, comma_list, command_line, mib, progress
from _store import RESULTS, Record, Store
from _tables import Table, contenders, groups, plural, show
from _ways_to_convolve import WAYS, Calls

import pymec

TOLERANCE = 1e-3
"""The largest difference between two ways, relative to the largest output: their sums are in other orders."""


# The networks -------------------------------------------------------------------------------------------


class Network:
    """The layers of a network, made when they are first asked for and then run by number."""

    def __init__(self, library: Calls) -> None:
        self.library = library
        self.rng = np.random.default_rng(3)
        self.sizes: list[tuple[int, ...]] = []
        self.number = 0

    def make(self, i_c: int, k_c: int, k: int, stride: int, groups: int) -> None:
        """Weights that keep the size of the numbers."""
        scale = np.float32((2 / (k * k * i_c // groups)) ** 0.5)
        kernel = self.rng.standard_normal((k, k, i_c // groups, k_c), np.float32) * scale
        self.library.add(kernel, self.rng.standard_normal(k_c, np.float32), stride, groups)

    def conv(self, x: Any, relu: bool = True) -> Any:
        """The next layer."""
        self.number += 1
        return self.library.convolve(self.number - 1, x, relu)


class ResNet18(Network):
    """He et al. 2015: a 7 × 7 layer, max-pooling, and eight blocks of two 3 × 3 layers."""

    BLOCKS = tuple((k_c, 2 if k_c > 64 and not block else 1) for k_c in (64, 128, 256, 512) for block in (0, 1))

    def build(self) -> None:
        """All weights."""
        self.make(3, 64, 7, 2, 1)
        i_c = 64
        for k_c, stride in self.BLOCKS:
            self.make(i_c, k_c, 3, stride, 1)
            if stride > 1:
                self.make(i_c, k_c, 1, stride, 1)
            self.make(k_c, k_c, 3, 1, 1)
            i_c = k_c

    def run(self, x: Any) -> Any:
        """The last feature map."""
        self.number = 0
        x = self.library.max_pool(self.conv(x))
        for _, stride in self.BLOCKS:
            y = self.conv(x)
            x = self.conv(x, relu=False) if stride > 1 else x
            x = self.library.add_and_relu(x, self.conv(y, relu=False))
        return x


class MobileNetV2(Network):
    """Sandler et al. 2018: seventeen blocks, each to more channels, filtered one by one, and back to few."""

    STAGES = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    """Times more channels, output channels, blocks, stride of the first block."""

    def blocks(self) -> Any:
        """Input channels, inner channels, output channels and stride of each block."""
        i_c = 32
        for more, k_c, count, stride in self.STAGES:
            for block in range(count):
                yield i_c, more * i_c, k_c, 1 if block else stride
                i_c = k_c

    def build(self) -> None:
        """All weights."""
        self.make(3, 32, 3, 2, 1)
        for i_c, inner, k_c, stride in self.blocks():
            if inner > i_c:
                self.make(i_c, inner, 1, 1, 1)
            self.make(inner, inner, 3, stride, inner)
            self.make(inner, k_c, 1, 1, 1)
        self.make(320, 1280, 1, 1, 1)

    def run(self, x: Any) -> Any:
        """The last feature map."""
        self.number = 0
        x = self.conv(x)
        for i_c, inner, k_c, stride in self.blocks():
            y = self.conv(x) if inner > i_c else x
            y = self.conv(self.conv(y), relu=False)
            if stride == 1 and i_c == k_c:
                y += x
            x = y
        return self.conv(x)


NETWORKS = {"ResNet-18": ResNet18, "MobileNetV2": MobileNetV2}


# Measuring ----------------------------------------------------------------------------------------------


def resident(kind: str) -> int:
    """Bytes of this process that are, or at their most were, in memory: "VmRSS" or "VmHWM"."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind + ":"))


def measure_here(name: str, way: str, i_n: int, n_threads: int, answer: Path) -> dict[str, Any]:
    """In a process of its own: the bytes of the weights, and the peak above weights and input."""
    library = WAYS[way](n_threads)
    warm = np.zeros((1, 9, 9, 16), np.float32)
    library.add(np.zeros((3, 3, 16, 16), np.float32), np.zeros(16, np.float32), 1, 1)
    library.convolve(0, library.input(warm), True)  # threads and code
    library.layers.clear()
    network = NETWORKS[name](library)
    network.build()
    x = library.input(np.random.default_rng(4).standard_normal((i_n, 224, 224, 3), np.float32))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    base = resident("VmRSS")
    for _ in range(2):
        out = network.run(x)
    plans = [layer[0] for layer in library.layers if isinstance(layer[0], pymec.ConvPlan)]
    found = {"peak": resident("VmHWM") - base, "algorithms": sorted({plan.algorithm for plan in plans})}
    np.save(answer, library.output(out))
    return found


def measure(name: str, way: str, i_n: int, n_threads: int, answer: Path) -> dict[str, Any]:
    """The peak that a fresh process reports, and the algorithms of its plans."""
    cell = json.dumps([name, way, i_n, n_threads, str(answer)])
    done = subprocess.run([sys.executable, __file__, "--cell", cell], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} by {way} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def main(arguments: list[str] | None = None) -> int:
    """Measure every network, batch and way, and print a table."""
    options = parse(arguments)
    if options.cell is not None:
        name, way, i_n, n_threads, answer = json.loads(options.cell)
        print(json.dumps(measure_here(name, way, i_n, n_threads, Path(answer))))
        return 0
    ways = [way for way in WAYS if way != "torch" or find_spec("torch")]
    store = Store("networks", options.records)
    cells = [
        {"network": name, "i_n": i_n, "n_threads": options.threads}
        for name, i_n in itertools.product(options.networks, options.batch)
    ]
    wanted = [cell for cell in cells if options.again or not store.known(cell, ways)]
    with TemporaryDirectory() as folder, progress(len(wanted), "networks") as step:
        for cell in wanted:
            answers = [Path(folder) / f"{number}.npy" for number in range(len(ways))]
            values = {
                way: measure(cell["network"], way, cell["i_n"], cell["n_threads"], answer)
                for way, answer in zip(ways, answers, strict=True)
            }
            agree(answers, ways)
            algorithms = sorted({name for value in values.values() for name in value.pop("algorithms")})
            store.add(cell, values, algorithms)
            step(f"{cell['network']}, batch {cell['i_n']}")
    show(tables(store.here(cells)))
    return 0


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """A table for each number of threads, a row per network and batch."""
    for (n_threads,), found in groups(records, "n_threads").items():
        ways = contenders(found)
        rows = []
        for record in found:
            peaks = [mib(record.values[way]["peak"]) if way in record.values else "-" for way in ways]
            marks = record.marks()
            rows.append([record.cell["network"], str(record.cell["i_n"]), *(peak + marks for peak in peaks)])
        title = f"MiB above weights and input, float32, {plural(n_threads)}"
        yield Table(title, ["network", "batch", *ways], rows, found, "networks")


def agree(answers: list[Path], ways: list[str]) -> None:
    """Exit if two ways differ by more than rounding."""
    first = np.load(answers[0])
    for answer, way in zip(answers[1:], ways[1:], strict=True):
        difference = np.abs(np.load(answer) - first).max() / np.abs(first).max()
        if not difference < TOLERANCE:
            sys.exit(f"{way} differs from {ways[0]} by {difference:.1e} of the largest output")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--networks", type=comma_list(tuple(NETWORKS)), default=list(NETWORKS))
    parser.add_argument("--batch", type=comma_integers, default=[1, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="measure what is known, too")
    parser.add_argument("--records", type=Path, default=RESULTS, help="the folder of the records")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
