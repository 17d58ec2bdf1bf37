"""What the user can mend."""

from __future__ import annotations


class ConfigError(ValueError):
    """A setting that cannot be used; the message is one line that names it and the mend."""
