"""The reference pages of the kernels, written from the files themselves when the site is built.

* ``reference/kernels/index``              the rooms, as ``pymec.kernels`` tells of them
* ``reference/kernels/<family>/index``     the family's page: the docstring of its ``__init__.py``, and its files
* ``reference/kernels/<family>/<module>``  a file's docstring, its functions, its source
* ``_static/annotated/<family>/<module>``  what Cython made of a ``.pyx``, line by line
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from importlib import import_module
from pathlib import Path
from types import GenericAlias

import jinja2
from docutils import nodes
from sphinx.addnodes import pending_xref

from pymec.registry import TABLES

DOCS = Path(__file__).parent
ROOT = DOCS.parent
KERNELS = ROOT / "pymec" / "kernels"
PAGES = DOCS / "reference" / "kernels"
ANNOTATED = DOCS / "_static" / "annotated"
SUFFIXES = (".pyx.in", ".pyx", ".py", ".pxd")
"""Of files that are shown, in the order in which a page shows them."""

# setup.py calls Cython before it calls setup(), so all of its settings apply and nothing gets compiled.
RUN_SETUP_WITHOUT_SETUP = """
import runpy, setuptools
setuptools.setup = lambda **metadata: None
runpy.run_path("setup.py")
"""

PAGE_STYLE = """
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body.cython { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
.cython pre { font-size: 13px; line-height: 1.45; overflow-x: auto; }
</style>
"""


# Which files there are ----------------------------------------------------------------------------------


def families():
    """The folders of kernels, in the order in which ``pymec.kernels`` names them."""
    names = [path.parent.name for path in KERNELS.glob("*/__init__.py")]
    return in_order_of(import_module("pymec.kernels").__doc__, sorted(names))


def modules(family):
    """The files of a family by module: in the order of its page, then algorithms, then the others; rows last."""
    found = {}
    for suffix in SUFFIXES:
        for path in (KERNELS / family).glob(f"*{suffix}"):
            name = path.name.removesuffix(suffix)
            if path.name != "__init__.py" and not path.with_name(f"{path.name}.in").exists():
                found.setdefault(name, []).append(path)
    algorithms = [name for room, name in algorithm_pages() if room == family]
    names = [*algorithms, *sorted(set(found) - {*algorithms, "rows"})]
    names = in_order_of(import_module(f"pymec.kernels.{family}").__doc__, names)
    return {name: found[name] for name in [*names, "rows"] if name in found}


def in_order_of(text, names):
    """The names as the text mentions them, ``` ``so`` ```; those that it doesn't mention follow."""
    mentioned = re.findall(r"``(\w+)(?:/|\.\w+)?``", text or "")
    first = {name: place for place, name in reversed(list(enumerate(mentioned)))}
    return sorted(names, key=lambda name: first.get(name, len(mentioned)))


def kernel_of(row):
    """(family, module) of the file that runs a row of the table."""
    run = row.run
    while isinstance(run, partial):
        run = run.func
    family, module = run.__module__.split(".")[-2:]
    return family, module


def algorithm_pages():
    """The files that run algorithms, in the order of the tables."""
    return dict.fromkeys(kernel_of(row) for rows in TABLES.values() for row in rows.values())


# Their pages --------------------------------------------------------------------------------------------


def write_pages(app):
    """Write the pages that have changed, and remove those of files that are no more."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(DOCS / "_templates" / "kernels"),
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    pages = {"index": templates.get_template("rooms.rst").render(families=families())}
    for family in families():
        files = modules(family)
        mentioned = set(re.findall(r"``(\w+)``", import_module(f"pymec.kernels.{family}").__doc__))
        pages[f"{family}/index"] = templates.get_template("family.rst").render(
            family=family, modules=list(files), hidden=mentioned >= set(files),
            concepts=concepts_with([path for paths in files.values() for path in paths]),
        )  # fmt: skip
        for name, paths in files.items():
            pages[f"{family}/{name}"] = templates.get_template("module.rst").render(
                family=family, name=name, paths=[path.relative_to(ROOT).as_posix() for path in paths],
                annotated=any(".pyx" in path.name for path in paths),
                importable=any(path.suffix != ".pxd" for path in paths), concepts=concepts_with(paths),
            )  # fmt: skip
    texts = {PAGES / f"{name}.rst": text for name, text in pages.items()}
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in set(PAGES.rglob("*.rst")) - set(texts):
        path.unlink()


def concepts_with(paths):
    """The pages of concepts that show statements of one of these files."""
    texts = {page.stem: page.read_text(encoding="utf-8") for page in sorted((DOCS / "concepts").glob("*.rst"))}
    shown = [f":: ../../{path.relative_to(ROOT).as_posix()}\n" for path in paths]
    return [page for page, text in texts.items() if any(start in text for start in shown)]


def skip_aliases(app, what, name, obj, skip, options):
    """Names of types have no page: autodoc takes them for the class that they abbreviate."""
    return True if isinstance(obj, GenericAlias) else None


def link_names_of_files(app, doctree):
    """Make the names in the table of a family's page, and of the page of all rooms, links to their pages."""
    if app.env.docname == "reference/kernels/index":
        targets = {family: f"{family}/index" for family in families()}
    elif re.fullmatch(r"reference/kernels/\w+/index", app.env.docname):
        family = app.env.docname.split("/")[2]
        targets = {name: f"{family}/{name}" for name in modules(family)}
    else:
        return
    for name in doctree.findall(nodes.literal):
        if name.astext() in targets and any(isinstance(above, nodes.entry) for above in ancestors(name)):
            target = f"/reference/kernels/{targets[name.astext()]}"
            link = pending_xref(
                "", reftype="doc", refdomain="std", reftarget=target, refexplicit=True, refdoc=app.env.docname
            )
            name.replace_self(link)
            link += name


def ancestors(node):
    while node.parent is not None:
        node = node.parent
        yield node


# Cython's annotation ------------------------------------------------------------------------------------


def annotate_kernels(app):
    """Have Cython annotate a copy of the kernels, if any source is newer than the pages there are."""
    sources = [*KERNELS.glob("*/*.pyx*"), *KERNELS.glob("*/*.pxd"), ROOT / "setup.py"]
    kernels = [source.relative_to(KERNELS) for source in sources if source.suffix == ".pyx"]
    pages = [(ANNOTATED / kernel).with_suffix(".html") for kernel in kernels]
    for page in set(ANNOTATED.rglob("*.html")) - set(pages):
        page.unlink()
    newest = max(source.stat().st_mtime for source in sources)
    if all(page.exists() and page.stat().st_mtime > newest for page in pages):
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copy(ROOT / "setup.py", copy)
        shutil.copytree(
            KERNELS,
            copy / "pymec" / "kernels",
            ignore=shutil.ignore_patterns("*.c", "*.so", "*.pyd", "*.html", "__pycache__"),
        )
        done = subprocess.run(
            [sys.executable, "-c", RUN_SETUP_WITHOUT_SETUP],
            cwd=copy,
            env=os.environ | {"PYMEC_ANNOTATE": "1"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"Cython could not annotate the kernels:\n{done.stdout}\n{done.stderr}")
        for kernel, page in zip(kernels, pages, strict=True):
            text = (copy / "pymec" / "kernels" / kernel).with_suffix(".html").read_text(encoding="utf-8")
            module = kernel.with_suffix("").as_posix()
            back = f'<p><a href="../../../reference/kernels/{module}.html">Back to {module}</a></p>'
            text = re.sub(r"<p>Raw output:.*?</p>", back, text)  # the C file is not published
            text = text.replace("</head>", PAGE_STYLE + "</head>", 1)
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text, encoding="utf-8")


def setup(app):
    app.connect("builder-inited", write_pages)
    app.connect("builder-inited", annotate_kernels)
    app.connect("autodoc-skip-member", skip_aliases)
    app.connect("doctree-read", link_names_of_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
