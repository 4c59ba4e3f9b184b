"""A search that is stopped inside its derivation or verdict goes on there: the same bytes, and no choice is evaluated twice."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_distributed import Meeting

from lmsearch.cli import main
from lmsearch.data import EvalLoader, build_source
from lmsearch.engine.distributed import World
from lmsearch.engine.objectives import Scores, classification
from lmsearch.engine.precision import Precision
from lmsearch.engine.processes import ProcessLost
from lmsearch.engine.run_dir import RunDir
from lmsearch.interrupts import SAVED, Stopped, answering_signals
from lmsearch.models import create_model
from lmsearch.search.supernet import masking
from lmsearch.search.supernet.kept import FILE, KeptScores, ending_together, keeping_scores
from lmsearch.search.supernet.masking import OnBatches, pieces
from lmsearch.search.supernet.network import masked

SEARCH = [
    "search", "data=planted", "data.grid=4", "data.num_train=192", "model.depth=2", "model.embed_dim=8", "model.d_state=2",
    "batch_size=32", "epochs=1", "search.recheck=0",
]  # fmt: skip
CPU = Precision(torch.device("cpu"))


class Watched:
    """Counts what is measured for a derivation or verdict, by what it is, and sends a signal before one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen, self.stop_before = list[str](), -1
        measured, once = OnBatches._measured, KeptScores.once
        last = [""]

        def named(kept: KeptScores, module: object, samples: str, choices: object, measure: Callable[[], list[Scores]]):
            last[0] = f"{samples}: {id(type(module))} {choices}"
            return once(kept, module, samples, choices, measure)

        def counted(evaluate: OnBatches, *args: object) -> list[Scores]:
            if evaluate.kept is not None:
                if len(self.seen) == self.stop_before:
                    os.kill(os.getpid(), signal.SIGTERM)
                self.seen.append(last[0])
            return measured(evaluate, *args)

        monkeypatch.setattr(KeptScores, "once", named)
        monkeypatch.setattr(OnBatches, "_measured", counted)


@pytest.mark.parametrize("search", ["fair", pytest.param("darts", marks=pytest.mark.slow)])  # darts: with a mixture
def test_a_search_goes_on_inside_derivation_and_verdict(search: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*SEARCH, f"search={search}", *(["search.derivation=perturbation"] if search == "darts" else [])]
    watched, cut = Watched(monkeypatch), tmp_path / "cut"
    assert main([*words, f"run_dir={tmp_path / 'whole'}"]) == 0
    whole = list(watched.seen)
    assert len(set(whole)) == len(whole) > 4 and any(name.startswith("look") for name in whole)
    assert not (tmp_path / "whole" / FILE).exists()
    watched.seen.clear()
    for watched.stop_before in (2, len(whole) - 1):  # in the derivation, and in the last look of the verdict
        assert main([*words, f"run_dir={cut}"]) == SAVED
        assert len(watched.seen) == watched.stop_before and (cut / FILE).exists()
    watched.stop_before = -1
    assert main([*words, f"run_dir={cut}", "resume=must"]) == 0
    assert watched.seen == whole, "each choice once, in the same order"
    for name in ("genotype.json", "metrics.json"):
        assert (cut / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (cut / FILE).exists()
    again, watched.stop_before = ["derive", f"checkpoint={cut}", "health=true", f"run_dir={tmp_path / 'again'}"], 2
    watched.seen.clear()
    assert main(again) == SAVED and len(watched.seen) == 2 and (tmp_path / "again" / FILE).exists()
    watched.stop_before = -1
    assert main(again) == 0 and len(set(watched.seen)) == len(watched.seen) > 2, "each choice once"
    assert not (tmp_path / "again" / FILE).exists()


def scored(kept: KeptScores | None, loader: EvalLoader) -> list[list[float]]:
    """Return the losses of two choices in a small supernet."""
    torch.manual_seed(0)
    module = create_model("local_vim_nano", directions=["h", "v"], merge="weighted", depth=1, embed_dim=8, patch_size=4).eval()
    ways = [masked(module, {"layers.0": (name,)}) for name in ("h", "v")]
    return [one.losses.tolist() for one in OnBatches(loader, classification(), CPU, kept=kept, name="some").each(module, ways)]


def test_many_samples_are_kept_piece_by_piece_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "PIECE", 70)
    loader = EvalLoader(build_source("digits").val, batch_size=32)
    sizes = [part.num_samples for part in pieces(loader)]
    assert len(sizes) > 3 and set(sizes[:-1]) == {64} and sum(sizes) == loader.num_samples
    kept = KeptScores(RunDir(tmp_path), "0f", 0.0)
    assert scored(kept, loader) == scored(None, loader)
    assert len(kept.known) == len(sizes)
    again = KeptScores(RunDir(tmp_path), "0f", None)
    again.read()
    monkeypatch.setattr(OnBatches, "_measured", lambda *_: pytest.fail("all is known"))
    assert scored(again, loader) == scored(kept, loader)


def test_what_another_run_left_or_what_is_damaged_is_not_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = KeptScores(RunDir(tmp_path), "0f", 0.0)
    one = [Scores(torch.ones(2), torch.ones(2))]
    module = torch.nn.Linear(1, 1)
    kept.once(module, "some", [1], lambda: one)
    with keeping_scores(RunDir(tmp_path), "0e", every_s=None) as other:
        assert not other.known
    kept.write()
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-20])
    with caplog.at_level(logging.WARNING), keeping_scores(RunDir(tmp_path), "0f", every_s=None) as same:
        assert not same.known and "its choices are evaluated again" in caplog.text
    assert not (tmp_path / FILE).exists()


def test_what_one_process_cannot_read_all_measure_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        KeptScores(RunDir(folder), "0f", 0.0).once(
            torch.nn.Linear(1, 1), "some", [1], lambda: [Scores(torch.ones(2), torch.ones(2))]
        )

    def known(world: World) -> int:
        kept = KeptScores(RunDir(folders[world.rank], world), "0f", None)
        kept.read()
        return len(kept.known)

    shutil.copy(folders[0] / FILE, folders[1] / FILE)
    assert Meeting(2).run(known) == [1, 1]
    (folders[1] / FILE).unlink()
    with caplog.at_level(logging.WARNING):
        assert Meeting(2).run(known) == [0, 0] and "not the same to all processes" in caplog.text


@pytest.mark.parametrize("asked", [False, True])
def test_processes_that_measure_together_end_together_and_what_is_known_is_kept(asked: bool, tmp_path: Path) -> None:
    one = [Scores(torch.ones(2), torch.ones(2))]
    other = World(exchange=lambda tensor: [tensor, torch.full_like(tensor, int(asked))], size=2)  # that a signal has reached
    ends = pytest.raises(Stopped if asked else ProcessLost)
    with ends, keeping_scores(RunDir(tmp_path), "0f", every_s=None) as kept:
        with ending_together(other):
            kept.once(torch.nn.Linear(1, 1), "some", [1], lambda: one)
        raise ProcessLost("another process does not answer")
    with keeping_scores(RunDir(tmp_path), "0f", every_s=None) as again:
        assert len(again.known) == 1


def test_a_signal_between_two_measurements_of_several_processes_ends_the_next_one(tmp_path: Path) -> None:
    both = World(exchange=lambda tensor: [tensor, tensor], size=2)
    one, reached = [Scores(torch.ones(2), torch.ones(2))], False
    with pytest.raises(Stopped), answering_signals(), keeping_scores(RunDir(tmp_path, both), "0f", every_s=None) as kept:
        os.kill(os.getpid(), signal.SIGTERM)
        reached = True
        with ending_together(both):
            kept.once(torch.nn.Linear(1, 1), "some", [1], lambda: one)
        pytest.fail("it is asked for once all have measured")
    assert reached and (tmp_path / FILE).exists()


def test_a_supernet_that_was_trained_on_is_another_one(tmp_path: Path) -> None:
    kept, asked = KeptScores(RunDir(tmp_path), "0f", None), list[float]()
    for value in (0.0, 0.0, 1.0):
        module = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(module.weight, value)
        kept.once(module, "some", [1], lambda value=value: [asked.append(value)])
    assert asked == [0.0, 1.0]
