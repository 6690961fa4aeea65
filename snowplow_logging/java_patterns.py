"""Writes Java's regular expressions as the validator of schemas reads them.

Enrich searches with `java.util.regex`, and the validator here knows ECMAScript's patterns. Many an
escape means something else to Java or is known to it alone, sets of characters may be cut with each
other, and `$` also matches before a line's end that is the last of the text. So a pattern is taken
apart as Java does it, and written anew in what both read alike: characters and sets of them,
groups, looks ahead and behind, repetitions and references. What one version of Java reads otherwise
than another, or what has no such form, is said to be unsure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

__all__ = ["NoPattern", "Translation", "UnsurePattern", "translated"]


class NoPattern(ValueError):
    """Java cannot read a pattern either."""


class UnsurePattern(ValueError):
    """It cannot be told what a pattern means to Java, or there are no words for it here."""


class Translation(NamedTuple):
    """A pattern as the validator reads it.

    Attributes:
        pattern: The pattern.
        is_exact: Whether it matches just what Java's does, and not some text besides.
    """

    pattern: str
    is_exact: bool


_Ranges: TypeAlias = list[tuple[int, int]]
"""Characters: from the first of a pair to the last, both among them."""

_LAST: Final = 0x10FFFF
_ALL: Final[_Ranges] = [(0, _LAST)]
_SURROGATES: Final = (0xD800, 0xDFFF)


def _ranges(pairs: str) -> _Ranges:
    """Return ranges of ASCII as read from pairs such as `azAZ`."""
    return [(ord(first), ord(last)) for first, last in zip(pairs[::2], pairs[1::2], strict=True)]


def _all_but(ranges: _Ranges) -> _Ranges:
    others, start = [], 0
    for first, last in sorted(ranges):
        if first > start:
            others.append((start, first - 1))
        start = max(start, last + 1)
    return [*others, (start, _LAST)] if start <= _LAST else others


_LINE_ENDS: Final[_Ranges] = [(0x0A, 0x0A), (0x0D, 0x0D), (0x85, 0x85), (0x2028, 0x2029)]
_SETS: Final = {
    "d": _ranges("09"),
    "w": _ranges("azAZ09__"),
    "s": _ranges("\t\r  "),
    "v": [(0x0A, 0x0D), (0x85, 0x85), (0x2028, 0x2029)],
    "h": [
        *_ranges("\t\t  "),
        *((code, code) for code in (0xA0, 0x1680, 0x180E, 0x202F, 0x205F, 0x3000)),
        (0x2000, 0x200A),
    ],
}
_LETTERS: Final[dict[str, int | _Ranges]] = {
    **_SETS,
    **{letter.upper(): _all_but(ranges) for letter, ranges in _SETS.items()},
    "a": 0x07,
    "e": 0x1B,
    "f": 0x0C,
    "n": 0x0A,
    "r": 0x0D,
    "t": 0x09,
}
"""What letters mean after a backslash."""
# Java's names of sets of characters, which are ASCII unless asked otherwise.
_POSIX: Final = {
    "Lower": _ranges("az"),
    "Upper": _ranges("AZ"),
    "ASCII": _ranges("\x00\x7f"),
    "Alpha": _ranges("azAZ"),
    "Digit": _ranges("09"),
    "Alnum": _ranges("azAZ09"),
    "Punct": _ranges("!/:@[`{~"),
    "Graph": _ranges("!~"),
    "Print": _ranges(" ~"),
    "Blank": _ranges("\t\t  "),
    "Cntrl": _ranges("\x00\x1f\x7f\x7f"),
    "XDigit": _ranges("09afAF"),
    "Space": _ranges("\t\r  "),
}
# A category of Unicode. Not `C`, for it has all characters that a version of Unicode has not yet.
_CATEGORY: Final = re.compile(
    r"(?:Is|gc=|general_category=)?"
    r"(L[Cultmo]?|M[nce]?|N[dlo]?|P[cdseifo]?|S[mcko]?|Z[slp]?|C[cfo])"
)
_SCRIPT: Final = re.compile(r"(?:Is|sc=|script=)([A-Z][A-Za-z_]{2,})")
_PROPERTIES: Final = {
    "IsAlphabetic": "Alphabetic",
    "IsIdeographic": "Ideographic",
    "IsLetter": "L",
    "IsLowercase": "Lowercase",
    "IsUppercase": "Uppercase",
    "IsPunctuation": "P",
    "IsDigit": "Nd",
    "IsWhite_Space": "White_Space",
}
_CASED: Final = frozenset("Lower Upper Lu Ll Lt IsLowercase IsUppercase".split())
# What Java refuses, in each version of it.
_NO_ESCAPES: Final = frozenset("CEFIJKLMOSTUYgijlmoqy")
_ESCAPE: Final = re.compile(
    r"0(?P<octal>[0-3][0-7]{2}|[0-7]{1,2})"
    r"|x(?:(?P<hex>[0-9A-Fa-f]{2})|\{(?P<long>[0-9A-Fa-f]{1,6})\})"
    r"|u(?P<high>[dD][89abAB][0-9A-Fa-f]{2})\\u(?P<low>[dD][c-fC-F][0-9A-Fa-f]{2})"
    r"|u(?P<unit>[0-9A-Fa-f]{4})"
    r"|c(?P<control>[\x00-\x7f])"
    r"|[pP](?:\{(?P<name>[A-Za-z_=]+)\}|(?P<category>[LMNPSZ]))"
    r"|(?P<one>.)",
    re.DOTALL,
)
_QUOTED: Final = re.compile(r"\\Q(.*?)(?:\\E|\Z)|\\.", re.DOTALL)
_GROUP: Final = re.compile(
    r"\((?:(?!\?)|\?(?:(?P<kind>:|[=!>]|<[=!])|<(?P<name>[a-zA-Z][a-zA-Z0-9]*)>"
    r"|(?P<on>[idmsuxU]*)(?:-(?P<off>[idmsuxU]*))?(?P<end>[:)])))"
)
_REPETITION: Final = re.compile(
    r"(?P<often>[*+?]|\{(?P<least>[0-9]+)(?:,(?P<most>[0-9]*))?\})(?P<how>[+?]?)"
)
_REFERENCE: Final = re.compile(r"\\(?:(?P<number>[1-9][0-9]*)|k<(?P<name>\w+)>)")
_CAPTURE: Final = re.compile(r"\(\?<g([0-9]+)>")
# Each group has a name until all are there, whose order is that of their numbers.
_NAMED: Final = re.compile(r"\(\?<(?P<group>\w+)>|\\k<(?P<reference>\w+)>")

# The end of a text, or of the line that is its last. Java sees none between `\r` and `\n`. To look
# back has the validator search by trial and error, which takes seconds for some texts. So it does
# only where it has to be exact, or looks around anyway; elsewhere it takes such an end as well.
_END: Final = r"(?:\r\n|[\n\r\u0085\u2028\u2029])?$"
_END_AFTER_RETURN: Final = r"(?:\r\n|(?<!\r)\n|[\r\u0085\u2028\u2029])?$"
_BEFORE_END: Final = f"(?={_END_AFTER_RETURN})"
_MOST_TIMES: Final = 2**31 - 1
# What matches no character, and cannot be repeated here.
_PLACES: Final = frozenset(["^", "$", r"\b", r"\B", _END, _END_AFTER_RETURN, _BEFORE_END])


class _Union(NamedTuple):
    """What a set holds.

    Attributes:
        ranges: Characters.
        properties: Those of Unicode, as they are written.
        sets: Other sets, as they are written.
    """

    ranges: _Ranges
    properties: list[str]
    sets: list[str]


@dataclass
class _Group:
    """A group whose end has not come yet.

    Attributes:
        start: How it is written.
        flags: What held before it, and holds again after it.
        parts: What is in it, each of which could be repeated as a whole.
        number: That of a group that captures.
    """

    start: str
    flags: frozenset[str]
    parts: list[str] = field(default_factory=list)
    number: int = 0


def translated(pattern: str, *, exactly: bool) -> Translation:
    """Return a pattern of Java's as the validator reads it.

    Args:
        pattern: The pattern.
        exactly: Whether it is to match no more than Java's, where that is possible, even if it then
            takes far longer for some texts.

    Raises:
        NoPattern: Java cannot read it.
        UnsurePattern: It cannot be translated.
    """
    return _Reader(pattern, exactly=exactly).read()


class _Reader:
    """Reads a pattern from its start to its end, and writes it on the way."""

    def __init__(self, pattern: str, *, exactly: bool) -> None:
        self._pattern = _QUOTED.sub(_without_quotes, pattern)
        self._at = 0
        self._flags: frozenset[str] = frozenset()
        self._groups = [_Group("", self._flags)]
        self._names: dict[str, int] = {}  # the numbers of groups by name
        self._closed: set[int] = set()  # groups that there may be references to
        self._captures = 0
        self._atomics = 0
        self._has_return = False  # whether `\r` may have been taken
        self._exactly = exactly
        self._is_exact = True
        self._is_for_ascii = True  # whether other texts can be judged, too

    def read(self) -> Translation:
        """Return the whole pattern as the validator reads it."""
        can_repeat = False
        while self._at < len(self._pattern):
            sign = self._pattern[self._at]
            if repetition := _REPETITION.match(self._pattern, self._at):
                self._repeat(repetition, can_repeat=can_repeat)
                can_repeat = False
            elif sign == "{" and can_repeat:
                raise NoPattern
            elif sign == "(":
                self._open()
                can_repeat = False
            elif sign == ")":
                self._close()
                can_repeat = True
            else:
                self._at += 1
                part = self._part(sign)
                self._groups[-1].parts.append(part)
                can_repeat = part != "|" and part not in _PLACES
        if len(self._groups) > 1:
            raise NoPattern
        written = _numbered("".join(self._groups[0].parts))
        if not self._is_for_ascii:
            written += r"|[^\x00-\x7f]"
        return Translation(written, self._is_exact and self._is_for_ascii)

    def _skip(self, text: str) -> bool:
        found = self._pattern.startswith(text, self._at)
        self._at += len(text) * found
        return found

    def _part(self, sign: str) -> str:
        """Return what one sign, or what begins with it, is written as."""
        if sign in "^|":
            return sign
        if sign == "$":
            return self._end()
        if sign == ".":
            return self._written([] if "s" in self._flags else _LINE_ENDS, is_negated=True)
        if sign == "[":
            return self._set()
        if sign == "{":
            raise UnsurePattern
        if sign == "\\":
            return self._escape()
        return self._written([(ord(sign), ord(sign))])

    def _end(self) -> str:
        rest = self._pattern[self._at :]
        is_last = not rest.strip(")") or (len(self._groups) == 1 and rest.startswith("|"))
        # Where nothing follows it does no harm to take the line's end.
        if not is_last or self._is_inside("(?<=", "(?<!"):
            return _BEFORE_END
        if not self._has_return:
            return _END
        if self._exactly or self._is_inside("(?=", "(?!", "(?>"):
            return _END_AFTER_RETURN
        self._is_exact = False
        return _END

    def _is_inside(self, *starts: str) -> bool:
        """Tell whether this is in a group that begins in one of these ways."""
        return any(group.start in starts for group in self._groups)

    def _escape(self) -> str:
        """Return what an escape outside of a set is written as."""
        if reference := _REFERENCE.match(self._pattern, self._at - 1):
            return self._reference(reference)
        for name, written in (("A", "^"), ("z", "$"), ("b", r"\b"), ("B", r"\B")):
            if self._skip(name):
                if name in "bB":
                    # What is a letter beyond ASCII has changed from one version of Java to another.
                    self._is_for_ascii = False
                    if self._pattern.startswith("{", self._at):
                        raise UnsurePattern
                return written
        if self._skip("Z"):
            return self._end()
        found = self._escaped()
        if isinstance(found, str):
            self._has_return = True
            return found
        return self._written([(found, found)] if isinstance(found, int) else found)

    def _reference(self, reference: re.Match[str]) -> str:
        number = self._names.get(reference["name"]) or int(reference["number"] or 0)
        if number not in self._closed or "i" in self._flags or self._is_inside("(?<=", "(?<!"):
            raise UnsurePattern
        self._at = reference.end()
        return rf"\k<g{number}>"

    def _escaped(self) -> int | str | _Ranges:
        """Read what stands after a backslash: a character, a property of Unicode, or a set."""
        escape = _ESCAPE.match(self._pattern, self._at)
        if escape is None:
            raise NoPattern
        self._at = escape.end()
        letter = escape["one"]
        if name := escape["name"] or escape["category"]:
            return self._property(name, is_negated=escape[0][0] == "P")
        if letter is None:
            return _code_point(escape)
        if letter in _LETTERS:
            return _LETTERS[letter]
        if letter.isascii() and letter.isalnum():
            raise NoPattern if letter in _NO_ESCAPES else UnsurePattern
        return ord(letter)

    def _property(self, name: str, *, is_negated: bool) -> str | _Ranges:
        category, script = _CATEGORY.fullmatch(name), _SCRIPT.fullmatch(name)
        known = category[1] if category else _PROPERTIES.get(name)
        if "i" in self._flags and (known or name) in _CASED:
            raise UnsurePattern
        if name in _POSIX:
            return _all_but(_POSIX[name]) if is_negated else _POSIX[name]
        if known is None and script:
            known = f"script={script[1]}"
        if known is None:
            raise UnsurePattern
        if is_negated or self._is_inside("(?!", "(?<!"):
            self._is_for_ascii = False  # for Java may not know a character yet
        return rf"\{'P' if is_negated else 'p'}{{{known}}}"

    def _set(self) -> str:
        """Return what a set is written as, whose bracket has been read."""
        is_negated = self._skip("^")
        cut = [self._union(is_first=True)]
        while self._skip("&&"):
            cut.append(self._union(is_first=False))
        if not self._skip("]"):
            raise NoPattern
        if is_negated and any(r"\p" in part for union in cut for part in union[1] + union[2]):
            self._is_for_ascii = False  # see `_property`
        if len(cut) == 1 and not cut[0].sets:
            return self._written(cut[0].ranges, cut[0].properties, is_negated=is_negated)
        *others, last = map(self._written_union, cut)
        whole = "".join(f"(?={other})" for other in others) + last
        return f"(?:(?!{whole}){self._written(_ALL)})" if is_negated else f"(?:{whole})"

    def _union(self, *, is_first: bool) -> _Union:
        """Read what a set holds, up to its end or to what it is cut with."""
        union = _Union([], [], [])
        while self._at < len(self._pattern) and not self._pattern.startswith("&&", self._at):
            sign = self._pattern[self._at]
            is_empty = not any(union)
            if sign == "]" and not (is_first and is_empty):
                break
            if is_empty and not is_first and sign in "^&":
                raise UnsurePattern
            self._at += 1
            if sign == "[":
                union.sets.append(self._set())
                continue
            member = self._member(sign)
            if isinstance(member, int):
                union.ranges.append((member, self._last_of_range(member)))
            elif isinstance(member, str):
                union.properties.append(member)
            elif self._pattern.startswith("v-", self._at - 1):
                raise UnsurePattern  # Before a hyphen it is one character to Java.
            else:
                union.ranges.extend(member)
        # Java's versions have their own ways with what is cut with nothing, or with a set and more.
        is_mixed = len(union.sets) + bool(union.ranges or union.properties) > 1
        if self._at < len(self._pattern) and (
            not any(union) or (union.sets and is_mixed and not is_first)
        ):
            raise UnsurePattern
        return union

    def _member(self, sign: str) -> int | str | _Ranges:
        return self._escaped() if sign == "\\" else ord(sign)

    def _last_of_range(self, first: int) -> int:
        """Return the last character of a range whose first has been read, which may be all."""
        sign = self._pattern[self._at + 1 : self._at + 2]
        if not self._pattern.startswith("-", self._at) or sign in ("", "]"):
            return first
        if sign in "[&":
            raise UnsurePattern
        self._at += 2
        last = self._member(sign)
        if not isinstance(last, int):
            raise UnsurePattern
        if last < first:
            raise NoPattern
        return last

    def _written_union(self, union: _Union) -> str:
        plain = [self._written(*union[:2])] if union.ranges or union.properties else []
        return f"(?:{'|'.join(plain + union.sets)})"

    def _written(
        self, ranges: _Ranges, properties: Sequence[str] = (), *, is_negated: bool = False
    ) -> str:
        """Return what matches one character, of those that are given or of all others."""
        if "i" in self._flags:
            ranges = ranges + _of_other_case(ranges)
        if bool(properties) or _has(ranges, "\r") is not is_negated:
            self._has_return = True
        members = [*properties]
        for first, last in ranges:
            # No text has half of a pair by itself.
            start = _SURROGATES[1] + 1 if _is_surrogate(first) else first
            end = _SURROGATES[0] - 1 if _is_surrogate(last) else last
            if start < end:
                members.append(f"{_sign(start)}-{_sign(end)}")
            elif start == end:
                members.append(_sign(start))
        if not members:
            members, is_negated = [rf"\x00-{chr(_LAST)}"], not is_negated
        if len(members) == 1 and not is_negated and "-" not in members[0]:
            return members[0]
        return f"[{'^' * is_negated}{''.join(members)}]"

    def _open(self) -> None:
        """Read the start of a group, or flags."""
        group = _GROUP.match(self._pattern, self._at)
        if group is None:
            raise NoPattern
        self._at = group.end()
        before, start, number = self._flags, f"(?{group['kind'] or ':'}", 0
        if group["end"]:
            if {*group["on"]} - {*"is"}:
                raise UnsurePattern
            self._flags = (before | {*group["on"]}) - {*(group["off"] or "")}
            if group["end"] == ")":
                return
        elif not group["kind"]:
            self._captures = number = self._captures + 1
            start = f"(?<g{number}>"
            if (name := group["name"]) and self._names.setdefault(name, number) != number:
                raise NoPattern
        elif group["kind"] != ":":
            self._has_return = True
            # Java looks back by UTF-16 units, and may meet half of a character.
            self._is_for_ascii &= group["kind"] not in ("<=", "<!")
        self._groups.append(_Group(start, before, number=number))

    def _close(self) -> None:
        """Read the end of a group."""
        group = self._groups.pop()
        if not self._groups:
            raise NoPattern
        self._at += 1
        self._flags = group.flags
        if group.number:
            self._closed.add(group.number)
        inner = "".join(group.parts)
        whole = self._atomic(inner) if group.start == "(?>" else f"{group.start}{inner})"
        self._groups[-1].parts.append(whole)

    def _repeat(self, repetition: re.Match[str], *, can_repeat: bool) -> None:
        """Repeat what was read last."""
        parts, often = self._groups[-1].parts, repetition["often"]
        if not can_repeat:
            # Java reads `^*` and `a{2}{3}`, each in its own way.
            raise (
                UnsurePattern if often[0] == "{" or (parts and parts[-1] in _PLACES) else NoPattern
            )
        self._at = repetition.end()
        least, most = repetition["least"], repetition["most"]
        if most and int(most) < int(least):
            raise NoPattern
        if max(int(least or 0), int(most or 0)) > _MOST_TIMES:
            raise NoPattern
        if (often in "*+" or most == "") and self._is_inside("(?<=", "(?<!"):
            raise UnsurePattern
        part, how = parts.pop(), repetition["how"]
        if how == "+" and part.startswith("("):
            raise UnsurePattern  # Java gives nothing back of one time even while it tries the next.
        # What a group took that is repeated is not the same to both.
        self._closed -= {int(group[1]) for group in _CAPTURE.finditer(part)}
        parts.append(self._atomic(part + often) if how == "+" else part + often + how)

    def _atomic(self, inner: str) -> str:
        """Return what gives nothing back of what it has taken, for which ECMAScript has no sign."""
        self._atomics += 1
        return rf"(?:(?=(?<a{self._atomics}>{inner}))\k<a{self._atomics}>)"


def _without_quotes(quoted: re.Match[str]) -> str:
    r"""Return a text between `\Q` and `\E` as escapes, any other escape as it is."""
    if quoted[1] is None:
        return quoted[0]
    return "".join(rf"\x{{{ord(sign):x}}}" for sign in quoted[1])


def _numbered(pattern: str) -> str:
    numbers: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        if found["group"]:
            numbers[found["group"]] = len(numbers) + 1
            return "("
        return rf"(?:\{numbers[found['reference']]})"

    return _NAMED.sub(number, pattern)


def _code_point(escape: re.Match[str]) -> int:
    """Return the character that an escape has the number of."""
    if escape["high"]:
        return ord(bytes.fromhex(escape["high"] + escape["low"]).decode("utf-16-be"))
    if escape["octal"]:
        return int(escape["octal"], 8)
    if escape["control"]:
        return ord(escape["control"]) ^ 64
    code = int(escape["hex"] or escape["long"] or escape["unit"], 16)
    if code > _LAST:
        raise NoPattern
    return code


def _of_other_case(ranges: _Ranges) -> _Ranges:
    """Return the letters of ASCII that are some of these in the other case."""
    return [
        (max(first, a) + away, min(last, z) + away)
        for first, last in ranges
        for a, z, away in ((0x41, 0x5A, 0x20), (0x61, 0x7A, -0x20))
        if first <= z and last >= a
    ]


def _has(ranges: _Ranges, sign: str) -> bool:
    return any(first <= ord(sign) <= last for first, last in ranges)


def _is_surrogate(code: int) -> bool:
    return _SURROGATES[0] <= code <= _SURROGATES[1]


def _sign(code: int) -> str:
    """Return one character as it may stand anywhere in a pattern."""
    sign = chr(code)
    return sign if not sign.isascii() or sign.isalnum() else rf"\x{code:02x}"
