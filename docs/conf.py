"""Settings of the documentation site: ``make docs`` builds it to ``docs/_build``."""

import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from prithvi_tg import __version__

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "prithvi_tg"
author = "The prithvi_tg authors"
copyright = "The prithvi_tg authors, Apache-2.0"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "command_reference",
    "module_pages",
    "notebooks",
    "own_names",
]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3

# API. Names in single backticks in docstrings are names of Python.
default_role = "py:obj"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

# Every reference to a name of this package must resolve; names of other projects need not.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!prithvi_tg\.).*"),
    ("py:class", r"prithvi_tg\..*\.(Value|_Class)"),  # type variables
]
suppress_warnings = ["config.cache"]
smartquotes = False  # options begin with two hyphens

INVENTORIES = {
    "python": "https://docs.python.org/3/",
    "torch": "https://docs.pytorch.org/docs/stable/",
    "torchgeo": "https://torchgeo.readthedocs.io/en/stable/",
    "lightning": "https://lightning.ai/docs/pytorch/stable/",
    "numpy": "https://numpy.org/doc/stable/",
}


def is_online() -> bool:
    """Whether the documentation of other projects can be fetched."""
    try:
        with urlopen(INVENTORIES["python"] + "objects.inv", timeout=3):
            return True
    except (URLError, OSError):
        return False


intersphinx_mapping = {name: (url, None) for name, url in INVENTORIES.items()} if is_online() else {}
intersphinx_timeout = 10

html_theme = "pydata_sphinx_theme"
html_title = "prithvi_tg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "pygments_light_style": "tango",
}
html_sidebars = {"index": [], "alternatives": [], "changes": []}
