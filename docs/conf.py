"""How Sphinx builds these pages: `nox -s docs`, or `sphinx-build -W docs docs/_build`."""

from snowplow_logging import __version__

project = "snowplow-logging"
release = version = __version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

# Furo has its fonts, styles and scripts in the package, so that no page asks another host.
html_theme = "furo"
html_title = f"snowplow-logging {release}"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}

myst_heading_anchors = 3
myst_enable_extensions = ["attrs_block", "attrs_inline"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say what each argument is, the signature its name
autodoc_class_signature = "separated"
# Docstrings are Markdown where they quote code, and code is all that they put into backticks.
default_role = "code"
