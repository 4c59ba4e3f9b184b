"""A run that is stopped at any step goes on as if it had not been: the same bytes, whatever stopped it."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
import torch
from interruptions import signalled

from lmsearch.cli import main
from lmsearch.engine.checkpoint import load_checkpoint
from lmsearch.engine.state import older_states
from lmsearch.interrupts import INTERRUPTED, SAVED, Stop, Stopped, answering_signals, held_signals

MODEL = ["model.depth=2", "model.embed_dim=8", "model.d_state=2"]
SEARCH = [
    "search", "data=planted", "data.grid=5", "data.num_train=192", *MODEL, "batch_size=32", "epochs=2", "search.recheck=0",
    "search.health_every=1",
]  # fmt: skip
RETRAIN = [
    "retrain", *MODEL, "model.patch_size=4", "batch_size=256", "epochs=3", "optim.warmup_epochs=1", "optim.mixup=0.2",
    "optim.ema_decay=0.9", "baseline_limit=0",
]  # fmt: skip
CROSS = '[["h", "v"], ["h", "w2"]]'
PRESETS = ("bilevel", "drnas", "fairdarts", "gaea", "gdas", "localmamba", "mixed", "pcdarts", "sampled", "shrink")


def trained(folder: Path) -> dict:
    """Return what the training of a run left: weights, alphas, averages and where it stands."""
    state = load_checkpoint(folder)
    return {name: state[name] for name in ("model", "epoch", "step")} | ({"ema": state["ema"]} if "ema" in state else {})


def equal(one: dict, other: dict) -> bool:
    """Tell whether two states hold the same bits."""
    return one.keys() == other.keys() and all(
        equal(value, other[name]) if isinstance(value, dict)
        else torch.equal(value, other[name]) if isinstance(value, torch.Tensor)
        else value == other[name]
        for name, value in one.items()
    )  # fmt: skip


def lines_of(folder: Path) -> str:
    """Return what every epoch wrote down."""
    return (folder / "metrics.jsonl").read_text()


def run_whole(words: Sequence[str], folder: Path) -> Path:
    """Run a command that nothing stops and return its folder."""
    assert main([*words, f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return what gives the folder of a command that nothing stopped: equal words run once."""
    return cache(lambda *words: run_whole(words, tmp_path_factory.mktemp("whole") / "run"))


@pytest.fixture(scope="module")
def cross(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the words of a retraining, but for its folder."""
    path = tmp_path_factory.mktemp("cross") / "cross.json"
    path.write_text(CROSS)
    return [*RETRAIN, f"genotype={path}"]


def check_same_search(
    words: list[str], tmp_path: Path, *, after: int, number: int = signal.SIGTERM, whole: Path | None = None
) -> None:
    """Run a search whole, where it has not been, and again with a signal after so many steps, and compare what is left."""
    whole, cut = whole or run_whole(words, tmp_path / "whole"), tmp_path / "cut"
    with signalled(number, after=after) as done:
        assert main([*words, f"run_dir={cut}"]) == (INTERRUPTED if number == signal.SIGINT else SAVED)
    assert len(done) == after, "no step after the one in which the signal came"
    with signalled(number, after=0) as rest:
        assert main([*words, f"run_dir={cut}", "resume=must"]) == 0
    assert len(set(done + rest)) == len(done) + len(rest), "no step is done twice"
    assert (cut / "genotype.json").read_bytes() == (whole / "genotype.json").read_bytes()
    assert equal(trained(cut), trained(whole)) and lines_of(cut) == lines_of(whole)


@pytest.mark.parametrize(("search", "after"), [("fair", 2), ("fair", 4), ("darts", 5)])  # 4: the last step of an epoch
def test_a_search_that_a_signal_stops_inside_an_epoch_ends_as_the_whole_one(
    search: str, after: int, tmp_path: Path, wholes: Callable[..., Path]
) -> None:
    words = [*SEARCH, f"search={search}"]
    check_same_search(words, tmp_path, after=after, whole=wholes(*words))


@pytest.mark.slow
@pytest.mark.parametrize("search", PRESETS)
def test_every_way_to_search_goes_on_inside_an_epoch(search: str, tmp_path: Path) -> None:
    check_same_search([*SEARCH, f"search={search}"], tmp_path, after=3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_a_retraining_with_mixup_and_averages_goes_on_after_any_signal(
    number: int, cross: list[str], wholes: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = wholes(*cross)
    with signalled(number, after=6):
        assert main([*cross, f"run_dir={tmp_path / 'cut'}"]) == (INTERRUPTED if number == signal.SIGINT else SAVED)
    told = capsys.readouterr().err
    assert "give the same command again" in told
    assert ("interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}") in told
    assert load_checkpoint(tmp_path / "cut")["step"] == 2, "the second of the second epoch's four steps"
    assert main([*cross, f"run_dir={tmp_path / 'cut'}"]) == 0
    for name in ("model.safetensors", "best.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (whole / name).read_bytes()
    assert equal(trained(tmp_path / "cut"), trained(whole)) and lines_of(tmp_path / "cut") == lines_of(whole)


@pytest.fixture(scope="module")
def stopped(cross: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """The words and the folder of a retraining that saved every step, and was stopped after the seventh."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    words = [*cross, "save_every_s=0", "keep_checkpoints=3", f"run_dir={folder}"]
    with signalled(signal.SIGTERM, after=7):
        assert main(words) == SAVED
    return words, folder


def copy_of(folder: Path, to: Path) -> Path:
    """Return a copy of a run folder."""
    to.mkdir()
    for path in folder.iterdir():
        if path.is_file():
            (to / path.name).write_bytes(path.read_bytes())
    return to


def test_the_last_states_are_kept_and_older_ones_are_not(stopped: tuple[list[str], Path]) -> None:
    _, run = stopped
    assert sorted(older_states(run)) == [((1, 1), "checkpoint-1-1.pt"), ((1, 2), "checkpoint-1-2.pt")]
    assert (load_checkpoint(run)["epoch"], load_checkpoint(run)["step"]) == (1, 3)
    assert load_checkpoint(run / "checkpoint-1-1.pt")["step"] == 1


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_run_goes_on_from_the_newest_state_that_can_be_read_and_says_so(
    damaged: int,
    stopped: tuple[list[str], Path],
    cross: list[str],
    wholes: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    words, run = stopped[0][:-1], copy_of(stopped[1], tmp_path / "run")
    for name in ("checkpoint.pt", "checkpoint-1-2.pt")[:damaged]:
        (run / name).write_bytes((run / name).read_bytes()[:-40])
    left = ["checkpoint-1-2.pt", "checkpoint-1-1.pt"][damaged - 1]
    with caplog.at_level(logging.WARNING), signalled(signal.SIGTERM, after=0) as done:
        assert main([*words, f"run_dir={run}"]) == 0
    assert done[0] == (1, 3 - damaged)
    assert any("not a readable checkpoint" in line and str(run / left) in line for line in caplog.messages)
    assert (run / "model.safetensors").read_bytes() == (wholes(*cross) / "model.safetensors").read_bytes()


def test_where_no_state_can_be_read_the_newest_is_named(
    stopped: tuple[list[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(stopped[1], tmp_path / "run")
    for path in run.glob("checkpoint*.pt"):
        path.write_bytes(b"nothing")
    assert main([*stopped[0][:-1], f"run_dir={run}"]) == 2
    assert f"{run / 'checkpoint.pt'}: not a readable checkpoint" in capsys.readouterr().err


def test_resume_says_whether_there_may_or_must_be_something_to_go_on_with(
    stopped: tuple[list[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, run = stopped
    for more, told in (
        ([f"run_dir={run}", "resume=never"], "resume=never, but"),
        ([f"run_dir={tmp_path}", "resume=must"], "resume=must, but"),
        ([f"run_dir={run}", "resume=must", "overwrite=true"], "overwrite=true starts it over"),
        ([f"run_dir={run}", "resume=maybe"], "accepted: auto, never, must"),
        ([f"run_dir={run}", "keep_checkpoints=0"], "keep_checkpoints=0 is out of range"),
        ([f"run_dir={run}", "save_every_s=-1"], "save_every_s=-1"),
    ):
        assert main([*words[:-1], *more]) == 2
        assert told in capsys.readouterr().err
    assert not list(tmp_path.glob("*.pt")) and (run / "checkpoint.pt").exists()


def test_overwriting_a_run_leaves_none_of_its_states(stopped: tuple[list[str], Path], tmp_path: Path) -> None:
    run = copy_of(stopped[1], tmp_path / "run")
    with signalled(signal.SIGTERM, after=1):
        assert main([*stopped[0][:-1], f"run_dir={run}", "seed=1", "overwrite=true", "save_every_s=null"]) == SAVED
    assert [path.name for path in run.glob("checkpoint*.pt")] == ["checkpoint.pt"]


def test_a_second_interrupt_stops_at_once_and_a_second_term_does_not() -> None:
    stop = Stop(held=True)
    stop.answer(signal.SIGTERM, None)
    stop.answer(signal.SIGTERM, None)
    assert stop.asked
    with pytest.raises(Stopped) as caught:
        stop.answer(signal.SIGINT, None)
    assert caught.value.code == INTERRUPTED


def test_where_nothing_is_held_a_signal_ends_the_block_and_handlers_are_as_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as caught, answering_signals():
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == SAVED and signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_comes_after_the_last_save_is_answered_at_the_end_of_the_block() -> None:
    passed = []
    with pytest.raises(Stopped), answering_signals():
        with held_signals():
            signal.raise_signal(signal.SIGTERM)
            passed.append("inside")
        passed.append("after")
    assert passed == ["inside"]


def test_signals_that_are_ignored_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with answering_signals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            with answering_signals():
                pass
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failed
