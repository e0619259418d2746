"""The site of these pages: ``make docs`` builds it, warnings are errors, links between pages are checked."""

project = "r1deploy"
copyright = "the authors of r1deploy"
extensions = ["myst_parser"]
html_theme = "alabaster"
html_theme_options = {"description": "From a hostfile to a served DeepSeek-R1", "page_width": "1100px"}
exclude_patterns = ["_build"]
# Every heading down to this level can be linked to.
myst_heading_anchors = 4
# Two dashes are the beginning of an option here.
smartquotes = False
# Blocks without a language are transcripts.
highlight_language = "none"
