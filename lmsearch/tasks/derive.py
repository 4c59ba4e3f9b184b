"""lmsearch derive: derive a genotype again from the checkpoint of a search, for example with another keep."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from lmsearch import __version__
from lmsearch.engine.checkpoint import ModelSpec, load_checkpoint
from lmsearch.errors import CheckpointError, SearchSpaceError
from lmsearch.genotype import save_genotype
from lmsearch.report.directions import print_choices, save_choices_figure
from lmsearch.search.derive import Probabilities, choose, derive_topk
from lmsearch.search.health import alpha_health
from lmsearch.search.relax import Relaxation, relaxation
from lmsearch.search.supernet import layer_probabilities
from lmsearch.tasks.run_dir import open_run_dir


def run(cfg: DictConfig) -> int:
    """Write genotype.json and its figure from the alphas in a checkpoint."""
    path = Path(cfg.checkpoint)
    state = load_checkpoint(path)
    spec = ModelSpec.from_dict(state["spec"], source=str(path))
    how = relaxation(state.get("relaxation", "softmax"))  # searches before relaxations had this one
    scores = checkpoint_probabilities(spec, state["model"], how, source=str(path))
    keep = resolve(OmegaConf.to_object(cfg).get("keep"), state.get("keep"), depth=len(scores))
    choices = choose(scores, keep)
    health = alpha_health(
        choices, reason="derived from alphas alone, without held-out data; `lmsearch search` tests them"
    )
    provenance = {"lmsearch": __version__, "epoch": state["epoch"]}
    provenance |= {name: state[key] for name, key in (("config_sha256", "digest"), ("seed", "seed")) if key in state}
    genotype = derive_topk(
        scores,
        keep,
        model=spec.name,
        search_space=state.get("search_space", "unknown"),
        health=health.to_dict(),
        provenance=provenance,
    )
    data = spec.data.get("info", {}).get("name", "unknown")
    run_dir = open_run_dir(cfg, "derive", data=data, model=spec.name)
    save_genotype(genotype, run_dir / "genotype.json")
    print_choices(genotype)
    save_choices_figure(genotype, run_dir / "genotype.png")
    print(f"genotype: {run_dir / 'genotype.json'}")
    return 0


def checkpoint_probabilities(
    spec: ModelSpec, weights: dict[str, torch.Tensor], how: Relaxation, *, source: str
) -> Probabilities:
    """Return the probabilities of every layer's candidates; raise CheckpointError where the checkpoint is not one of a search."""
    alphas = {k.removesuffix(".mixer.alphas"): v for k, v in weights.items() if k.endswith(".mixer.alphas")}
    if not alphas:
        raise CheckpointError(
            f"{source}: the checkpoint holds no alphas; `lmsearch derive` needs one of `lmsearch search`"
        )
    if len(alphas) != len(spec.directions) or any(
        len(a) != len(d) for a, d in zip(alphas.values(), spec.directions, strict=False)
    ):
        raise CheckpointError(f"{source}: its alphas do not fit its model description")
    layers = zip(alphas.items(), spec.directions, strict=True)
    return {layer: layer_probabilities(a, directions, how) for (layer, a), directions in layers}


def resolve(keep: int | list[int] | None, stored: list[int] | None, *, depth: int) -> list[int]:
    """Return keep per layer: as asked for now, else as the search was asked for."""
    keep = stored if keep is None else keep
    if keep is None:
        raise SearchSpaceError("the checkpoint does not say how many directions to keep; set keep=<number>")
    keep = [keep] * depth if isinstance(keep, int) else list(keep)
    if len(keep) != depth:
        raise SearchSpaceError(f"keep lists {len(keep)} numbers, the model has {depth} layers")
    return keep
