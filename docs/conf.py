"""Sphinx configuration of the manual."""

project = "ortnas"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "ortnas"
myst_heading_anchors = 3
exclude_patterns = ["_build"]
