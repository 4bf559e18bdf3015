"""Sphinx configuration: `make docs` builds docs/_build/html."""

project = "Downbeat"
author = "The Downbeat authors"
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "Downbeat"
exclude_patterns = ["_build"]
