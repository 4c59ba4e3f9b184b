#!/usr/bin/env bash
# A training that ended in NaN has an accuracy above 0.9, and is the best of all, in DuckDB and in Polars, though not from a pandas table.
#
# A comparison with NaN is false, says IEEE, and NumPy and pandas hold to it, so that `accuracy > 0.9` drops what diverged. DuckDB and
# Polars order NaN above all numbers, in a WHERE or filter as well as in a sort, and arg_max of DuckDB names that run. What one and the same
# query answers hangs on where the rows come from: DuckDB makes NULL of a NaN in a pandas table, and keeps that of a file. And Polars'
# own arg_max passes NaN over, which its top_k puts first. Leave NaN out yourself (isfinite, is_finite) before anything is chosen.
#
# Seen with DuckDB 2.0.1, Polars 2.1.0, pandas 3.1.1, Python 3.11; runs a (0.91), b (0.87) and c (NaN):
# table                 above 0.9  first when sorted  arg_max
# pandas                a          a                  a
# DuckDB, a JSONL file  a c        c                  c
# DuckDB, from pandas   a          a                  a
# Polars                a c        c                  a
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q duckdb==2.0.1 polars==2.1.0 pandas==3.1.1 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import json

import duckdb
import pandas
import polars

RUNS = {"a": 0.91, "b": 0.87, "c": float("nan")}
with open("runs.jsonl", "w") as file:
    for run, accuracy in RUNS.items():
        file.write(json.dumps({"run": run, "accuracy": accuracy}) + "\n")
rows = {"run": list(RUNS), "accuracy": list(RUNS.values())}
runs, frame = pandas.DataFrame(rows), polars.DataFrame(rows)


def queried(source):
    above = duckdb.sql(f"SELECT run FROM {source} WHERE accuracy > 0.9 ORDER BY run").fetchall()
    ((first,),) = duckdb.sql(f"SELECT run FROM {source} ORDER BY accuracy DESC LIMIT 1").fetchall()
    ((best,),) = duckdb.sql(f"SELECT arg_max(run, accuracy) FROM {source}").fetchall()
    return [run for (run,) in above], first, best


above = runs[runs.accuracy > 0.9].run.tolist()
in_pandas = above, runs.sort_values("accuracy", ascending=False).run.iloc[0], runs.run[runs.accuracy.idxmax()]
above = frame.filter(polars.col("accuracy") > 0.9)["run"].to_list()
assert frame.top_k(1, by="accuracy")["run"][0] == "c"
in_polars = above, frame.sort("accuracy", descending=True)["run"][0], frame["run"][frame["accuracy"].arg_max()]

print("table                 above 0.9  first when sorted  arg_max")
for title, seen, expected in (
    ("pandas", in_pandas, "a a a"),
    ("DuckDB, a JSONL file", queried("'runs.jsonl'"), "a c c c"),
    ("DuckDB, from pandas", queried("runs"), "a a a"),
    ("Polars", in_polars, "a c c a"),
):
    above, first, best = seen
    print(f"{title:21} {' '.join(above):10} {first:18} {best}")
    assert " ".join([*above, first, best]) == expected, "NaN is ordered otherwise now"
PY
