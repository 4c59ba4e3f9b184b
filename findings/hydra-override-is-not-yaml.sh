#!/usr/bin/env bash
# The same characters mean one thing in a Hydra preset and another behind `key=` on the command line.
#
# Presets are YAML 1.1, overrides have a grammar of their own. `on` is true in a file and the text "on" in an override, which
# is true in an `if` even when it says "off". 010 is eight in a file and text in an override, and 1:30 is ninety in a file. So
# moving a value from the command line into a preset changes the run, and class names such as no, on, off need care.
#
# Seen with hydra-core 1.3.8, OmegaConf 2.3.1, Python 3.11:
# off   preset False   override "off"
# 010   preset 8       override "010"
# 1:30  preset 90      override "1:30"
# 0x1F  preset 31      override "0x1F"
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q hydra-core==1.3.8 omegaconf==2.3.1
venv/bin/python - <<'PY'
from pathlib import Path

from hydra import compose, initialize_config_dir

expected = {"off": (False, "off"), "010": (8, "010"), "1:30": (90, "1:30"), "0x1F": (31, "0x1F")}
Path("conf").mkdir()
for text, values in expected.items():
    Path("conf/main.yaml").write_text(f"value: {text}\n")
    with initialize_config_dir(str(Path("conf").resolve()), version_base="1.3"):
        seen = compose("main").value, compose("main", [f"value={text}"]).value
    print(f'{text:5} preset {seen[0]!r:7} override "{seen[1]}"')
    assert seen == values and [type(v) for v in seen] == [type(v) for v in values], f"{text} is read otherwise now"
PY
