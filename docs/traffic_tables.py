"""The directive ``traffic``: what ``traffic.py`` and ``simulated_cache.py`` of ``profiling/`` have recorded.

``.. traffic:: times`` is the table of the rivals, ``verdicts`` who is faster where, ``figure`` the roofline, and
``simulated`` the bytes that pass a simulated cache.  Tables name the machine, and say so where there is no record,
or where a kernel has changed since it was measured.
"""

import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

sys.path.insert(0, str(Path(__file__).parent.parent / "profiling"))

import simulated_cache  # found by the line above
import traffic
from _store import Store

import pymec

ROOT = Path(__file__).parent.parent
FIGURE = ROOT / "profiling" / "figures" / "traffic.svg"
CELLS = {"traffic": {"batch": 1, "threads": 1}, "simulated_cache": {}}


class TrafficRecords(Directive):
    """A part of what the two scripts print, of the machine that measured last."""

    required_arguments = 1

    def run(self):
        part = self.arguments[0]
        script = "simulated_cache" if part == "simulated" else "traffic"
        store = Store(script)
        self.state.document.settings.record_dependencies.add(str(store.path))
        layers = [*pymec.layers.PAPER, *simulated_cache.WIDENED]
        records = [record for layer in layers for record in store.find(**CELLS[script], layer=layer)]
        lines = [f"*Not measured yet:* ``python profiling/{script}.py``."]
        if records:
            parts = {"times": times, "verdicts": verdicts, "figure": figure, "simulated": simulated}
            lines = parts[part](records)
        found = nodes.container()
        self.state.nested_parse(StringList(lines, source="profiling/results"), self.content_offset, found)
        return found.children


def times(records):
    """Bytes and times of the rivals, all layers."""
    return [machine(records, "one thread"), "", *list_table(*traffic.times_table(records, traffic.RIVALS))]


def simulated(records):
    """The estimate, beside the simulation."""
    return [machine(records, "cachegrind"), "", *list_table(*simulated_cache.table(records))]


def list_table(header, rows):
    """A table in reStructuredText, of cells in Markdown."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (header, *rows):
        cells = [cell.replace("`", "``") for cell in row]
        lines += [f"   * - {cells[0]}", *(f"     - {cell}" for cell in cells[1:])]
    return lines


def verdicts(records):
    """Who is faster where."""
    return [f"* {line}" for line in traffic.verdicts(records)]


def figure(records):
    """The roofline, if it has been drawn."""
    alternative = "GFLOP/s over operations a byte: layers cv1, cv4, cv9 and cv12, six algorithms"
    return [f".. image:: /../{FIGURE.relative_to(ROOT)}", f"   :alt: {alternative}"] if FIGURE.exists() else []


def machine(records, how):
    """The machine of the records, how they were made, and which of them are stale."""
    run = records[-1].run
    stale = sorted({name for record in records for name in record.stale})
    changed = f"  Kernels that have changed since: {', '.join(stale)}." if stale else ""
    return f"{run['cpu']}, {how}, BLAS {run['blas']}, pymec {run['pymec']} ({run['date']}).{changed}"


def setup(app):
    app.add_directive("traffic", TrafficRecords)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
