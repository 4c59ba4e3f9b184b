"""The table of ScanBench from larger real images: rows, its setting, a version of its own, and searches that replay on it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from idx_files import write_idx

from experiments.e6_real import plan as fixed
from experiments.scanbench_board import run as board
from experiments.scanbench_fashion import run as fashion
from lmsearch import scanbench
from lmsearch.cli import main
from lmsearch.errors import DataError
from lmsearch.scanbench import table as shipped
from lmsearch.scanbench.replaying import space_to_search
from lmsearch.search.discrete.trials import build_strategy


def made_up() -> list[dict]:
    """Return all rows: an architecture is better the more windows of 7 it keeps; supernets of one method find the best."""
    found = []
    for row in fashion.rows():
        best = [["w7", "w7_flip"]] if row.facts.get("method") == "search=fair" else [["h", "h_flip"]]
        worth = 0.8 + 0.05 * row.words[0].count("w7") + 0.001 * row.facts["seed"]
        told = {"val": worth, "test": worth} if row.part == fashion.TASK else {"derived": best, "cost": 1.0}
        found.append({"part": row.part, "key": row.key} | row.facts | told)
    return found


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the package read tables and versions from a folder with one table of today."""
    for name in ("digits", "graded", "sum_h"):
        (tmp_path / f"{name}.json").write_bytes((shipped.FOLDER / f"{name}.json").read_bytes())
    versions = {"1.0": json.loads(shipped.VERSIONS.read_text())["1.0"]}
    (tmp_path / "versions").write_text(json.dumps(versions))
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    monkeypatch.setattr(shipped, "VERSIONS", tmp_path / "versions")
    monkeypatch.setattr(fixed, "ROOT", str(write_idx(tmp_path / "idx", train=4000, test=20, side=8)))
    return tmp_path


def test_the_rows_are_all_architectures_with_four_seeds() -> None:
    rows = fashion.rows()
    assert len({row.key for row in rows}) == len(rows) == 28 * 4 + 10
    assert [row.facts["seed"] for row in rows[:112]] == sorted(row.facts["seed"] for row in rows[:112])


def test_a_complete_table_makes_a_version_that_never_changes(elsewhere: Path) -> None:
    records = made_up()
    assert fashion.summarise(records[1:]) == {"rows": 111, "diverged": 0} and scanbench.versions() == ("1.0",)
    summary = fashion.summarise(records)
    assert summary["warranted"] and summary["regret"]["search=fair"][0] == 0 < summary["regret"]["by chance"][0]
    fashion.summarise(records)
    assert scanbench.versions() == ("1.0", "1.1") and scanbench.load("digits").version == "1.1"
    table = scanbench.load("fashion")
    assert table.candidates == fashion.SMALL.candidates and "root" not in table.setting["source"]
    with pytest.raises(DataError, match="ScanBench 1.1 has another table of fashion"):
        fashion.summarise([r | {"val": 0.5} if r["part"] == "fashion" and r["seed"] == 1 else r for r in records])
    assert np.array_equal(scanbench.load("fashion").val, table.val) and not list(elsewhere.glob("*.draft"))


def test_searches_replay_on_it_and_the_leaderboard_and_show_take_it(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fashion.summarise(made_up())
    table = scanbench.load("fashion").space("1 layer, top 2")
    assert space_to_search(table).size == 28
    tried = scanbench.replay(table, build_strategy("random", population=3, tournament=2), evaluations=28, seed=0)
    assert {one.architecture for one in tried} == set(table.architectures)
    monkeypatch.setattr(board, "RUNS", 2)
    monkeypatch.setattr(board, "TABLES", ("fashion",))
    assert {(entry.table, entry.space) for entry in board.replayed()} == {("fashion", "1 layer, top 2")}
    assert main(["show", "what=scanbench", "table=fashion"]) == 0
    assert "1 layer, top 2: 28 architectures, 4 seeds" in capsys.readouterr().out


@pytest.mark.slow
def test_a_tiny_training_and_tiny_supernets_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed, "ROOT", str(write_idx(tmp_path, train=400, test=20, side=16)))
    monkeypatch.setattr(fashion, "PLAN", replace(fashion.PLAN, images=64, epochs=2, val_fraction=0.05))
    rows = fashion.rows()
    assert {"val", "test", "cost"} <= set(fashion.work(rows[3]))
    for row in rows[-2:]:
        (kept,) = fashion.work(row)["derived"]
        assert kept == tuple(name for name in fashion.SMALL.candidates if name in kept) and len(kept) == 2


def test_the_leaderboard_is_written_anew_without_losing_the_entries_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = next(entry for entry in scanbench.leaderboard() if entry.source == board.REPLAYS)
    theirs = replace(ours, method="mine", source="someone, a command")
    monkeypatch.setattr(board, "FILE", tmp_path / "board.json")
    monkeypatch.setattr("lmsearch.scanbench.board.FILE", tmp_path / "board.json")
    for name, entries in (("replayed", [ours]), ("derived", []), ("derived_on_fashion", [])):
        monkeypatch.setattr(board, name, lambda entries=entries: iter(entries))
    old = replace(ours, regret=0.0, regret_low=0.0)
    head = {"schema": board.SCHEMA, "version": board.VERSION}
    board.FILE.write_text(json.dumps(head | {"entries": [asdict(old), asdict(theirs)]}))
    board.main()
    assert set(scanbench.leaderboard()) == {ours, theirs}
