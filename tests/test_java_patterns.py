"""Tests of the patterns of schemas: what Java's regular expressions take and refuse."""

from __future__ import annotations

import base64
import shutil
import subprocess
from itertools import zip_longest

import pytest

pytest.importorskip("jsonschema_rs", reason="checking schemas needs it")

from hypothesis import given, settings
from hypothesis import strategies as st

from snowplow_logging.schemas import BrokenSchema, Schema

URI = "iglu:com.acme/buy/jsonschema/1-0-0"
ANYTHING = ["", "a", "b", "é", "a.b", "\r\n", "\N{GRINNING FACE}"]

# A pattern, what Java takes of texts, and what it refuses.
JUDGED: list[tuple[str, list[str], list[str]]] = [
    ("b", ["abc"], ["ac"]),
    ("a|", ["", "b"], []),
    (r"^[a-zA-Z0-9-_.]+$", ["a-b_c.d"], ["a b", "é"]),
    (r"^(?!no)", ["yes"], ["no"]),
    (r"^a\$", ["a$"], ["a"]),
    (r"^[$.|(){}*+?^-]+$", ["$.|", "^-", "(){}*+?"], ["a", "\\"]),
    (r"^a}]$", ["a}]"], ["a"]),
    ("^a{0000000002}$", ["aa"], ["a"]),
    # The end of a line that is the last.
    (r"^\d+$", ["12", "12\n", "12\r\n", "12\r", "1\u0085", "1\u2028"], ["\u0662", "12\n\n", "x"]),
    ("^(yes|no$)", ["no\n", "no", "yes!"], ["no!", "no\n\n"]),
    ("^(a$|b)$", ["a\n", "b\r\n"], ["a\n\n", "ab"]),
    ("^a$|^b$", ["a\n", "b\n"], ["ab"]),
    (r"^[^b]$", ["a\r\n", "\r"], ["b", "ab"]),
    (r"^[\s\S]{1,3}$", ["ab\r\n", "abc\n"], ["abc\r\n ", "abc\rd"]),
    (r"^\Aa\Z", ["a", "a\r\n"], ["b", "a\n\n"]),
    (r"^a\z", ["a"], ["a\n"]),
    (r"a$\n", ["a\n"], ["a", "a\n\n"]),
    (r"\Z\n", ["\n", "a\n"], ["a\r\n"]),
    # A dot, and white space, which is ASCII.
    ("^.$", ["a", "é", "\x0b", "\N{GRINNING FACE}"], ["\n", "\r", "\u0085", "\u2028", "ab"]),
    ("(?s)^.$", ["\n", "\u2028"], ["ab"]),
    (r"^[\s\S]{1,100}$", ["10\u00a0000 km", "\u2003", "\ufeff", "a\nb"], ["", "a" * 101]),
    (r"^\S+$", ["a\u00a0b", "\u0085"], ["a b", "\x0b"]),
    (r"^[\s]$", [" ", "\t", "\x0b"], ["\u00a0", "\x1c"]),
    (r"^\w$", ["a", "_"], ["é", "-"]),
    (r"^[^\W\d]$", ["a"], ["1", "é"]),
    (r"^\h\H\v\V$", ["\u180ea\u2029b", "\tb\x0b "], ["ab\x0bb", "\ta\na\nb"]),
    # Escapes.
    (r"^\e$", ["\x1b"], ["e"]),
    (r"^\<\w+\>$", ["<a>"], ["a"]),
    (r"^\0101\x42\x{43}\u0044\cA$", ["ABCD\x01"], ["ABCD", "\x08" + "1BCD\x01"]),
    (r"^\ud83d\ude00[\x{1f601}-\x{1f603}]$", ["😀😂"], ["😀😀", "😀"]),
    (r"^[^\ud800-\udfff]+$", ["a", "😀"], [""]),
    (r"^\Qa.(b\E+$", ["a.(b", "a.(bb"], ["aa(b", "a.(ba.(b"]),
    (r"^[\Q^]\E]+$", ["^]"], ["a"]),
    # Flags, of which that for letters knows ASCII.
    ("(?i)^abc$", ["ABC"], ["abd"]),
    (r"^[A-Z]{2}(?i)[a-z]+$", ["ABc", "ABC"], ["abc", "AB\u212a"]),
    ("^(?i:k|é[^a])(?-i)b$", ["Kb", "kb", "éBb"], ["\u212ab", "kB", "ÉBb", "éAb"]),
    ("^(a(?i)b|c)d$", ["aBd", "Cd"], ["Abd", "cD"]),
    # Sets.
    ("^[a-z&&[^b]]+$", ["ac"], ["b", "ab", ""]),
    ("^[a-z&&b-y&&[^c]]$", ["b", "d"], ["a", "c", "z"]),
    ("^[^a-z&&[b]]$", ["a", "1"], ["b"]),
    ("^[a-c[x-z]]+$", ["ax"], ["d"]),
    ("^[^a[b]]$", ["c"], ["a", "b"]),
    ("^[]a]+[^]a]$", ["]ab"], ["]a]"]),
    (r"^[-a\]&]+[+--]$", ["-a&]-", "a,"], ["-a", "a."]),
    # Properties, which are ASCII where POSIX named them.
    (r"^\p{Alpha}+[\p{Digit}x]$", ["a1", "bx"], ["é1", "a"]),
    (r"^\P{Punct}\p{Punct}$", ["a!", "é~"], ["!!", "a\u00a1"]),
    (r"^\p{L}\p{Lu}$", ["éÉ"], ["1A", "éa"]),
    (r"^\p{IsLatin}\p{IsHan}$", ["é中"], ["яz"]),
    (r"^[\p{L}&&[^a]]$", ["b", "é"], ["a", "1"]),
    # References, and what gives nothing back.
    (r"^(\w)\1$", ["aa"], ["ab"]),
    (r"^(?<first>\w)(?:x)(.)\k<first>1\2$", ["axba1b"], ["axba1a"]),
    ("^(a*+b)", ["aab"], ["ac"]),
    ("^a*+a$", [], ["aaa"]),
    ("^(?>a|ab)(c)d$", ["acd"], ["abcd"]),
    (r"^(?>(a))(?>(b))\2\1$", ["abba"], ["abab"]),
]

# The same of the names of properties.
JUDGED_NAMES = [
    (r"^\p{Alpha}+$", ["a"], ["é", "1"]),
    (r"^a\Z", ["a"], ["b"]),
    (r"^\Qa\E", ["ab"], ["b"]),
    (r"^[\s\S]{2}$", ["a\u00a0"], ["a"]),
]

# What versions of Java read differently, or what only Java can do.
UNSURE = [r"\R", r"\X", r"\b{g}a", "(?m)^a$", "(?x) a", r"\p{InGreek}", r"\p{javaLowerCase}"]
UNSURE += [r"\2(a)(b)", r"(?:(a)|b)+\1", "(?i)(a)\\1", "[a-z&&[^b]c]", "^*a", "(?<=a+)b", "a{2}{3}"]
UNSURE += [r"\N{DIGIT ONE}", r"\p{C}", r"(?i)\p{Lower}", r"\k<a>", r"(?:a)\k<a>", "(?:a+){2}+"]

BROKEN = ["(", "(?<a", "a)", "[a", "[]", "*a", "a|+", "a**", "a{", "a{x}", "a{3,2}", "[z-a]", "\\"]
BROKEN += ["a{2147483648}"]
BROKEN += [r"\y", r"\E", "(?P<a>b)", "(?#a)", "(?<a>b)(?<a>c)", r"\x{110000}", "[a[b]"]


def takes(rules, *values):
    """Return which of some values a schema takes."""
    schema = Schema(URI, rules)
    return [value for value in values if not schema.faults(value)]


@pytest.mark.parametrize(("pattern", "good", "bad"), JUDGED)
def test_patterns_are_javas(pattern, good, bad):
    """A pattern is searched for as `java.util.regex` does it."""
    assert takes({"pattern": pattern}, *good, *bad) == good
    assert takes({"not": {"pattern": pattern}}, *good, *bad) == bad
    assert takes({"pattern": pattern}, 5) == [5]


JUDGED_LOOSELY = [
    # What Java's version of Unicode does not know yet has no property there.
    (r"^[^\p{IsAlphabetic}\p{N}]\pL$", ["-я", "\u0870a"], ["aa", "1a"]),
    (r"^[^\p{So}]*!$", ["hi!", "hi \U0001fae0!"], ["hi"]),
    (r"^\P{L}$", ["1", "\u0870"], ["a"]),
    (r"^(?!\p{Lu})[\s\S]$", ["a", "\u1c89"], ["A"]),
    (r"\bk$", ["k", "é k", "ék"], ["ak"]),
]


@pytest.mark.parametrize(("pattern", "good", "bad"), JUDGED_LOOSELY)
def test_what_cannot_be_told_is_taken(pattern, good, bad):
    """So are all texts that must not match such a pattern."""
    assert takes({"pattern": pattern}, *good, *bad) == good
    assert takes({"not": {"pattern": pattern}}, *good, *bad) == [*good, *bad]


def test_the_middle_of_a_line_end_is_no_end():
    """It is taken for one where that is quicker, but not where text would be refused for it."""
    assert takes({"not": {"pattern": r"^[^b]$"}}, "\r\n", "\r") == ["\r\n"]
    assert takes({"not": {"properties": {"a": {"pattern": r"^[^b]$"}}}}, {"a": "\r\n"})


def test_a_text_that_nearly_matches_takes_no_time():
    """Patterns that do not look around are searched in a time that grows as the text does."""
    assert takes({"pattern": r"^([^,]+,?)+$"}, *(["a" * 25 + ",,"] * 10_000)) == []
    assert takes({"pattern": r"^[^@]+@[^@]+\.[^@]+$"}, "a@" + "b." * 100_000 + "@") == []
    assert takes({"pattern": r"\s+$"}, " " * 6_000 + "b") == []


@pytest.mark.parametrize(("pattern", "good", "bad"), JUDGED_NAMES)
def test_patterns_of_names_are_javas(pattern, good, bad):
    """So are the keys of `patternProperties`."""
    rules = {"patternProperties": {pattern: {"type": "string"}}, "additionalProperties": False}
    given = [{name: "x"} for name in [*good, *bad]]

    assert takes(rules, *given) == given[: len(good)]
    assert takes(rules, *({name: 5} for name in good)) == []


def test_two_patterns_of_names_may_mean_the_same():
    """Both rules hold then, and a fault names the rule as it was written."""
    rules = {"patternProperties": {r"^\d$": {"maximum": 5}, "^[0-9]$": {"minimum": 3}}}

    assert takes(rules, {"1": 1}, {"1": 4}, {"1": 9}) == [{"1": 4}]
    assert Schema(URI, rules).faults({"1": 9})[0].rule == "maximum is 5"


def test_letters_beyond_ascii_are_left_to_java_at_a_word_s_edge():
    """Which of them make a word depends on Java's version, so that a text with any is taken."""
    assert takes({"pattern": r"^a\b"}, "a b", "ab", "éa") == ["a b", "éa"]
    assert takes({"not": {"pattern": r"^a\b"}}, "a b", "éa") == ["a b", "éa"]


@pytest.mark.parametrize("pattern", UNSURE)
def test_a_pattern_that_cannot_be_told_refuses_nothing(pattern):
    """It refuses neither by itself nor by what stands around it."""
    unsure = {"pattern": pattern}
    names = {"patternProperties": {pattern: {"type": "null"}}, "additionalProperties": False}

    for rules in (
        unsure,
        {"not": unsure},
        {"not": {"allOf": [{"type": "string"}, unsure]}},
        {"oneOf": [unsure, {"type": "string"}]},
        {"definitions": {"a": unsure}, "not": {"$ref": "#/definitions/a"}},
    ):
        assert takes(rules, *ANYTHING) == ANYTHING
    assert takes(names, {"a": 1}) == [{"a": 1}]
    assert takes({"not": {**names, "required": ["a"]}}, {"a": 1}) == [{"a": 1}]


def test_what_does_not_hang_on_an_unsure_pattern_is_checked():
    """One pattern that is left out takes no other rule with it."""
    rules = {
        "properties": {
            "a": {"pattern": r"\R"},
            "b": {"not": {"pattern": "^x$"}},
            "c": {"oneOf": [{"type": "string"}, {"type": "null"}]},
            "d": {"maxLength": 1, "pattern": r"\X"},
        }
    }

    assert takes(rules, {"b": "x"}, {"c": 5}, {"d": "ab"}, {"a": "a"}) == [{"a": "a"}]


def test_a_search_that_was_given_up_refuses_nothing():
    """A pattern may take more steps than anybody waits for, and then tells nothing."""
    assert takes({"pattern": "^(?:(?=a)(?:a|aa))+c$"}, "a" * 90, "ab") == ["a" * 90]


@pytest.mark.parametrize("pattern", BROKEN)
def test_a_pattern_that_java_cannot_read_breaks_its_schema(pattern):
    """Enrich fails every event of such a schema."""
    for rules in ({"pattern": pattern}, {"patternProperties": {pattern: {}}}):
        with pytest.raises(BrokenSchema) as raised:
            Schema(URI, rules)

        assert raised.value.certain


ATOMS = (
    *("a", "b", "k", "1", "-", "é", "😀", " ", "^", "$", ".", "|", r"\s", r"\S", r"\w", r"\W"),
    *(r"\D", r"\h", r"\v", r"\b", r"\z", r"\Z", r"\A", r"\p{L}", r"\P{Lu}", r"\p{Alpha}"),
    *(r"\P{Space}", r"\p{Punct}", "(?i)", "(?s)", "(?-i)", r"\Qa.\E", r"\e", r"\x41", r"\0101"),
    *(r"\.", r"\-", r"\n", r"\r", r"\1", r"\k<n>", "[", "]", "(", ")", "{", "}", "*", "&&"),
)
MEMBERS = (
    *("a", "b", "A-Z", "a-c", "-", r"\d", r"\W", r"\s", r"\S", r"\p{L}", r"\P{L}", ".", "^"),
    *(r"\r", "k", "&", r"\\", r"\-", "é", r"\x00-\x7f", r"\ud800-\udfff", "[", "]", "&&", "&&[^b]"),
)
REPEATED = ("", "", "", "*", "+", "?", "{2}", "{1,2}", "{1,}", "*?", "+?", "*+", "++", "{2}+", "**")
OPENED = ("(?:", "(", "(?=", "(?!", "(?<=", "(?<!", "(?i:", "(?>", "(?s:", "(?<n>")

some_sets = st.builds(
    "[{}{}]".format, st.sampled_from(["", "^"]), st.lists(st.sampled_from(MEMBERS)).map("".join)
)
some_atoms = st.one_of(st.sampled_from(ATOMS), some_sets)
some_parts = st.recursive(
    st.builds(str.__add__, some_atoms, st.sampled_from(REPEATED)),
    lambda inner: st.builds(
        "{}{}){}".format,
        st.sampled_from(OPENED),
        st.lists(inner, max_size=3).map("".join),
        st.sampled_from(REPEATED),
    ),
    max_leaves=5,
)
some_patterns = st.builds(
    "{}{}{}".format,
    st.sampled_from(["^", ""]),
    st.lists(some_parts, max_size=4).map("".join),
    st.sampled_from(["$", "", r"\Z", r"\z"]),
)
TEXTS = sorted({text for _, good, bad in JUDGED for text in [*good, *bad] if len(text) < 7})
TEXTS += [chr(code) for code in (*range(0x100), *range(0x2000, 0x2070), 0x1680, 0x180E, 0x3000)]

JAVA = """
import java.io.*;
import java.util.*;
import java.util.regex.*;

public class Patterns {
    static String decoded(String text) throws IOException {
        return new String(Base64.getDecoder().decode(text), "UTF-8");
    }

    public static void main(String[] arguments) throws IOException {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        List<String> texts = new ArrayList<>();
        for (String text : lines.readLine().split(" ", -1)) {
            texts.add(decoded(text));
        }
        String line;
        while ((line = lines.readLine()) != null) {
            StringBuilder said = new StringBuilder();
            try {
                Pattern pattern = Pattern.compile(decoded(line));
                for (String text : texts) {
                    said.append(pattern.matcher(text).find() ? '1' : '0');
                }
            } catch (PatternSyntaxException error) {
                said.append("none");
            } catch (RuntimeException error) {
                said.append("broken");
            }
            System.out.println(said);
        }
    }
}
"""


@pytest.fixture(scope="module")
def ask_java(tmp_path_factory):
    """Return what has Java search texts for patterns."""
    if shutil.which("javac") is None:
        pytest.skip("needs Java, to ask it")
    folder = tmp_path_factory.mktemp("java")
    (folder / "Patterns.java").write_text(JAVA)
    subprocess.run(["javac", folder / "Patterns.java"], check=True)

    def encoded(text):
        return base64.b64encode(text.encode()).decode()

    def ask(patterns, texts):
        lines = [" ".join(map(encoded, texts)), *map(encoded, patterns)]
        return subprocess.run(
            ["java", "-cp", folder, "Patterns"],
            input="\n".join(lines),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()

    return ask


def test_the_tables_are_java(ask_java):
    """What the tables say of a pattern is what Java says."""
    rows = [*JUDGED, *JUDGED_NAMES]
    texts = sorted({text for _, good, bad in rows for text in [*good, *bad]})
    all_said = ask_java([pattern for pattern, *_ in rows], texts)

    for (pattern, good, bad), said in zip(rows, all_said, strict=True):
        taken = dict(zip(texts, said, strict=True))
        assert [taken[text] for text in good] == ["1"] * len(good), pattern
        assert [taken[text] for text in bad] == ["0"] * len(bad), pattern
    assert {*ask_java(BROKEN, ANYTHING)} == {"none"}


def verdicts(pattern):
    """Return of each text what Java says of it, with `?` where that cannot be told."""
    try:
        takes_text = Schema(URI, {"pattern": pattern}).is_valid
    except BrokenSchema:
        return "none"
    takes_others = Schema(URI, {"not": {"pattern": pattern}}).is_valid
    return "".join(
        ("?" if takes_others(text) else "1") if takes_text(text) else "0" for text in TEXTS
    )


def test_a_translation_is_java(ask_java):
    """Whatever is told of a pattern is what Java says, and of most patterns something is told."""
    patterns = [pattern for pattern, *_ in JUDGED]

    @settings(max_examples=500, deadline=None, database=None)
    @given(some_patterns)
    def collect(pattern):
        patterns.append(pattern)

    collect()
    all_said = ask_java(patterns, TEXTS)
    all_told = [verdicts(pattern) for pattern in patterns]
    wrong = {
        (pattern, text)
        for pattern, said, told in zip(patterns, all_said, all_told, strict=True)
        if said != "broken"  # by a fault of Java's own
        for text, verdict, our in zip_longest(TEXTS, said, told)
        if our not in (verdict, "?")
    }
    assert wrong == set()
    assert sum("?" not in told for told in all_told) > len(all_told) // 3
