"""SHA-256 digests of what checkpoints and models hold, so that a file that was damaged on the disk is noticed."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def digest_of(content: object) -> str:
    """Return the SHA-256 of nested dicts, lists, tensors and plain values: of types, order and every bit."""
    digest = hashlib.sha256()
    _add(digest, content)
    return digest.hexdigest()


def raw_bytes(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor's values, without a copy where it lies in main memory in one piece."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy())  # type: ignore[arg-type] # a buffer, which NumPy's stubs say from Python 3.12 on


def _add(digest: Any, content: object) -> None:
    """Add one value: its kind, how much of it follows, and what it holds."""
    if isinstance(content, Tensor):
        _head(digest, "tensor", f"{content.dtype} {tuple(content.shape)}")
        digest.update(raw_bytes(content))
    elif isinstance(content, Mapping):
        _head(digest, "dict", str(len(content)))
        for key, value in content.items():
            _add(digest, key)
            _add(digest, value)
    elif isinstance(content, list | tuple):
        _head(digest, "tuple" if isinstance(content, tuple) else "list", str(len(content)))
        for value in content:
            _add(digest, value)
    elif isinstance(content, float):
        _head(digest, "float", struct.pack("<d", content).hex())
    elif content is None or isinstance(content, bool | int | str):
        _head(digest, type(content).__name__, str(content))
    else:
        raise TypeError(f"{type(content).__name__} is neither a tensor nor a plain value, so it cannot stand in a checkpoint")


def _head(digest: Any, kind: str, text: str) -> None:
    """Add a kind and a text, its length first."""
    data = text.encode()
    digest.update(f"{kind} {len(data)} ".encode() + data)
