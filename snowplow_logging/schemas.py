"""Checks data against its JSON schema, as Snowplow's Enrich does.

Enrich hands a schema to Iglu's client, and that to networknt's json-schema-validator: draft 4, in
which 1.0 is no integer and a multiple is one in decimal. The validator here, jsonschema-rs, judges
the same once the few places where the two differ are rewritten; `Schema` says which those are.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from itertools import islice
from typing import Any, Final, NamedTuple

from snowplow_logging.java_patterns import NoPattern, Translation, translated
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

_GIVEN_UP: Final = jsonschema_rs.ValidationErrorKind.BacktrackLimitExceeded
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


_KEYWORDS: Final[dict[str, Any]] = {"uniqueItems": _UniqueItems}
_SCHEMAS_BY_NAME: Final = ("properties", "definitions", "dependencies", "$defs")
_SCHEMAS: Final = "additionalProperties additionalItems items allOf anyOf".split()
# What refuses data for what other schemas take.
_REFUSING: Final = ("not", "oneOf")


class _Rewriting:
    """Rewrites a schema where the validator reads it otherwise than Enrich.

    A pattern that cannot be told is left out, and what refuses data because a schema takes it goes
    with a pattern that is left out of that schema: for nothing is to be refused that Enrich takes.

    Args:
        trusts_references: Whether no pattern is left out of what a `$ref` stands for.

    Attributes:
        left_out: How often something was.
        refers: Whether there is a `$ref`.
        names: The patterns of `patternProperties` as they stand in the schema, by what they became.
    """

    def __init__(self, *, trusts_references: bool) -> None:
        self.left_out = 0
        self.refers = False
        self.names: dict[str, str] = {}
        self._trusts_references = trusts_references
        self._exactly = False  # whether what matches is refused, perhaps

    def rewritten(self, schema: Any) -> Any:
        """Return a schema, or a list of them, rewritten."""
        if isinstance(schema, list):
            return [self.rewritten(part) for part in schema]
        if not isinstance(schema, dict):
            return schema
        new = dict(schema)
        self._rewrite_rules(new)
        self._rewrite_names(new)
        for keyword in _SCHEMAS_BY_NAME:
            if isinstance(new.get(keyword), dict):
                new[keyword] = {name: self.rewritten(part) for name, part in new[keyword].items()}
        for keyword in _SCHEMAS:
            if keyword in new:
                new[keyword] = self.rewritten(new[keyword])
        for keyword in _REFUSING:
            if keyword in new:
                before, exactly = self.left_out, self._exactly
                self._exactly = True
                new[keyword] = self.rewritten(new[keyword])
                self._exactly = exactly
                if self.left_out > before:
                    del new[keyword]
        return new

    def _rewrite_rules(self, schema: dict[str, Any]) -> None:
        """Rewrite the rules of a schema, but not those of the schemas in it."""
        if isinstance(schema.get("pattern"), str):
            pattern = self._translated(schema.pop("pattern"), exactly=self._exactly)
            if pattern is not None:
                schema["pattern"] = pattern.pattern
        if isinstance(schema.get("format"), str) and schema["format"] not in FORMATS:
            del schema["format"]
        # Iglu's schema of schemas takes anything for this one, and its validator a boolean alone.
        has_least = "minimum" in schema and isinstance(schema.get("exclusiveMinimum"), bool)
        if not has_least:
            schema.pop("exclusiveMinimum", None)
        if schema.get("multipleOf") == 0 and schema["multipleOf"] is not False:
            del schema["multipleOf"]
        if "$ref" in schema:
            self.refers = True
            self.left_out += not self._trusts_references

    def _rewrite_names(self, schema: dict[str, Any]) -> None:
        """Rewrite the patterns of names, without which it cannot be told which are additional."""
        names, new = schema.get("patternProperties"), {}
        if not isinstance(names, dict):
            return
        for name, part in names.items():
            pattern = self._translated(name, exactly=True)
            if pattern is None or not pattern.is_exact:
                schema.pop("additionalProperties", None)
                continue
            written = pattern.pattern
            while written in new:  # for two may mean the same
                written += "(?:)"
            new[written] = self.rewritten(part)
            self.names[written] = name
        schema["patternProperties"] = new

    def _translated(self, pattern: str, *, exactly: bool) -> Translation | None:
        """Return what the validator reads as Java reads a pattern; None where that is unknown."""
        try:
            translation = translated(pattern, exactly=exactly)
            jsonschema_rs.Draft4Validator({"pattern": translation.pattern}, offline=True)
        except NoPattern:
            problem = f"has the pattern {pattern!r}, which is none"
            raise BrokenSchema(problem, certain=True) from None
        except ValueError:
            self.left_out += 1
            return None
        self.left_out += not translation.is_exact
        return translation


def _rewritten(schema: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    """Return a schema rewritten, and the names that its patterns of names had."""
    rewriting = _Rewriting(trusts_references=True)
    rules = rewriting.rewritten(schema)
    if rewriting.left_out and rewriting.refers:
        rewriting = _Rewriting(trusts_references=False)
        rules = rewriting.rewritten(schema)
    return rules, rewriting.names


class Schema:
    """A schema that data can be checked against.

    Where the validator differs from Enrich's, the schema is rewritten first: formats are those of
    Enrich (`FORMATS`), patterns are Java's, and left out where it is unsure what they mean to it,
    in `uniqueItems` 1 and 1.0 are two values, and a `$schema` is passed over, for Iglu's own is
    draft 4. A `$ref` is followed within the schema alone.

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
            rules, self._names = _rewritten({k: v for k, v in document.items() if k != "$schema"})
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
            errors = self._validator.iter_errors(data)
        except ValueError:
            errors = self._validator.iter_errors(_plain(data))
        # A search that was given up tells nothing.
        found = (error for error in errors if not isinstance(error.kind, _GIVEN_UP))
        return [self._fault(error) for error in islice(found, most)]

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
        written = rule if isinstance(rule, str) else json.dumps(rule, ensure_ascii=False)
        expected = _expected(keyword, rule, error.instance)
        return Fault(path, describe(error.instance), f"{keyword} is {_cut(written)}", expected)

    def _rule(self, path: list[str | int]) -> Any:
        """Return what stands in the schema at a path; None where a `$ref` is on the way."""
        at: Any = self.document
        for part in path:
            try:
                at = at[part] if part in at or part not in self._names else at[self._names[part]]
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
