"""What is wrong with a configuration is said without the passwords that are in it."""

from __future__ import annotations

import sys

import pytest

from checking import configuration
from snowplow_logging.check import check

SECRET = "hushhush"
TOML = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python reads TOML from 3.11 on")

BROKEN = {
    "a text without an end": (
        f'endpoint: "http://u:{SECRET}@h.example unterminated\nx: 1\n',
        "found unexpected end of stream (line 3, column 1)",
    ),
    "a flow without an end": (
        f"headers: {{Authorization: {SECRET}",
        "expected ',' or '}', but got '<stream end>' (line 1, column 34)",
    ),
    "a colon too many": (f"key: {SECRET}: x", "mapping values are not allowed here (line 1,"),
    "an alias": (f"key: *{SECRET}", "found undefined alias … (line 1, column 6)"),
    "two anchors": (f"- &{SECRET} a\n- &{SECRET} b", "found duplicate anchor …"),
    "a tag": (f"key: !{SECRET}", "could not determine a constructor for the tag …"),
    "a directive": (f"%TAG {SECRET} x", "while scanning a directive"),
    "a sign": (f"key: @{SECRET}", "found character '@' that cannot start any token (line 1,"),
    "an escape": (f'key: "{SECRET}\\{SECRET}"', "found unknown escape character … (line 1,"),
    "a control character": (f"key: {SECRET}\x07", "special characters are not allowed"),
    "no number": (f"key: !!int {SECRET}", "invalid literal for int() with base 10: …"),
    "no truth": (f"key: !!bool {SECRET}", "is not YAML: …"),
    "no time": (f"key: !!timestamp {SECRET}", "is not YAML: "),
}


def report_of(path, text):
    """Return what `check` says of a file, in one text."""
    path.write_text(text)
    lines: list[str] = []
    assert check(str(path), lines.append) == 1
    return "\n".join(lines)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_yaml(name, tmp_path):
    """It is said what is wrong and where, and the line is not shown."""
    pytest.importorskip("yaml")
    text, words = BROKEN[name]
    report = report_of(tmp_path / "logging.yaml", text)
    assert words in report
    assert SECRET not in report


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("logging.json", f'{{"endpoint": "http://u:{SECRET}@h.example'),
        ("logging.json", f'{{"endpoint": "{SECRET}\\q"}}'),
        ("logging.json", f'{{"endpoint": {SECRET}}}'),
        pytest.param("logging.toml", f'endpoint = "http://u:{SECRET}@h.example', marks=TOML),
        pytest.param("logging.toml", f"endpoint = {SECRET}", marks=TOML),
        pytest.param("logging.toml", f'endpoint = "a" {SECRET}', marks=TOML),
        pytest.param("logging.toml", f"endpoint = {'1' * 5_000}", marks=TOML),
    ],
)
def test_broken_files_of_other_kinds(name, text, tmp_path):
    """The same is so for JSON and TOML."""
    report = report_of(tmp_path / name, text)
    assert f"{name} is not {name[-4:].upper()}: " in report
    assert SECRET not in report


@pytest.mark.parametrize("form", ["endpoint: {url}", "headers: {url}", "[{url}]", "{url}"])
@pytest.mark.parametrize("level", ["handlers:\n  ", "handlers:\n  snowplow:\n    "])
def test_a_setting_where_none_belongs(level, form, tmp_path):
    """Where the name of the handler was left out, its settings are taken for handlers."""
    pytest.importorskip("yaml")
    text = level + form.format(url=f'"http://u:{SECRET}@h.example"')
    report = report_of(tmp_path / "logging.yaml", f"version: 1\n{text}\n")
    assert "error: handlers" in report
    assert SECRET not in report


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", ["[::1", "h.example:port", "[x]", "h.example:99999"])
def test_a_proxy_that_is_none(scheme, host, report, monkeypatch):
    """That its URL is broken is said, and not shown by a traceback."""
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(f"{scheme}_proxy", f"http://u:{SECRET}@{host}")
    status, said = report(configuration(endpoint=f"{scheme}://collector.invalid"))
    assert status == 2
    assert "error: " in said
    assert SECRET not in said


def test_a_list_for_an_endpoint(report):
    """It is called what it is in the configuration."""
    status, said = report(configuration(endpoint=[f"http://u:{SECRET}@h.example"]))
    assert status == 1
    assert "handlers.snowplow.endpoint is of the type list; give the collector's URL" in said
    assert SECRET not in said
