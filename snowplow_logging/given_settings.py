"""How settings are given: by arguments, which come with their documentation, or the environment."""

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Container, Iterator
from textwrap import wrap
from typing import Any, Concatenate, Final, ForwardRef, ParamSpec, cast, get_args

from snowplow_logging.protocol import nearest
from snowplow_logging.settings import SETTINGS, Settings

__all__ = [
    "described",
    "from_environment",
    "given_or_variable",
    "takes_settings",
    "variable",
]

P = ParamSpec("P")


def _text_of(_name: str, text: str) -> str:
    return text


def _flag_of(name: str, text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError(f"{name} is {text!r}; give true or false")


def _list_of(_name: str, text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


_ENVIRONMENT: Final[dict[str, Callable[[str, str], Any]]] = {
    "endpoint": _text_of,
    "namespace": _text_of,
    "app_id": _text_of,
    "platform": _text_of,
    "store": _text_of,
    "iglu": _list_of,
    "dead_letter": _text_of,
    "enabled": _flag_of,
}
"""The settings that a variable gives where they are left out, and how its text is read."""


def variable(name: str) -> str:
    """Return the name of the variable that gives a setting."""
    return f"SNOWPLOW_{name.upper()}"


def from_environment(given: Container[str] = ()) -> dict[str, Any]:
    """Return the settings that the environment gives. An empty variable gives none.

    Args:
        given: The names of those that are given otherwise.

    Raises:
        ValueError: A variable is not of the form that its setting needs.
    """
    names = {name: variable(name) for name in _ENVIRONMENT if name not in given}
    return {
        name: _ENVIRONMENT[name](variable, os.environ[variable])
        for name, variable in names.items()
        if os.environ.get(variable)
    }


@contextlib.contextmanager
def given_or_variable(name: str, given: str | None, missing: str) -> Iterator[str]:
    """Give the value of a command's option, or of its variable where the option is left out.

    A password that is given so is not among the arguments, which all users of a machine see.

    Args:
        name: The option, as a setting is named.
        given: Its value; None where it is left out.
        missing: What is said where there is neither.

    Raises:
        TypeError, ValueError: There is neither, or what was done meanwhile has found a fault; the
            message names the variable where the value is its.
    """
    if given is not None:
        yield given
        return
    value = os.environ.get(variable(name))
    if not value:
        raise ValueError(f"{missing}, or the variable {variable(name)}")
    with _naming_variables([name]):
        yield value


@contextlib.contextmanager
def _naming_variables(names: Container[str]) -> Iterator[None]:
    """Have errors of settings that come from variables say so, for who reads them to look there."""
    try:
        yield
    except (TypeError, ValueError) as error:
        name = str(error).partition(" ")[0].rstrip(":")
        if name in names:
            raise type(error)(f"{error} (it comes from {variable(name)})") from None
        raise


def takes_settings(
    definition: Callable[P, Settings],
) -> Callable[[Callable[[Any, Settings], None]], Callable[Concatenate[Any, P], None]]:
    """Have a method take each setting as an argument of its own, and get them as one object.

    What is left out comes from the environment, where that has it.

    The signature is that of the definition, for type checkers as well as for `inspect`.
    """
    signature = inspect.signature(definition)
    parameters = [
        inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
        *(p.replace(annotation=_plain_type(p.annotation)) for p in signature.parameters.values()),
    ]

    def decorate(init: Callable[[Any, Settings], None]) -> Callable[Concatenate[Any, P], None]:
        @functools.wraps(init)
        def with_arguments(self: Any, *args: P.args, **keywords: P.kwargs) -> None:
            if len(args) > 1:
                raise TypeError(
                    f"SnowplowHandler takes one argument without a name, the endpoint, and got "
                    f"{len(args)}; name the others, and in fileConfig write args = (URL,)"
                )
            for name in keywords:
                if name not in SETTINGS:
                    expected = nearest(name, SETTINGS)
                    raise TypeError(f"SnowplowHandler has no setting {name!r}; give {expected}")
            given: dict[str, Any] = dict(keywords)
            elsewhere = given.get("broker") is not None
            found: Any = from_environment([*given, "endpoint"] if args or elsewhere else given)
            values = {**found, **given}
            elsewhere = elsewhere or values.get("send") is False or values.get("enabled") is False
            if not (args or elsewhere or "endpoint" in values):
                raise TypeError(
                    "endpoint is missing; give the collector's URL, or the variable "
                    f"{variable('endpoint')}"
                )
            with _naming_variables(found):
                init(self, definition(*args, **{**found, **keywords}))

        made: Any = with_arguments
        del made.__wrapped__  # whose signature is another
        made.__signature__ = inspect.Signature(parameters, return_annotation=None)
        return cast("Callable[Concatenate[Any, P], None]", made)

    return decorate


def _plain_type(annotation: Any) -> Any:
    plain = get_args(annotation)[0]
    return plain.__forward_arg__ if isinstance(plain, ForwardRef) else plain


def described() -> str:
    """Return what each setting is, as the part `Args` of a docstring."""
    lines = ["Args:"]
    for name, setting in SETTINGS.items():
        words = f"{name}: {setting.words}. {setting.more}".strip()
        lines += wrap(words, 100, initial_indent=" " * 4, subsequent_indent=" " * 8)
    return "\n".join(lines)
