"""The paper's twelve layers: bytes of im2col and of MEC, by formula and by memray.

Three lowered matrices stand beside each other: im2col's; MEC's L as the paper has it, with all i_h image rows
(``mec_paper``); and the L of pymec's tuned ``mec``, with only the rows that some output row reads.  Each is
measured in a fresh process.

    python profiling/paper_table2.py
    python profiling/paper_table2.py --batch 32 --layers cv5,cv6,cv9,cv10,cv11,cv12

Prints a Markdown table and draws ``figures/paper_table2.svg``; records go to ``results/paper_table2.jsonl``, and
what is known there is not measured again.  The exit status is 1 if a formula and memray differ by a byte, or a
process failed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from _common import (
    BLUE,
    MIB,
    ORANGE,
    comma_list,
    command_line,
    geometric_mean,
    markdown_table,
    save_figure,
    usable_cpus,
)
from _in_turns import add_store_options, figure_of, newest, store_of
from _measured_bytes import bytes_known, measure_bytes
from _store import Store

import pymec

ALGORITHMS = ("im2col", "mec_paper", "mec")


class Row(NamedTuple):
    """The bytes of one layer."""

    layer: str
    im2col: int
    im2col_measured: int
    paper: int
    paper_measured: int
    mec: int
    mec_measured: int

    @property
    def exact(self) -> bool:
        """Whether the formulas agree with memray."""
        formulas = (self.im2col, self.paper, self.mec)
        return formulas == (self.im2col_measured, self.paper_measured, self.mec_measured)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and draw; the exit status."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=comma_list(pymec.layers.PAPER))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--workers", type=int, default=usable_cpus(), help="processes at once")
    add_store_options(parser)
    options = parser.parse_args(arguments)
    layers = options.layers or (["cv9", "cv12"] if options.quick else list(pymec.layers.PAPER))

    store = store_of("paper_table2", options)
    missing = {}
    for name in layers:
        cell = {"layer": name, "i_n": options.batch}
        if options.again or not bytes_known(store, cell):
            missing[name] = cell, pymec.layers.get(name).shape(options.batch)
    status = measure_bytes(store, missing, ALGORITHMS, options.workers, "paper's Table 2")
    rows = rows_of(store, layers, options.batch)
    if not rows:
        return 1
    print(f"Lowered matrices, batch {options.batch}, float32, bytes\n")
    print(table(rows))
    differing = [row.layer for row in rows if not row.exact]
    print(f"\npredicted == measured, to the byte: {len(rows) - len(differing)} of {len(rows)} layers")
    if differing:
        print(f"different: {', '.join(differing)}")
    draw(rows, options.batch, figure_of("paper_table2", options))
    return status | bool(differing)


def rows_of(store: Store, layers: list[str], i_n: int) -> list[Row]:
    """Formulas, as they are today, and measurements of every layer that was measured."""
    measured = {record.cell["layer"]: record.values for record in newest(store, i_n=i_n)}
    rows = []
    for name in filter(measured.__contains__, layers):
        shape, found = pymec.layers.get(name).shape(i_n), measured[name]
        formulas = (shape.im2col_size, shape.paper_mec_size, shape.mec_size)
        pairs = zip(formulas, ALGORITHMS, strict=True)
        rows.append(Row(name, *(n for size, of in pairs for n in (size * shape.itemsize, found[of]["workspace"]))))
    return rows


def table(rows: list[Row]) -> str:
    """Bytes, ratios, sums, and the geometric mean of the ratios."""
    header = [
        "layer",
        "im2col",
        "measured",
        "L, paper",
        "measured",
        "im2col ÷ L",
        "L, tuned",
        "measured",
        "im2col ÷ L",
    ]
    lines = [line(*row) for row in rows]
    lines.append(line("sum", *map(sum, zip(*(row[1:] for row in rows), strict=True))))
    paper, stored = (geometric_mean(row.im2col / getattr(row, name) for row in rows) for name in ("paper", "mec"))
    lines.append(["geometric mean", "", "", "", "", f"{paper:.2f}", "", "", f"{stored:.2f}"])
    return markdown_table(header, lines)


def line(
    name: str, im2col: int, im2col_measured: int, paper: int, paper_measured: int, mec: int, mec_measured: int
) -> list[str]:
    """One row of the table, both ratios from the formulas."""
    return [
        name,
        f"{im2col:,}",
        f"{im2col_measured:,}",
        f"{paper:,}",
        f"{paper_measured:,}",
        f"{im2col / paper:.2f}",
        f"{mec:,}",
        f"{mec_measured:,}",
        f"{im2col / mec:.2f}",
    ]


def draw(rows: list[Row], i_n: int, path: Path) -> None:
    """A dot for im2col's matrix and for the paper's L on each layer; the line between them is what MEC saves."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 0.36 * len(rows) + 1.3))
    heights = range(len(rows))
    im2col = [row.im2col_measured / MIB for row in rows]
    mec = [row.paper_measured / MIB for row in rows]
    axes.hlines(heights, mec, im2col, color="0.75", linewidth=2, zorder=1)
    axes.scatter(im2col, heights, color=ORANGE, marker="s", label="im2col", zorder=2)
    axes.scatter(mec, heights, color=BLUE, marker="o", label="MEC", zorder=2)
    for height, larger, smaller in zip(heights, im2col, mec, strict=True):
        axes.annotate(
            f"{larger:.3g} ÷ {smaller:.3g} = {larger / smaller:.2f}",
            (larger, height),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color="0.3",
        )
    axes.set(xscale="log", xlabel="lowered matrix in MiB, measured (logarithmic)", yticks=list(heights))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(min(mec) / 1.5, max(im2col) * 12)
    axes.set_yticklabels([row.layer for row in rows])
    axes.invert_yaxis()
    axes.set_title(f"What im2col and MEC store, batch {i_n}, float32", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    save_figure(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
