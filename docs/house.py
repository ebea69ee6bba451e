"""The directive ``house-map``: the rooms of pymec and who imports whom, drawn from the imports themselves.

Rooms are the rows of the picture, from high to low, and in the same order its columns.  A dot says that the room
of its row imports from the room of its column.  When nothing points up, all dots are right of the diagonal.
"""

import html
import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import rooms  # found by the line above

CELL = 19
LABELS = 182
TITLE = "Who imports whom: a row for each room, with a dot under each room that it imports from"


class HouseMap(Directive):
    """The picture, and below it what each level is."""

    def run(self):
        for path in rooms.sources():
            self.state.document.settings.record_dependencies.add(str(path))
        lines = [".. list-table::", "   :widths: 30 70", ""]
        for name, what, _ in reversed(rooms.LEVELS):
            lines += [f"   * - ``{name}``", f"     - {what}"]
        table = nodes.container()
        self.state.nested_parse(StringList(lines, source="tests/rooms.py"), self.content_offset, table)
        return [nodes.raw("", f'<div class="house">{drawing()}</div>', format="html"), *table.children]


def drawing():
    """The map as SVG, in the colours of the page."""
    between = rooms.arrows_between_rooms(rooms.arrows())
    names = list(between)
    centre = {name: CELL * row + CELL / 2 for row, name in enumerate(names)}
    size = CELL * len(names)
    shapes = [
        f'<rect y="{CELL * row}" width="{LABELS + size}" height="{CELL}"/>' for row in range(0, len(names), 2)
    ]
    for number, (name, others) in enumerate(between.items(), 1):
        y = centre[name]
        shapes.append(f'<text x="{LABELS - 8}" y="{y + 4}" text-anchor="end">{name}</text>')
        shapes.append(f'<text x="{LABELS + y}" y="{y + 4}" text-anchor="middle">{number}</text>')
        for other, arrows in others.items():
            tip = html.escape("\n".join([f"{name} imports from {other}", *arrows]))
            shapes.append(f'<circle cx="{LABELS + centre[other]}" cy="{y}" r="5"><title>{tip}</title></circle>')
    return (
        f'<svg role="img" aria-label="{TITLE}" viewBox="0 0 {LABELS + size} {size}" '
        f'style="max-width: {LABELS + size}px">{"".join(shapes)}</svg>'
    )


def setup(app):
    app.add_directive("house-map", HouseMap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
