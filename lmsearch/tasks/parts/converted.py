"""What `lmsearch convert` writes of a supernet: its weights and, where they are known, the words of its search."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from lmsearch.engine.checkpoint import ModelSpec, load_checkpoint, save_checkpoint, weights_file
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.stored import check_entries
from lmsearch.errors import CheckpointError, short
from lmsearch.search.supernet.relax import RELAXATIONS
from lmsearch.search_space import load_search_space
from lmsearch.tasks.parts.samples import SAMPLES

SEARCH = "search"  # what our description of a supernet tells of the search that trained it, for `lmsearch derive`
TOLD = (
    "search_space", "seed", "keep", "budget", "holdout", "relaxation", "temperature", "architect", "derivation", "metric",
    "epoch", SAMPLES,
)  # fmt: skip
POLICY, DOMINANT = "policy", "dominant"  # where a search keeps the direction that it found to do all the work
CANDIDATES = "localmamba8"  # the search space of the released supernets
KEPT = 4  # directions per layer of the released networks


def search_of(source: Path) -> dict[str, Any]:
    """Return what the checkpoint of a search tells besides its supernet; nothing where there is no checkpoint."""
    file = weights_file(source)
    if file.suffix == ".safetensors":
        return {}
    state = load_checkpoint(file)
    told = {name: state[name] for name in TOLD if state.get(name) is not None}
    if found := state.get(POLICY, {}).get(DOMINANT):
        told[POLICY] = {DOMINANT: found}
    return {SEARCH: told} if told else {}


def told_search(description: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """Return what our description of a supernet tells of its search; raise CheckpointError where that is of another kind.

    Files of before tell nothing.
    """
    told = description.get(SEARCH, {})
    if not isinstance(told, dict) or not isinstance(policy := told.get(POLICY, {}), dict):
        raise CheckpointError(f"{source}: {SEARCH} {short(told)} is not what a description of a supernet holds")
    check_entries(told, source=source)
    known = {name: told[name] for name in TOLD if told.get(name) is not None}
    return known | ({POLICY: {DOMINANT: str(policy[DOMINANT])}} if policy.get(DOMINANT) else {})


def write_supernet(out: RunDir, spec: ModelSpec, weights: dict[str, Tensor], told: Mapping[str, Any]) -> None:
    """Write a checkpoint.pt that `lmsearch derive` takes, with what is `told` of the search."""
    depth, space = len(spec.directions), load_search_space(CANDIDATES)
    state = {"spec": asdict(spec), "model": weights, "epoch": 0}
    if not told and spec.directions == space.layer_candidates(depth):
        state |= {"search_space": space.name, "keep": [KEPT] * depth}
    state |= told
    save_checkpoint(out, state)
    print(f"{spec.name}: a supernet of {depth} layers: {out / 'checkpoint.pt'}")
    if "architect" not in state and (how := RELAXATIONS.get(str(state.get("relaxation")))) is not None and not how.learns:
        print("note: weights of a discrete search or a recheck, which learned no alphas, so nothing can be derived from them")
        return
    keep = "" if {"keep", "budget"} & state.keys() else " keep=..."
    print(f"next: lmsearch derive {shlex.quote(f'checkpoint={out}')}{keep}")
