"""Pages with memray's flame graph, which load nothing from another host.

memray puts its scripts, 4.5 MB, into each page, and 3.7 MB of them are plotly.  A page of the peak asks plotly for
nothing but the small plot of memory over time above the graph.  That plot is left out here: ``Track.plot`` draws
it with owners.  The other scripts, 0.9 MB, stay in a page that stands alone; where several pages lie in one folder
they can be files that all share.  A temporal page keeps plotly, whose slider it shows.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from pymec.memory.processes import import_folders

LARGE = 10_000
"""Characters of a script or of a style sheet that is worth a file of its own."""

_INLINE = re.compile(r"<(script|style)[^>]*>(.*?)</\1>", re.DOTALL)

_PLOTLY = "templates/assets/vendor/plotly.min.js"
"""Where memray has it, in the package ``memray.reporters``."""

_NO_PLOTLY = "var Plotly = {Icons: {}, Plots: {resize() {}}, newPlot() {}, relayout() {}};"
"""All that a page of the peak asks of plotly."""

_NO_PLOT = "<style>#memoryGraphButton, #smallMemoryGraph { display: none; }</style>\n"

# Isolated, as measurements are: with -m, a json.py in the current folder would be imported.
_PROGRAM = "import runpy, sys; sys.path += sys.argv.pop(1).split(':'); runpy.run_module('memray', {}, '__main__')"


def draw(record: Path, page: Path, *, temporal: bool = False, shared: str | None = None) -> None:
    """Have memray write the flame graph of a record.

    Parameters
    ----------
    record, page : path
        What memray has recorded, and where the page is written; one that exists is replaced.
    temporal : bool
        Whether the page shows what was in memory at any time, and not at the peak alone.
    shared : str, optional
        Name of a folder beside the page that takes the scripts, for all pages there.  By default they are part of
        the page.

    Raises
    ------
    RuntimeError
        If memray can't draw it; the end of its error output says why.
    """
    memray = [sys.executable, "-I", "-c", _PROGRAM, ":".join(import_folders())]
    options = ["--no-web", "--force", *["--temporal"] * temporal, "--output", str(page.absolute())]
    command = [*memray, "flamegraph", *options, str(record.absolute())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not page.exists():
        raise RuntimeError(f"memray flamegraph failed: {(done.stderr or done.stdout).strip()[-300:]}")
    text = page.read_text(encoding="utf-8")
    if not temporal:
        text = _without_plotly(text)
    if shared is not None:
        folder = page.parent / shared
        folder.mkdir(exist_ok=True)
        text = _INLINE.sub(_moved_to(folder), text)
    page.write_text(text, encoding="utf-8")


def _without_plotly(text: str) -> str:
    """A page of the peak without plotly and its plot; as it was, if memray has changed and plotly isn't found."""
    plotly = files("memray.reporters").joinpath(_PLOTLY)
    code = plotly.read_text(encoding="utf-8") if plotly.is_file() else ""
    if not code or code not in text:
        return text
    return text.replace(code, _NO_PLOTLY, 1).replace("</head>", f"{_NO_PLOT}</head>", 1)


def _moved_to(folder: Path) -> Callable[[re.Match[str]], str]:
    """What takes the place of a script or style sheet: itself if it is small or has the data, or a file's name."""

    def replacement(found: re.Match[str]) -> str:
        kind, content = found.groups()
        if len(content) < LARGE or "const packed_data" in content:
            return found[0]
        suffix = "js" if kind == "script" else "css"
        path = folder / f"{hashlib.sha256(content.encode()).hexdigest()[:12]}.{suffix}"
        path.write_text(content, encoding="utf-8")
        address = f"{folder.name}/{path.name}"
        if kind == "script":
            return f'<script src="{address}"></script>'
        return f'<link rel="stylesheet" href="{address}">'

    return replacement
