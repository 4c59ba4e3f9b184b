"""Values as words of the command line."""

from __future__ import annotations

from typing import Any


def as_text(value: Any) -> str:
    """Return a value as the command line takes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{','.join(as_text(entry) for entry in value)}]"
    return str(value)
