"""Checks data against its JSON schema, as Snowplow's Enrich does.

Enrich hands a schema to Iglu's client, and that to networknt's json-schema-validator: draft 4, in
which 1.0 is no integer and a multiple is one in decimal. The validator here, jsonschema-rs, judges
the same once the few places where the two differ are rewritten; `Schema` says which those are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from itertools import islice
from typing import Any, Final, NamedTuple

from snowplow_logging.protocol import describe, nearest
from snowplow_logging.schema_formats import FORMATS

try:
    import jsonschema_rs
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "checking schemas needs the package jsonschema-rs: pip install 'snowplow-logging[schemas]'",
        name=error.name,
    ) from error

__all__ = ["Absent", "BrokenSchema", "Fault", "Schema"]

_LONGEST: Final = 200  # characters of a rule in the message of an error


class BrokenSchema(ValueError):
    """A schema that nothing can be checked against.

    Attributes:
        certain: Whether Enrich cannot use it either, so that it fails the events of this schema.
    """

    def __init__(self, problem: str, *, certain: bool) -> None:
        super().__init__(problem)
        self.certain = certain


class Absent(NamedTuple):
    """Why there is no schema to check against.

    Attributes:
        problem: What is wrong, as the end of a sentence that starts with the schema's URI.
        expected: What would be right, as the end of a sentence that starts with 'give'.
        certain: Whether Enrich would fail events of this schema, as far as can be told.
    """

    problem: str
    expected: str
    certain: bool


class Fault(NamedTuple):
    """One thing about data that its schema does not take.

    Attributes:
        path: Where in the data it is, such as `.items[2].price`.
        problem: What is there, as the end of a sentence that starts with the path.
        rule: What the schema says.
        expected: What would be right, as the end of a sentence that starts with 'give'.
        names: The properties, of what is at the path, that are missing or too many, if that is it.
    """

    path: str
    problem: str
    rule: str
    expected: str
    names: tuple[str, ...] = ()


class _UniqueItems:
    """The keyword `uniqueItems` as Enrich has it: 1 and 1.0 are two values."""

    def __init__(self, _parent: Any, value: Any, _path: Any) -> None:
        self._wanted = value is True

    def validate(self, instance: Any) -> None:
        """Raise ValueError where two items of an array are the same."""
        if self._wanted and isinstance(instance, list):
            written = [json.dumps(item, sort_keys=True, default=str) for item in instance]
            if len(set(written)) < len(written):
                raise ValueError("holds an item twice")


class _JavaPattern:
    """A `pattern` in the parts of Java's syntax that Python's has and the validator's has not."""

    KEYWORD: Final = "pattern (Java)"

    def __init__(self, _parent: Any, value: str, _path: Any) -> None:
        self._search = re.compile(value, re.ASCII).search

    def validate(self, instance: Any) -> None:
        """Raise ValueError where a text does not match."""
        if isinstance(instance, str) and self._search(instance) is None:
            raise ValueError("does not match")


_KEYWORDS: Final[dict[str, Any]] = {
    "uniqueItems": _UniqueItems,
    _JavaPattern.KEYWORD: _JavaPattern,
}
_SCHEMAS_BY_NAME: Final = ("properties", "patternProperties", "definitions", "dependencies")
_SCHEMAS: Final = "additionalProperties additionalItems not items allOf anyOf oneOf".split()

_SPACE: Final = r" \t\n\x0b\f\r"
# Java's names of sets of characters, which are ASCII unless asked otherwise.
_POSIX: Final = {
    "Lower": "a-z",
    "Upper": "A-Z",
    "Alpha": "a-zA-Z",
    "Digit": "0-9",
    "Alnum": "a-zA-Z0-9",
    "XDigit": "0-9a-fA-F",
    "Space": _SPACE,
}
_TOKEN: Final = re.compile(r"\\p\{(?P<posix>[A-Za-z]+)\}|\\(?P<escaped>.)|[\[\]]", re.DOTALL)
# What Java reads and neither of the others does, or reads as something else.
_ONLY_JAVA: Final = re.compile(r"&&|\\[pPQEhHRXvzZGkN]|[*+?}]\+")
_END_OF_LINE: Final = r"(?:\r\n|[\n\r\u0085\u2028\u2029])?$"


def _translated(pattern: str) -> str:
    """Return a pattern of Java's as the validator has it, which reads JavaScript's."""
    depth = 0

    def translate(token: re.Match[str]) -> str:
        nonlocal depth
        whole, escaped = token[0], token["escaped"]
        depth += (whole == "[") - (whole == "]" and depth > 0)
        inside = _POSIX.get(token["posix"]) if token["posix"] else None
        if escaped == "s":
            inside = _SPACE
        elif escaped == "S" and not depth:
            return f"[^{_SPACE}]"
        if inside is None:
            return whole
        return inside if depth else f"[{inside}]"

    translated = _TOKEN.sub(translate, pattern)
    # Java's `$` also matches before a line's end that is the last of the text.
    if translated.endswith("$") and not translated.endswith("\\$"):
        translated = translated[:-1] + _END_OF_LINE
    return translated


def _rewrite_pattern(schema: dict[str, Any]) -> None:
    """Put in the place of a pattern what the validator reads as Java reads the pattern."""
    pattern = schema.pop("pattern")
    translated = _translated(pattern)
    try:
        jsonschema_rs.Draft4Validator({"pattern": translated}, offline=True)
    except ValueError:
        pass
    else:
        schema["pattern"] = translated
        return
    if _ONLY_JAVA.search(pattern):
        return  # what cannot be read here is not checked, for Enrich may take it
    try:
        re.compile(pattern, re.ASCII)
    except (re.error, OverflowError, RecursionError):
        raise BrokenSchema(f"has the pattern {pattern!r}, which is none", certain=True) from None
    schema[_JavaPattern.KEYWORD] = pattern


def _rewritten(schema: Any) -> Any:
    """Return a schema in which what the validator reads otherwise than Enrich is rewritten."""
    if isinstance(schema, list):
        return [_rewritten(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    new = dict(schema)
    _rewrite_rules(new)
    for keyword in _SCHEMAS_BY_NAME:
        if isinstance(new.get(keyword), dict):
            new[keyword] = {name: _rewritten(part) for name, part in new[keyword].items()}
    for keyword in _SCHEMAS:
        if keyword in new:
            new[keyword] = _rewritten(new[keyword])
    return new


def _rewrite_rules(schema: dict[str, Any]) -> None:
    """Rewrite the rules of a schema, but not those of the schemas in it."""
    if isinstance(schema.get("pattern"), str):
        _rewrite_pattern(schema)
    if isinstance(schema.get("format"), str) and schema["format"] not in FORMATS:
        del schema["format"]
    # Iglu's schema of schemas takes anything for this one, and its validator a boolean alone.
    has_least = "minimum" in schema and isinstance(schema.get("exclusiveMinimum"), bool)
    if not has_least:
        schema.pop("exclusiveMinimum", None)
    if schema.get("multipleOf") == 0 and schema["multipleOf"] is not False:
        del schema["multipleOf"]


class Schema:
    """A schema that data can be checked against.

    Where the validator differs from Enrich's, the schema is rewritten first: formats are those of
    Enrich (`FORMATS`), patterns are Java's, in `uniqueItems` 1 and 1.0 are two values, and a
    `$schema` is passed over, for Iglu's own is draft 4. A `$ref` is followed within the schema
    alone.

    Args:
        uri: Its Iglu URI.
        document: What the registry holds.

    Attributes:
        is_valid: Tells whether data fits; raises ValueError for what is not made of JSON's own
            types, an OverflowError or UnicodeEncodeError among them.

    Raises:
        BrokenSchema: Nothing can be checked against it.
    """

    def __init__(self, uri: str, document: Any) -> None:
        self.uri = uri
        self.document: Any = document
        if not isinstance(document, dict):
            raise BrokenSchema("is no JSON object", certain=True)
        try:
            rules = _rewritten({k: v for k, v in document.items() if k != "$schema"})
            self._validator = jsonschema_rs.Draft4Validator(
                rules, formats=FORMATS, validate_formats=True, keywords=_KEYWORDS, offline=True
            )
        except jsonschema_rs.ValidationError as error:
            where = _path(error.instance_path)
            problem = f"is broken at {where or 'its top'}: {_cut(error.message)}"
            raise BrokenSchema(problem, certain=error.kind.name != "$ref") from None
        except (ValueError, RecursionError) as error:
            if isinstance(error, BrokenSchema):
                raise
            raise BrokenSchema(f"cannot be used: {_cut(str(error))}", certain=False) from None
        self.is_valid: Callable[[Any], bool] = self._validator.is_valid

    def faults(self, data: Any, most: int | None = None) -> list[Fault]:
        """Return what is wrong with data, as read from JSON.

        Args:
            data: The data.
            most: How many faults to look for; None for all.
        """
        try:
            errors = [*islice(self._validator.iter_errors(data), most)]
        except ValueError:
            errors = [*islice(self._validator.iter_errors(_plain(data)), most)]
        return [self._fault(error) for error in errors]

    def _fault(self, error: jsonschema_rs.ValidationError) -> Fault:
        path, keyword = _path(error.instance_path), str(error.schema_path[-1])
        rule = self._rule(error.schema_path)
        if keyword == "required":
            missing = repr(error.kind.value)
            rule = f"{missing} is required"
            return Fault(path, f"has no {missing}", rule, missing, (str(error.kind.value),))
        if keyword == "additionalProperties" and isinstance(error.kind.value, list):
            names = ", ".join(map(repr, error.kind.value))
            known = self._rule([*error.schema_path[:-1], "properties"])
            expected = nearest(error.kind.value[0], known) if known else "less"
            rule, extra = "additionalProperties is false", tuple(map(str, error.kind.value))
            return Fault(path, f"has {_cut(names)}", rule, expected, extra)
        if keyword == _JavaPattern.KEYWORD:
            keyword = "pattern"
        written = rule if isinstance(rule, str) else json.dumps(rule, ensure_ascii=False)
        expected = _expected(keyword, rule, error.instance)
        return Fault(path, describe(error.instance), f"{keyword} is {_cut(written)}", expected)

    def _rule(self, path: list[str | int]) -> Any:
        """Return what stands in the schema at a path; None where a `$ref` is on the way."""
        at: Any = self.document
        for part in path:
            key = "pattern" if part == _JavaPattern.KEYWORD else part
            try:
                at = at[key]
            except (LookupError, TypeError):
                return None
        return at


def _expected(keyword: str, rule: Any, value: Any) -> str:
    """Say what a rule wants, as the end of a sentence that starts with 'give'."""
    if keyword == "type":
        return " or ".join(
            _TYPES.get(name, name) for name in ([rule] if type(rule) is str else rule or ())
        )
    if keyword == "enum" and isinstance(rule, list):
        texts = [one for one in rule if isinstance(one, str)]
        if len(texts) == len(rule):
            return _cut(nearest(value, texts))
        return _cut(f"one of {', '.join(json.dumps(one) for one in rule)}")
    template = _WANTED.get(keyword)
    return _cut(template.format(rule)) if template else "what that rule takes"


_TYPES: Final = {
    "string": "text",
    "number": "a number",
    "integer": "an integer",
    "boolean": "true or false",
    "object": "an object",
    "array": "an array",
    "null": "null",
}
_WANTED: Final = {
    "format": "text of the format {}",
    "pattern": "text that matches {}",
    "maxLength": "at most {} characters",
    "minLength": "at least {} characters",
    "maximum": "at most {}",
    "minimum": "at least {}",
    "exclusiveMaximum": "less than the maximum",
    "exclusiveMinimum": "more than the minimum",
    "multipleOf": "a multiple of {}",
    "maxItems": "at most {} items",
    "minItems": "at least {} items",
    "maxProperties": "at most {} properties",
    "minProperties": "at least {} properties",
    "uniqueItems": "each item once",
}


def _path(parts: list[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part[:60]}" for part in parts)


def _cut(text: str) -> str:
    first = text.split("\n", 1)[0]
    return first if len(first) <= _LONGEST else f"{first[:_LONGEST]}…"


def _plain(data: Any) -> Any:
    """Return data as the validator takes it, made of nothing but JSON's own types.

    U+FFFD stands for each lone half of a surrogate pair, and text for a number that is beyond even
    a `Decimal`, as in Enrich.
    """
    if isinstance(data, str):
        return data.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(data, dict):
        return {_plain(name): _plain(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(item) for item in data]
    if isinstance(data, Decimal):
        return Decimal(data) if data.is_finite() else str(data)
    if isinstance(data, float):
        return float(data)
    return data
