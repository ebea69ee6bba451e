"""The pages: ``page.html.jinja`` filled with a run, ``algorithm.html.jinja`` with one algorithm of it.

Everything that a page shows is in its file: no network is needed.
"""

from __future__ import annotations

import math
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pymec import figures, registry, svg
from pymec.algorithm import ORDERS
from pymec.report import plots
from pymec.report.picture import CREDIT, Activations, activation_jpeg, photograph_jpeg
from pymec.report.records import Run

HERE = Path(__file__).parent


def render(run: Run, activations: Activations, flame_graphs: dict[str, str]) -> str:
    """The whole page as text.

    Parameters
    ----------
    run : Run
    activations : Activations
        Where the layers' inputs came from; one image of each is shown.
    flame_graphs : dict
        The title of each flame graph, and the name of its file beside the page.
    """
    environment = _environment()
    over_all = {
        "memory": _plot(plots.memory_overview(run), "memory", "Workspace of every algorithm on every layer"),
        "time": _plot(plots.time_overview(run), "time", "Time of every algorithm on every layer"),
    }
    of_layer = {
        layer.name: _plot(plots.memory_of_layer(layer, run), layer.name, f"Workspace on {layer.name}")
        for layer in run.layers
    }
    fronts = {
        layer.name: _plot(
            plots.pareto_of_layer(layer, run), f"front-{layer.name}", f"Time against bytes on {layer.name}"
        )
        for layer in run.layers
    }
    return environment.get_template("page.html.jinja").render(
        run=run,
        rows=[registry.get(name) for name in run.algorithms],
        css=_css(),
        over_all=over_all,
        of_layer=of_layer,
        fronts=fronts,
        most_marks=plots.MOST_MARKS,
        inputs={layer.name: activation_jpeg(activations.input_of(layer.layer)[0], 112) for layer in run.layers},
        photograph=photograph_jpeg(220),
        credit=CREDIT,
        flame_graphs=flame_graphs,
        best=_best_saving(run, run.published) if run.published else None,
    )


def render_algorithm(run: Run, algorithm: str) -> str:
    """The page of one algorithm: what it is, and its numbers on every layer of the run."""
    row = registry.get(algorithm)
    return _environment().get_template("algorithm.html.jinja").render(run=run, row=row, orders=ORDERS, css=_css())


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelt name in a template is an error, not a gap in the page
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        factor=figures.factor,
        times=figures.times,
        mib=figures.mib,
        bare_mib=figures.bare_mib,
        ms=figures.milliseconds,
        shade=shade,
    )
    return environment


def _css() -> Markup:
    return Markup((HERE / "page.css").read_text(encoding="utf-8"))


def shade(value: float | None, doubling: float) -> int:
    """How strongly a cell is tinted, from 0 to 60: ``doubling`` for every doubling of the ratio ``value``."""
    if value is None or value == math.inf or value <= 0:
        return 0
    return round(min(60.0, max(0.0, doubling * math.log2(value))))


def _plot(figure: plots.Figure, name: str, title: str) -> Markup:
    return Markup(svg.inline(figure, name, title))


def _best_saving(run: Run, algorithm: str) -> tuple[str, float] | None:
    """The layer on which the algorithm saves the most, and how much."""
    savings = [(layer.name, saving) for layer in run.layers if (saving := layer.saving(algorithm)) is not None]
    return max(savings, key=lambda item: item[1], default=None)
