#!/usr/bin/env bash
# Preprocessing that was corrected in a module of one's own has no effect: Dataset.map gives what the faulty function made, from its cache.
#
# Hugging Face datasets keeps the result of map under a hash of the function, of which the documentation says that it covers all that the
# function uses. Of a function that was imported the hash is of its name alone: the code and the constants of the module may change, and
# the old images or labels come back, in a new process, without a word. Functions of the script itself are hashed with their code, but what
# these call in a module again by name. filter is the same. Pass load_from_cache_file=False, or new_fingerprint= with a version of yours.
#
# Seen with datasets 5.2.0, Python 3.11; labels 1, 2, 3 times ten, after the module said times two:
# function given to map             result
# imported from a module            2, 4, 6
# in the script, calls the module   2, 4, 6
# imported, cache not read          10, 20, 30
# in the script, with the code      10, 20, 30
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q datasets==5.2.0 pyarrow==26.0.1 numpy==2.4.6
export HF_HOME="$work/home" HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE=1
printf '%s\n' label 1 2 3 >labels.csv
cat >run.py <<'PY'
import json
import sys

import datasets
from labels import scaled

FACTOR = int(sys.argv[1])
datasets.disable_progress_bars()
rows = datasets.load_dataset("csv", data_files="labels.csv", split="train")


def of_the_script(row):
    return {"label": row["label"] * FACTOR}


def calls_the_module(row):
    return scaled(row)


results = {
    "imported from a module": rows.map(scaled),
    "in the script, calls the module": rows.map(calls_the_module),
    "imported, cache not read": rows.map(scaled, load_from_cache_file=False),
    "in the script, with the code": rows.map(of_the_script),
}
print(json.dumps({name: list(result["label"]) for name, result in results.items()}))
PY
for factor in 2 10; do
    printf 'def scaled(row):\n    return {"label": row["label"] * %s}\n' "$factor" >labels.py
    venv/bin/python -W ignore run.py "$factor" >"seen$factor.json"
done
venv/bin/python - <<'PY'
import json
from pathlib import Path

OLD, NEW = [2, 4, 6], [10, 20, 30]
before, seen = (json.loads(Path(f"seen{factor}.json").read_text()) for factor in (2, 10))
print("function given to map             result")
for name, labels in seen.items():
    print(f"{name:33} {', '.join(map(str, labels))}")
assert all(labels == OLD for labels in before.values())
assert list(seen.values()) == [OLD, OLD, NEW, NEW], "imported functions are known by their code now"
PY
