"""The pages that Sphinx has made of the documentation, which `nox -s docs` builds before."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from documents import DOCS, pages

BUILT = DOCS / "_build"

pytestmark = pytest.mark.skipif(
    not (BUILT / "index.html").is_file(), reason="`nox -s docs` builds the pages"
)

ELSEWHERE = re.compile(r"(?:https?:|wss?:)?//", re.IGNORECASE)
FETCHING = re.compile(
    rf"""(?:\b(?:fetch|import|importScripts|WebSocket|EventSource)\(|\.src\s*=)\s*["'`]"""
    rf"(?:{ELSEWHERE.pattern})"
)
# What a browser asks for by itself, without a click of the reader.
FETCHED = {"src", "srcset", "data", "poster", "background", "xlink:href"}


class Fetches(HTMLParser):
    """Collects what a page has a browser ask for.

    Attributes:
        found: The tags with the addresses.
        styles: What stands in styles.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.styles: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at the attributes that lead somewhere."""
        self._in_style = tag == "style"
        values = {name: value or "" for name, value in attrs}
        self.styles.append(values.get("style", ""))
        for name in FETCHED & values.keys():
            self.found += [(tag, part) for part in values[name].split(",")]
        links = values.get("rel", "").lower().split()
        if tag == "link" and not {"canonical", "next", "prev", "author", "license"} & {*links}:
            self.found.append((tag, values.get("href", "")))
        if tag in ("form", "base"):
            self.found.append((tag, values.get("action", values.get("href", ""))))

    def handle_data(self, data: str) -> None:
        """Keep the text of styles."""
        if self._in_style:
            self.styles.append(data)

    def handle_endtag(self, tag: str) -> None:
        """Leave a style."""
        self._in_style = False


def asked_by_styles(text: str) -> list[str]:
    """Return the addresses that a style sheet has a browser ask for."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    found = re.findall(r"url\(\s*[\"']?([^\"')]+)", text)
    return found + re.findall(r"@import\s+[\"']([^\"']+)", text)


def test_no_page_asks_another_host():
    """Scripts, styles, fonts and images all lie beside the page, and what is asked for is there."""
    html = sorted(BUILT.rglob("*.html"))
    assert len(html) > len(pages())
    asked = 0
    for page in html:
        reader = Fetches()
        reader.feed(page.read_text(encoding="utf-8"))
        styled = asked_by_styles("".join(reader.styles))
        for tag, target in [*reader.found, *(("style", target) for target in styled)]:
            address = target.strip().partition(" ")[0]
            assert not ELSEWHERE.match(address), (page.name, tag, address)
            file = re.split(r"[?#]", address)[0]
            if file and not address.startswith("data:"):
                asked += 1
                assert (page.parent / file).exists(), (page.name, tag, address)
    assert asked > len(html)


def test_no_style_and_no_script_does():
    """Nor is there anything to be asked for in the style sheets and scripts themselves."""
    styles = sorted(BUILT.rglob("*.css"))
    assert styles
    for style in styles:
        for address in asked_by_styles(style.read_text(encoding="utf-8")):
            assert not ELSEWHERE.match(address), (style.name, address)
    scripts = sorted(BUILT.rglob("*.js"))
    assert scripts
    for script in scripts:
        text = script.read_text(encoding="utf-8")
        assert [found[0] for found in FETCHING.finditer(text)] == [], script.name
