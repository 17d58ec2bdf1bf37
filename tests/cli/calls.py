"""What a command leaves that was called in this process; see the fixture `call`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Ended(NamedTuple):
    code: int | str | None
    out: str
    err: str


Call = Callable[..., Ended]
