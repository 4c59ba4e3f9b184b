"""Numbers that a caller gives as Python's own, whoever's they are."""

from __future__ import annotations

from typing import Any


def plain_numbers(value: Any) -> Any:
    """Return a number or an array of NumPy or PyTorch, or a list or tuple of numbers, as Python's own; others as they are."""
    if isinstance(value, list | tuple):
        plain = [plain_numbers(entry) for entry in value]
        return tuple(plain) if isinstance(value, tuple) else plain
    return value.tolist() if hasattr(value, "tolist") else value
