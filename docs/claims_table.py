"""What the pages of results take from ``profiling/`` when they are built.

* ``.. claims-table::``    every claim of the paper: what was measured here, the verdict, and why
* ``.. claims-sources::``  where and when the records behind it were measured
* ``.. redrawn:: NAME``    the figure that a script draws of all its records, and what it shows
"""

import contextlib
import importlib
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import claims
from _in_turns import newest
from _store import Store
from _verdicts import Records
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from from_code import escaped

CLASSES = {"holds": "holds", "in part": "in-part", "no": "fails"}
"""The style of a verdict; one that isn't known yet has none."""


class ClaimsTable(Directive):
    """A row for each claim."""

    def run(self):
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 22 34 8 36", "   :class: claims", ""]
        lines += ["   * - what the paper says", "     - measured here", "     - verdict", "     - why"]
        for row in claims.rows(records(self)):
            answer = row.answer
            lines += [
                f"   * - {escaped(row.claim.says)}",
                "",
                "       .. container:: source",
                "",
                f"          {escaped(row.claim.source)}",
                "",
                f"     - {escaped(answer.measured)}",
                f"     - .. container:: verdict {CLASSES.get(answer.verdict, '')}".rstrip(),
                "",
                f"          {answer.verdict}",
                "",
                f"     - {escaped(answer.why)}",
            ]
        return parsed(self, lines)


class ClaimsSources(Directive):
    """A line for each script that has measured something."""

    def run(self):
        found = claims.sources(records(self))
        if not found:
            return parsed(self, ["Nothing has been measured yet."])
        return parsed(self, [f"* ``{script}``: {escaped(line)}" for script, line in found.items()])


class RedrawnFigure(Directive):
    """A script's figure of the records that it has kept, and the caption; without records how to measure them."""

    required_arguments = 1
    has_content = True

    def run(self):
        name = self.arguments[0]
        with TemporaryDirectory() as folder:
            path = Path(folder, "figure.svg")
            with contextlib.redirect_stderr(io.StringIO()):  # where a script says what it has drawn
                drawn = importlib.import_module(name).redraw(path)
            if not drawn:
                return parsed(self, [f"Nothing was measured yet: ``python profiling/{name}.py`` does it."])
            svg = path.read_text(encoding="utf-8")
        figure = nodes.raw("", f'<div class="measured">{svg[svg.index("<svg") :]}</div>', format="html")
        return [figure, *parsed(self, [".. rst-class:: caption-text", "", " ".join(self.content)])]


def records(directive):
    """What the scripts have kept; the page is built again when that changes."""
    stores = [Store(script) for script in claims.STORES]
    for store in stores:
        directive.state.document.settings.record_dependencies.add(str(store.path))
    return Records(*map(newest, stores))


def parsed(directive, lines):
    """reStructuredText as nodes."""
    container = nodes.container()
    directive.state.nested_parse(StringList(lines, source="profiling"), directive.content_offset, container)
    return container.children


def setup(app):
    app.add_directive("claims-table", ClaimsTable)
    app.add_directive("claims-sources", ClaimsSources)
    app.add_directive("redrawn", RedrawnFigure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
