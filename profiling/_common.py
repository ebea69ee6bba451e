"""What the scripts of this folder share: measuring cells, progress, tables, figures, the machine."""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pymec
from pymec.versions import versions

HERE = Path(__file__).resolve().parent
MIB = 2**20
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"  # Okabe and Ito's: told apart by everybody


# The command line ---------------------------------------------------------------------------------------


def command_line(docstring: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the script's own docstring."""
    return argparse.ArgumentParser(
        description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )


def comma_list(known: Sequence[str]) -> Callable[[str], list[str]]:
    """An argparse type: some of ``known``, separated by commas; "all", or a network's name for all its layers.

    The paper's twelve layers have no network in their names; they are ``paper``.
    """

    def parse(text: str) -> list[str]:
        chosen = []
        for name in text.split(","):
            found = [name] if name in known else [one for one in known if name in ("all", network_of(one))]
            if not found:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
            chosen += found
        return chosen

    return parse


def network_of(layer: str) -> str:
    """The network in a layer's name, or ``paper``."""
    network, _, of_network = layer.partition(".")
    return network if of_network else "paper"


def comma_integers(text: str) -> list[int]:
    """An argparse type: positive integers, separated by commas."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of positive integers such as 1,2")
    return numbers


def usable_cpus() -> int:
    """The CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# Measuring memory ---------------------------------------------------------------------------------------


class Cell(NamedTuple):
    """One call whose memory is measured; ``name`` is its layer's name, or another label."""

    name: str
    shape: pymec.ConvShape
    algorithm: str
    n_threads: int = 1
    operation: str = "conv2d"

    def __str__(self) -> str:
        which = "" if self.operation == "conv2d" else f"{self.operation} "
        return f"{self.name} {which}{self.algorithm} t{self.n_threads} n{self.shape.i_n} {self.shape.dtype}"


def measure_cells(
    cells: Iterable[Cell], workers: int, title: str
) -> Iterator[tuple[Cell, pymec.memory.MemoryReport | Exception]]:
    """Measure every cell in a fresh process, ``workers`` of them at once; yield each as it finishes.

    A process that fails yields its error in place of a report: the other cells go on.
    """
    if find_spec("memray") is None:
        sys.exit("memray is not installed (it exists for Linux and macOS): pip install 'pymec[profile]'")
    cells = list(cells)
    with pymec.memory.side_by_side(workers) as submit:
        jobs = {
            submit(cell.shape, cell.algorithm, operation=cell.operation, n_threads=cell.n_threads): cell
            for cell in cells
        }
        with progress(len(cells), title) as step:
            for job in as_completed(jobs):
                error = job.exception()
                if error is not None and not isinstance(error, (RuntimeError, MemoryError)):
                    raise error
                step(str(jobs[job]))
                yield jobs[job], error or job.result()


@contextmanager
def progress(total: int, title: str) -> Iterator[Callable[[str], None]]:
    """``step(what)`` reports one step done: in a bar on a terminal, as a line elsewhere, both on stderr."""
    if sys.stderr.isatty() and find_spec("rich"):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        columns += (TextColumn("{task.fields[what]}"),)
        # No automatic refresh: its thread would disturb the timings.
        with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as bar:
            task = bar.add_task(title, total=total, what="")
            yield lambda what: bar.update(task, advance=1, what=what, refresh=True)
        return
    done = 0

    def step(what: str) -> None:
        nonlocal done
        done += 1
        print(f"{title} {done}/{total}: {what}", file=sys.stderr, flush=True)

    yield step


# Writing ------------------------------------------------------------------------------------------------


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column left-aligned, the others right-aligned, readable as text."""
    lines = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    padded = (
        [line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def counted(count: int, noun: str) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{count} {noun}{'s' if count != 1 else ''}"


def mib(nbytes: int) -> str:
    """Bytes in MiB, three decimals."""
    return f"{nbytes / MIB:.3f}"


def geometric_mean(values: Iterable[float]) -> float:
    """The geometric mean, which suits ratios; NaN if there are none."""
    logs = [math.log(value) for value in values]
    return math.exp(math.fsum(logs) / len(logs)) if logs else math.nan


def machine() -> dict[str, str]:
    """What a number depends on beside the code: CPU, versions, BLAS, build."""
    found = versions()
    found["pymec"] = pymec.__version__
    found["platform"] = f"{platform.system()} {platform.machine()}"
    return found


def machine_line() -> str:
    """The machine in one line, to print with a table."""
    found = machine()
    parts = [found["cpu"], *(f"{name} {found[name]}" for name in ("python", "numpy", "scipy", "pymec"))]
    parts += [f"BLAS {value}" for name, value in found.items() if name.startswith("blas of pymec")]
    return ", ".join(parts)


def save_figure(figure: Any, path: Path) -> None:
    """Write an SVG that is the same, byte for byte, whenever its data is."""
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "pymec", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    print(f"figure: {path}", file=sys.stderr)
