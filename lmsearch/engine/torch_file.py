"""Files in PyTorch's format, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from lmsearch.files import replacing


def save_torch(path: Path, content: dict[str, Any]) -> None:
    """Write `content` in PyTorch's format, whole or not at all; raise FileError where it cannot be written."""
    with replacing(path, size=sum(t.nbytes for t in tensors_of(content))) as file:
        torch.save(content, cast("IO[bytes]", file))


def tensors_of(content: object) -> Iterator[Tensor]:
    """Yield the tensors of nested dicts, lists and tuples."""
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, dict | list | tuple):
        for inside in content.values() if isinstance(content, dict) else content:
            yield from tensors_of(inside)
