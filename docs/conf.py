"""The site: `make docs` builds it from these pages, the docstrings, the cards and `results/`.

No page asks another host for anything: formulas are MathML, the table of weights brings its own
script, fonts and icons are the theme's.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))
os.environ.setdefault("LIPZOO_OFFLINE", "1")  # notebooks and cards need no network

import warnings  # noqa: E402

import lipzoo  # noqa: E402 - after the environment is set

warnings.filterwarnings("ignore", message="Unknown section Shapes")  # docstrings.py reads it

project = "lipzoo"
author = "The lipzoo developers"
copyright = author
version = release = lipzoo.__version__

extensions = [
    "docstrings",
    "gallery",
    "mathml",
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_design",
]
exclude_patterns = ["_build", "_templates", "**/.ipynb_checkpoints"]
templates_path = ["_templates"]

# Pages. What an inline `path` names is text; `colon_fence` is for cards and grids.
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Tutorials are run where they, or the packages, have changed.
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

# Reference.
autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
numpydoc_show_class_members = False
default_role = "py:obj"
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# Look.
html_theme = "pydata_sphinx_theme"
html_title = "lipzoo"
html_context = {"default_mode": "auto"}  # light or dark, as the browser says
html_static_path = ["_static"]
html_css_files = ["lipzoo.css"]
html_math_renderer = "mathml"
# Found pages without a summary, for which a browser would have to fetch files.
html_show_search_summary = False
html_show_sourcelink = False
html_copy_source = False
pygments_style = "a11y-high-contrast-light"
html_theme_options = {
    "logo": {"text": "lipzoo"},
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"changelog": [], "contributing": [], "gallery/index": []}
