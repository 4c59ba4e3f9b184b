"""Architectures: the directions of every layer, as plain tuples of names."""

from __future__ import annotations

Architecture = tuple[tuple[str, ...], ...]


def num_branches(architecture: Architecture) -> int:
    """Return the number of directions over all layers: the branch scans of one training step."""
    return sum(len(layer) for layer in architecture)
