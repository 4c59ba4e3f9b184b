"""What a discrete search leaves behind: genotype.json and its figure, trials.csv, metrics.json and, for two objectives, the
Pareto front."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

import torch

from lmsearch import __version__
from lmsearch.context import tell
from lmsearch.engine.objectives import Metric
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import ConfigError
from lmsearch.figures.trials import front_figure
from lmsearch.genotype import FILE, Genotype, LayerChoice, dumps
from lmsearch.report.directions import genotype_figure, print_choices
from lmsearch.run_identity import run_digest
from lmsearch.scan.directions import label
from lmsearch.search.discrete.trials import DiscreteSearch, Trial, best_of, candidate_means, pareto_front
from lmsearch.search.supernet.network import named_mixers
from lmsearch.settings.tasks import Search
from lmsearch.stats.digits import apart
from lmsearch.status import Status
from lmsearch.tasks.parts.candidates import Candidates
from lmsearch.tasks.parts.run_dir import tell_next

COLUMNS = ("trial", "score", "loss", "error", "cost", "second", "seconds")


@dataclass(frozen=True)
class Found:
    """A finished search; `training` and `spent` are branch-scan steps: of the shared weights, and in all."""

    search: DiscreteSearch
    candidates: Candidates
    metric: Metric
    training: float
    spent: float


def write_results(settings: Search, run_dir: RunDir, found: Found) -> Status:
    """Write every file, print table and verdict, and return the search's status."""
    trials = found.search.trials()
    finite = [t for t in trials if math.isfinite(t.evaluation.score)]
    if not finite:
        raise ConfigError(f"none of {len(trials)} architectures was trained to the end; lower optim.lr or set optim.clip_grad")
    layers = layer_names(found.candidates)
    run_dir.write_csv("trials.csv", trial_rows(trials, layers))
    best, health = best_of(finite), health_of(finite)
    genotype = build_genotype(settings, found, best, health, len(trials))
    run_dir.write(FILE, dumps(genotype))
    run_dir.write_figure("genotype.png", lambda: genotype_figure(genotype, scores=f"mean {found.metric.score_name}", vmin=None))
    run_dir.write_json("metrics.json", summary(found, trials, finite, best, health))
    if (second := settings.discrete.objective2) is not None:
        write_front(run_dir, pareto_front(finite), finite, second, found.metric, layers)
    print_choices(genotype, scores=f"mean {found.metric.score_name}")
    show(run_dir, found, best, health, len(trials))
    return health["status"]


def layer_names(candidates: Candidates) -> list[str]:
    """Return the layers' names in the model."""
    with torch.device("meta"):  # no memory, no time
        return list(named_mixers(candidates.spec.build()))


def health_of(finite: list[Trial]) -> dict:
    """Return status and reason: indeterminate where scores differ no more than one evaluation's own sampling error.

    Nothing is called "ok" here: one evaluation per architecture cannot tell how much the seed of a training matters.
    """
    if len(finite) < 2:
        return {"status": Status.NOT_TESTED, "reason": "one architecture was tried; there is nothing to compare it with"}
    scores = [t.evaluation.score for t in finite]
    spread, error = statistics.stdev(scores), statistics.fmean(t.evaluation.error for t in finite)
    if math.isinf(error):
        reason = "every architecture was evaluated on one sample, which tells nothing of others: the held-out set is too small"
        return {"status": Status.INDETERMINATE, "reason": reason, "spread": spread}
    measured = {"spread": spread, "standard_error": error}
    if spread <= error:
        told = apart(spread, error)
        reason = (
            f"the scores of {len(finite)} architectures have a standard deviation of {told[0]}, not more than the"
            f" standard error of one of them, {told[1]}: the choice hardly matters here, or the held-out set is too small"
        )
        return {"status": Status.INDETERMINATE, "reason": reason} | measured
    reason = f"chosen by one evaluation each of {len(finite)} architectures; `lmsearch compare` tests the choice"
    return {"status": Status.NOT_TESTED, "reason": reason} | measured


def build_genotype(settings: Search, found: Found, best: Trial, health: dict, trials: int) -> Genotype:
    """Return the genotype of the best architecture; its scores are means over the architectures that hold a candidate."""
    candidates, search = found.candidates, found.search
    means = candidate_means(search.space, search.trials())
    layers = tuple(
        LayerChoice(mine, name, scores)
        for mine, name, scores in zip(best.architecture, layer_names(candidates), means, strict=True)
    )
    derivation = {
        "method": settings.discrete.method,
        "evaluate": settings.discrete.evaluate,
        "trials": trials,
        "score": best.evaluation.score,
    } | ({} if settings.metric is None else {"metric": settings.metric})
    provenance = {
        "lmsearch": __version__,
        "run_sha256": run_digest(settings.content),
        "seed": settings.seed,
        "epoch": settings.epochs,
    }
    provenance["optuna"] = ", ".join(search.versions)  # those that proposed: from one seed, tpe of 4 and of 5 do otherwise
    keep = candidates.keep[0] if len(set(candidates.keep)) == 1 else candidates.keep
    return Genotype(layers, candidates.spec.name, candidates.space.name, keep, derivation, health, provenance)


def summary(found: Found, trials: list[Trial], finite: list[Trial], best: Trial, health: dict) -> dict:
    """Return the content of metrics.json."""
    return {
        "metric": found.metric.name,
        "best": found.metric.signed(best.evaluation.score),
        "best_loss": best.evaluation.loss,
        "mean": found.metric.signed(statistics.fmean(t.evaluation.score for t in finite)),
        "trials": len(trials),
        "diverged": len(trials) - len(finite),
        "architectures": found.search.space.size,
        "branch_scan_steps": found.spent,
        "branch_scan_steps_training": found.training,
        "health": health,
    }


def trial_rows(trials: list[Trial], layers: list[str]) -> list[list[object]]:
    """Return the columns and one row per trial: its evaluation and, layer by layer, its directions."""
    rows: list[list[object]] = [[*COLUMNS, *layers]]
    for t in trials:
        e = t.evaluation
        row: list[object] = [t.number, e.score, e.loss, e.error, e.cost, "" if t.second is None else t.second, t.seconds]
        rows.append([*row, *(" ".join(map(label, names)) for names in t.architecture)])
    return rows


def write_front(run_dir: RunDir, front: list[Trial], finite: list[Trial], second: str, metric: Metric, layers: list[str]) -> None:
    """Write pareto.json and pareto.png: the trials that no other beats in both objectives."""
    points = [
        {
            "trial": t.number,
            "score": t.evaluation.score,
            second: t.second,
            "directions": dict(zip(layers, ([label(d) for d in names] for names in t.architecture), strict=True)),
        }
        for t in front
    ]
    run_dir.write_json("pareto.json", {"metric": metric.score_name, "second": second, "front": points})
    labels = "FLOPs per image" if second == "flops" else "latency of a batch, s", f"held-out {metric.score_name}"
    drawn, best = ([(t.second, t.evaluation.score) for t in some if t.second is not None] for some in (finite, front))
    run_dir.write_figure("pareto.png", lambda: front_figure(drawn, best, labels=labels))


def show(run_dir: RunDir, found: Found, best: Trial, health: dict, trials: int) -> None:
    """Print what was found, at what cost, and the verdict."""
    value, error = found.metric.signed(best.evaluation.score), best.evaluation.error
    known = "of one sample" if math.isinf(error) else f"standard error {error:.4f}"
    tell(
        f"best of {trials} of {found.search.space.size:,} architectures: {found.metric} {value:.4f}"
        f" ({known}); {found.spent:,.0f} branch-scan steps spent,"
        f" {found.training:,.0f} of them on shared weights"
    )
    print(f"search status: {health['status']}: {health['reason']}")
    tell(f"genotype: {run_dir / 'genotype.json'}   trials: {run_dir / 'trials.csv'}")
    if found.search.second is not None:
        tell(f"Pareto front: {run_dir / 'pareto.json'}   figure: {run_dir / 'pareto.png'}")
    tell_next("genotype", run_dir, "retrain", "compare")
