"""``.. exercises::`` lists those of ``tutorials/exercises``: what each asks for, its starter and its tests."""

import ast
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

ROOT = Path(__file__).parent.parent


class Exercises(Directive):
    """A section for each, made of its files.  Solutions are downloads: nobody reads one by accident."""

    def run(self):
        sections = []
        for path in sorted(ROOT.glob("tutorials/exercises/*/exercise.py")):
            name = path.parent.name
            asked = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            title, _, text = asked.partition("\n\n")
            number, _, what = title.removeprefix("Exercise ").rstrip(".").partition(": ")
            section = nodes.section(ids=[f"exercise-{number}"])
            section += nodes.title(text=f"{number} · {what[0].upper()}{what[1:]}")
            lines = [
                *text.splitlines(),
                "",
                ".. code-block:: bash",
                "",
                f"   pytest tutorials/exercises/{name}",
                "",
                f":download:`The starter <../tutorials/exercises/{name}/exercise.py>` ·",
                f":download:`the tests <../tutorials/exercises/{name}/test_exercise.py>` ·",
                f":download:`a solution <../tutorials/solutions/{name}.py>`",
                "",
                f".. literalinclude:: ../tutorials/exercises/{name}/exercise.py",
                "   :language: python",
            ]
            self.state.nested_parse(StringList(lines, str(path)), 0, section)
            sections.append(section)
        return sections


def setup(app):
    """Register the directive."""
    app.add_directive("exercises", Exercises)
    return {"parallel_read_safe": True}
