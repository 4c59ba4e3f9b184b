"""The studies: rows that resume, keys that differ, words that the command line accepts, and summaries of finished rows."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.e1_planted import run as e1
from experiments.e2_sets import run as e2
from experiments.e4_memorisation import run as e4
from experiments.records import append_record, pack_records, read_records
from experiments.study import NotYet, Row, Study, main, of_shard, records_of
from lmsearch.config import compose

STUDIES = {"e1": e1, "e2": e2, "e4": e4}


def study(folder: Path, work=lambda row: {"found": row.facts["n"]}) -> Study:
    rows = [Row("part", (f"n={n}",), {"n": n}) for n in range(4)]
    return Study(folder, rows, work, lambda records: {"sum": sum(r["found"] for r in records)}, lambda summary, path: None)


def run(monkeypatch: pytest.MonkeyPatch, made: Study, *words: str) -> dict:
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    main(made)
    path = made.folder / "results.json"
    return json.loads(path.read_text()) if path.exists() else {}


def test_a_study_runs_every_row_once(tmp_path, monkeypatch):
    asked = []
    counted = study(tmp_path, lambda row: asked.append(row.key) or {"found": row.facts["n"]})
    assert run(monkeypatch, counted, "--shard", "1/2")["sum"] == 1 + 3
    assert run(monkeypatch, counted)["sum"] == 0 + 1 + 2 + 3
    assert run(monkeypatch, counted)["sum"] == 6 and sorted(asked) == [f"part n={n}" for n in range(4)]


def test_a_row_cut_off_while_it_was_written_runs_again(tmp_path, monkeypatch):
    made = study(tmp_path)
    run(monkeypatch, made)
    whole = made.path.read_bytes()
    for cut in (5, 30):
        made.path.write_bytes(whole[:-cut])
        assert len(records_of(made)) == 3
        assert run(monkeypatch, made)["sum"] == 6 and len(records_of(made)) == 4


def test_rows_that_wait_for_others_run_after_them_and_groups_stay_in_one_shard(tmp_path, monkeypatch, capsys):
    done = []

    def work(row):
        if (row.facts["n"] == 0 and 2 not in done) or row.facts["n"] == 3:
            raise NotYet("two comes first")
        done.append(row.facts["n"])
        return {"found": row.facts["n"]}

    made = study(tmp_path, work)
    assert run(monkeypatch, made)["sum"] == 0 + 1 + 2 and done == [1, 2, 0]
    assert "1 rows are not needed or wait for others (two comes first)" in capsys.readouterr().out
    grouped = replace(made, rows=[replace(row, group="even" * (row.facts["n"] % 2 == 0)) for row in made.rows])
    assert [[row.facts["n"] for row in of_shard(grouped.rows, shard, 2)] for shard in (0, 1)] == [[0, 2, 3], [1]]


def test_processes_that_add_at_once_lose_no_record(tmp_path):
    path = tmp_path / "results.jsonl.gz"

    def add(who):
        for n in range(20):
            append_record(path, {"key": f"{who} {n}"})
            if n == 10:
                pack_records(path)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(add, range(3)))
    assert {record["key"] for record in read_records(path)} == {f"{who} {n}" for who in range(3) for n in range(20)}


def test_a_summary_packs_the_records_and_the_study_goes_on_from_them(tmp_path, monkeypatch):
    made = study(tmp_path)
    run(monkeypatch, made, "--shard", "0/2")
    before, size = records_of(made), made.path.stat().st_size
    assert run(monkeypatch, made, "--summary")["sum"] == 0 + 2
    assert records_of(made) == before and made.path.stat().st_size < size
    packed = made.path.read_bytes()
    run(monkeypatch, made, "--summary")
    assert made.path.read_bytes() == packed
    assert run(monkeypatch, made)["sum"] == 6 and records_of(made)[::2] == before


PILOTS = {"e6_transfer": 54, "e6_heldout": 1}  # studies of which a pilot has run or runs: more records than these


def test_the_records_of_every_study_are_read():
    files = sorted(Path(e1.__file__).parent.parent.glob("*/results.jsonl.gz"))
    assert len(files) >= 6
    for file in files:
        records = read_records(file)
        assert all("key" in record or "machine" in record for record in records)
        assert len(records) > PILOTS.get(file.parent.name, 100)


def test_rows_no_longer_in_the_study_do_not_count(tmp_path, monkeypatch):
    made = study(tmp_path)
    run(monkeypatch, made)
    assert run(monkeypatch, replace(made, rows=made.rows[:2]), "--summary")["sum"] == 1


def test_facts_that_a_row_tells_otherwise_now_replace_those_of_its_record(tmp_path, monkeypatch):
    made = study(tmp_path)
    run(monkeypatch, made)
    renamed = [replace(row, facts={"n": -1}) for row in made.rows]
    assert {record["n"] for record in records_of(replace(made, rows=renamed))} == {-1}


def test_every_record_names_the_machine_that_made_it(tmp_path, monkeypatch):
    made = study(tmp_path)
    known = run(monkeypatch, made, "--only", "n=2")["environments"]
    (record,) = records_of(made)
    assert known[record["environment"]]["versions"]["torch"] and "cpu" in known[record["environment"]]["hardware"]


@pytest.mark.parametrize("name", STUDIES)
def test_rows_of_a_study_have_keys_of_their_own(name):
    keys = [row.key for row in STUDIES[name].rows()]
    assert len(set(keys)) == len(keys)


def first_of_each_part(rows: list[Row]) -> list[Row]:
    """One row of each part, and of each kind in E2."""
    return list({(row.part, row.facts.get("kind")): row for row in rows}.values())


SAMPLES = [row for module in STUDIES.values() for row in first_of_each_part(module.rows())]
EXTRA = ("directions=", "random=")  # a row's own words, not the command line's


@pytest.mark.slow
@pytest.mark.parametrize("row", SAMPLES, ids=lambda row: row.key[:60])
def test_the_words_of_every_part_are_a_configuration(row):
    alone = row.part in ("alone", "random", "planted")
    words = [word for word in row.words if not word.startswith(EXTRA) and word != "search.architect=mixed"]
    assert compose("retrain" if alone else "search", [*(["genotype=none"] if alone else []), *words]).epochs > 0


def test_e1_counts_what_was_found_and_whether_winners_are_even():
    both = {"right": [True, False], "margins": [0.5, 0.1], "status": "ok", "part": "recovery"}
    records = [both, {"right": [False], "margins": [0.1], "status": "ok", "part": "recovery"}]
    counts = e1.recovery(records)
    assert (counts["found"], counts["runs"], counts["least_margin"]) == (1, 2, 0.5)
    assert counts["chance"] == pytest.approx(1 - (7 / 8) ** 2)
    assert e1.uniform_p([20, 0, 0, 0, 0, 0, 0, 0]) < 0.001 < 0.5 < e1.uniform_p([3, 2, 3, 2, 3, 2, 3, 2])


def test_e2_chance_level_of_the_jaccard_index():
    assert e2.expected_jaccard(1) == pytest.approx(1 / 8)
    assert e2.expected_jaccard(8) == 1
    assert e2.jaccard(["h", "v"], ["v", "w2"]) == pytest.approx(1 / 3)


def test_e4_keeps_single_where_intervals_overlap():
    at = {level: e4.Interval(mean, mean - 0.1, mean + 0.1) for level, mean in (("single", 0.3), ("bilevel", 0.15))}
    assert e4.decide(at)[0] == "single"
    assert e4.decide(at | {"bilevel": e4.Interval(0.05, 0, 0.1)})[0] == "bilevel"


def test_e4_counts_a_seed_once_however_many_sizes_it_was_run_at():
    runs = [{"n": n, "seed": seed, "chosen": [["v"]], "rule": "h"} for n in e4.SIZES for seed in (0, 1)]
    alone = {(r["n"], r["seed"], name): r["seed"] * (name == "v") for r in runs for name in "hv"}
    assert e4.regret_of(runs, alone) == e4.over_seeds([0.0, 1.0])
