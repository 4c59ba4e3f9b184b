"""What a run has left, as digests: two runs are the same where these are equal. Times, which differ, are left out."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

from lmsearch.engine.checkpoint import load_checkpoint
from lmsearch.engine.digest import digest_of

WHOLE = ("genotype.json", "metrics.jsonl", "results.csv", "comparison.json", "confusion.json", "*.safetensors", "model.json")
JSON = {"metrics.json": ("train_s",), "audit.json": ("spent_s", "environment")}  # what is left out of each
CSV = {"trials.csv": ("trial", "seconds")}  # a trial that died is tried again under another number
PARTS_FILE, MEASURED = "parts.jsonl", ("took_s", "pace", "speed")  # of an audit, and what is left out of its parts
COST = "Cost: "  # begins a sentence of a verdict that tells seconds
STATE = re.compile(r"(checkpoint|recheck\d+)\.pt")  # not the older ones beside them: which those are is a matter of time
STATE_TIMED = ("train_s",)


def fingerprint_of(folder: Path) -> dict[str, str]:
    """Return a digest of every result in a folder, by name: bytes of files, whole saved states, values and rows without times."""
    found: dict[str, object] = {}
    for pattern in WHOLE:
        found |= {name_in(folder, path): path.read_bytes().hex() for path in folder.rglob(pattern)}
    for name, timed in JSON.items():
        found |= {name_in(folder, path): values_without(path, timed) for path in folder.rglob(name)}
    for name, timed in CSV.items():
        found |= {name_in(folder, path): rows_without(path, timed) for path in folder.rglob(name)}
    found |= {name_in(folder, path): parts_in(path) for path in folder.rglob(PARTS_FILE)}
    for path in filter(is_state, folder.rglob("*.pt")):
        found[name_in(folder, path)] = without(load_checkpoint(path), STATE_TIMED)
    return {name: digest_of(content) for name, content in found.items()}


def is_state(path: Path) -> bool:
    """Tell whether a file is the newest state of a training."""
    return STATE.fullmatch(path.name) is not None


def name_in(folder: Path, path: Path) -> str:
    """Return the name of a file in a folder."""
    return path.relative_to(folder).as_posix()


def without(values: dict[str, Any], left_out: tuple[str, ...]) -> dict[str, Any]:
    """Return values by name but for some of them."""
    return {name: value for name, value in values.items() if name not in left_out}


def values_without(path: Path, left_out: tuple[str, ...]) -> str:
    """Return the values of a JSON file but for some of them, and for sentences that tell seconds."""
    values = without(json.loads(path.read_text()), left_out)
    if isinstance(verdict := values.get("verdict"), dict):
        verdict["sentences"] = [one for one in verdict["sentences"] if not one.startswith(COST)]
    return json.dumps(values, sort_keys=True)


def parts_in(path: Path) -> list[str]:
    """Return the parts of an audit, which are done in any order, without what they measured of the machine."""
    rows = [without(json.loads(line), MEASURED) for line in path.read_text().splitlines()]
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def rows_without(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the rows of comma-separated values but for some columns."""
    with open(path, newline="", encoding="utf-8") as file:
        return [without(row, columns) for row in csv.DictReader(file)]
