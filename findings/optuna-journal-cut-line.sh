#!/usr/bin/env bash
# One write that a full disk cut short makes a whole Optuna journal unreadable, for all workers and for good.
#
# The journal is a text file of one JSON record per line. A half line at its end is passed over by readers. The next append puts
# its record right behind the half line, where it is lost without a word, and the append after that makes a line in the middle
# that is no JSON: every reader raises, and all finished trials are out of reach until the file is mended by hand. Mend the last
# line before a worker appends.
#
# Seen with Optuna 5.0.0, Python 3.11:
# whole journal:         3 trials
# last line cut short:   readable
# after one more append: readable, without what was appended
# after another append:  JSONDecodeError
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q optuna==5.0.0
venv/bin/python - <<'PY'
import json
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

optuna.logging.set_verbosity(optuna.logging.ERROR)
journal = Path("journal.log")


def storage():
    """A fresh reader and writer of the journal, as another process would have it."""
    return JournalStorage(JournalFileBackend(str(journal)))


optuna.create_study(study_name="lr", storage=storage()).optimize(lambda trial: trial.suggest_float("x", -5, 5) ** 2, n_trials=3)
print(f"whole journal:         {len(optuna.load_study(study_name='lr', storage=storage()).trials)} trials")
journal.write_bytes(journal.read_bytes()[:-10])
worker = optuna.load_study(study_name="lr", storage=storage())
print("last line cut short:   readable")
worker.set_user_attr("note", "one more record")
assert optuna.load_study(study_name="lr", storage=storage()).user_attrs == {}, "what is appended is not lost any more"
print("after one more append: readable, without what was appended")
for attempt in (lambda: worker.set_user_attr("note", "another"), lambda: optuna.load_study(study_name="lr", storage=storage())):
    try:
        attempt()
    except json.JSONDecodeError as error:
        seen = error
    else:
        raise SystemExit("a cut line no longer breaks the journal")
print("after another append: ", type(seen).__name__)
PY
