"""lmsearch status and clean: what runs there are, and what of them may go; nothing else is ever touched."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_distributed import Meeting

from lmsearch.cli import main
from lmsearch.engine.distributed import World
from lmsearch.engine.lock import holding
from lmsearch.engine.log import EndedEarly
from lmsearch.engine.processes import ProcessLost
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import DataError
from lmsearch.report.page.common import unfinished
from lmsearch.report.page.folder import read_run as read_page
from lmsearch.status import RunStatus
from lmsearch.tasks.parts.run_dir import telling_failure
from lmsearch.tasks.parts.runs import read_run, runs_in

ID = "0" * 64


def make_run(path: Path, task: str, **files: str) -> Path:
    """Put a run together as a task leaves it: a marker, a configuration and files, of which "__" in a name is a dot."""
    path.mkdir(parents=True)
    (path / "run_id.txt").write_text(f"{task} {ID} {ID}\n")
    (path / "config.yaml").write_text("seed: 0\n")
    for name, content in files.items():
        (path / name.replace("__", ".")).write_text(content)
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return a folder with runs of every state, beside things that are none."""
    root = tmp_path / "runs"
    make_run(root / "a", "search", genotype__json="{}", checkpoint__pt="12", metrics__json='{"health": {"status": "ok"}}')
    (root / "a" / "genotype.json").write_text('{"health": {"status": "ok"}}')
    for name in ("checkpoint-3-10.pt", "recheck0.pt", "recheck0-1-4.pt"):
        (root / "a" / name).write_text("older")
    make_run(root / "demo" / "b", "retrain", metrics__json='{"test_accuracy": 0.5, "test_loss": 2.0}',
             checkpoint__pt="12345", model__safetensors="x")  # fmt: skip
    make_run(root / "c", "compare", checkpoint__pt="x")
    failed = make_run(root / "d", "search", error__txt="Traceback\nValueError: no luck\n", environment__json="{}")
    (failed / "tb").mkdir()
    (failed / "tb" / "events.out.tfevents.1.host").write_text("x")
    (root / "notes").mkdir()
    (root / "notes" / "checkpoint-1-1.pt").write_text("mine")
    return root


def everything(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.name != ".lock"}


def test_runs_are_listed_with_state_and_verdict(runs: Path) -> None:
    found = {run.path.name: (run.task, run.state, run.verdict) for run in runs_in(runs)}
    assert found == {
        "a": ("search", RunStatus.FINISHED, "ok"),
        "b": ("retrain", RunStatus.FINISHED, "test_accuracy 0.5000"),
        "c": ("compare", RunStatus.STOPPED, ""),
        "d": ("search", RunStatus.FAILED, "ValueError: no luck"),
    }
    with holding(runs / "c"):
        (run,) = runs_in(runs / "c")
        assert run.state is RunStatus.RUNNING and run.owner is not None and run.owner.startswith(f"process {os.getpid()} on ")
    assert read_run(runs / "notes") is None


def test_status_ends_with_where_to_look_next(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", f"runs={runs}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "2 finished, 1 stopped, 1 failed; " in lines[-2] and lines[-1].startswith("next: lmsearch report ")
    make_run(runs / "e", "audit", audit__json='{"quick": {}, "verdict": {"answer": "no"}}')
    make_run(runs / "f", "evaluate", metrics__json='{"test_accuracy": 0.5}')  # the newest, of which report makes no page
    assert main(["status", f"runs={runs}"]) == 0
    told = capsys.readouterr().out
    assert told.endswith(f"next: lmsearch report run_dir={runs / 'e'}\n") and "a search may pay: no" in told
    assert main(["status", f"runs={runs / 'f'}"]) == 0
    assert "next:" not in capsys.readouterr().out
    assert main(["status", f"runs={runs / 'notes'}"]) == 0
    assert "no runs in" in capsys.readouterr().out
    assert main(["status", f"runs={runs / 'none'}"]) == 2
    assert "is no folder; expected one that holds runs" in capsys.readouterr().err


def test_a_search_that_got_more_seeds_is_not_finished(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "search", genotype__json="{}")
    make_run(run / "s0", "search", genotype__json="{}")
    make_run(run / "s1", "search")
    (run / "run_id.txt").write_text(f"search {ID} {ID}\ns0\ns1\n")
    (found,) = runs_in(tmp_path)
    assert found.state is RunStatus.STOPPED


def test_a_run_that_was_taken_further_is_not_finished_until_that_ends(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "compare", comparison__json="{}", taken_further__txt="seeds=1 before, 5 now")
    assert read_run(run).state is RunStatus.STOPPED
    (run / "taken_further.txt").unlink()
    assert read_run(run).state is RunStatus.FINISHED


def test_a_pruned_trial_has_not_failed(tmp_path: Path) -> None:
    told = '{"state": "pruned", "note": "val_loss 0.6813 after 1 epochs"}'
    run = make_run(tmp_path / "0002", "retrain", trial__json=told, config__yaml="epochs: 3\n")
    found = read_run(run)
    assert (found.state, found.verdict) == (RunStatus.PRUNED, "val_loss 0.6813 after 1 epochs")
    assert "other trials did better: val_loss 0.6813 after 1 epochs." in unfinished(read_page(run))[1]
    (run / "trial.json").write_text(told[:20])  # damaged: the listing of the others goes on
    assert read_run(run).state is RunStatus.STOPPED
    (run / "metrics.json").write_text('{"test_loss": 0.5}')  # it was trained on by hand
    assert read_run(run).state is RunStatus.FINISHED


def test_a_sweep_tells_its_best_trial(tmp_path: Path) -> None:
    best = '{"trial": 3, "values": {"val_accuracy": 0.75, "parameters": 3347}}'
    run = make_run(tmp_path / "sweep", "sweep", results__json=f'{{"best": {best}, "pareto": [3]}}')
    assert read_run(run).verdict == "trial 3: val_accuracy 0.75, parameters 3347"
    (run / "results.json").write_text('{"best": null, "pareto": []}')
    assert read_run(run).verdict == "no trial was completed"


def test_an_error_is_left_behind_until_the_run_goes_on(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    with pytest.raises(ValueError, match="no luck"), telling_failure(run_dir):
        raise ValueError("no luck")
    assert (tmp_path / "error.txt").read_text().splitlines()[-1] == "ValueError: no luck"
    with pytest.raises(KeyboardInterrupt), telling_failure(run_dir):
        raise KeyboardInterrupt
    with pytest.raises(EndedEarly), telling_failure(run_dir):
        raise EndedEarly("others did better")
    assert not (tmp_path / "error.txt").exists()


@pytest.mark.parametrize("failing", [0, 1])
def test_of_several_processes_the_one_that_failed_tells_why(failing: int, tmp_path: Path) -> None:
    make_run(tmp_path / "run", "search")
    gone = threading.Event()

    def train(world: World) -> None:
        try:
            with telling_failure(RunDir(tmp_path / "run", world)):
                if world.rank != failing:
                    assert gone.wait(20)
                    raise ProcessLost("another process of this training does not answer any more")
                raise DataError("003.png: not a readable image")
        finally:
            gone.set()

    Meeting(3).run(train)
    (found,) = runs_in(tmp_path)
    assert found.verdict == "lmsearch.errors.DataError: 003.png: not a readable image"


def test_where_no_process_can_tell_why_another_is_gone_the_run_failed_all_the_same(tmp_path: Path) -> None:
    with pytest.raises(ProcessLost), telling_failure(RunDir(tmp_path, World(1, 2, exchange=lambda tensor: [tensor] * 2))):
        raise ProcessLost("another process of this training does not answer any more")
    assert "does not answer any more" in (tmp_path / "error.txt").read_text()


def test_clean_lists_and_deletes_only_when_told_to(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(runs)
    assert main(["clean", f"runs={runs}"]) == 0
    text = capsys.readouterr().out
    assert everything(runs) == before
    assert (
        "older checkpoints of a finished run: checkpoint-3-10.pt, recheck0-1-4.pt (" in text
        and "failed before it saved any work" in text
    )
    assert text.splitlines()[-1].endswith("the same command with delete=true")
    assert main(["clean", f"runs={runs}", "delete=true"]) == 0
    gone = {
        "a/checkpoint-3-10.pt",
        "a/recheck0-1-4.pt",
        "demo/b/checkpoint.pt",
        *(name for name in before if name == "d" or name.startswith("d/")),
    }
    assert before - everything(runs) == gone
    assert main(["clean", f"runs={runs}"]) == 0
    assert "nothing in" in capsys.readouterr().out


def test_what_a_user_put_into_a_failed_run_stays(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "d" / "notes.txt").write_text("mine")
    (runs / "d" / "started_over.txt").write_text("slurm 7 retrain\n")
    assert main(["clean", f"runs={runs}", "delete=true"]) == 0
    assert (runs / "d" / "notes.txt").read_text() == "mine" and [p.name for p in (runs / "d").iterdir()] == ["notes.txt"]
    assert "left, since it also holds notes.txt" in capsys.readouterr().out


def test_a_failed_run_that_saved_work_stays(runs: Path) -> None:
    (runs / "d" / "checkpoint.pt").write_text("x")
    make_run(runs / "e", "sweep", error__txt="no trial was completed\n")  # its trials may be in a database
    before = everything(runs / "d"), everything(runs / "e")
    assert main(["clean", f"runs={runs}", "delete=true"]) == 0
    assert (everything(runs / "d"), everything(runs / "e")) == before


def test_clean_leaves_a_running_run_alone(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(runs / "a")
    with holding(runs / "a"):
        assert main(["clean", f"runs={runs}", "delete=true"]) == 0
        assert "left alone" in capsys.readouterr().out
        assert main(["clean", f"runs={runs / 'a'}", "delete=true"]) == 2
        assert f"is in use by process {os.getpid()} on " in capsys.readouterr().err
    assert everything(runs / "a") == before


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """Give a run outside the folder that is cleaned; it must be untouched in the end."""
    run = make_run(tmp_path / "outside", "search", error__txt="x", genotype__json="{}")
    (run / "checkpoint-1-1.pt").write_text("x")
    before = everything(tmp_path / "outside")
    yield run
    assert everything(tmp_path / "outside") == before


@pytest.mark.parametrize("place", ["run", "part", "tb", "file"])
def test_no_link_leads_clean_out_of_the_folder(place: str, runs: Path, outside: Path) -> None:
    if place == "run":
        (runs / "linked").symlink_to(outside)
    elif place == "part":
        (runs / "d" / "s0").symlink_to(outside)
        (runs / "d" / "run_id.txt").write_text(f"search {ID} {ID}\ns0\n")
    elif place == "tb":
        (outside / "events.out.tfevents.1").write_text("x")
        (runs / "d" / "tb" / "events.out.tfevents.1.host").unlink()
        (runs / "d" / "tb").rmdir()
        (runs / "d" / "tb").symlink_to(outside)
        (outside / "events.out.tfevents.1").unlink()
    else:
        (runs / "d" / "results.csv").symlink_to(outside / "config.yaml")
    assert main(["clean", f"runs={runs}", "delete=true"]) == 0
