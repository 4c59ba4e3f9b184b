"""What a step costs under the ways of a search: all branches, sampled, trained fairly, after shrinking, of 16 candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lmsearch.bench.workloads import NARROW_WINDOWS, SupernetShape, step_of, supernet
from lmsearch.search.architects.fair import Fair
from lmsearch.search.architects.learning import Frozen, Timing
from lmsearch.search.supernet.network import named_mixers
from lmsearch.search.supernet.policy import BranchPolicy, Shrink
from lmsearch.search.supernet.relax import RELAXATIONS
from lmsearch.search_space import load_search_space

FULL = "8 candidates, all run"
SAMPLED = "8 candidates, 4 sampled (search=sampled)"
STAGES = (Shrink(0.3, 6), Shrink(0.5, 4), Shrink(0.75, 2))  # of search=shrink, which samples KEEP of what is left
KEEP = 4
KEEPS = (4, 2)  # of which the cost of shrinking is told


@dataclass(frozen=True)
class Way:
    """Candidates of every layer, the relaxation, branches per step where it samples, and branches left by shrinking.

    `passes`: of a step of fair training, each of KEEP branches; None: one pass as the relaxation says.
    """

    directions: Sequence[str]
    relaxation: str
    samples: int = KEEP
    left: int | None = None
    passes: int | None = None


def ways() -> dict[str, Way]:
    """Return every way under its name, the one that the others are compared with first."""
    sixteen = load_search_space("extended16").candidates
    return {
        FULL: Way(NARROW_WINDOWS, "softmax"),
        SAMPLED: Way(NARROW_WINDOWS, "sampled"),
        "8 candidates, 2 passes of 4 (search=fair)": Way(NARROW_WINDOWS, "uniform", passes=2),
        "8 candidates, 4 sampled, straight through": Way(NARROW_WINDOWS, "gumbel"),
        "8 candidates, 6 left": Way(NARROW_WINDOWS, "softmax", left=6),
        "8 candidates, 4 left": Way(NARROW_WINDOWS, "softmax", left=4),
        "8 candidates, 2 left": Way(NARROW_WINDOWS, "softmax", left=2),
        "16 candidates, all run": Way(sixteen, "softmax"),
        "16 candidates, 8 sampled": Way(sixteen, "sampled", samples=8),
        "16 candidates, 4 sampled": Way(sixteen, "sampled"),
        "16 candidates, 2 passes of 4 (search=fair search.passes=2)": Way(sixteen, "uniform", passes=2),
    }


def policy_step(way: Way, shape: SupernetShape, *, seed: int, device: str) -> Callable[[], Tensor]:
    """Return one training step of a supernet under the policy of `way`; every call draws other branches."""
    model = supernet(shape, way.directions, seed=seed, device=device)
    for mixer in named_mixers(model).values() if way.left is not None else ():
        with torch.no_grad():
            mixer.supernet_alphas[way.left :] = -torch.inf
    layers = (KEEP,) * shape.depth
    policy = BranchPolicy(model, RELAXATIONS[way.relaxation], (way.samples,) * shape.depth, layers, seed)
    timing = Timing(steps_per_epoch=2**31, epochs=1)  # as many steps as may be asked for, all at the start of a search
    hook = Frozen(policy, timing)
    if way.passes is not None:
        hook = Fair(policy, timing, way.passes)
    step = step_of(model, shape, device=device, hook=hook)

    def run() -> Tensor:
        with policy.attached():
            return step()

    return run


def shrinking_cost(times: dict[str, float], keep: int) -> float:
    """Return the mean cost of a step over search=shrink with this `keep`, from the cost of its stages relative to FULL."""
    total, before, now = 0.0, 0.0, times[SAMPLED]
    for stage in STAGES:
        total, before = total + (stage.progress - before) * now, stage.progress
        left = max(stage.branches, keep)
        now = times[SAMPLED] if left > KEEP else times[f"8 candidates, {left} left"]
    return total + (1 - before) * now
