"""Sphinx configuration.  What the pages take from the code at build time is in ``from_code.py``,
``kernel_pages.py``, ``house.py`` and ``explorer.py``; what they take from the stores of measured numbers, in
``results.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parent.parent / "profiling"))

import pymec

project = "pymec"
author = "the pymec developers"
copyright = "the pymec developers"
version = release = pymec.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "from_code",
    "claims_table",
    "exercises",
    "kernel_pages",
    "house",
    "explorer",
    "rounding",
    "results",
    "traffic_tables",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = None
nitpicky = False

# The paper's |L| in plain docstrings is a size, not a substitution.
rst_prolog = "\n".join(rf".. |{name}| replace:: \|{name}\|" for name in "IKLO") + "\n"

# API reference -----------------------------------------------------------------------------------------

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the parameter lists say it in words
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# Lessons -----------------------------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "../tutorials",
    "gallery_dirs": "auto_tutorials",
    "filename_pattern": r"/\d\d_",
    "within_subsection_order": "FileNameSortKey",
    "plot_gallery": "True",
    "abort_on_example_error": True,
    "capture_repr": (),  # a lesson prints what it wants to be seen, so that it reads the same in a terminal
    "image_srcset": ["2x"],
    "thumbnail_size": (400, 225),
    "reference_url": {"pymec": None},
    "doc_module": ("pymec",),
    "backreferences_dir": "reference/generated/backreferences",
    "remove_config_comments": True,
    "show_signature": False,
    "show_memory": False,  # lessons measure for themselves, and memray allows one tracker at a time
    "download_all_examples": False,
    "parallel": False,  # lessons that measure must not disturb each other
}
copybutton_selector = "div.highlight-python pre, div.highlight-default pre, div.highlight-bash pre"
copybutton_exclude = ".linenos, .gp, .go"

# Pages -------------------------------------------------------------------------------------------------

html_math_renderer = "mathtext"  # in from_code.py: no script from elsewhere
html_theme = "pydata_sphinx_theme"
html_title = "pymec"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "pymec"},
    "navbar_end": ["theme-switcher"],
    "navbar_align": "left",
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}
# Code is up to 110 characters wide: lessons and concepts have the room of the sidebar, too.
html_sidebars = {
    "index": [],
    "auto_tutorials/*": [],
    "exercises": [],
    "explorer": [],
    "concepts/*": [],
    "results/*": [],
}
