"""The pages that users read, and running what they tell their reader to do.

What a fence in a page says decides what a test makes of its block:

* `python`: the blocks of a page, one after the other, are a program. It runs in a folder of its own
  against a collector, in the place of the addresses in ENDPOINTS. Functions named `test_…` in it
  are called, with the fixture `snowplow_events` if they take it.
* any block that begins with a comment that is a file's name, such as `# shop.py`, is that file; and
  so is one with the name behind the fence's word, for files that have no comments.
* `sh`: commands. Those of this library have to exist; where a page is a series of steps, such as
  the tutorial, they are run.
* `text` and all else is only read.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

__all__ = ["DOCS", "ENDPOINTS", "README", "ROOT", "Block", "Page", "pages"]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

ENDPOINTS = ("https://collector.example.com", "http://127.0.0.1:9090", "http://localhost:9090")
"""What stands in pages for the address of the reader's collector."""

_FENCE = re.compile(r"^```([\w-]*) ?(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"(?:#|;) ([\w./-]+\.\w+)\n")

_CALL_TESTS = """
import inspect, snowplow_logging.testing
for name, function in [*globals().items()]:
    if name.startswith("test_"):
        with snowplow_logging.testing.capture_events() as snowplow_events:
            function(*[snowplow_events][: len(inspect.signature(function).parameters)])
            assert not snowplow_events.unseen, snowplow_events.unseen
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: the word at its fence, the file that it is, if it is one, and its text."""

    language: str
    file: str
    text: str


@dataclass(frozen=True)
class Page:
    """A page in Markdown."""

    path: Path

    @property
    def name(self) -> str:
        """Its path in the project."""
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        """Its text."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def blocks(self) -> list[Block]:
        """Its fenced blocks."""
        blocks = []
        for language, file, text in _FENCE.findall(self.text):
            named = _FILE.match(text)
            blocks.append(Block(language, named[1] if named else file, text))
        return blocks

    @property
    def program(self) -> str:
        """Its blocks of Python that are no files, one after the other."""
        python = [one.text for one in self.blocks if one.language == "python" and not one.file]
        return "\n".join(python)

    def commands(self) -> list[str]:
        """Return its commands, each on one line."""
        shell = "".join(one.text for one in self.blocks if one.language in ("sh", "console"))
        lines = shell.replace("\\\n", " ").splitlines()
        return [line.removeprefix("$ ") for line in lines]

    def table(self, heading: str) -> list[list[str]]:
        """Return the cells of the table whose first heading is this."""
        lines = self.text.partition(f"\n| {heading} |")[2].splitlines()[2:]
        rows = []
        for line in lines:
            if not line.startswith("|"):
                break
            rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
        assert rows, heading
        return rows

    def save(self, folder: Path, endpoint: str) -> None:
        """Write the files that it shows."""
        for block in self.blocks:
            if block.file:
                (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
                (folder / block.file).write_text(there(block.text, endpoint), encoding="utf-8")

    def run(self, folder: Path, endpoint: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run its program in a folder, where its files are.

        Args:
            folder: The folder.
            endpoint: The collector.
            *options: Options of Python.
        """
        self.save(folder, endpoint)
        program = there(self.program, endpoint) + _CALL_TESTS
        return execute([sys.executable, *options, "-c", program], folder, endpoint)


README = Page(ROOT / "README.md")


def pages() -> list[Page]:
    """Return the pages of the documentation."""
    return [Page(path) for path in sorted(DOCS.rglob("*.md")) if "_build" not in path.parts]


def there(text: str, endpoint: str) -> str:
    """Return a text of a page with a collector's address in the place of the reader's."""
    for known in ENDPOINTS:
        scheme, _, host = known.partition("://")
        address = endpoint.removeprefix("http://")
        # A user and a password may stand before the host.
        pattern = rf"{scheme}://((?:[^\s/@\"']+@)?){re.escape(host)}"
        text = re.sub(pattern, rf"http://\g<1>{address}", text)
    return text


def execute(
    command: list[str] | str, folder: Path, endpoint: str, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, as a reader would who has this environment activated."""
    here = Path(sys.executable).parent
    environment = {
        **os.environ,
        "SNOWPLOW_ENDPOINT": endpoint,
        "PATH": f"{here}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
        "HOME": str(folder),
    }
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        shell=isinstance(command, str),
        **more,
    )
