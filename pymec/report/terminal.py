"""The report in a terminal: a progress bar while it works, a table at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pymec.figures import factor, times
from pymec.report.records import Cell, LayerRun, Run

Tell = Callable[[str, str, int, int], None]


@contextmanager
def progress() -> Iterator[Tell]:
    """A progress bar on stderr (stdout is for results), or a line per layer if stderr is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def tell(layer: str, what: str, done: int, total: int) -> None:
            bar.update(task, description=f"{layer:<5} {what:<27}", completed=done, total=total)

        yield tell


def _plain_lines() -> Tell:
    told = ""

    def tell(layer: str, what: str, done: int, total: int) -> None:
        nonlocal told
        if layer != told:
            told = layer
            print(f"[{done:>{len(str(total))}}/{total}] {layer}", file=sys.stderr, flush=True)

    return tell


def print_run(run: Run, output: str) -> None:
    """Print the table of all cells, the failures, and the summary."""
    # A pipe has no width; 100 columns hold the whole table.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    console.print(_table(run))
    for sentence in run.failures:
        console.print(f"[bold red]FAILED[/] {sentence}")
    console.print(
        f"{run.n_exact} of {len(run.cells)} cells agree to the byte, "
        f"{run.n_correct} of {len(run.cells)} are within rounding of the oracle."
    )
    for name, kind in ((run.published, "published"), ("mec", "tuned"), ("mec_banded", "tuned, in bands")):
        saving = None if name is None else run.mean_saving(name)
        if name is not None and saving is not None:
            slowdown = run.mean_slowdown(name)
            pace = "" if slowdown is None else f", its time {times(slowdown)} of im2col's"
            console.print(
                f"On average the workspace of MEC {kind} ({name}) is {factor(saving)} smaller than im2col's{pace}."
            )
    console.print(f"BLAS's kernels: {run.blas_kernels}.")
    if run.blas_warning:
        console.print(f"[bold]Warning:[/] {run.blas_warning}. im2col looks slower than it is.")
    console.print(f"The page: {output}")


def _table(run: Run) -> Table:
    table = Table(
        title=f"batch {run.batch}, {run.n_threads} threads, float32",
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    table.add_column("layer", no_wrap=True)
    table.add_column("algorithm", no_wrap=True)
    for heading in ("predicted", "measured"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("equal", justify="center")
    for heading in ("im2col ÷ it", "time ÷ im2col's"):
        table.add_column(heading, justify="right")
    for layer in run.layers:
        for i, cell in enumerate(layer.cells):
            table.add_row(layer.name if i == 0 else "", cell.algorithm, *_figures(layer, cell))
        table.add_section()
    return table


def _figures(layer: LayerRun, cell: Cell) -> tuple[str, ...]:
    if cell.memory is None:
        return "-", "-", "can't" if cell.error is None else "[bold red]not run[/]", "-", "-"
    verdict = "yes" if cell.exact else "[bold red]NO[/]"
    if not cell.correct:
        verdict = "[bold red]wrong result[/]"
    return (
        f"{cell.memory.predicted:,}",
        f"{cell.memory.workspace:,}",
        verdict,
        factor(layer.saving(cell.algorithm)),
        times(layer.slowdown(cell.algorithm)),
    )
