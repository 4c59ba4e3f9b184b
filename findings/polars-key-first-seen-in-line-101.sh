#!/usr/bin/env bash
# A key that a JSONL log has for the first time in line 101 is not in Polars' table: all its values are gone, without an error.
#
# A training writes a line per step and adds the accuracy whenever it validates. Polars takes the columns from the first 100 lines and
# reads no other key after them, so a run that validates every 100 steps has its accuracies and one that does so every 101 has none. A
# reader that takes "no column" for "was not measured" goes on with that. scan_ndjson does the same. Pass infer_schema_length=None, or
# write all keys in every line, or keep a table with the same columns throughout beside the log.
#
# Seen with Polars 2.1.0, Python 3.11; 1000 steps:
# validated every 100 steps   columns step loss accuracy   accuracies 10 of 10
# validated every 101 steps   columns step loss            accuracies 0 of 9
#   infer_schema_length=None  columns step loss accuracy   accuracies 9 of 9
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q polars==2.1.0 polars-runtime-32==2.1.0
venv/bin/python - <<'PY'
import json
from pathlib import Path

import polars


def write(every):
    """Write the log of 1000 steps with a validation every so many, and return how many accuracies it holds."""
    steps = [{"step": step, "loss": 1 / step} for step in range(1, 1001)]
    validated = steps[every - 1 :: every]
    for line in validated:
        line["accuracy"] = 1 - line["loss"]
    Path("metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in steps))
    return len(validated)


def scanned(path, **options):
    """Read a log as lazy tables are read."""
    return polars.scan_ndjson(path, **options).collect()


for label, every, options, lost in (
    ("validated every 100 steps", 100, {}, False),
    ("validated every 101 steps", 101, {}, True),
    ("  infer_schema_length=None", 101, {"infer_schema_length": None}, False),
):
    written = write(every)
    for read in (scanned, polars.read_ndjson):
        table = read("metrics.jsonl", **options)
        found = table["accuracy"].count() if "accuracy" in table.columns else 0
        assert len(table) == 1000 and found == (0 if lost else written), "Polars finds other keys in later lines now"
    print(f"{label:27} columns {' '.join(table.columns):20} accuracies {found} of {written}")
PY
