"""The explorer's page: four lowerings step by step, and the bytes of every algorithm that has a formula.

* ``.. explorer::``  the explorer, on a page of the site
* ``_static/explorer/offline.html``  the same as one file, which needs no network, no server and no site

Its arithmetic is ``model.js``; ``explorer.js`` shows it; ``formulas.py`` writes the registry's formulas for both.
"""

from pathlib import Path

import formulas
from docutils import nodes
from docutils.parsers.rst import Directive

STYLE = "explorer/explorer.css"
SCRIPTS = ("explorer/model.js", "explorer/explorer.js")


class Explorer(Directive):
    """The markup and the formulas; ``explorer.js`` fills it."""

    def run(self):
        kernels = formulas.DOCS.parent / "pymec" / "kernels"
        for path in (formulas.DOCS / "_templates" / "explorer.html", *kernels.glob("*/rows.py")):
            self.state.document.settings.record_dependencies.add(str(path))
        page = f"{formulas.read('_templates/explorer.html')}<script>\n{formulas.data()}</script>"
        return [nodes.raw("", page, format="html")]


def add_files(app, pagename, templatename, context, doctree):
    """Style and scripts for the explorer's page alone."""
    if pagename == "explorer":
        app.add_css_file(STYLE)
        for script in SCRIPTS:
            app.add_js_file(script, loading_method="defer")


def write_offline(app, exception):
    """The page as one file, beside what it was made of."""
    if exception is None and app.builder.format == "html":
        target = Path(app.outdir) / "_static" / "explorer" / "offline.html"
        target.write_text(formulas.offline(), encoding="utf-8")


def setup(app):
    app.add_directive("explorer", Explorer)
    app.connect("html-page-context", add_files)
    app.connect("build-finished", write_offline)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
