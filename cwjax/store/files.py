"""Files that are whole whatever happens, and names that every file system takes."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from pathlib import Path

from cwjax.errors import ConfigError


def write_atomically(path: Path, content: bytes) -> None:
    """The file is afterwards the old one or the new one, whole, whatever happens in between."""
    temporary = path.with_name(f".tmp-{secrets.token_hex(8)}-{path.name}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = str(path)  # a failed write names none, a failed rename the temporary one
        raise
    # The rename itself is durable only when the directory is on disk too.
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_new_file(label: str, path: Path) -> None:
    """Checks that a path can be a file's.

    Args:
        label: what stands before the path in the message.
        path: as the user gave it.

    Raises:
        ConfigError: it is a directory, or lies in none that exists.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ConfigError(f"{label} {path}: give a file in a directory that exists")


def file_name(arm: str) -> str:
    """An arm's name as part of a file name: two arms never share one, on any file system.

    Plain names stay as they are; others lose what is not portable and gain a hash of the whole.
    """
    if re.fullmatch(r"[a-z0-9_]{1,80}", arm):
        return arm
    readable = re.sub(r"[^a-z0-9_.=-]+", "_", arm.lower())[:80]
    return f"{readable}-{hashlib.sha256(arm.encode()).hexdigest()[:8]}"
