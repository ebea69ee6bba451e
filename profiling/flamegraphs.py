"""Flame graphs of named cells: which line asked for which bytes at the peak of one ``pymec.conv2d`` call.

Each cell, a layer and an algorithm, is recorded in a fresh process after a warm-up, native stacks included,
and turned into an HTML page by memray's own reporter.

    python profiling/flamegraphs.py cv4:im2col cv4:mec
    python profiling/flamegraphs.py cv4:mec_banded --threads 2

Writes ``results/flamegraphs/<layer>-<algorithm>-t<threads>.html``, which opens without a network.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from _common import HERE, Cell, command_line, mib, progress

import pymec


def main(arguments: list[str] | None = None) -> int:
    """Record and render every cell; the exit status."""
    parser = command_line(__doc__)
    parser.add_argument("cells", nargs="+", type=layer_and_algorithm, metavar="layer:algorithm")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "flamegraphs", help="a folder")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    lines = []
    with progress(len(options.cells), "flame graphs") as step:
        for layer, algorithm in options.cells:
            cell = Cell(layer, pymec.layers.get(layer).shape(options.batch), algorithm, options.threads)
            page = options.output / f"{layer}-{algorithm}-t{options.threads}.html"
            report = render(cell, page)
            lines.append(f"{page}: workspace {mib(report.workspace)} MiB, peak {mib(report.peak)} MiB")
            step(str(cell))
    print("\n".join(lines))
    return 0


def layer_and_algorithm(text: str) -> tuple[str, str]:
    """An argparse type: ``cv4:mec``."""
    layer, _, algorithm = text.partition(":")
    if layer not in pymec.layers.names() or algorithm not in pymec.algorithms():
        raise argparse.ArgumentTypeError(
            f"{text!r} is not layer:algorithm with a layer of {', '.join(pymec.layers.names())} "
            f"and an algorithm of {', '.join(pymec.algorithms())}"
        )
    return layer, algorithm


def render(cell: Cell, page: Path) -> pymec.memory.MemoryReport:
    """Record one call and write its flame graph."""
    with tempfile.TemporaryDirectory(prefix="pymec-") as folder:
        record = Path(folder) / "record.bin"
        report = pymec.memory.measure_shape(cell.shape, cell.algorithm, n_threads=cell.n_threads, record=record)
        command = ["flamegraph", "--no-web", "--force", "--output", str(page), str(record)]
        done = subprocess.run([sys.executable, "-m", "memray", *command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"memray flamegraph failed for {cell}:\n{done.stderr.strip()}")
    return report


if __name__ == "__main__":
    sys.exit(main())
