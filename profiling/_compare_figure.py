"""The figure of ``compare.py``: the rates of pymec, of its peers and of the machine, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from _common import save_figure
from _limits import FMA_LIMIT
from _store import Record
from _tables import contenders, entries, groups, plural, rate


def draw(records: Sequence[Record], path: Path) -> None:
    """A panel per batch and thread count: the peers as grey marks, pymec in colour, the limit as a line."""
    from matplotlib.figure import Figure

    panels = groups(records, "i_n", "n_threads")
    figure = Figure(figsize=(10, 3.2 * len(panels)), layout="constrained")
    for i, ((i_n, n_threads), found) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(len(panels), 1, i)
        layers = entries(found, "layer")
        at = {record.cell["layer"]: record for record in found}
        for number_of_peer, name in enumerate(contenders(found)):
            rates = {layers.index(layer): rate(at[layer], name) for layer in layers if name in at[layer].values}
            where, values = list(rates), list(rates.values())
            if name == FMA_LIMIT:
                axes.plot(where, values, color="black", linewidth=1, label=name)
            elif name.startswith("pymec"):
                axes.plot(where, values, "o", markersize=8, label=name)
            else:
                marker = "v^<>sDPX*"[number_of_peer % 9]
                axes.plot(where, values, marker, color="0.55", markersize=5, label=name)
        axes.set_xticks(range(len(layers)), layers)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("GFLOP/s, best call")
        axes.set_title(f"batch {i_n}, {plural(n_threads)}")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small", frameon=False)
    save_figure(figure, path)
