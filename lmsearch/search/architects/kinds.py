"""The architects by name: how each is built and, in its record, what checks, costs and the verdict must know of it.

keep[l] of candidates[l] directions stay in layer l.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lmsearch.data.info import Loader
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.objectives import Objective
from lmsearch.engine.train import Precision, StepHook
from lmsearch.errors import ConfigError, did_you_mean
from lmsearch.search.architects.fair import Fair, passes_per_round
from lmsearch.search.architects.learning import Bilevel, Frozen, Mixed, SingleLevel, Timing
from lmsearch.search.contract import check_contract
from lmsearch.search.supernet.policy import BranchPolicy, Schedule

PASSES_OF_ORDER = {1: 2, 2: 5}  # order 2: the look-ahead step, the held-out gradient at it, and two finite differences


@dataclass(frozen=True)
class Parts:
    """What an architect works on; `loader` gives held-out batches, `optimizer` moves alphas, `decay` is their weight decay.

    The processes of `world` share all batches. `follows_lr`: alphas take the weights' learning rate of each step.
    """

    policy: BranchPolicy
    timing: Timing
    loader: Loader
    objective: Objective
    optimizer: torch.optim.Optimizer
    precision: Precision
    decay: Schedule = Schedule(0.0, 0.0)
    world: World = SINGLE
    follows_lr: bool = False


@dataclass(frozen=True)
class Knobs:
    """What single architects can be told besides, under the names of conf/search/; each has its plain value by default."""

    order: int = 1  # of bilevel: 1 or 2
    mixed_weight: float = 1.0  # of mixed: weight of the held-out gradient
    passes: int | None = None  # of fair, per step; None: as many as give every branch its turn

    def __post_init__(self) -> None:
        if self.order not in PASSES_OF_ORDER:
            raise ConfigError(f"search.order={self.order!r} is not accepted; accepted: {', '.join(map(str, PASSES_OF_ORDER))}")


@dataclass(frozen=True)
class ArchitectKind:
    """One way in which alphas learn, or do not.

    build(parts, knobs) returns the hook of the training step.
    passes(knobs, keep, candidates) counts the training passes of one step in which alphas may move.
    """

    name: str
    build: Callable[[Parts, Knobs], StepHook]
    passes: Callable[[Knobs, Sequence[int], Sequence[int]], int]
    takes: tuple[str, ...]  # the knobs that concern it
    learns: bool  # False: alphas never move, so they say nothing
    uses_holdout: bool  # True: held-out samples decide on alphas, so the verdict needs others
    fp16: bool  # False: its gradients are not scaled, so they would underflow


def common(parts: Parts) -> tuple[BranchPolicy, Timing, torch.optim.Optimizer, Precision, Schedule, bool]:
    """Return what every architect works on whose alphas learn."""
    return parts.policy, parts.timing, parts.optimizer, parts.precision, parts.decay, parts.follows_lr


def on_holdout(parts: Parts) -> dict[str, Any]:
    """Return what architects work on besides that read held-out batches."""
    return {"module": parts.policy.module, "loader": parts.loader, "objective": parts.objective, "world": parts.world}


def build_single(parts: Parts, knobs: Knobs) -> StepHook:
    """Return the architect that moves alphas on the weights' own batches."""
    return SingleLevel(*common(parts))


def build_bilevel(parts: Parts, knobs: Knobs) -> StepHook:
    """Return the architect that moves alphas on held-out batches."""
    return Bilevel(*common(parts), **on_holdout(parts), order=knobs.order)


def build_mixed(parts: Parts, knobs: Knobs) -> StepHook:
    """Return the architect that moves alphas on both."""
    return Mixed(*common(parts), **on_holdout(parts), weight=knobs.mixed_weight)


def build_fair(parts: Parts, knobs: Knobs) -> StepHook:
    """Return the architect that trains all branches alike and leaves alphas alone, as long as the policy does not follow them."""
    return Fair(parts.policy, parts.timing, knobs.passes, SingleLevel(*common(parts)))


def fair_passes(knobs: Knobs, keep: Sequence[int], candidates: Sequence[int]) -> int:
    """Return the passes of one fair step; raise ConfigError for more than give every branch its turn."""
    whole = passes_per_round(keep, candidates)
    if knobs.passes is not None and knobs.passes > whole:
        raise ConfigError(f"search.passes={knobs.passes}: {whole} give every branch its turn; accepted: 1 to {whole}")
    return knobs.passes or whole


ARCHITECTS = {
    kind.name: kind
    for kind in (
        ArchitectKind(
            "single", build_single, lambda *_: 1, takes=(), learns=True, uses_holdout=False, fp16=True,
        ),
        ArchitectKind(
            "bilevel", build_bilevel, lambda knobs, *_: PASSES_OF_ORDER[knobs.order], takes=("order",),
            learns=True, uses_holdout=True, fp16=False,
        ),
        ArchitectKind(
            "mixed", build_mixed, lambda *_: 2, takes=("mixed_weight",), learns=True, uses_holdout=True, fp16=False,
        ),
        ArchitectKind(
            "fair", build_fair, fair_passes, takes=("passes",), learns=False, uses_holdout=False, fp16=True,
        ),
    )
}  # fmt: skip


PATHS = ArchitectKind(  # no choice of its own: shared weights, for rechecks and discrete searches
    "single path", lambda parts, _: Frozen(parts.policy, parts.timing), lambda *_: 1, takes=(), learns=False,
    uses_holdout=False, fp16=True,
)  # fmt: skip


def architect_kind(given: str | ArchitectKind) -> ArchitectKind:
    """Return the architect of a name, or the given one itself; raise ConfigError for any other text."""
    if not isinstance(given, str):
        return given
    if given not in ARCHITECTS:
        raise ConfigError(f"search.architect={given!r} is not accepted{did_you_mean(given, ARCHITECTS)}")
    return ARCHITECTS[given]


def check_architect(kind: object) -> None:
    """Raise ConfigError unless an architect says all that checks, costs and the verdict must know of it."""
    check_contract(
        kind,
        what="architect",
        texts=("name",),
        functions=("build", "passes"),
        lists=("takes",),
        switches=("learns", "uses_holdout", "fp16"),
    )


def check_hook(hook: StepHook, kind: ArchitectKind) -> None:
    """Raise ConfigError unless what an architect builds can act inside a training step (engine.train.StepHook)."""
    methods = ("before_step", "passes_of_step", "begin_pass", "after_backward")
    check_contract(hook, what=f"step hook, which architect {kind.name} should build", functions=methods)
