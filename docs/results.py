"""Tables of measured numbers, rendered from the stores of ``profiling/results`` when the pages are built.

* ``.. measured:: NAME`` is replaced by the tables of that name (``profiling/tables.py`` says what a name is), or
  by how to measure them where nothing was measured yet.
* ``.. measured-figure:: NAME`` is replaced by the figure that the script's ``draw`` makes of the same records.
* memray's flame graphs of a few cells are recorded at the end of a build, into ``results/flamegraphs``; the cells
  of the memory table link to them.
"""

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import flamegraphs
import tables
from _common import Cell
from _store import RESULTS
from _tables import caption
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.util import logging

import pymec

CELLS = (
    ("cv4", "im2col"),
    ("cv4", "im2col_blocked"),
    ("cv4", "mec_b"),
    ("cv4", "mec"),
    ("cv4", "mec_banded"),
    ("cv4", "fft"),
    ("cv12", "im2col"),
    ("cv12", "mec"),
    ("cv12", "winograd_f4_banded"),
)
"""The cells that have a flame graph, if memray is there."""

LINKED = {f"{layer}_{algorithm}" for layer, algorithm in CELLS if find_spec("memray")}


class Measured(Directive):
    """The tables of a name."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        name = " ".join(self.arguments[0].split())
        env = self.state.document.settings.env
        for path in sorted(RESULTS.glob("*.jsonl")):
            env.note_dependency(str(path))
        lines = []
        for table in tables.tables_of(name):
            lines += rst_of(table)
        lines = lines or [f"Nothing was measured yet: ``{tables.command_of(name)}`` does it."]
        container = nodes.container()
        self.state.nested_parse(StringList(lines, source=name), self.content_offset, container)
        return container.children


class MeasuredFigure(Directive):
    """A figure of the records of a name; nothing where nothing was measured, or without matplotlib."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        module, _, records = tables.found(" ".join(self.arguments[0].split()))
        if not records or find_spec("matplotlib") is None:
            return []
        with TemporaryDirectory() as folder:
            path = Path(folder, "figure.svg")
            module.draw(records, path)
            svg = path.read_text(encoding="utf-8")
        return [nodes.raw("", f'<div class="measured">{svg[svg.index("<svg") :]}</div>', format="html")]


def rst_of(table):
    """The lines of a table, its caption below."""
    lines = [f".. list-table:: {inline(table.title)}", "   :header-rows: 1", "   :class: measured", ""]
    for row in [table.header, *table.rows]:
        for number, (head, cell) in enumerate(zip(table.header, row, strict=True)):
            text = inline(cell)
            if row is not table.header:
                text = link(text, table, head, row[0])
            lines.append(f"   {' ' if number else '*'} - {text}")
    lines += ["", *(f"* {inline(note)}" for note in table.notes), "", ".. rst-class:: caption-text", ""]
    return [*lines, inline(" ".join([caption(table.records), *table.footnotes])), ""]


def link(text, table, layer, algorithm):
    """A cell of the memory table as a link to its flame graph, where it has one."""
    asked = table.records[0].cell
    usual = asked.get("operation") == "conv2d" and asked.get("n_threads") == asked.get("i_n") == 1
    name = f"{layer}_{algorithm}"
    linked = table.script == "memory_sweep" and usual and name in LINKED
    return f"`{text} <flamegraphs/{name}.html>`__" if linked else text


def inline(text):
    """Markdown as reStructuredText: code has two marks, bars name nothing, and a dash begins no list."""
    return "\\-" if text == "-" else text.replace("`", "``").replace("|", "\\|")


def draw_flame_graphs(app, error):
    """Record the cells and render their pages beside the memory page."""
    if error is not None or app.builder.format != "html" or not LINKED:
        return
    for layer, algorithm in CELLS:
        cell = Cell(layer, pymec.layers.get(layer).shape(), algorithm)
        logging.getLogger(__name__).info("flame graph of %s", cell)
        flamegraphs.render(cell, Path(app.outdir, "results", "flamegraphs", f"{flamegraphs.name_of(cell)}.html"))


def setup(app):
    app.add_directive("measured", Measured)
    app.add_directive("measured-figure", MeasuredFigure)
    app.connect("build-finished", draw_flame_graphs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
