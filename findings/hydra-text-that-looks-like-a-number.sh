#!/usr/bin/env bash
# A key declared as text becomes "inf" when a commit such as 12e4567 is typed for it, and 2026_11_29 becomes "20261129".
#
# A structured config says `name: str`, so one expects the characters as they were typed. Hydra reads the override first, by its own grammar,
# as a number, and OmegaConf then makes text of the number. Commits of digits and one e, dates with underscores and versions such as 3.10 are
# numbers there. The run is filed under another name, two runs under one, and nothing is said. Quotes keep the text, and the shell
# takes a pair of them away: 'name="3.10"'.
#
# Seen with hydra-core 1.3.8, OmegaConf 2.3.1, Python 3.11; name: str, and what is typed for it:
# 12e4567     inf
# 13e4567     inf
# 7e10        70000000000.0
# 2026_11_29  20261129
# 3.10        3.1
# true        True
# 007         007
# "3.10"      3.10
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q hydra-core==1.3.8 omegaconf==2.3.1
venv/bin/python - <<'PY'
from dataclasses import dataclass

from hydra import compose, initialize
from hydra.core.config_store import ConfigStore


@dataclass
class Run:
    name: str = "run"


ConfigStore.instance().store("run", Run)
KNOWN = {
    "12e4567": "inf", "13e4567": "inf", "7e10": "70000000000.0", "2026_11_29": "20261129", "3.10": "3.1", "true": "True",
    "007": "007", '"3.10"': "3.10",
}
with initialize(None, version_base=None):
    for typed, expected in KNOWN.items():
        name = compose("run", [f"name={typed}"]).name
        print(f"{typed:11} {name}")
        assert name == expected, "text is read otherwise now"
PY
