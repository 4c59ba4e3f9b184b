"""lmsearch derive: derive a genotype again from the checkpoint of a search, or one from the genotypes of several seeds."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from lmsearch import __version__
from lmsearch.config import settings_of
from lmsearch.data import search_loaders
from lmsearch.engine.checkpoint import ModelSpec, load_checkpoint, load_model
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.stored import needed
from lmsearch.errors import CheckpointError, ConfigError, GenotypeError, SearchSpaceError
from lmsearch.genotype import FILE, dumps, load_genotype
from lmsearch.reading import user_path
from lmsearch.report.directions import genotype_figure
from lmsearch.run_identity import config_digest
from lmsearch.search.derivation.choice import Probabilities, Quota, choose, quota_of
from lmsearch.search.derivation.kinds import DERIVATIONS, by_alphas, derivation_kind, derive, told_of, unseen_part
from lmsearch.search.supernet.kept import keeping_scores
from lmsearch.search.supernet.network import layer_probabilities
from lmsearch.search.supernet.policy import FOLLOWED
from lmsearch.search.supernet.relax import Relaxation, at_temperature, relaxation
from lmsearch.search.trained import Trained
from lmsearch.search.trust.consensus import check_alike, common_quota
from lmsearch.search.trust.health import alpha_health
from lmsearch.settings.tasks import Derive
from lmsearch.tasks.parts.build import build_objective, build_precision
from lmsearch.tasks.parts.conclude import About, conclude, conclude_seeds, scores_of, show
from lmsearch.tasks.parts.facts import CONFIG, Facts, read_facts, unlike
from lmsearch.tasks.parts.known import as_plain
from lmsearch.tasks.parts.readers import settle_readers
from lmsearch.tasks.parts.recheck import stored_supernets
from lmsearch.tasks.parts.run_dir import Claim, config_text, open_run_dir, refuse_foreign
from lmsearch.tasks.parts.samples import check_held_out
from lmsearch.tasks.parts.trained import PER_STEP, images_per_step, own_source
from lmsearch.words import first_of

SHOWN = 3  # differing keys in a message
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stored:
    """What the checkpoint of a search tells, and how directions are chosen from it."""

    path: Path
    state: dict[str, Any]
    spec: ModelSpec
    relaxation: Relaxation  # of the end of the search
    scores: Probabilities
    quota: Quota
    derivation: str

    @property
    def about(self) -> About:
        """What genotype.json says of the search."""
        provenance = {"lmsearch": __version__, "epoch": self.state["epoch"]}
        known = (("run_sha256", "digest"), ("seed", "seed"))
        provenance |= {name: self.state[key] for name, key in known if key in self.state}
        folder = self.path if self.path.is_dir() else self.path.parent
        return About(self.spec.name, self.state.get("search_space", "unknown"), provenance, folder, self.state.get("metric"))

    @property
    def seed(self) -> int:
        """Seed of the search."""
        return self.state.get("seed", 0)


def run(cfg: DictConfig) -> int:
    """Write genotype.json and its figure, from a checkpoint or as a consensus."""
    settings = settings_of(Derive, cfg)
    checkpoint, genotypes = settings.checkpoint, settings.genotypes
    without_images = settings.changed({"batch_size": settings.batch_size or PER_STEP})  # as what was derived before claims it
    if checkpoint is None and genotypes is not None:
        return from_genotypes(without_images, genotypes)
    if checkpoint is None or genotypes is not None:
        raise ConfigError("lmsearch derive needs one of checkpoint=... and genotypes=[...]; see lmsearch derive --help")
    stored = read_search(settings, Path(checkpoint))
    if derivation_kind(stored.derivation).uses_holdout or settings.health:
        return with_data(settings, stored)
    return from_alphas(without_images, stored)


def read_search(settings: Derive, path: Path) -> Stored:
    """Return what the checkpoint of a search tells; raise where what is asked for cannot be derived from it."""
    state = load_checkpoint(path)
    spec = ModelSpec.from_dict(state.get("spec"), source=str(path))
    # checkpoints of version 0.1.0 without a relaxation hold softmax alphas
    dominant = dominant_in(state)
    named = FOLLOWED if dominant else state.get("relaxation", "softmax")
    relaxed = at_temperature(relaxation(named), state.get("temperature", 1.0))
    if not relaxed.learns and "architect" not in state:
        raise CheckpointError(
            f"{path}: shared weights, which learned no alphas, of a discrete search or a recheck; genotype.json is beside them"
        )
    weights = needed(state, "model", source=str(path))
    scores = checkpoint_probabilities(spec, weights, relaxed, source=str(path))
    keep = state.get("keep")
    quota = quota_asked(settings, Quota(None if keep is None else tuple(keep), state.get("budget")), depth=len(scores))
    derivation = settings.derivation or by_alphas(state.get("derivation", "topk"), dominant)
    kind = derivation_kind(derivation)
    if not kind.takes_budget and quota.budget is not None:
        raise ConfigError(
            f"budget={quota.budget} with derivation={derivation}, which takes keep; derivation=perturbation takes budgets"
        )
    choose(scores, quota_of(quota, scores))  # a quota that does not fit is found before anything is written
    needed(state, "epoch", source=str(path))
    if not relaxed.learns and kind.needs_alphas:
        accepted = ", ".join(sorted(other.name for other in DERIVATIONS.values() if not other.needs_alphas))
        raise ConfigError(f"derivation={derivation}: {path} learned no alphas, so none is more probable; accepted: {accepted}")
    return Stored(path, state, spec, relaxed, scores, quota, derivation)


def dominant_in(state: Mapping[str, Any]) -> str:
    """Return the direction that a search found to do all the work, so that alphas learned and decide; "" for none."""
    return str(state.get("policy", {}).get("dominant", ""))


def from_alphas(settings: Derive, stored: Stored) -> int:
    """Derive from the alphas alone."""
    choices, how = derive(stored.derivation, stored.scores, stored.quota, seed=stored.seed)
    reason = "derived from alphas alone, without held-out data; health=true tests them"
    genotype = stored.about.genotype(choices, told_of(how, dominant_in(stored.state)), alpha_health(choices, reason=reason))
    with output(settings, stored) as run_dir:
        run_dir.write(FILE, dumps(genotype))
        run_dir.write_figure("genotype.png", lambda: genotype_figure(genotype, scores=scores_of(genotype)))
        show(run_dir, genotype)
    return 0


def with_data(settings: Derive, stored: Stored) -> int:
    """Derive and test with the trained supernet on the samples that its search held out; a signal keeps what was measured."""
    spec, state = stored.spec, stored.state
    for key in ("holdout", "seed"):
        if key not in state:
            raise CheckpointError(f"{stored.path}: does not say which data the search held out ({key} is missing)")
    precision, source, dominant = build_precision(settings), own_source(spec, str(stored.path)), dominant_in(state)
    settings = settings.changed({"batch_size": (batch_size := images_per_step(settings.batch_size, source.info))})
    settings = settle_readers(settings, source, precision.device)
    check_held_out(state, source, where=str(stored.path))
    loaders = search_loaders(
        source, holdout=state["holdout"], batch_size=batch_size, seed=state["seed"], drop_last=False,
        num_workers=settings.readers, pin_memory=precision.device.type == "cuda",
    )  # fmt: skip
    supernet = load_model(spec, state["model"], source=str(stored.path), backend=settings.backend)
    trained = Trained(
        supernet.to(precision.device).eval(), stored.relaxation, stored.derivation, stored.quota, loaders.holdout,
        loaders.val if dominant else unseen_part(loaders, stored.derivation, state.get("architect", "single")),
        build_objective(source.info, stored.about.metric), precision, stored.seed,
        dominant=dominant,
    )  # fmt: skip
    fresh = stored_supernets(stored.about.history, spec, state.get("digest"), backend=settings.backend, device=precision.device)
    digest = config_digest(settings.content)
    with output(settings, stored) as run_dir, keeping_scores(run_dir, digest, every_s=None) as kept:
        trained = replace(trained, kept=kept)
        show(run_dir, conclude(run_dir, trained, stored.about, loaders.val, source.info.img_size, fresh=fresh))
    return 0


@contextmanager
def output(settings: Derive, stored: Stored) -> Iterator[RunDir]:
    """Give the block the output folder of what is derived from a checkpoint."""
    data = stored.spec.data.get("info", {}).get("name", "unknown")
    with folder(settings, data=data, model=stored.spec.name, seed=stored.seed) as run_dir:
        remember(settings, run_dir, [read_facts(stored.path)])
        yield run_dir


@contextmanager
def folder(settings: Derive, *, data: str, model: str, seed: int | None) -> Iterator[RunDir]:
    """Give the block the output folder; raise ConfigError where the genotype.json of something else would be lost.

    Another genotype is replaced with overwrite=true, what a run has left never.
    """
    with open_run_dir(settings, "derive", data=data, model=model, seed=seed) as run_dir:
        before, mine = Claim.read(run_dir.path), Claim(f"derive {config_digest(settings.content)}")
        if (run_dir / "checkpoint.pt").exists() or before.task not in ("", "derive"):
            raise ConfigError(f"run_dir={str(run_dir)!r} holds a run, whose files would be lost; choose another")
        if (run_dir / FILE).exists() and before != mine and not settings.overwrite:
            raise ConfigError(f"{run_dir / FILE} was derived otherwise; choose another run_dir=, or overwrite=true to replace it")
        if not settings.overwrite:
            refuse_foreign(run_dir.path, (CONFIG, "metrics.json"))
        mine.write(run_dir)
        yield run_dir


def remember(settings: Derive, run_dir: RunDir, facts: Sequence[Facts | None]) -> None:
    """Write config.yaml with what the runs that are derived from know, if all know the same, for the tasks that read on."""
    if facts[0] is None or any(other != facts[0] for other in facts):
        log.info("the runs do not know the same data and model; give these to the tasks that read %s", run_dir)
        return
    content = {**settings.content} | facts[0].sections()
    run_dir.write(CONFIG, config_text(as_plain(content)))


def from_genotypes(settings: Derive, given: str | Sequence[str]) -> int:
    """Derive what the genotypes of several seeds agree on."""
    if (settings.derivation is not None and derivation_kind(settings.derivation).uses_holdout) or settings.health:
        raise ConfigError(
            f"genotypes= reads no checkpoint, so derivation={settings.derivation} and health=true cannot go with it"
        )
    names = genotype_paths(given)
    genotypes = [load_genotype(name) for name in names]
    check_alike(genotypes, names)
    asked = settings.keep is not None or settings.budget is not None
    quota = quota_asked(settings, Quota() if asked else common_quota(genotypes), depth=len(genotypes[0].layers))
    folders = [user_path(name) for name in names]
    facts = [read_facts(path) if path.is_dir() else None for path in folders]
    warn_unlike(facts, names)
    with folder(settings, data="consensus", model=genotypes[0].model or "unknown", seed=None) as run_dir:
        remember(settings, run_dir, facts)
        show(run_dir, conclude_seeds(run_dir, quota, genotypes))
    return 0


def warn_unlike(facts: Sequence[Facts | None], names: Sequence[str]) -> None:
    """Say so where genotypes come from other data or another model than the first of which that is known."""
    known = [(name, found) for name, found in zip(names, facts, strict=True) if found is not None]
    for name, found in known[1:]:
        if differ := unlike(known[0][1], found):
            log.warning(
                "%s and %s are no seeds of one search, as which they are judged: %s", known[0][0], name, first_of(differ, SHOWN)
            )


def genotype_paths(given: str | Sequence[str]) -> list[str]:
    """Return the listed genotypes, or those in the s<seed>/ of a folder, by seed."""
    if not isinstance(given, str):
        return list(given)
    found = [p.parent for p in user_path(given).glob(f"s*/{FILE}") if re.fullmatch(r"s\d+", p.parent.name)]
    if not found:
        raise GenotypeError(f"genotypes={given!r}: no such folder, or no s<seed>/{FILE} in it; expected [a,b,...] or a folder")
    return [str(p) for p in sorted(found, key=lambda p: int(p.name[1:]))]


def checkpoint_probabilities(spec: ModelSpec, weights: dict[str, torch.Tensor], how: Relaxation, *, source: str) -> Probabilities:
    """Return the probabilities of every layer's candidates; raise CheckpointError where the checkpoint is not one of a search."""
    alphas = {k.removesuffix(".mixer.alphas"): v for k, v in weights.items() if k.endswith(".mixer.alphas")}
    if not alphas:
        raise CheckpointError(f"{source}: the checkpoint holds no alphas; `lmsearch derive` needs one of `lmsearch search`")
    if len(alphas) != len(spec.directions) or any(
        len(a) != len(d) for a, d in zip(alphas.values(), spec.directions, strict=False)
    ):
        raise CheckpointError(f"{source}: its alphas do not fit its model description")
    layers = zip(alphas.items(), spec.directions, strict=True)
    return {layer: layer_probabilities(a, directions, how) for (layer, a), directions in layers}


def quota_asked(settings: Derive, stored: Quota, *, depth: int) -> Quota:
    """Return how many directions are kept: as asked for now, else as the search was asked for."""
    keep = settings.keep
    if keep is not None and settings.budget is not None:
        raise SearchSpaceError(f"budget={settings.budget} and keep={keep} contradict each other; set one of them")
    if settings.budget is not None:
        return Quota(budget=settings.budget)
    if keep is None and stored.budget is not None:
        return Quota(budget=stored.budget)
    given = stored.keep if keep is None else keep
    if given is None:
        raise SearchSpaceError("the checkpoint does not say how many directions to keep; set keep=<number>")
    per_layer = (given,) * depth if isinstance(given, int) else tuple(given)
    if len(per_layer) != depth:
        raise SearchSpaceError(f"keep lists {len(per_layer)} numbers, the model has {depth} layers")
    return Quota(keep=per_layer)
