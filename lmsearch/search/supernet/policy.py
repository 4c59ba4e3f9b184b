"""The branch policy: which branches every mixer of a supernet runs in each training step, and with what weights.

A relaxation says how; schedules say at what temperature and how many branches are left. A dropped branch is an alpha at
minus infinity: its probability is 0 everywhere, checkpoints need no other record of it, and no step computes it again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lmsearch.engine.devices import sent
from lmsearch.engine.randomness import generator
from lmsearch.errors import ConfigError
from lmsearch.models import DirectionalMixer
from lmsearch.search.supernet.network import Branches, alive, named_mixers
from lmsearch.search.supernet.relax import RELAXATIONS, Picked, Relaxation, at_temperature, chosen

FOLLOWED = "softmax"  # the relaxation of alphas that learn once a direction dominates
Args = tuple[Any, ...]  # of a forward pass
Options = dict[str, Any]
Call = tuple[Args, Options]
Address = tuple[int | str, ...]  # of a random draw


@dataclass(frozen=True)
class Schedule:
    """A value over a search: geometric from `start` to `end`, or linear where one of them is 0. progress is in [0, 1]."""

    start: float
    end: float

    def __call__(self, progress: float) -> float:
        progress = min(max(progress, 0.0), 1.0)
        if self.start <= 0 or self.end <= 0:
            return self.start + (self.end - self.start) * progress
        return math.exp(math.log(self.start) + (math.log(self.end) - math.log(self.start)) * progress)


@dataclass(frozen=True)
class Shrink:
    """One stage of progressive shrinking: from `progress` in (0, 1) of the search on, layers hold at most `branches`."""

    progress: float
    branches: int


def read_shrink(stages: Sequence[Sequence[float]]) -> tuple[Shrink, ...]:
    """Read search.shrink, [[progress, branches], ...]; raise ConfigError unless progress rises and branches fall."""
    where = f"search.shrink={[list(s) if isinstance(s, Sequence) else s for s in stages]} is not accepted"
    expected = "expected [[progress, branches], ...] such as [[0.1,6],[0.2,4]]"
    read = []
    for stage in stages:
        if not isinstance(stage, Sequence) or isinstance(stage, str) or len(stage) != 2:
            raise ConfigError(f"{where}; {expected}")
        progress, branches = stage
        if not isinstance(branches, int) or branches < 1 or not isinstance(progress, int | float) or not 0 < progress < 1:
            raise ConfigError(f"{where}: progress lies between 0 and 1, branches are at least 1; {expected}")
        read.append(Shrink(float(progress), branches))
    for one, other in zip(read, read[1:], strict=False):
        if other.progress <= one.progress or other.branches >= one.branches:
            raise ConfigError(f"{where}: progress must rise and branches must fall from stage to stage")
    return tuple(read)


@dataclass(frozen=True)
class Draw:
    """What one layer runs in one step: the branches that are left, which of them are picked (positions in `left`), noise."""

    left: tuple[int, ...]
    picked: Picked
    noise: Tensor | None


@dataclass(frozen=True)
class Looked:
    """The branches of a layer that were left when its alphas were looked at, and how often these had been written to then."""

    alphas: Tensor
    version: int
    left: tuple[int, ...]


@dataclass
class BranchPolicy:
    """What every mixer runs. `samples` are the branches per step of a sampling relaxation, one number per layer.

    `keep` is how many directions each layer will keep: shrinking never goes below it. `dominant` is the direction that was
    found to do all the work: since then alphas weigh the branches.
    """

    module: nn.Module
    relaxation: Relaxation
    samples: Sequence[int]
    keep: Sequence[int]
    seed: int
    temperature: Schedule = Schedule(1.0, 1.0)
    shrink: tuple[Shrink, ...] = ()
    now: float = field(default=1.0, init=False)  # temperature of this step
    draws: dict[str, Draw] = field(default_factory=dict, init=False)  # of this step, per layer
    looked: dict[str, Looked] = field(default_factory=dict, init=False)  # what was left in each layer
    dominant: str = field(default="", init=False)
    begun: Relaxation = field(init=False)  # the relaxation as long as no direction was found to dominate

    def __post_init__(self) -> None:
        self.begun = self.relaxation

    def state_dict(self) -> dict[str, Any]:
        """Return what the last step drew, which is what evaluation of supernets without alphas runs, and who dominates."""
        draws = {layer: vars(draw) for layer, draw in self.draws.items()}
        return {"now": self.now, "draws": draws, "dominant": self.dominant}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.now, self.draws = state["now"], {layer: Draw(**values) for layer, values in state["draws"].items()}
        self.dominant, self.relaxation = "", self.begun
        if found := state.get("dominant", ""):  # searches that began before there was such a test have none
            self.follow_alphas(found)

    def follow_alphas(self, dominant: str) -> None:
        """Let alphas weigh all branches from now on, since one direction does all the work."""
        self.dominant, self.relaxation = dominant, RELAXATIONS[FOLLOWED]

    def begin_step(self, *, epoch: int, step: int, progress: float) -> None:
        """Draw what this step runs; the draw is keyed by (seed, epoch, step, layer). Call it before every training step."""
        self.now = self.temperature(progress)
        mixers = named_mixers(self.module)
        stacked = torch.cat([m.supernet_alphas.detach().float() for m in mixers.values()]).cpu()  # one wait for the device
        listed = stacked.split([len(m.directions) for m in mixers.values()])
        for alphas, samples, (layer, mixer) in zip(listed, self.samples, mixers.items(), strict=True):
            left = alive(alphas)
            self.looked[layer] = Looked(mixer.supernet_alphas, mixer.supernet_alphas._version, left)
            self.draws[layer] = self._draw(alphas[list(left)], left, samples, mixer, (epoch, step, layer))

    def _draw(self, alphas: Tensor, left: tuple[int, ...], samples: int, mixer: DirectionalMixer, address: Address) -> Draw:
        """Draw one layer's noise and branches; alphas (A,) are those of the branches `left`, on the CPU."""
        how, everything = self.relaxation, tuple(range(len(left)))
        if how.noise is None:
            return Draw(left, everything, None)
        noise = how.noise(len(left), generator(self.seed, "branches", *address))
        if how.pick is None:
            return Draw(left, everything, noise)
        own = mixer.supernet_alphas
        return Draw(left, how.pick(alphas, noise, min(samples, len(left))), sent(noise.to(own.dtype), own.device))

    def left(self, layer: str, alphas: Tensor) -> tuple[int, ...]:
        """Return the branches of a layer that are left; alphas are looked at again where they were written to.

        What a fused optimizer writes does not show there; it drops no branch.
        """
        known = self.looked.get(layer)
        if known is None or known.alphas is not alphas or known.version != alphas._version:
            known = self.looked[layer] = Looked(alphas, alphas._version, alive(alphas))
        return known.left

    def branches(self, layer: str, mixer: DirectionalMixer) -> dict[str, object]:
        """Return the mixer's arguments: its part of this step in training, the expected mixture in evaluation."""
        own = mixer.supernet_alphas
        wide = torch.promote_types(own.dtype, torch.float32)
        if not mixer.training:
            left, how = self.left(layer, own), at_temperature(self.relaxation, self.now)
            return {"active": left, "weights": how.probabilities(chosen(own, left).to(wide))}
        draw = self.draws[layer]
        alphas = chosen(own, draw.left).to(wide)
        weights = self.relaxation.weights(alphas, draw.noise, draw.picked, self.now)
        return {"active": tuple(draw.left[i] for i in draw.picked), "weights": weights}

    def last(self) -> dict[str, Branches]:
        """Return the branches of the last step, equally weighted."""
        found = {}
        for layer, mixer in named_mixers(self.module).items():
            draw = self.draws[layer]
            active = tuple(draw.left[i] for i in draw.picked)
            found[layer] = Branches(active, mixer.supernet_alphas.new_full((len(active),), 1 / len(active)))
        return found

    @contextmanager
    def attached(self) -> Iterator[BranchPolicy]:
        """Within this context the supernet runs what the policy says; `running` inside it overrules the policy."""
        with ExitStack() as stack:
            for layer, mixer in named_mixers(self.module).items():

                def steer(_: nn.Module, args: Args, kwargs: Options, layer: str = layer, own: DirectionalMixer = mixer) -> Call:
                    return args, kwargs | self.branches(layer, own)

                stack.callback(mixer.register_forward_pre_hook(steer, with_kwargs=True).remove)
            yield self

    def penalty(self) -> Tensor | None:
        """Return what the relaxation adds to the alphas' loss, the mean over layers; None: nothing."""
        penalty = self.relaxation.penalty
        if penalty is None:
            return None
        alphas = {layer: mixer.supernet_alphas for layer, mixer in named_mixers(self.module).items()}
        return torch.stack([penalty(chosen(a, self.left(layer, a))) for layer, a in alphas.items()]).mean()

    def end_epoch(self, progress: float) -> dict[str, tuple[str, ...]]:
        """Drop the least probable branches where a stage of shrinking has come; return the dropped ones per layer."""
        due = [stage.branches for stage in self.shrink if progress >= stage.progress]
        dropped = {}
        for (layer, mixer), keep in zip(named_mixers(self.module).items(), self.keep, strict=True):
            left = alive(mixer.supernet_alphas)
            if due and len(left) > (goal := max(due[-1], keep)):
                dropped[layer] = tuple(mixer.directions[k] for k in drop(mixer, self.relaxation, goal))
        return dropped


@torch.no_grad()
def drop(mixer: DirectionalMixer, relaxation: Relaxation, goal: int) -> tuple[int, ...]:
    """Leave the `goal` most probable branches alive (of equal ones the earlier) and return the dropped ones' indices."""
    alphas = mixer.supernet_alphas
    left = alive(alphas)
    ranked = torch.argsort(relaxation.probabilities(alphas[list(left)].double()), descending=True, stable=True)
    gone = tuple(sorted(left[i] for i in ranked[goal:].tolist()))
    alphas[list(gone)] = -torch.inf
    return gone
