"""Errors that the user can fix; their message is one line that says how."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


class ConfigError(ValueError):
    """A setting, file or directory that cannot be used."""


class DataError(ConfigError):
    """Data that cannot be used."""


def one_line(error: BaseException) -> str:
    """Names an error of another library within a message of one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def check_name(flag: str, name: str, names: Collection[str]) -> None:
    """Checks that a flag has one of the names that there are.

    Raises:
        ConfigError: it has not; the message lists them, the closest first.
    """
    if name not in names:
        raise ConfigError(
            f"{flag} is {name!r}{suggestion(name, names)}: choose one of {', '.join(names)}"
        )


def suggestion(name: str, names: Iterable[str]) -> str:
    """` (did you mean 'balanced'?)` where one of the names is close; otherwise nothing."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
