"""Settings of the documentation site: `sphinx-build -W docs docs/_build` builds it."""

from __future__ import annotations

import sys
from pathlib import Path

import dimpoint

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "dimpoint"
author = "The dimpoint developers"
project_copyright = "the dimpoint developers, Apache-2.0"
release = version = dimpoint.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "reference",  # docs/_ext: the command line and the public names, read from the code
]
exclude_patterns = ["_build", "_ext"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds for a cell

autodoc_typehints = "signature"  # docstrings describe parameters
python_maximum_signature_line_length = 80
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "model_config, model_post_init, cKDTree"}
numpydoc_show_class_members = False
copybutton_exclude = ".linenos, .gp"

html_theme = "pydata_sphinx_theme"
html_title = f"dimpoint {release}"
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
html_show_sourcelink = False
