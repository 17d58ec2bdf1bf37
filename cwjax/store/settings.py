"""What differs between two settings, in words."""

from __future__ import annotations

import dataclasses
from typing import Any


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """The fields that differ between two dataclasses, dictionaries or values.

    Returns:
        Each as `name: old, now new`, in the order of the fields.
    """
    old, new = _fields(old), _fields(new)
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for key in dict.fromkeys([*old, *new])
            for difference in differences(old.get(key), new.get(key), str(key))
        ]
    if old == new:
        return []
    return [f"{name}: {_text(old)}, now {_text(new)}"]


def _fields(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]


def _text(value: object) -> str:
    return "not set" if value is None else str(value)
