"""After the training of a search: derive, test on held-out data, write genotype.json and its figure, and say how sure it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lmsearch import __version__
from lmsearch.context import in_full, tell
from lmsearch.data.info import Samples
from lmsearch.engine.digest import digest_of
from lmsearch.engine.progress import Phase
from lmsearch.engine.run_dir import RunDir
from lmsearch.genotype import FILE, Genotype, LayerChoice, dumps
from lmsearch.models.backbone import Network
from lmsearch.report.directions import genotype_figure, print_choices
from lmsearch.report.findings import print_findings
from lmsearch.search.derivation.choice import Quota, make_genotype
from lmsearch.search.derivation.kinds import own_scores
from lmsearch.search.supernet.network import running
from lmsearch.search.trained import Trained
from lmsearch.search.trust.consensus import consensus
from lmsearch.search.trust.health import Health, structure_findings
from lmsearch.tasks.parts.run_dir import tell_next
from lmsearch.tasks.parts.watch import history_findings


@dataclass(frozen=True)
class About:
    """What genotype.json says of a search besides its choice."""

    model: str
    search_space: str
    provenance: Mapping[str, Any]
    history: Path  # folder with the search's metrics.jsonl
    metric: str | None = None  # as it was asked for

    def genotype(self, choices: Sequence[LayerChoice], how: Mapping[str, Any], health: Health) -> Genotype:
        """Return the genotype of these choices, which were made as `how` says."""
        return make_genotype(
            choices,
            derivation=how if self.metric is None else {**how, "metric": self.metric},
            model=self.model,
            search_space=self.search_space,
            health=health.to_dict(),
            provenance=self.provenance,
        )


def conclude(
    run_dir: RunDir,
    trained: Trained,
    about: About,
    val: Samples | None,
    img_size: tuple[int, int],
    *,
    fresh: Iterable[nn.Module] = (),
) -> Genotype:
    """Derive from a trained supernet, test the result, and write genotype.json, its figure and metrics.json into run_dir.

    `fresh` gives the supernets of the recheck, if there is one; `img_size` is that of the data, in pixels.
    """
    choices, how = trained.derive()
    told = [(choice.name, choice.directions) for choice in choices]
    run_dir.world.assert_same(digest_of(told), what="the choice of directions")  # each process may have made it by itself
    tested = trained.health(choices, fresh=fresh)
    if not isinstance(trained.module, Network):
        raise TypeError(f"{type(trained.module).__name__} does not tell the token grids of its layers")
    structure = structure_findings(trained.module, choices, trained.module.layer_grids(img_size))
    health = tested.plus(*structure, *history_findings(about.history))
    genotype = about.genotype(choices, how, health)
    with running(trained.module, trained.whole(choices)), Phase("evaluation"):
        measured = {"holdout": trained.on(trained.holdout)(trained.module).score}
        if val is not None:
            measured["val"] = trained.on(val)(trained.module).score
    run_dir.write(FILE, dumps(genotype))
    run_dir.write_figure("genotype.png", lambda: genotype_figure(genotype, scores=scores_of(genotype)))
    metric = trained.objective.metric
    scores = {f"{name}_{metric}": score for name, score in measured.items()}
    run_dir.write_json("metrics.json", {**scores, "health": health.to_dict()})
    return genotype


def conclude_seeds(run_dir: RunDir, quota: Quota, genotypes: Sequence[Genotype]) -> Genotype:
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
    run_dir.write(FILE, dumps(genotype))
    run_dir.write_figure("genotype.png", lambda: genotype_figure(genotype, scores=scores_of(genotype)))
    return genotype


def scores_of(genotype: Genotype) -> str:
    """Return what the scores in a genotype of a supernet search are called."""
    return own_scores(genotype.derivation.get("of", genotype.derivation.get("method"))) or "probability"


def show(run_dir: RunDir, genotype: Genotype) -> None:
    """Print the chosen directions, what the detectors found, the verdict, which quiet=true leaves, and where the files are."""
    if in_full():
        print_choices(genotype, scores=scores_of(genotype))
        print_findings(genotype.health.get("findings", []))
    print(f"search status: {genotype.health['status']}: {genotype.health['reason']}")
    tell(f"genotype: {run_dir / 'genotype.json'}   figure: {run_dir / 'genotype.png'}")
    tell_next("genotype", run_dir, "retrain", "compare")
