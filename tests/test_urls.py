"""URLs and referrers: mended so that Enrich reads them at once and nothing is lost, or refused."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import java_uri
from snowplow_logging import urls
from snowplow_logging.protocol import Refused
from snowplow_logging.urls import page_uri, referrer_uri

TOKENS = (
    *("http", "https", "://", "//", "/", "?", "#", "@", ":", "[", "]", "%", "%2", "%41", "%zz"),
    *("::1", "[::1]", "[::1%25eth0]", "[fe80::1%eth0]", "1.2.3.4", "::ffff:1.2.3.4", "1::2::3"),
    *("h", "host", "a.b", "a-", "-a", "a..b", "1a", ":80", ":", ":99999999999", ":2147483648"),
    *("mailto:", "urn:", "x:", ".", "..", "_sp=a.1", "_sp", "%5fsp=", "&", ";", "=", "+", " "),
    *("\t", "\n", "|", "{", "}", "\\", "^", "`", "<", ">", '"', "'", "é", "中", "😀", "\x7f"),
    *("\x80", "\xa0", "\xad", "\u1680", "\u180e", "\u2028", "\u202f", "\u3000", "\ufeff", "\udcff"),
    *("\ud800", "\uffff", "\U0010ffff"),
)
urls_like = (
    st.lists(st.sampled_from(TOKENS), min_size=1, max_size=9).map("".join)
    | st.text(min_size=1, max_size=12)
    | st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["https://", "http://", "//", "x:", "/", "", "file:///"]),
        st.sampled_from(["h", "u:p@h", "a@b@c", "h:80", "[::1]", "é.de", "", "a b", "a[b@[::1]"]),
        st.lists(st.sampled_from(TOKENS), max_size=4).map("".join),
        st.sampled_from(["", "?a=b", "?a[]=1", "#f", "?q#f#g"]),
    )
)
checks = st.sampled_from([page_uri, referrer_uri])


def mended(check: Callable[[object], str], url: object) -> str | None:
    """Return what a URL becomes, or None where it is refused."""
    try:
        return check(url)
    except Refused:
        return None


def as_read(url: str) -> str:
    """Return a URL as Enrich reads it, with what UTF-8 has for lone surrogates."""
    url = re.sub(r"[\x00-\x1f\x7f]", "", url.replace("\t", "    "))
    return re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", url)


class TestMended:
    """What is sent is read at once, means what was given, and is mended no more than it must be."""

    @settings(max_examples=300, deadline=None)
    @given(urls_like, checks)
    def test_is_read_at_once(self, url, check):
        """What is sent is a URI for `java.net.URI`, each part within Enrich's limits."""
        sent = mended(check, url)
        if sent:
            read = java_uri.read(sent)
            assert read is not None
            assert len(read.scheme or "") <= 16
            assert len(read.host or "") <= 255

    @settings(max_examples=300, deadline=None)
    @given(urls_like, checks)
    @example("https://h/?a=%2B|+", page_uri)
    @example("https://h/%E9|x", page_uri)
    @example("\udcff", page_uri)
    def test_loses_nothing(self, url, check):
        """Decoded, it is what was given, but for control characters."""
        sent = mended(check, url)
        if sent is not None:
            given_bytes = as_read(url).encode("utf-8", "surrogateescape")
            # What begins like an escape may be one now that a control character is gone.
            assert unquote_to_bytes(sent.encode()) == unquote_to_bytes(given_bytes)

    @settings(max_examples=300, deadline=None)
    @given(urls_like, checks)
    def test_again_changes_nothing(self, url, check):
        """What has been mended is not mended again."""
        sent = mended(check, url)
        if sent is not None:
            assert check(sent) == sent

    @settings(max_examples=300, deadline=None)
    @given(urls_like)
    def test_leaves_a_legal_one_alone(self, url):
        """What is a URI already is sent as it is."""
        if java_uri.read(url) is not None and as_read(url) == url and len(url) <= 16:
            assert referrer_uri(url) == url

    @settings(max_examples=300, deadline=None)
    @given(urls_like)
    def test_is_refused_for_its_host_or_its_end_alone(self, url):
        """Whatever else is wrong is mended."""
        problem = ""
        try:
            referrer_uri(url)
        except Refused as error:
            problem = error.problem
        assert re.search("^$|has the host|ends where|scheme", problem)

    @settings(max_examples=300, deadline=None)
    @given(urls_like)
    @example("https://h/?_sp")
    @example("https://h/_sp#x_sp")
    @example("https://h/?%5fsp=x")
    @example("https://h/?_%73p=x")
    @example("https://h/?_s%70=x")
    @example(f"https://{'h' * 252}")
    @example("https://h:1234567890/")
    @example("https://h/a[b]?[#]#")
    def test_a_usual_one_is_sent_as_it_is(self, url):
        """What is let through by one expression is what the whole grammar lets through."""
        if len(url) <= urls._MOST_USUAL and urls._is_usual(url) is not None:
            assert urls._mended(url, 3_000, urls._check_link_mark) == url

    @settings(max_examples=300, deadline=None)
    @given(
        st.sampled_from(["http://", "https://"]),
        st.text("ab1-_.!~*'();:&=+$,@/?", min_size=1, max_size=260)
        | st.lists(st.sampled_from(["_sp", "=", "?", "&", "a.b", "@", ":", "/"])).map("".join),
        checks,
    )
    @example("https://", f"{'h' * 247}", referrer_uri)
    @example("https://", f"{'h' * 256}", referrer_uri)
    @example("https://", "", referrer_uri)
    @example("http://", "", page_uri)
    @example("http://", "?_sp=.", page_uri)
    def test_a_plain_one_gets_the_same_verdict_as_any(self, start, rest, check):
        """What is let through at a glance is what the whole grammar lets through."""
        most_in_path, check_query = (
            (3_000, urls._check_link_mark) if check is page_uri else (6_000, None)
        )
        whole = mended(lambda url: urls._mended(url, most_in_path, check_query), start + rest)
        assert mended(check, start + rest) == whole

    @pytest.mark.parametrize(
        ("url", "sent"),
        [
            ("https://h/a b", "https://h/a%20b"),
            ("https://h/?q=100%", "https://h/?q=100%25"),
            ("https://h/?a[]=1", "https://h/?a[]=1"),
            ("https://h/[a]", "https://h/%5Ba%5D"),
            (
                "https://h/ <>%%41%%zz\U0001f600 \xa0",
                "https://h/%20%3C%3E%25%41%25%25zz\U0001f600%20%C2%A0",
            ),
            ("https://h/#a#b", "https://h/#a%23b"),
            ("/basket", "/basket"),
            ("shop.example.com/x", "shop.example.com/x"),
            ("?q=1", "?q=1"),
            ("-", "-"),
            ("1http://x", "1http%3A//x"),
            (" https://h/", "%20https%3A//h/"),
            ("C:\\x", "C:%5Cx"),
            ("https://h/?a=%2B|+", "https://h/?a=%2B%7C+"),
            ("https://h/\u2028\xa0\u1680é", "https://h/%E2%80%A8%C2%A0%E1%9A%80é"),
            ("https://us er[@h/", "https://us%20er%5B@h/"),
            ("https://a b/", "https://a%20b/"),
            ("https://h/a\tb\n", "https://h/a%20%20%20%20b"),
            ("https://[::1%25eth0]:80/|", "https://[::1%25eth0]:80/%7C"),
            ("\n", ""),
            ("x/\udcff\ud800", "x/%FF\ufffd"),
            ("https://h/?_sp=a.1.b&_sp=", "https://h/?_sp=a.1.b&_sp="),
            ("mailto:a?_sp=.", "mailto:a?_sp=."),
        ],
    )
    def test_examples(self, url, sent):
        """Each kind of mending once."""
        assert page_uri(url) == sent

    def test_link_marks_are_no_matter_of_referrers(self):
        """Enrich looks at `_sp` in the URL of a page alone."""
        assert referrer_uri("/?_sp=user@example.com") == "/?_sp=user@example.com"
        assert mended(page_uri, "/?_sp=user@example.com") is None


JAVA = """
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.Scanner;

public class Uris {
    public static void main(String[] arguments) {
        for (Scanner lines = new Scanner(System.in, StandardCharsets.US_ASCII); lines.hasNext();) {
            StringBuilder text = new StringBuilder();
            for (String unit : lines.next().split(",")) text.append((char) Integer.parseInt(unit));
            try {
                new URI(text.toString());
                System.out.println("true");
            } catch (java.net.URISyntaxException error) {
                System.out.println("false");
            }
        }
    }
}
"""


@pytest.mark.skipif(shutil.which("javac") is None, reason="needs Java, to ask it")
def test_the_model_is_java(tmp_path):
    """What the tests take for `java.net.URI` says what it says."""
    texts: list[str] = []

    @settings(max_examples=1_000, deadline=None, database=None)
    @given(urls_like)
    def collect(url):
        texts.append(url)

    collect()
    texts = [text for text in texts if text and not re.search("[\ud800-\udfff]", text)]
    source = tmp_path / "Uris.java"
    source.write_text(JAVA)
    subprocess.run(["javac", source], check=True)
    units = [text.encode("utf-16-be") for text in texts]
    lines = (
        ",".join(str(unit[at] * 256 + unit[at + 1]) for at in range(0, len(unit), 2))
        for unit in units
    )
    said = subprocess.run(
        ["java", "-cp", tmp_path, "Uris"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert said == [str(java_uri.read(text) is not None).lower() for text in texts]
