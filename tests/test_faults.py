"""The harness that disturbs a training and compares what it leaves."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lmsearch.cli import main as lmsearch
from lmsearch.engine.checkpoint import load_checkpoint, save_checkpoint
from lmsearch.engine.run_dir import RunDir
from lmsearch.testing.faults import ACTIONS, MISSES, Harness, Run, main
from lmsearch.testing.fingerprint import fingerprint_of
from lmsearch.testing.lost import Pace, lost_steps, pace_of
from lmsearch.testing.recorded import Step, steps_in

SMALL = ["data=planted", "data.grid=4", "data.num_train=192", "model.depth=1", "model.embed_dim=8", "model.d_state=2"]
SEARCH = ["search", *SMALL, "batch_size=32", "epochs=3", "search.recheck=0.5", "save_every_s=0"]
ELSEWHERE = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "no command is given"),
        (["kills=many", "search"], "kills=many is not a whole number"),
        (["mode=kil", "search"], "mode='kil' is not accepted"),
        (["search", "run_dir=x"], "out= names the folder"),
        (["out=.", "search"], "out=. is there already"),
    ],
)
def test_wrong_words_are_one_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert told in capsys.readouterr().err


def test_a_command_that_fails_undisturbed_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"out={tmp_path / 'out'}", "serch"]) == 2
    assert "ends with code 2" in capsys.readouterr().err


def test_what_is_compared_are_results_not_times(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    assert lmsearch([*SEARCH, "search.recheck=0", f"run_dir={run}"]) == 0
    shutil.copy(run / "checkpoint.pt", run / "recheck0.pt")
    (run / "trials.csv").write_text("trial,score,seconds\n0,0.5,7.0\n")
    shutil.copytree(run, other)
    state = load_checkpoint(other)
    plain = {k: v for k, v in state.items() if k not in ("schema", "version")}
    save_checkpoint(RunDir(other), plain | {"train_s": 99.0})
    (other / "trials.csv").write_text("trial,score,seconds\n1,0.5,9.0\n")
    whole = fingerprint_of(run)
    assert {"checkpoint.pt", "recheck0.pt", "trials.csv", "genotype.json"} <= whole.keys() and fingerprint_of(other) == whole
    name = next(iter(state["model"]))
    moved = state["model"] | {name: torch.nextafter(state["model"][name], torch.tensor(torch.inf))}
    for file, part in {"recheck0.pt": {"model": moved}, "checkpoint.pt": {"skips": state["skips"] | {"number": 1}}}.items():
        save_checkpoint(RunDir(other), plain | part, file=file)
    (other / "trials.csv").write_text("trial,score,seconds\n0,0.25,7.0\n")
    assert {key for key, value in fingerprint_of(other).items() if whole[key] != value} == {
        "recheck0.pt", "checkpoint.pt", "trials.csv",
    }  # fmt: skip


def test_a_command_that_gives_no_moment_for_it_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[float] = []

    def never(harness: Harness, run: Run, process: object, after: float) -> str:
        started.append(after)
        return ""

    monkeypatch.setitem(ACTIONS, "loader", never)
    monkeypatch.setattr(Harness, "start", lambda self, run: subprocess.Popen(["true"]))
    assert main(["mode=loader", f"out={tmp_path / 'out'}", *SEARCH]) == 2
    told = capsys.readouterr()
    assert f"mode=loader: the command ended {MISSES} times without a moment for it" in told.err and len(started) == MISSES
    assert told.out.count("nothing: the same") == MISSES - 1


@pytest.mark.parametrize(
    ("words", "done", "lost"),
    [
        ("abcd", [2], [0]),  # saved after b
        ("abcdcdef", [4], [2]),
        ("abcdcdefef", [4, 8], [2, 2]),
        ("abcdcd", [4, 4], [2, 0]),  # no step between two
        ("abcdbcdbcd", [4, 7], [3, 3]),  # nothing was saved between two
        ("abc", [0, 3], [0, 0]),  # before the first step, and after the last
    ],
)
def test_what_is_done_again_was_lost(words: str, done: list[int], lost: list[int]) -> None:
    assert lost_steps([Step(float(place), word) for place, word in enumerate(words)], done) == lost


def test_a_pace_says_what_may_be_lost(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("save_every_s: 2\n")
    steps = [Step(at, str(at)) for at in (0.0, 0.5, 1.0, 9.0)]
    pace = pace_of(tmp_path, steps, processes=1)
    assert pace == Pace(0.5, 2.0) and pace.most_s == 2.5 and "at most 3 steps of 0.500 s = 1.50 s" in pace.told([0, 3])
    assert pace_of(tmp_path, steps, processes=2) == Pace(0.5, 2.0, 2) and Pace(0.5, 2.0, 2).most_s == 4.0
    assert Pace(2.0, 2.0, 2).most_s == 4.0, "long steps are saved one by one"
    assert pace_of(tmp_path, steps[:1], processes=1) is None and steps_in(tmp_path / "none") == []


@pytest.mark.slow
@ELSEWHERE
@pytest.mark.parametrize("mode", ["kill", "term", "save", "flip", "full"])
def test_a_search_that_is_disturbed_leaves_the_same(mode: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([f"mode={mode}", "kills=3", f"out={tmp_path / 'out'}", *SEARCH]) == 0, capfd.readouterr().out
    left = [path for path in (tmp_path / "out").rglob("*") if path.name.endswith(".tmp")]
    told = capfd.readouterr().out
    assert not left and "left the same" in told
    if mode in ("kill", "term"):  # every step is saved: at most the one that was done and not yet saved is done again
        assert {int(lost) for lost in re.findall(r"(\d+) steps lost", told)} <= {0, 1}


@pytest.mark.slow
@ELSEWHERE
def test_arms_that_train_side_by_side_save_when_their_parent_is_asked_to_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cross.json").write_text('[["h", "v"]]')
    words = [f"genotype={tmp_path / 'cross.json'}", "model.depth=1", "model.embed_dim=8", "model.patch_size=4", "epochs=2"]
    words += ["batch_size=128", "optim.warmup_epochs=0", "baseline_limit=0", "workers=2", "threads=1"]
    assert main(["mode=term", "kills=2", f"out={tmp_path / 'out'}", "compare", *words]) == 0, capfd.readouterr().out


@pytest.mark.slow
@ELSEWHERE
def test_one_of_two_processes_is_killed_and_torchrun_starts_both_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["processes=2", "kills=2", f"out={tmp_path / 'out'}", *SEARCH]) == 0, capfd.readouterr().out
