"""Settings written as text, `name:key=value`: of arms, models, optimisers and schedules alike.

What has settings is a function, and its keyword-only parameters are they: names and defaults are
read from the signature. A parameter's annotation is `float`, or `Annotated[type, reader]` with a
reader that turns text into a value.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Annotated, Any, Protocol, TypeVar, get_type_hints

from cwjax.errors import ConfigError, check_name, suggestion

Result = TypeVar("Result")


class Reader(Protocol):
    """Turns a setting's text into its value."""

    def read(self, text: str) -> Any:
        """The value, or ConfigError with the reason alone."""


@dataclass(frozen=True)
class Range:
    """Reader of a finite number in an interval; `brackets` are `[` or `(` and `]` or `)`."""

    low: float
    high: float
    brackets: str = "[]"

    def read(self, text: str) -> float:
        """The number, or ConfigError."""
        try:
            plain = text.isascii() and text == text.strip() and "_" not in text
            number = float(text if plain else "")
        except ValueError:
            raise ConfigError(f"not a number; give one in {self}") from None
        above = number >= self.low if self.brackets[0] == "[" else number > self.low
        below = number <= self.high if self.brackets[1] == "]" else number < self.high
        if not (math.isfinite(number) and above and below):
            raise ConfigError(f"out of range; give a number in {self}")
        return number + 0.0  # -0.0 becomes 0.0

    def __str__(self) -> str:
        return f"{self.brackets[0]}{self.low:g}, {self.high:g}{self.brackets[1]}"


@dataclass(frozen=True)
class Whole:
    """Reader of an integer in an interval."""

    low: int
    high: int

    def read(self, text: str) -> int:
        """The integer, or ConfigError."""
        if text.isascii() and text.isdigit() and self.low <= int(text[:20]) <= self.high:
            return int(text)
        raise ConfigError(f"give an integer from {self.low} to {self.high}")


@dataclass(frozen=True)
class Several:
    """Reader of values with commas between them."""

    reader: Reader

    def read(self, text: str) -> tuple[Any, ...]:
        """The values, or ConfigError."""
        return tuple(self.reader.read(part) for part in text.split(","))


AtLeastZero = Annotated[float, Range(0, math.inf, "[)")]
AnyNumber = Annotated[float, Range(-math.inf, math.inf, "()")]
Positive = Annotated[float, Range(0, math.inf, "()")]
AtLeastOne = Annotated[float, Range(1, math.inf, "[)")]
Fraction = Annotated[float, Range(0, 1)]
BelowOne = Annotated[float, Range(0, 1, "[)")]
OnOff = Annotated[int, Whole(0, 1)]


@dataclass(frozen=True)
class Setting:
    """One setting."""

    name: str
    reader: Reader
    default: Any  # inspect.Parameter.empty: the setting must be given

    @property
    def is_required(self) -> bool:
        """Whether there is no default."""
        return self.default is inspect.Parameter.empty

    def __str__(self) -> str:
        values = self.default if isinstance(self.default, tuple) else (self.default,)
        return f"{self.name}={','.join(map(str, values))}"

    def read(self, text: str) -> Any:
        """The value of `text`, or ConfigError naming the setting."""
        try:
            return self.reader.read(text)
        except ConfigError as error:
            raise ConfigError(f"{self.name}={text!r}: {error}") from None


def settings_of(function: Callable[..., Any]) -> tuple[Setting, ...]:
    """The settings of a function.

    Raises:
        ConfigError: one is annotated with neither `float` nor a reader.
    """
    names = {
        parameter.name: parameter.default
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    # Of the settings alone: other annotations may name what is imported for type checkers only.
    annotations = {n: hint for n, hint in function.__annotations__.items() if n in names}
    hints = get_type_hints(
        SimpleNamespace(__annotations__=annotations),
        globalns=function.__globals__,
        include_extras=True,
    )
    return tuple(
        Setting(name, _reader(function, name, hints.get(name)), default)
        for name, default in names.items()
    )


def first_line(function: Callable[..., Any]) -> str:
    """What a function's docstring says first, without the full stop."""
    return (inspect.getdoc(function) or "").partition("\n")[0].rstrip(".")


def _reader(function: Callable[..., Any], name: str, hint: Any) -> Reader:
    for part in getattr(AnyNumber if hint is float else hint, "__metadata__", ()):
        if hasattr(part, "read"):
            reader: Reader = part
            return reader
    raise ConfigError(
        f"{function.__name__}: setting {name} is annotated {hint}: give float, or "
        "Annotated[float, Range(low, high)]"
    )


def find_setting(owner: str, settings: Iterable[Setting], name: str) -> Setting:
    """The setting of that name, or ConfigError listing what there is.

    Args:
        owner: whose settings they are, for the message.
        settings: to look among.
        name: as the user wrote it.
    """
    by_name = {setting.name: setting for setting in settings}
    if name in by_name:
        return by_name[name]
    listing = f"its settings: {', '.join(by_name)}" if by_name else "it has no settings"
    raise ConfigError(f"{owner} has no setting {name!r}{suggestion(name, by_name)}; {listing}")


def key_values(parts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The key and the value, not empty, of each `key=value`.

    Raises:
        ConfigError: a part is not of that form, or repeats a key.
    """
    seen = set()
    for part in parts:
        key, separator, value = part.partition("=")
        if not separator or not value:
            raise ConfigError(f"{part!r} is not key=value")
        if key in seen:
            raise ConfigError(f"{key}= is given twice; write its values as {key}=a,b")
        seen.add(key)
        yield key, value


def choose(
    flag: str, text: str, functions: Mapping[str, Callable[..., Result]]
) -> Callable[..., Result]:
    """The function that a text names, with the settings that it gives.

    Args:
        flag: where the text stands, for the message.
        text: `name` or `name:key=value:…`.
        functions: by name.

    Raises:
        ConfigError: an unknown name or setting, or a value out of range.
    """
    name, *parts = text.split(":")
    check_name(flag, name, functions)
    settings = settings_of(functions[name])
    try:
        given = {
            key: find_setting(name, settings, key).read(value) for key, value in key_values(parts)
        }
    except ConfigError as error:
        raise ConfigError(f"{flag} {text!r}: {error}") from None
    return partial(functions[name], **given)
