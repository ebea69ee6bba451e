"""Flame graphs of named cells: which line asked for which bytes at the peak of one ``pymec.conv2d`` call.

Each cell, a layer and an algorithm, is recorded in a fresh process after a warm-up, native stacks included,
and turned into an HTML page by memray's own reporter.  The page and its root frame are named after the cell.

    python profiling/flamegraphs.py cv4:im2col cv4:mec
    python profiling/flamegraphs.py cv4:mec_banded --threads 2

Writes ``flamegraphs/<layer>_<algorithm>.html`` into the current folder.  memray puts its scripts, 4.5 MB, into
every page; here they are files beside the pages, once for all, in ``flamegraphs/shared``.  Neither needs a
network.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from _common import HERE, Cell, command_line, mib, progress

import pymec
from pymec.memory.flamegraphs import draw


def main(arguments: list[str] | None = None) -> int:
    """Record and render every cell; the exit status."""
    parser = command_line(__doc__)
    parser.add_argument("cells", nargs="+", type=layer_and_algorithm, metavar="layer:algorithm")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("flamegraphs"), help="a folder")
    options = parser.parse_args(arguments)
    lines = []
    with progress(len(options.cells), "flame graphs") as step:
        for layer, algorithm in options.cells:
            cell = Cell(layer, pymec.layers.get(layer).shape(options.batch), algorithm, options.threads)
            page = options.output / f"{name_of(cell)}.html"
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


def name_of(cell: Cell) -> str:
    """``cv4_mec``, and what is not as usual: ``cv4_mec_t2_n4`` with two threads and four images."""
    more = f"_t{cell.n_threads}" * (cell.n_threads > 1) + f"_n{cell.shape.i_n}" * (cell.shape.i_n > 1)
    return f"{cell.name}_{cell.algorithm}{more}"


def render(cell: Cell, page: Path) -> pymec.memory.MemoryReport:
    """Record one call and write its flame graph, named after the cell, its scripts in a folder beside it."""
    page.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pymec-") as folder:
        record = Path(folder) / "record.bin"
        report = pymec.memory.measure_shape(cell.shape, cell.algorithm, n_threads=cell.n_threads, record=record)
        try:
            draw(record, page, shared="shared")
        except RuntimeError as error:
            sys.exit(f"{cell}: {error}")
    page.write_text(named(page.read_text(encoding="utf-8"), page.stem), encoding="utf-8")
    return report


def named(text: str, name: str) -> str:
    """memray's page with a name in title, head and root frame; paths begin at the repository's root."""
    text = text.replace(f"{HERE.parent}/", "")
    text = re.sub(r"<title>.*?</title>", f"<title>{name}</title>", text, count=1, flags=re.DOTALL)
    return text.replace("flamegraph report", f"flame graph of {name}").replace(
        '"\\u003croot\\u003e"', f'"{name}"', 1
    )


if __name__ == "__main__":
    sys.exit(main())
