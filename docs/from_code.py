"""What the pages take from the code when they are built, so that none of it can fall behind.

* ``.. executed::``          Python code, shown with what it prints
* ``.. algorithm-table::``   the rows of ``pymec.registry.ALGORITHMS``, or of another operation's table
* the signatures of compiled stages that take float32 and float64, which Python can't see
* formulas, drawn by matplotlib: the pages need no network to be read

``kernel_pages.py`` writes the pages of the kernels, ``house.py`` draws who imports whom.
"""

import contextlib
import hashlib
import html
import io
import re
from pathlib import Path

import matplotlib as mpl
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from kernel_pages import kernel_of
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image

from pymec.registry import TABLES

ROOT = Path(__file__).parent.parent


class Executed(Directive):
    """Code, run when the page is built, and what it prints.  The blocks of a page share their names."""

    has_content = True

    def run(self):
        env = self.state.document.settings.env
        names = env.temp_data.setdefault("executed_names", {})
        code = "\n".join(self.content)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, env.doc2path(env.docname), "exec"), names)
        shown = [nodes.literal_block(code, code, language="python")]
        if printed.getvalue():
            text = printed.getvalue().rstrip()
            shown.append(nodes.literal_block(text, text, language="none", classes=["printed"]))
        return shown


class AlgorithmTable(Directive):
    """Every row of the registry; with an operation's name, of that operation's table."""

    optional_arguments = 1

    def run(self):
        rows = TABLES[self.arguments[0] if self.arguments else "conv2d"]
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 14 46 30 10", "   :class: algorithms", ""]
        lines += [
            "   * - algorithm",
            "     - idea and source",
            "     - workspace, in elements",
            "     - grows with",
        ]
        for row in rows.values():
            page = "/".join(kernel_of(row))
            lines += [
                f"   * - :doc:`{row.name} </reference/kernels/{page}>`",
                f"     - {escaped(row.idea)}",
                "",
                "       .. container:: source",
                "",
                f"          {row.source}",
                "",
                f"     - {escaped(row.formula)}",
                f"     - {row.order}",
            ]
        table = nodes.container()
        self.state.nested_parse(StringList(lines, source="pymec.registry"), self.content_offset, table)
        return table.children


def escaped(text):
    """Text in which a bar is a bar: between two of them reStructuredText looks for a name."""
    return text.replace("|", "\\|")


def signature_from_source(app, what, name, obj, options, signature, return_annotation):
    """The parameters of a stage as its .pyx has them, without types."""
    module, _, function = name.rpartition(".")
    source = ROOT / f"{module.replace('.', '/')}.pyx"
    if what != "function" or not signature or "_fused_sigindex" not in signature or not source.exists():
        return None
    text = source.read_text(encoding="utf-8")
    found = re.search(rf"^def {function}\((.*?)\):$", text, re.MULTILINE | re.DOTALL)
    if found is None:  # a stage of another file, passed on by this one
        return None
    # "const floating[:, :, :, ::1] x, int n_threads=1" -> "x, n_threads=1"
    parameters = re.sub(r"\[[^]]*\]", "", found[1]).split(",")
    return f"({', '.join(part.split()[-1] for part in parameters if part.strip())})", return_annotation


def formula(latex, size):
    """A formula as SVG in the colour of the text around it."""
    font = FontProperties(family="serif", math_fontfamily="stix", size=size)
    svg = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": latex}):
        math_to_image(f"${' '.join(latex.split())}$", svg, prop=font, format="svg", color="#010203")
    text = svg.getvalue()
    text = text[text.index("<svg") :].replace("#010203", "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Glyphs are named alike in every drawing; on one page each needs names of its own.
    mark = hashlib.sha256(latex.encode()).hexdigest()[:8]
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>f{mark}-", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(latex, quote=True)}"', 1)


def visit_math(self, node):
    """A formula in a line."""
    self.body.append(f'<span class="formula">{formula(node.astext(), 14)}</span>')
    raise nodes.SkipNode


def visit_math_block(self, node):
    """A formula on lines of its own."""
    latex = node.astext().replace(r"\frac", r"\dfrac")
    self.body.append(f'<div class="formula">{formula(latex, 16)}</div>')
    raise nodes.SkipNode


def setup(app):
    app.connect("autodoc-process-signature", signature_from_source, priority=400)  # before numpydoc's
    app.add_html_math_renderer("mathtext", (visit_math, None), (visit_math_block, None))
    app.add_directive("executed", Executed)
    app.add_directive("algorithm-table", AlgorithmTable)
    # Executed code may measure; it must have the machine for itself.
    return {"parallel_read_safe": False, "parallel_write_safe": True}
