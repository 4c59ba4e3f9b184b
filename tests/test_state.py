"""The state of a run: what is saved comes back, whole runs equal interrupted ones, and what is of another run is refused."""

from __future__ import annotations

import copy
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_distributed import Meeting

from lmsearch.data import TrainLoader
from lmsearch.data.arrays import ArrayDataset
from lmsearch.engine.checkpoint import ModelSpec, load_checkpoint, save_checkpoint
from lmsearch.engine.distributed import World
from lmsearch.engine.loop import observing_steps, run_epochs
from lmsearch.engine.objectives import classification
from lmsearch.engine.optim import adamw, load_optimizer, moving_average
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.state import Keeping, Position, RunState
from lmsearch.engine.train import Precision, Trainer
from lmsearch.errors import CheckpointError

OPTIONS = {"depth": 2, "embed_dim": 8, "patch_size": 2, "drop_path_rate": 0.2}
SPEC = ModelSpec("local_vim_nano", (("h", "v"), ("h",)), "sum", OPTIONS)
EPOCHS, STEPS = 3, 4


def loader() -> TrainLoader:
    """Return a loader of four batches an epoch."""
    draw = np.random.default_rng(0)
    images = torch.from_numpy(draw.standard_normal((16, 1, 8, 8)).astype(np.float32))
    data = ArrayDataset(images, torch.from_numpy(draw.integers(10, size=16)), (0.0,), (1.0,))
    return TrainLoader(data, batch_size=4, seed=3)


def trainer(precision: str = "fp32") -> Trainer:
    """Return a trainer of a fresh network, with a moving average."""
    torch.manual_seed(0)
    model = SPEC.build(backend="reference")
    optimizer = adamw(model.named_parameters(), lr=1e-2, weight_decay=0.05, betas=(0.9, 0.999))
    return Trainer(
        model, optimizer, classification(), lambda step: 1e-2 / (1 + step), Precision(torch.device("cpu"), precision), 7,
        ema=moving_average(model, 0.9),
    )  # fmt: skip


def state_of(folder: Path, training: Trainer, **changes) -> RunState:
    """Return where a training is kept."""
    return RunState(RunDir(folder), training.parts(), **{"spec": SPEC, "run": "mine"} | changes)


def same(one: dict, other: dict) -> bool:
    """Tell whether two states hold equal tensors and values."""
    return all(
        same(value, other[name]) if isinstance(value, dict)
        else torch.equal(value, other[name]) if isinstance(value, torch.Tensor)
        else value == other[name]
        for name, value in one.items()
    ) and one.keys() == other.keys()  # fmt: skip


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("cut", [Position(1), Position(1, 2), Position(2, 3)])
def test_a_run_that_was_saved_and_restored_ends_as_the_uninterrupted_one(tmp_path: Path, cut: Position, precision: str) -> None:
    whole, first, second = (trainer(precision) for _ in range(3))
    run_epochs(whole, loader(), epochs=EPOCHS)
    state = state_of(tmp_path, first)

    def stop(epoch: int, step: int, scores: object) -> None:
        if epoch * STEPS + step + 1 == cut.steps(STEPS):
            state.save(cut)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), observing_steps(stop):
        run_epochs(first, loader(), epochs=EPOCHS)
    torch.rand(17)  # what is drawn in between leaves no trace
    start = state_of(tmp_path, second).restore()
    assert start == cut
    run_epochs(second, loader(), epochs=EPOCHS, start=start)
    for name, part in whole.parts().items():
        if name != "optimizer":
            assert same(part.state_dict(), second.parts()[name].state_dict()), name
    assert all(torch.equal(one, other) for one, other in zip(averages(whole), averages(second), strict=True))


def averages(training: Trainer) -> list[torch.Tensor]:
    """Return what the optimizer remembers, in the order of its parameters."""
    states = training.optimizer.state_dict()["state"]
    return [states[number][name] for number in states for name in ("step", "exp_avg", "exp_avg_sq")]


def test_a_run_without_a_file_begins_at_its_beginning(tmp_path: Path) -> None:
    assert state_of(tmp_path, trainer()).restore() == Position(0, 0)


class Counter:
    """A part of a run that is neither a module nor an optimizer."""

    def __init__(self, count: int) -> None:
        self.count = count

    def state_dict(self) -> dict:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict) -> None:
        self.count = state_dict["count"]


def test_anything_with_a_state_is_a_part_and_plain_values_are_kept_for_readers(tmp_path: Path) -> None:
    path, training = tmp_path / "checkpoint.pt", trainer()
    RunState(
        RunDir(tmp_path), training.parts() | {"seen": Counter(5)}, spec=SPEC, run="mine", extra={"relaxation": "uniform"}
    ).save(Position(2))
    seen = Counter(0)
    RunState(RunDir(tmp_path), training.parts() | {"seen": seen}, spec=SPEC, run="mine").restore()
    stored = load_checkpoint(path)
    assert seen.count == 5 and stored["relaxation"] == "uniform" and (stored["epoch"], stored["step"]) == (2, 0)


def test_the_seconds_of_several_calls_add_up(tmp_path: Path) -> None:
    training = trainer()
    first = state_of(tmp_path, training)
    first.since -= 100.0
    first.save(Position(1))
    second = state_of(tmp_path, training)
    second.restore()
    second.since -= 10.0
    second.save(Position(2))
    assert 110.0 <= second.train_s < 120.0


def test_a_file_of_version_0_1_0_is_read(tmp_path: Path) -> None:
    path, training = tmp_path / "checkpoint.pt", trainer()
    state_of(tmp_path, training).save(Position(3))
    old = load_checkpoint(path)
    for added in ("digest", "step", "train_s"):
        del old[added]
    save_checkpoint(RunDir(tmp_path), old)
    best = Counter(9)
    assert RunState(RunDir(tmp_path), training.parts() | {"best": best}, spec=SPEC, run="mine").restore() == Position(3)
    assert best.count == 9


def test_files_of_other_runs_and_parts_that_do_not_fit_are_one_clear_error(tmp_path: Path) -> None:
    training = trainer()
    state_of(tmp_path, training).save(Position(1))
    with pytest.raises(CheckpointError, match="of another run"):
        state_of(tmp_path, training, run="other").restore()
    with pytest.raises(CheckpointError, match="another model or other directions"):
        state_of(tmp_path, training, spec=ModelSpec("local_vim_nano", (("v",), ("h",)), "sum", SPEC.options)).restore()
    with pytest.raises(CheckpointError, match=r"can continue from \(alphas: 'alphas'\)"):
        RunState(RunDir(tmp_path), training.parts() | {"alphas": Counter(0)}, spec=SPEC, run="mine").restore()


def test_processes_that_would_go_on_from_other_states_are_one_line(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    folders[0].mkdir()
    state = state_of(folders[0], trainer(), keeping=Keeping(number=2))
    for position in (Position(1), Position(1, 2)):
        state.save(position)
    shutil.copytree(*folders)
    building = threading.Lock()

    def restored(world: World) -> Position:
        with building:
            state = RunState(RunDir(folders[world.rank], world), trainer().parts(), spec=SPEC, run="mine")
        return state.restore()

    assert Meeting(2).run(restored) == [Position(1, 2)] * 2
    file = folders[1] / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:-20])
    for other in ("checkpoint-1-0.pt (epoch 1, step 0)", "the beginning"):
        for error in Meeting(2).run(restored):
            told = f"process 0 would go on from checkpoint.pt (epoch 1, step 2), process 1 from {other}; see that every machine"
            assert isinstance(error, CheckpointError) and told in str(error)
        shutil.rmtree(folders[1], ignore_errors=True)


def test_when_to_save_goes_by_a_clock_that_does_not_jump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = RunState(RunDir(tmp_path), {}, spec=SPEC, run="0f", keeping=Keeping(every_s=600.0))
    monkeypatch.setattr(time, "time", lambda: 1e12)
    assert not state.due(asked=False)
    state.since -= 601
    assert state.due(asked=False)


def test_processes_agree_whether_to_save_every_few_steps_and_after_every_one_that_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, others, agreed = [0.0], torch.tensor([0, 0]), list[bool]()
    monkeypatch.setattr("lmsearch.engine.state.time", SimpleNamespace(perf_counter=lambda: now[0]))

    def exchange(mine: torch.Tensor) -> list[torch.Tensor]:
        agreed[-1] = True
        return [mine, others]

    state = RunState(RunDir(tmp_path, World(size=2, exchange=exchange)), {}, spec=SPEC, run="mine")
    for seconds in [0.1] * 9 + [2.0] * 6:
        now[0] += seconds
        agreed.append(False)
        assert not state.due(asked=False)
    assert [number for number, here in enumerate(agreed, 1) if here] == [1, 5, 9, 13, 14, 15]
    others[0] = 1
    assert state.due(asked=False), "another process was asked to end"


def one_step(parameter: torch.nn.Parameter, state: dict | None = None) -> tuple[torch.Tensor, dict]:
    """Return the weights after a step, and the optimizer's state."""
    optimizer = adamw([("w", parameter)], lr=0.1, weight_decay=0.0, betas=(0.9, 0.999))
    if state is not None:
        load_optimizer(optimizer, state)
    (parameter * torch.arange(1.0, 1 + parameter.numel()).reshape(parameter.shape)).sum().backward()
    optimizer.step()
    return parameter.detach().clone(), optimizer.state_dict()


def test_a_cropped_weight_is_trained_as_one_of_its_own() -> None:
    whole = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    alone, _ = one_step(torch.nn.Parameter(whole[:, :1].clone(memory_format=torch.contiguous_format)))
    cropped, _ = one_step(torch.nn.Parameter(whole[:, :1]))
    assert torch.allclose(cropped, alone, rtol=0, atol=1e-6)


def test_moments_are_laid_as_the_weights_they_are_loaded_for() -> None:
    weights, state = one_step(torch.nn.Parameter(torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))))
    on, _ = one_step(torch.nn.Parameter(weights.clone()), copy.deepcopy(state))
    last, _ = one_step(torch.nn.Parameter(weights.clone(memory_format=torch.channels_last)), state)
    assert torch.allclose(on, last, rtol=0, atol=1e-6)
