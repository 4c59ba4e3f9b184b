"""Where the shipped data files (conf/, search_spaces/) are, in a wheel and in a checkout; what names tell; paths as text."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
EXPORTED = {"onnx": ".onnx", "torch_export": ".pt2"}  # formats of exported files, and how their names end
CHECKPOINT_SCHEMA = "lmsearch.checkpoint"  # what a checkpoint.pt says that it is
WEIGHTS = (".safetensors", ".pt", ".pth", *EXPORTED.values())  # how names of files of weights end
TEXTS = (".json", ".txt", ".py")  # of files that may hold directions
BESIDE = (".jsonl", ".yaml", ".yml", ".csv", ".md", ".html", ".log", ".png", ".svg")  # of what else runs leave


def data_dir(name: str) -> Path:
    """Return the folder `name` ("conf" or "search_spaces"): inside the package (wheel) or beside it (checkout, editable)."""
    for parent in (PACKAGE, PACKAGE.parent):
        if (parent / name).is_dir():
            return parent / name
    raise FileNotFoundError(f"lmsearch is installed without its {name}/ folder (looked in {PACKAGE} and {PACKAGE.parent})")


def is_exported(path: Path) -> bool:
    """Tell whether a path is named as an exported file."""
    return path.suffix in EXPORTED.values()


def shown(path: str | os.PathLike) -> str:
    """Return a path as one line that any terminal prints: control characters and undecodable bytes as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in os.fspath(path))
