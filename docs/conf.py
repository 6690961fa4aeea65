"""How Sphinx builds these pages: `nox -s docs`, or `sphinx-build -W docs docs/_build`."""

import re
from typing import Any

from snowplow_logging import __version__

project = "snowplow-logging"
release = version = __version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

# Furo has its fonts, styles and scripts in the package, so that no page asks another host.
html_theme = "furo"
html_title = f"snowplow-logging {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}

myst_heading_anchors = 3
myst_enable_extensions = ["attrs_block", "attrs_inline"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say what each argument is, the signature its name
# Docstrings are Markdown where they quote code, and code is all that they put into backticks.
default_role = "code"


def mark_code(*docstring: Any) -> None:
    """Mark what stands indented on its own in a docstring as code, which it is."""
    lines: list[str] = docstring[-1]
    before = 0  # the indentation of the text above
    index = 0
    while index < len(lines):
        text = lines[index].strip()
        indent = len(lines[index]) - len(lines[index].lstrip())
        above = next((line for line in reversed(lines[:index]) if line.strip()), "")
        starts = text and index and not lines[index - 1].strip() and indent > before
        if starts and not above.endswith("::"):
            # It may be an outline, with dots in it that are no Python; it is coloured all the same.
            directive = [".. code-block:: python", "    :force:", ""]
            lines[index:index] = [f"{' ' * before}{line}".rstrip() for line in directive]
            index += len(directive)
            while index < len(lines) and (
                lines[index].startswith(" " * indent) or not lines[index]
            ):
                index += 1
            continue
        if text:
            before = indent
        index += 1


def link_outside(_: Any, name: str, source: list[str]) -> None:
    """Have links to Markdown beside this folder, such as SECURITY.md, lead to a copy of it."""
    up = "../" * (name.count("/") + 1)
    link = re.compile(rf"\[([^\]]+)\]\(({re.escape(up)}[\w./-]+\.md)\)")
    source[0] = link.sub(r"{download}`\1 <\2>`", source[0])


def setup(app: Any) -> None:
    """Have docstrings changed before napoleon sees them, and pages before MyST does."""
    app.connect("autodoc-process-docstring", mark_code, priority=1)
    app.connect("source-read", link_outside)
