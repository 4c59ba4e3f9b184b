#!/usr/bin/env bash
# One YAML file, two types: `lr: 1e-3` is a float for OmegaConf and the text "1e-3" for PyYAML, on which OmegaConf is built.
#
# YAML 1.1 wants a dot in a float, and PyYAML follows it; OmegaConf puts its own rule in. So a preset works through Hydra, and a
# script that reads the same file with yaml.safe_load (a sweep, a report) gets text. The other way round, PyYAML makes a date of
# 2026-01-01 where OmegaConf keeps the text: a run name changes its type.
#
# Seen with PyYAML 6.0.3, OmegaConf 2.3.1, Python 3.11:
# 1e-3        PyYAML str   OmegaConf float
# 1E5         PyYAML str   OmegaConf float
# 1.0e-3      PyYAML float OmegaConf float
# 2026-01-01  PyYAML date  OmegaConf str
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q PyYAML==6.0.3 omegaconf==2.3.1
venv/bin/python - <<'PY'
import yaml
from omegaconf import OmegaConf

expected = {"1e-3": ("str", "float"), "1E5": ("str", "float"), "1.0e-3": ("float", "float"), "2026-01-01": ("date", "str")}
for text, types in expected.items():
    seen = type(yaml.safe_load(f"value: {text}")["value"]).__name__, type(OmegaConf.create(f"value: {text}").value).__name__
    print(f"{text:11} PyYAML {seen[0]:5} OmegaConf {seen[1]}")
    assert seen == types, f"{text} is read otherwise now"
PY
