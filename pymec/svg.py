"""Plots of matplotlib's as SVG, in the page that shows them or in a file of their own.

Text and axes have the colour of the page's text, in light and dark mode.
"""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK = "#010203"
"""Placeholder for the colour of the page's text: no algorithm has it, so it can be replaced in the SVG."""

STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, sharp, selectable
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
# Keeps matplotlib from writing the date and its own name into every file.
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def inline(figure: Figure, name: str, title: str) -> str:
    """The plot as an SVG element of a page, in the page's text colour; ``name`` keeps its ids unique."""
    text = _as_text(figure, name)
    text = text[text.index("<svg") :]  # without the XML declaration and document type
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', rf'\1 role="img" aria-label="{title}"', text, count=1)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    return text.replace(INK, "currentColor")


def standalone(figure: Figure) -> str:
    """The plot as a file, on white: the page that embeds it may have any background."""
    figure.set_facecolor("white")
    return _as_text(figure, "pymec").replace(INK, "#1b1f24")


def _as_text(figure: Figure, salt: str) -> str:
    file = StringIO()
    # The salt makes the ids of equal runs equal.
    with mpl.rc_context({**STYLE, "svg.hashsalt": salt, "savefig.facecolor": "auto"}):
        figure.savefig(file, format="svg", metadata=_NO_METADATA)
    return file.getvalue()
