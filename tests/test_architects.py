"""Contracts that every architect keeps: what its record says is what it does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields

import pytest
import torch
from torch import Tensor, nn

from lmsearch.data import Batch
from lmsearch.engine.objectives import Scores, objective_for
from lmsearch.engine.train import Precision, Trainer, train_one_epoch
from lmsearch.errors import ConfigError
from lmsearch.models import create_model
from lmsearch.search.architects.kinds import ARCHITECTS, ArchitectKind
from lmsearch.search.architects.learning import Timing
from lmsearch.search.supernet.network import arch_parameters, weight_parameters
from lmsearch.search.supernet.options import SearchOptions
from lmsearch.settings.catalogue import declared_anywhere

EPOCHS, STEPS, KEEP, CANDIDATES = 2, 3, (2, 2), ("h", "v", "w2", "h_flip")
COUNTS = (len(CANDIDATES),) * len(KEEP)
PLAIN = {"order": 1, "mixed_weight": 1.0, "passes": None}
OTHER = {"order": 2, "mixed_weight": 0.5, "passes": 1}
every_architect = pytest.mark.parametrize("kind", ARCHITECTS.values(), ids=ARCHITECTS)


def options(kind: ArchitectKind, **changed: object) -> SearchOptions:
    plain = {
        "relaxation": "softmax" if kind.learns else "uniform", "update": "adam", "architect": kind.name, "alpha_lr": 0.1,
        "alpha_betas": (0.5, 0.999), "alpha_weight_decay": 0.0, "alpha_weight_decay_end": None, "alpha_warmup_epochs": 0,
        "temperature": 1.0, "temperature_end": None, "samples": None, "shrink": [],
    }  # fmt: skip
    return SearchOptions(**plain | PLAIN | changed)


@dataclass
class Loader:
    """Batches that depend on the epoch, with a record of what was asked for."""

    size: int
    epoch: int = 0
    start: int = 0
    asked: list[int] = field(default_factory=list)
    given: list[tuple[int, int]] = field(default_factory=list)  # (epoch, batch)

    def set_epoch(self, epoch: int, *, start_batch: int = 0) -> None:
        self.epoch, self.start = epoch, start_batch

    def __len__(self) -> int:
        return self.size

    def __iter__(self):
        for number in range(self.start, self.size):
            self.asked.append(self.epoch)
            self.given.append((self.epoch, number))
            g = torch.Generator().manual_seed(100 * self.epoch + number)
            yield Batch(torch.randn(2, 1, 4, 4, generator=g), torch.randint(2, (2,), generator=g), torch.arange(2))


@dataclass
class Run:
    """A small search: supernet, what trains it, and the loaders of the weights and of the alphas."""

    kind: ArchitectKind
    knobs: dict = field(default_factory=dict)
    weights: Loader = field(default_factory=lambda: Loader(STEPS))
    held_out: Loader = field(default_factory=lambda: Loader(2))  # shorter than an epoch, so it starts over
    forwards: int = 0

    def __post_init__(self) -> None:
        torch.manual_seed(3)
        model = create_model(
            "local_vim_nano", img_size=4, num_classes=2, embed_dim=8, depth=2, d_state=2, directions=CANDIDATES, merge="weighted",
        )  # fmt: skip
        model.register_forward_hook(lambda *_: setattr(self, "forwards", self.forwards + 1))
        objective, cpu, mine = objective_for("class"), Precision(torch.device("cpu")), options(self.kind, **self.knobs)
        self.policy = mine.policy(model, KEEP, COUNTS, seed=5)
        architect, self.alphas = mine.build(self.policy, Timing(STEPS, EPOCHS), self.held_out, objective, cpu)
        optimizer = torch.optim.AdamW([p for _, p in weight_parameters(model)])
        self.trainer = Trainer(model, optimizer, objective, lambda _: 0.05, cpu, seed=5, hook=architect)

    @property
    def parts(self) -> tuple:
        """What a checkpoint keeps."""
        return self.trainer.model, self.trainer.optimizer, self.alphas

    def train(self, *epochs: int, first_step: int = 0, stop: int = STEPS) -> None:
        """Train some epochs; of the first from a step on, and of the last up to one."""
        with self.policy.attached():
            for epoch in epochs:
                first, last = first_step if epoch == epochs[0] else 0, stop if epoch == epochs[-1] else STEPS
                with suppress(Stopped):
                    train_one_epoch(self.trainer, self.weights, epoch=epoch, on_step=stopping(last), first_step=first)

    def continued(self) -> Run:
        """A new run from what a checkpoint of this one keeps."""
        other = Run(self.kind, self.knobs)
        for mine, its in zip(self.parts, other.parts, strict=True):
            its.load_state_dict(copy.deepcopy(mine.state_dict()))
        return other


class Stopped(Exception):
    """A run was interrupted."""


def stopping(before: int) -> Callable[[int, Scores], None]:
    """Return what interrupts an epoch before a step."""

    def look(step: int, scores: Scores) -> None:
        if step + 1 == before < STEPS:
            raise Stopped

    return look


def alphas_of(model: nn.Module) -> Tensor:
    return torch.cat([alpha.detach().clone() for alpha in arch_parameters(model)])


@every_architect
def test_alphas_move_and_held_out_batches_are_read_only_as_the_record_says(kind: ArchitectKind) -> None:
    run = Run(kind)
    start = alphas_of(run.trainer.model)
    run.train(0)
    assert torch.equal(alphas_of(run.trainer.model), start) is not kind.learns
    assert bool(run.held_out.asked) is kind.uses_holdout
    assert run.weights.asked == [0] * STEPS


@every_architect
@pytest.mark.parametrize("changed", [False, True])
def test_a_step_takes_as_many_passes_as_the_record_counts(kind: ArchitectKind, changed: bool) -> None:
    knobs = {name: OTHER[name] for name in kind.takes if changed}
    run = Run(kind, knobs)
    run.train(0)
    assert run.forwards == STEPS * kind.passes(options(kind, **knobs).knobs, KEEP, COUNTS)


@every_architect
def test_a_search_goes_on_from_its_checkpoint_as_if_never_stopped(kind: ArchitectKind) -> None:
    whole, first = Run(kind), Run(kind)
    whole.train(0, 1)
    first.train(0)
    second = first.continued()
    second.train(1)
    for name, value in whole.trainer.model.state_dict().items():
        assert torch.equal(value, second.trainer.model.state_dict()[name]), name


@every_architect
@pytest.mark.parametrize("step", range(1, STEPS))
def test_a_search_goes_on_inside_an_epoch_as_if_never_stopped(kind: ArchitectKind, step: int) -> None:
    whole, first = Run(kind), Run(kind)
    whole.train(0, 1)
    first.train(0, 1, stop=step)
    second = first.continued()
    second.train(1, first_step=step)
    for name, value in whole.trainer.model.state_dict().items():
        assert torch.equal(value, second.trainer.model.state_dict()[name]), name


@pytest.mark.parametrize("kind", [kind for kind in ARCHITECTS.values() if kind.uses_holdout], ids=lambda kind: kind.name)
def test_held_out_batches_follow_from_epoch_and_step(kind: ArchitectKind) -> None:
    run = Run(kind, held_out=Loader(2))
    hook, steps = run.trainer.hook, [(1, 3), (0, 0), (0, 1), (0, 2), (1, 2), (1, 3), (0, 1), (0, 1)]
    taken = [(epoch, step, hook.held_batch(epoch, step).inputs) for epoch, step in steps]
    assert run.held_out.given == [(1001, 1), (0, 0), (0, 1), (1, 0), (1001, 0), (1001, 1), (0, 1), (0, 1)]
    for epoch, step, inputs in taken:
        assert torch.equal(Run(kind).trainer.hook.held_batch(epoch, step).inputs, inputs)


def test_a_held_out_batch_that_is_not_given_is_made_up_for_by_the_next_one() -> None:
    class Broken(Loader):
        def __iter__(self):
            return iter(list(super().__iter__())[:-1])

    hook = Run(ARCHITECTS["bilevel"], held_out=(broken := Broken(2))).trainer.hook
    for step in range(4):
        hook.held_batch(0, step)
    assert [turn for turn, number in broken.given if number == 0] == [0, 1, 1, 2], "turns of two batches, the second left out"


@every_architect
@pytest.mark.parametrize("knob", PLAIN)
def test_an_architect_is_told_only_what_concerns_it(kind: ArchitectKind, knob: str) -> None:
    if knob in kind.takes:
        assert getattr(options(kind, **{knob: OTHER[knob]}).knobs, knob) == OTHER[knob]
        return
    with pytest.raises(ConfigError, match=f"search.{knob}={OTHER[knob]}"):
        options(kind, **{knob: OTHER[knob]})


@every_architect
def test_the_relaxation_must_suit_the_architect(kind: ArchitectKind) -> None:
    with pytest.raises(ConfigError, match="only go together"):
        options(kind, relaxation="uniform" if kind.learns else "softmax")


def test_no_architect_can_forget_what_the_verdict_must_know_of_it() -> None:
    assert [f.name for f in fields(ArchitectKind) if f.default is not MISSING or f.default_factory is not MISSING] == []


def test_the_configuration_accepts_every_architect() -> None:
    assert [*declared_anywhere()["search.architect"].words] == [*ARCHITECTS]
