"""The directive ``traffic``: what ``profiling/traffic.py`` has recorded, as a table, a list or the figure.

``.. traffic:: times`` is the table of the rivals, ``verdicts`` who is faster where, ``figure`` the roofline.  They
name the machine, and say so where there is no record, or where a kernel has changed since it was measured.
"""

import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

sys.path.insert(0, str(Path(__file__).parent.parent / "profiling"))

import traffic  # found by the line above
from _store import Store

import pymec

ROOT = Path(__file__).parent.parent
FIGURE = ROOT / "profiling" / "figures" / "traffic.svg"


class TrafficRecords(Directive):
    """A part of what ``python profiling/traffic.py`` prints, of the machine that measured last."""

    required_arguments = 1

    def run(self):
        store = Store("traffic")
        self.state.document.settings.record_dependencies.add(str(store.path))
        cells = [{"layer": layer, "batch": 1, "threads": 1} for layer in pymec.layers.PAPER]
        records = [record for cell in cells for record in store.find(**cell)]
        lines = ["*Not measured yet:* ``python profiling/traffic.py --figure profiling/figures/traffic.svg``."]
        if records:
            lines = {"times": times, "verdicts": verdicts, "figure": figure}[self.arguments[0]](records)
        found = nodes.container()
        self.state.nested_parse(StringList(lines, source="profiling/results"), self.content_offset, found)
        return found.children


def times(records):
    """Bytes and times of the rivals, all layers."""
    header, rows = traffic.times_table(records, traffic.RIVALS)
    lines = [machine(records), "", ".. list-table::", "   :header-rows: 1", ""]
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


def machine(records):
    """The machine of the records, and which of them are stale."""
    run = records[-1].run
    stale = sorted({name for record in records for name in record.stale})
    changed = f"  Kernels that have changed since: {', '.join(stale)}." if stale else ""
    return f"{run['cpu']}, one thread, BLAS {run['blas']}, pymec {run['pymec']} ({run['date']}).{changed}"


def setup(app):
    app.add_directive("traffic", TrafficRecords)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
