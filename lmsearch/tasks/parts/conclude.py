"""After the training of a search: derive, test on held-out data, write genotype.json and its figure, and say how sure it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from lmsearch import __version__
from lmsearch.data import SearchLoaders, Source, spread
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.engine.train import Batch, Precision
from lmsearch.files import write_json
from lmsearch.genotype import Genotype, LayerChoice, save_genotype
from lmsearch.report.directions import print_choices, save_choices_figure
from lmsearch.report.findings import print_findings
from lmsearch.scan.directions import duplicates
from lmsearch.search.architects.kinds import architect_kind
from lmsearch.search.derivation.choice import Probabilities, Quota, make_genotype, surviving
from lmsearch.search.derivation.kinds import derivation_kind, own_scores, samples_for, saw_holdout
from lmsearch.search.supernet.masking import Evaluate, HeldOut
from lmsearch.search.supernet.network import masked, named_mixers, remaining, running
from lmsearch.search.trust.consensus import consensus
from lmsearch.search.trust.detectors import Finding, duplicate_candidates, one_candidate_everywhere
from lmsearch.search.trust.health import check_health
from lmsearch.tasks.parts.build import build_objective
from lmsearch.tasks.parts.run_dir import tell_next
from lmsearch.tasks.parts.watch import history_findings

QUICK_SAMPLES = 32  # of leave-one-out losses and of the gap for every k


@dataclass(frozen=True)
class Order:
    """What to derive from a supernet: how many directions, by which method, for which search."""

    scores: Probabilities
    quota: Quota
    derivation: str  # name of a DerivationKind
    spec: ModelSpec
    search_space: str
    seed: int
    provenance: Mapping[str, Any]
    history: Path  # folder with the search's metrics.jsonl
    metric: str | None = None  # of scores and, where it is balanced, of losses; None: the default of the kind of targets
    architect: str = field(kw_only=True)  # of the search: name of an ArchitectKind

    @property
    def saw_holdout(self) -> bool:
        """True where the held-out samples decided on directions, so that the test needs others."""
        return saw_holdout(self.derivation, self.architect)


def conclude(
    run_dir: Path,
    order: Order,
    supernet: nn.Module,
    loaders: SearchLoaders,
    source: Source,
    precision: Precision,
    *,
    fresh: Iterable[nn.Module] = (),
) -> Genotype:
    """Derive from a trained supernet, test the result, and write genotype.json, its figure and metrics.json into run_dir.

    The test runs on samples that had no part in the choice: the held-out ones, or the validation set where those had one.
    `fresh` gives the supernets of the recheck, if there is one.
    """
    objective = build_objective(source.info, order.metric)
    unseen = loaders.val if order.saw_holdout else loaders.holdout

    def on(batches: Iterable[Batch]) -> HeldOut:
        return HeldOut(batches, objective, precision)

    choices, how = derive(supernet, on(samples_for(order.derivation, loaders.holdout)), order)
    alphas = order.scores if architect_kind(order.architect).learns else None
    quick = on([spread(unseen, QUICK_SAMPLES)])
    tested = check_health(supernet, choices, on(unseen), seed=order.seed, quick=quick, fresh=fresh, alphas=alphas)
    health = tested.plus(*structure_findings(supernet, choices, source), *history_findings(order.history))
    genotype = make_genotype(
        choices,
        derivation=how,
        model=order.spec.name,
        search_space=order.search_space,
        health=health.to_dict(),
        provenance=order.provenance,
    )
    if alphas is None:  # what was trained are sets of branches, so the chosen ones stand for the supernet
        whole = masked(supernet, {c.name: c.directions for c in choices})
    else:  # as the search weighed its branches, whatever the relaxation
        whole = {layer: remaining(supernet, layer, surviving(p), p) for layer, p in order.scores.items()}
    with running(supernet, whole):
        held, val = (on(batches)(supernet) for batches in (loaders.holdout, loaders.val))
    save_genotype(genotype, run_dir / "genotype.json")
    save_choices_figure(genotype, run_dir / "genotype.png", scores=scores_of(genotype))
    scored = {f"holdout_{objective.metric}": held.score, f"val_{objective.metric}": val.score}
    write_json(run_dir / "metrics.json", scored | {"health": health.to_dict()})
    return genotype


def derive(
    supernet: nn.Module | None, on_holdout: Evaluate | None, order: Order
) -> tuple[tuple[LayerChoice, ...], dict[str, Any]]:
    """Return each layer's choice and how it was made; without held-out data from the probabilities alone."""
    kind = derivation_kind(order.derivation)
    choices, how = kind.derive(supernet, order.scores, on_holdout, order.quota, order.seed)
    if order.metric is not None:
        how = how | {"metric": order.metric}
    return choices, how if order.quota.budget is None else how | {"budget": order.quota.budget}


def structure_findings(supernet: nn.Module, choices: Sequence[LayerChoice], source: Source) -> Sequence[Finding]:
    """Return what the candidates and the choices themselves tell, without running anything."""
    mixers = named_mixers(supernet)
    twins = {
        layer: duplicates(mixer.directions, grid, padding=mixer.options.window_padding)
        for (layer, mixer), grid in zip(mixers.items(), supernet.layer_grids(source.info.img_size), strict=True)
    }
    kept, candidates = [c.directions for c in choices], [tuple(c.scores) for c in choices]  # those dropped on the way as well
    return duplicate_candidates(twins), one_candidate_everywhere(kept, candidates)


def conclude_seeds(run_dir: Path, quota: Quota, genotypes: Sequence[Genotype]) -> Genotype:
    """Write the genotype.json and figure of what the genotypes of several seeds agree on."""
    first = genotypes[0]
    choices, health = consensus(genotypes, quota)
    method = {"method": "consensus", "of": first.derivation.get("method", "unknown")}
    genotype = make_genotype(
        choices,
        derivation=method if quota.budget is None else method | {"budget": quota.budget},
        model=first.model or "unknown",
        search_space=first.search_space or "unknown",
        health=health,
        provenance={"lmsearch": __version__, "seeds": [g.provenance.get("seed") for g in genotypes]},
    )
    save_genotype(genotype, run_dir / "genotype.json")
    save_choices_figure(genotype, run_dir / "genotype.png", scores=scores_of(genotype))
    return genotype


def scores_of(genotype: Genotype) -> str:
    """Return what the scores in a genotype of a supernet search are called."""
    return own_scores(genotype.derivation.get("of", genotype.derivation.get("method"))) or "probability"


def show(run_dir: Path, genotype: Genotype) -> None:
    """Print the chosen directions, what the detectors found and, last, the verdict and where the files are."""
    print_choices(genotype, scores=scores_of(genotype))
    print_findings(genotype.health.get("findings", []))
    print(f"search status: {genotype.health['status']}: {genotype.health['reason']}")
    print(f"genotype: {run_dir / 'genotype.json'}   figure: {run_dir / 'genotype.png'}")
    tell_next("genotype", run_dir, "retrain", "compare")
