"""run_search: from plain loaders and a network to a genotype, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from lmsearch import __version__
from lmsearch.api.given import (
    Batches,
    Losses,
    check_apart,
    check_objective,
    checked_epochs,
    checked_seed,
    loader_of,
    objective_of,
    on_device,
    recipe_of,
)
from lmsearch.api.nets import SUPERNET, Net, copies_of, grids_of, marks, open_net
from lmsearch.api.presets import Preset, preset_of
from lmsearch.api.spaces import space_of
from lmsearch.data import SearchLoaders
from lmsearch.data.info import Samples
from lmsearch.engine.objectives import Objective
from lmsearch.engine.recipe import Goal
from lmsearch.engine.train import Precision
from lmsearch.errors import ConfigError, short
from lmsearch.genotype import Genotype, LayerChoice
from lmsearch.plain import plain_numbers
from lmsearch.scan.grids import Grid
from lmsearch.search.architects.kinds import ArchitectKind
from lmsearch.search.checks import check_search
from lmsearch.search.derivation.choice import Quota, make_genotype
from lmsearch.search.session import SearchSession
from lmsearch.search.supernet.network import layer_candidates, named_mixers
from lmsearch.search.supernet.relax import Relaxation
from lmsearch.search.trust.health import structure_findings
from lmsearch.search.trust.verdict import CONTINUE
from lmsearch.search_space import SearchSpace, resolve_keep

Keep = int | Sequence[int]


@dataclass(frozen=True)
class Supernets:
    """What is searched: how its supernets are built, on which grids their mixers run, and how many directions they keep.

    Grids and keep are in the order of the module; `net` is None for a module whose candidates are its own.
    """

    name: str
    space: str
    build: Callable[[], nn.Module]
    grids: list[Grid]
    keep: tuple[int, ...]
    net: Net | None = None

    def listed(self, choices: Sequence[LayerChoice]) -> Sequence[LayerChoice]:
        """Return the choices in the order in which the factory takes them."""
        return choices if self.net is None else self.net.listed(choices)


def run_search(
    model: str | Callable[[Sequence[Sequence[str]], str], nn.Module] | nn.Module,
    train: Batches,
    holdout: Batches,
    *,
    val: Batches | None = None,
    space: str | Path | SearchSpace | None = None,
    keep: Keep | None = None,
    objective: str | Losses | None = None,
    epochs: int = 12,
    lr: float = 3e-3,
    search: str | ArchitectKind | Relaxation = "fair",
    recheck: float = 0.25,
    seed: int = 0,
    device: str | torch.device = "auto",
    threads: int | None = None,
) -> Genotype:
    """Search the scan directions of a network's mixers and return what was chosen, and how sure that is (`.health`).

    model: a shipped name, or a factory make(directions, merge) -> nn.Module, directions being one list for each mixer. A module
    whose mixers hold candidates works too, with recheck=0 and without `space`; copies of it are trained.
    train, holdout, val: iterables of (inputs, targets), such as DataLoaders, that can be iterated again. Weights learn on
    `train`, the choice is made on `holdout`, the verdict on `val`; without `val` the status is "not tested".
    space: a shipped search space (localmamba8 by default), a file, or a SearchSpace. keep: directions that each mixer keeps.
    objective: a function (outputs, targets) -> losses (B,), or "class" (cross-entropy, the default) or "dense" (squared error).
    epochs, lr: of the supernet's training (AdamW, cosine). search: a preset of conf/search/, or an architect or a relaxation.
    recheck: share of the steps in which the two supernets of the recheck train every direction. threads: None is PyTorch's own.

    Equal arguments and equal `threads` give equal genotypes on one machine. Random numbers and threads of the caller stay as
    they are. Raises ModelError, DataError, ConfigError or SearchSpaceError, one clear line each, for what cannot be searched;
    TrainingDiverged where losses do not stay finite.
    """
    seed, epochs, recheck = checked_seed(seed), checked_epochs(epochs), plain_numbers(recheck)
    preset, judged = preset_of(search), objective_of(objective)
    if isinstance(recheck, bool) or not isinstance(recheck, int | float) or not 0 <= recheck < float("inf"):
        raise ConfigError(f"recheck={short(recheck)} is not accepted; expected a number of at least 0")
    check_apart(train=train, holdout=holdout, val=val)
    with on_device(device, threads) as where:
        loaders = loaders_of(train, holdout, val, seed=seed)
        found = supernets_of(model, space, keep, loaders, judged, preset, recheck=recheck)
        session = open_session(found, loaders, judged, preset, epochs=epochs, lr=lr, recheck=recheck, seed=seed, device=where)
        session.train()
        choices, how = session.derive()
        health = session.health(choices).plus(*structure_findings(session.supernet, choices, found.grids))
    health = replace(health, reason=health.reason.replace(CONTINUE, "" if found.net is None else "; recheck=0.25 checks it"))
    return make_genotype(
        found.listed(choices),
        derivation=how,
        model=found.name,
        search_space=found.space,
        health=health.to_dict(),
        provenance={"lmsearch": __version__, "seed": seed, "epoch": epochs},
    )


def loaders_of(train: Batches, holdout: Batches, val: Batches | None, *, seed: int) -> SearchLoaders:
    """Return the loaders of a search; alphas learn on the held-out batches, in an order of their own."""
    weights, alphas, held = (
        loader_of(batches, name=name, seed=seed)
        for name, batches in (("train", train), ("holdout", holdout), ("holdout", holdout))
    )
    return SearchLoaders(weights, alphas, held, None if val is None else loader_of(val, name="val", seed=seed))


def supernets_of(
    model: object,
    space: str | Path | SearchSpace | None,
    keep: Keep | None,
    loaders: SearchLoaders,
    objective: Objective,
    preset: Preset,
    *,
    recheck: float,
) -> Supernets:
    """Return what is searched; raise ModelError, SearchSpaceError or ConfigError where it cannot be."""
    first = next(iter(loaders.weights))
    if isinstance(model, nn.Module):
        found = own_supernet(model, space, keep, first.inputs, recheck=recheck)
    else:
        net = open_net(model, [part for part in loaders if part is not None], objective)
        found = searched_in(net, space, keep, first.inputs, deduplicate=preset.deduplicate)
    if preset.partial_channels != 1:
        raise ConfigError(
            "search='pcdarts' scans a part of the channels; build mixers with MixerOptions(partial_channels=...) for that"
        )
    check_objective(objective, found.build(), first.inputs, first.target_values)
    return found


def own_supernet(model: nn.Module, space: object, keep: Keep | None, inputs: Tensor, *, recheck: float) -> Supernets:
    """Return a module whose mixers hold candidates as what is searched."""
    if space is not None or recheck != 0:
        given = f"space={short(space)}" if space is not None else f"recheck={recheck:g}"
        raise ConfigError(f"{given} needs fresh supernets; give a factory make(directions, merge) in place of a module")
    if keep is None:
        raise ConfigError("keep is needed with a module: how many directions each of its mixers keeps")
    build = copies_of(model)
    candidates = [mixer.directions for mixer in named_mixers(model).values()]
    numbers = resolve_keep(SearchSpace("given", (), 1, tuple(candidates)), keep, len(candidates))
    return Supernets(type(model).__name__, "given", build, grids_of(build(), inputs), numbers)


def searched_in(
    net: Net, space: str | Path | SearchSpace | None, keep: Keep | None, inputs: Tensor, *, deduplicate: bool
) -> Supernets:
    """Return the supernets of a net over a search space."""
    space = space_of(space)
    depth = len(net.order)
    tried = net.make(marks(depth), SUPERNET)
    padding = next(iter(named_mixers(tried).values())).options.window_padding
    grids = grids_of(tried, inputs)
    listed = net.listed(grids)
    candidates = layer_candidates(space, listed, padding=padding, deduplicate=deduplicate)
    numbers = resolve_keep(space, keep, depth, grids=listed if deduplicate else None, padding=padding)
    build = partial(net.supernet, net.ordered(candidates))
    return Supernets(net.name, space.name, build, grids, tuple(net.ordered(numbers)), net)


def open_session(
    found: Supernets,
    loaders: SearchLoaders,
    objective: Objective,
    preset: Preset,
    *,
    epochs: int,
    lr: float,
    recheck: float,
    seed: int,
    device: torch.device,
) -> SearchSession:
    """Return the search, before its first step."""
    quota = Quota(keep=found.keep)
    counts = [len(mixer.directions) for mixer in named_mixers(found.build()).values()]
    check_search(preset.options, quota, counts, epochs=epochs, derivation=preset.derivation)
    return SearchSession(
        found.build, loaders, recipe_of(epochs, batch_size(loaders.weights), lr), preset.options, quota,
        derivation=preset.derivation, unseen=loaders.val, goal=Goal(objective), objective=objective,
        precision=Precision(device), seed=seed, recheck_share=recheck,
    )  # fmt: skip


def batch_size(loader: Samples) -> int:
    """Return the number of samples of the first batch."""
    return len(next(iter(loader)).inputs)
