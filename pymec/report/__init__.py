"""The report: algorithms on layers, checked, timed, and measured to the byte.

One direction again, and a file per stage::

    picture ──▶ collect ──▶ records ──▶ terminal            (rich: progress, table)
    a photograph   runs        what      plots ──▶ page      (matplotlib, jinja2: index.html)
    becomes        it all      was found
    activations

``records`` imports nothing but the library, so a run can be read without the other files.  The optional packages
(``pip install 'pymec[profile]'``) are imported in :func:`build`, not with this package.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pymec import _build_info, layers, registry, threads
from pymec.spelling import did_you_mean

if TYPE_CHECKING:
    from pymec.report.collect import Progress
    from pymec.report.records import Run

REQUIRES = ("memray", "matplotlib", "PIL", "jinja2", "rich")
"""The modules that the report needs beside the library's own."""

TELLING = (
    "direct",
    "im2col",
    "im2col_blocked",
    "mec_vanilla",
    "mec_a",
    "mec_b",
    "mec",
    "mec_banded",
    "mec_w",
    "pixel_gemm",
    "filter_row_gemm",
    "kn2row_aa",
    "indirect",
    "direct_blocked",
    "winograd_f4",
    "winograd_f4_banded",
    "fft",
)
"""What the report runs by default: the paper's algorithms, and the rivals that are not slow."""

FLAME_GRAPHS = ("im2col", "mec")
"""Algorithms whose memory is also shown as memray's flame graph, on the layer with the largest lowered matrix."""


def build(
    layer_names: Sequence[str] = layers.PAPER,
    algorithms: Sequence[str] | None = None,
    *,
    batch: int = 1,
    n_threads: int | None = None,
    output: str | Path = "report",
    progress: Progress | None = None,
) -> Run:
    """Run algorithms on layers and write the results to a folder.

    Parameters
    ----------
    layer_names : sequence of str
        Names that :func:`pymec.layers.get` knows; by default the paper's twelve.
    algorithms : sequence of str, optional
        By default those of :data:`TELLING`; ``["all"]`` means every algorithm.
    batch : int
        Images per call.
    n_threads : int, optional
        By default all the CPUs this process may use.
    output : path
        The folder: ``index.html``, ``memory.svg``, ``report.json`` and the flame graphs with their scripts are
        written there.
    progress : callable, optional
        Called before each step; see :data:`pymec.report.collect.Progress`.

    Returns
    -------
    Run
        The results.  ``run.failures`` names the cells that are wrong; it is empty if all is well.
    """
    # The user's mistakes are found first, before minutes of work and before any import can fail.
    if not _build_info.OPENMP:
        raise ValueError(
            "a report needs a build with OpenMP: on one thread its timings mean nothing; "
            "rebuild with a compiler that has it (see pymec versions)"
        )
    chosen = [layers.get(name) for name in dict.fromkeys(layer_names)]
    algorithms = _known(algorithms)
    if not chosen:
        raise ValueError(f"layers must name at least one of {', '.join(layers.names())}")
    if batch < 1:
        raise ValueError(f"batch must be a positive integer, got {batch}")
    n_threads = threads.effective_n_threads(n_threads)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"output {str(folder)!r} can't be written")

    from pymec import svg
    from pymec.report import collect, page, plots
    from pymec.report.picture import Activations

    activations = Activations(batch)
    with tempfile.TemporaryDirectory(prefix="pymec-report-") as scratch:
        run = collect.collect(chosen, algorithms, activations, n_threads, Path(scratch), FLAME_GRAPHS, progress)
        flame_graphs = collect.draw_flame_graphs(Path(scratch), folder)
    (folder / "report.json").write_text(json.dumps(run.as_dict(), indent=1) + "\n", encoding="utf-8")
    (folder / "memory.svg").write_text(svg.standalone(plots.memory_overview(run)), encoding="utf-8")
    pages = folder / "algorithms"
    pages.mkdir(exist_ok=True)
    for name in run.algorithms:
        (pages / f"{name}.html").write_text(page.render_algorithm(run, name), encoding="utf-8")
    (folder / "index.html").write_text(page.render(run, activations, flame_graphs), encoding="utf-8")
    return run


def _known(algorithms: Sequence[str] | None) -> Sequence[str]:
    """The names of algorithms to run, each once."""
    known = registry.names()
    if algorithms is None:
        return [name for name in TELLING if name in known]
    if list(algorithms) == ["all"]:
        return known
    wanted = f"algorithms must be all or some of {', '.join(known)}"
    if not algorithms:
        raise ValueError(f"{wanted}; got none")
    for name in algorithms:
        if name not in known:
            raise ValueError(f"{wanted}; got {name!r}{did_you_mean(name, known)}")
    return list(dict.fromkeys(algorithms))
