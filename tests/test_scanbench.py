"""ScanBench: complete tables, searches that replay on them in seconds, and clear errors."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lmsearch import scanbench
from lmsearch.errors import DataError
from lmsearch.scanbench.board import FILE
from lmsearch.scanbench.replaying import best_of, space_to_search
from lmsearch.scanbench.spaces import FIRST_SPACES, SPACES, from_text, to_text
from lmsearch.scanbench.table import FOLDER, VERSIONS, Table, read_table, write_table
from lmsearch.search.discrete.trials import build_strategy
from lmsearch.stats.ranking import kendall, noise_ceiling

FIRST = json.loads(VERSIONS.read_text())["1.0"]
ALL = [architecture for space in FIRST_SPACES.values() for architecture in space.architectures()]


@pytest.fixture
def made_up() -> Table:
    """Return a table in which an architecture is as good as it holds h and w2, with little noise."""
    rng = np.random.default_rng(0)
    worth = np.array([sum(("h" in layer) + 0.5 * ("w2" in layer) for layer in a) for a in ALL])
    scores = worth[:, None] + 0.01 * rng.normal(size=(len(ALL), 4))
    return Table("made_up", "accuracy", "0" * 64, {}, tuple(ALL), scores, scores.copy())


def test_the_first_spaces_hold_64_28_and_70_architectures() -> None:
    assert [len(space.architectures()) for space in FIRST_SPACES.values()] == [64, 28, 70]
    assert len(set(ALL)) == 162


@pytest.mark.parametrize("task", scanbench.table_names())
def test_a_shipped_table_is_complete(task: str) -> None:
    table = scanbench.load(task)
    spaces = {name: table.space(name).architectures for name in SPACES}
    whole = {name: replace(space, candidates=table.candidates).architectures() for name, space in SPACES.items()}
    assert any(spaces.values()) and all(own in ((), whole[name]) for name, own in spaces.items())
    assert all(spaces[name] for name in FIRST_SPACES) or task not in FIRST
    assert table.val.shape == table.test.shape == (sum(map(len, spaces.values())), table.num_seeds) and table.num_seeds >= 4
    assert np.isfinite(table.val).all() and np.isfinite(table.test).all() and len(table.config) == 64


def test_tables_ship_and_are_small() -> None:
    assert "sum_h" in scanbench.table_names()
    assert sum(path.stat().st_size for path in FOLDER.glob("*.json")) < 300_000


@pytest.mark.parametrize("task", [name for name in FIRST if name.startswith("sum_")])  # a direction is planted
def test_a_planted_direction_is_what_makes_an_architecture_good(task: str) -> None:
    table, direction = scanbench.load(task).space("1 layer, top 4"), task.removeprefix("sum_")
    with_it = [table.mean(a) for a in table.architectures if direction in a[0]]
    without = [table.mean(a) for a in table.architectures if direction not in a[0]]
    assert min(with_it) > float(np.median(without))


@pytest.mark.parametrize("method", ["random", "local", "evolution", "tpe"])
def test_every_strategy_replays_and_finds_the_best_of_a_space(method: str, made_up: Table) -> None:
    table = made_up.space("1 layer, top 2")
    strategy = build_strategy(method, population=5, tournament=2)
    tried = scanbench.replay(table, strategy, evaluations=28, seed=3)
    assert len({one.architecture for one in tried}) == 28
    assert best_of(tried) == (("h", "w2"),)


def test_a_replay_is_the_same_for_the_same_seed(made_up: Table) -> None:
    table = made_up.space("2 layers, top 1")
    one, two, other = (
        scanbench.replay(table, build_strategy("evolution", population=5, tournament=2), evaluations=20, seed=seed)
        for seed in (0, 0, 1)
    )
    assert one == two != other


def test_regret_and_percentile_are_zero_for_the_best_and_grow(made_up: Table) -> None:
    best, worst = (("h", "w2"),), (("v", "v_flip"),)
    assert made_up.regret(best) == 0 and made_up.percentile(best) == 0
    assert made_up.regret(worst) > 1 and made_up.percentile(worst) > 0.4


def test_a_table_knows_whether_search_is_warranted(made_up: Table) -> None:
    flat = np.random.default_rng(1).normal(size=(3, 4)) * 0.1 + np.array([[0.0, 1.0, 2.0, 3.0]])
    noise = Table("noise", "accuracy", "0" * 64, {}, tuple(ALL[:3]), flat, flat)
    assert made_up.warranted and made_up.noise_ceiling() > 0.5
    assert not noise.warranted


def test_scores_agree_with_themselves_up_to_noise(made_up: Table) -> None:
    assert kendall(made_up.val[:, 0], made_up.val[:, 1:].mean(1)) > 0.6


def test_reversing_all_directions_twice_gives_the_table_back(made_up: Table) -> None:
    names = {"h": "h_flip", "v": "v_flip", "w2": "w2_flip", "w4": "w4_flip"}
    names |= {b: a for a, b in names.items()}
    once = made_up.relabelled(names)
    assert once.mean((("h_flip", "w2_flip"),)) == made_up.mean((("h", "w2"),))
    assert np.array_equal(once.relabelled(names).val, made_up.val)


def test_a_written_table_reads_back(made_up: Table, tmp_path: Path) -> None:
    write_table(made_up, tmp_path / "t.json")
    read = read_table(tmp_path / "t.json")
    assert read.architectures == made_up.architectures and np.allclose(read.val, made_up.val, atol=1e-5)


def test_architectures_that_are_right_equally_often_are_tied_in_a_table_too(made_up: Table, tmp_path: Path) -> None:
    right = np.random.default_rng(0).integers(340, 359, size=(len(ALL), 4))
    write_table(replace(made_up, val=right / 359, test=right / 359), tmp_path / "t.json")
    table, counts = read_table(tmp_path / "t.json").space("1 layer, top 4"), right[-70:]
    better = [(counts.sum(1) > own).mean() for own in counts.sum(1)]
    assert len(set(better)) < 60 and [table.percentile(a) for a in table.architectures] == better
    assert table.noise_ceiling() == noise_ceiling(counts)


def test_architectures_are_written_in_one_word() -> None:
    assert to_text((("h", "v"), ("w2",))) == "h+v/w2"
    assert all(from_text(to_text(a)) == a for a in ALL)


@pytest.mark.parametrize(
    ("ask", "needle"),
    [
        (lambda t: scanbench.load("digit"), "no table"),
        (lambda t: t.space("1 layer"), "1 layer, top 2"),
        (lambda t: t.mean((("v", "h"),)), "candidate order"),
        (lambda t: t.score((("h", "v"),), 4), "seeds 0 to 3"),
        (lambda t: t.score(["h", "v"], 0), "is no architecture; expected a list of directions for every layer"),
        (lambda t: t.space("1 layer, top 2").space("1 layer, top 4").warranted, "holds no architectures"),
        (lambda t: t.space("1 layer, top 2").space("1 layer, top 4").noise_ceiling(), "holds no architectures"),
        (space_to_search, "holds 3 spaces .2 layers, top 1, 1 layer, top 2, 1 layer, top 4.; a search needs one"),
        (lambda t: space_to_search(replace(t, architectures=())), "holds no architectures"),
    ],
)
def test_what_a_table_does_not_hold_is_one_clear_line(ask: object, needle: str, made_up: Table) -> None:
    with pytest.raises(DataError, match=needle):
        ask(made_up)


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({"schema": "lmsearch.scanbench", "version": 1}))
    with pytest.raises(DataError, match="t.json"):
        read_table(tmp_path / "t.json")
    write_table(Table("none", "accuracy", "0" * 64, {}, (), np.zeros((0, 4)), np.zeros((0, 4))), tmp_path / "t.json")
    with pytest.raises(DataError, match="0 architectures but scores of shape"):
        read_table(tmp_path / "t.json")


def test_a_table_of_one_space_is_searched_in_that_space(made_up: Table) -> None:
    assert space_to_search(made_up.space("2 layers, top 1")).size == 64


def test_tables_and_leaderboard_are_read_without_pytorch() -> None:
    code = "import sys; from lmsearch import scanbench as s; s.load('digits'); s.leaderboard(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_version_names_its_tables_by_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scanbench.versions()[0] == "1.0" and len(scanbench.load("digits", version="1.0").architectures) == 162
    with pytest.raises(DataError, match="version='one' is no version of ScanBench.* 1.0"):
        scanbench.load("digits", version="one")
    (tmp_path / "digits.json").write_text((FOLDER / "digits.json").read_text() + "\n")
    monkeypatch.setattr("lmsearch.scanbench.table.FOLDER", tmp_path)
    with pytest.raises(DataError, match="is not that of ScanBench 1.0"):
        scanbench.load("digits", version="1.0")


def test_the_leaderboard_holds_our_methods_on_every_space_of_its_tables() -> None:
    entries = scanbench.leaderboard()
    for table in ("sum_h", "graded", "digits"):
        for space in FIRST_SPACES:
            own = {entry.method for entry in entries if (entry.table, entry.space) == (table, space)}
            assert {"search=fair", "search=random"} <= own
            assert ("search=evolution" in own) == (space != "1 layer, top 4"), "two evaluations never breed"
    assert all(0 <= e.regret_low <= e.regret <= e.regret_high and 0 <= e.percentile < 1 and e.runs >= 2 for e in entries)


def test_choices_are_judged_by_regret_and_wrong_ones_refused(made_up: Table) -> None:
    best = max(made_up.space("1 layer, top 2").architectures, key=made_up.mean_test)
    entry = scanbench.judge(made_up, [best, best], method="oracle", cost=0.0, source="here")
    assert (entry.regret, entry.percentile, entry.space, entry.scanbench) == (
        0.0,
        0.0,
        "1 layer, top 2",
        scanbench.versions()[-1],
    )
    with pytest.raises(DataError, match="1 run of oracle; a leaderboard entry needs two or more"):
        scanbench.judge(made_up, [best], method="oracle", cost=0.0, source="here")
    with pytest.raises(DataError, match="an entry is about one space"):
        scanbench.judge(made_up, [best, ALL[0]], method="oracle", cost=0.0, source="here")


def test_lists_as_json_gives_them_are_architectures(made_up: Table) -> None:
    assert made_up.score([["h", "h_flip"]], 0) == made_up.score((("h", "h_flip"),), 0)
    one, other = (
        scanbench.judge(made_up, choices, method="any", cost=0.0, source="here")
        for choices in ([[["h", "v"]]] * 2, [(("h", "v"),)] * 2)
    )
    assert one == other


@pytest.mark.parametrize(
    ("words", "needle"),
    [
        ({"version": "7.7"}, "version='7.7' is no version of ScanBench"),
        ({"source": " "}, "source is empty"),
        ({"cost": float("nan")}, "cost=nan is no finite number"),
        ({"cost": "12"}, "cost='12' is no finite number"),
        ({"cost": -1.0}, "cost=-1 is below 0"),
    ],
)
def test_an_entry_that_no_leaderboard_takes_is_not_made_nor_read(
    words: dict, needle: str, made_up: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=f"oracle: {needle}"):
        scanbench.judge(made_up, [ALL[0]] * 2, method="oracle", **{"cost": 0.0, "source": "here"} | words)
    entry = json.loads(FILE.read_text())["entries"][0] | {
        "scanbench" if name == "version" else name: v for name, v in words.items()
    }
    head = {"schema": "lmsearch.scanbench.leaderboard", "version": 1}
    (tmp_path / "board.json").write_text(json.dumps(head | {"entries": [entry]}))
    monkeypatch.setattr("lmsearch.scanbench.board.FILE", tmp_path / "board.json")
    with pytest.raises(DataError, match=f"entry 0, .*: {needle}|NaN"):
        scanbench.leaderboard()


def test_an_entry_has_the_version_that_its_table_was_loaded_from(made_up: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scanbench.load("digits", version="1.0")
    table = whole.space("1 layer, top 2")
    monkeypatch.setattr("lmsearch.scanbench.board.versions", lambda: ("1.0", "2.0"))
    for known, version in ((table, "1.0"), (made_up, "2.0")):
        choices = known.space("1 layer, top 2").architectures[:2]
        assert scanbench.judge(known, choices, method="any", cost=0.0, source="here").scanbench == version
    assert whole.relabelled({d: d for a in whole.architectures for layer in a for d in layer}).version == "1.0"


def test_a_damaged_leaderboard_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmsearch.scanbench.board.FILE", tmp_path / "board.json")
    head = {"schema": "lmsearch.scanbench.leaderboard", "version": 1}
    for content, message in (
        (head | {"version": 9}, "version 9 is not supported"),
        (head | {"entries": [{}]}, "entry 0 has other"),
    ):
        (tmp_path / "board.json").write_text(json.dumps(content))
        with pytest.raises(DataError, match=message):
            scanbench.leaderboard()
