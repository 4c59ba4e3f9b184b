"""Run folders that tests of pages read: made up, but written as the product writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from lmsearch.audit.verdict import read as read_audit
from lmsearch.config import compose, plain_config
from lmsearch.engine.objectives import Scores, metric_for
from lmsearch.genotype import Genotype, LayerChoice, dumps
from lmsearch.report.arms import HAND_MADE, RANDOM, SEARCHED, Arm, verdict_of
from lmsearch.search_space import load_search_space
from lmsearch.settings.tasks import TASKS
from lmsearch.tasks.compare import summary

CANDIDATES = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w4", "w4_flip")
ENVIRONMENT = {"lmsearch": "0.1.0", "python": "3.11", "threads": 1, "versions": {"torch": "2.13.0"}, "machine": "x86_64"}


def chosen(layers: int, *, keep: int = 4, candidates: Sequence[str] = CANDIDATES, seed: int = 0, status: str = "ok") -> Genotype:
    """Return a genotype with random scores."""
    rng = np.random.default_rng(seed)
    choices = []
    for number in range(layers):
        scores = dict(zip(candidates, rng.random(len(candidates)).round(4).tolist(), strict=True))
        kept = sorted(scores, key=lambda name: -scores[name])[:keep]
        mine = tuple(name for name in candidates if name in kept)
        choices.append(LayerChoice(mine, f"layers.{number}", scores, 0.01))
    finding = {"name": "advantage", "value": 0.1, "level": "ok", "meaning": "held-out loss saved", "advice": ""}
    health = {"status": status, "reason": "the derived directions beat random ones (z = 5.1)", "findings": [finding]}
    provenance = {"run_sha256": f"{seed:064x}", "seed": seed}
    return Genotype(tuple(choices), "local_vim_nano", "localmamba8_w4", keep, {"method": "topk"}, health, provenance)


def write(folder: Path, task: str, words: Sequence[str], **files: Any) -> Path:
    """Write a run folder: its marker, configuration and environment, and files of JSON by name ("a" for a.json)."""
    folder.mkdir(parents=True)
    (folder / "run_id.txt").write_text(f"{task} 0123abcd 4567ef\n")
    config = plain_config(compose(task, [*words, f"run_dir={folder}"]))
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    for name, content in ({"environment": ENVIRONMENT} | files).items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def search_run(
    folder: Path, genotype: Genotype | None, *, epochs: int = 3, words: Sequence[str] = (), about: bool = True
) -> Path:
    """Write the folder of a search with alphas."""
    layers = len(genotype.layers) if genotype else 2
    network = {"model": "local_vim_nano", "data": "digits", "options": {"depth": layers, "embed_dim": 8, "patch_size": 1}}
    network["options"] |= {"img_size": [8, 8], "in_chans": 1, "num_classes": 10}
    files = {"about": network, "cost": {"seconds": 75.0, "sittings": 2, "peak_memory_bytes": 2**30}} if about else {}
    write(folder, "search", ["search=darts", f"model.depth={layers}", "model.embed_dim=8", f"epochs={epochs}", *words], **files)
    if genotype is not None:
        (folder / "genotype.json").write_text(dumps(genotype))
        names = [(layer.name, list(layer.scores)) for layer in genotype.layers]
        lines = [line_of(epoch, names) for epoch in range(epochs)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def line_of(epoch: int, layers: Sequence[tuple[str, Sequence[str]]]) -> dict[str, Any]:
    """Return a line of metrics.jsonl."""
    rng = np.random.default_rng(epoch)
    told = {layer: dict(zip(names, rng.dirichlet(np.ones(len(names))).tolist(), strict=True)) for layer, names in layers}
    return {"epoch": epoch, "train_loss": 2 / (epoch + 1), "holdout_loss": 2.1 / (epoch + 1), "probabilities": told}


def compare_on_one_image(folder: Path, *scores: Sequence[float]) -> Path:
    """Write the folder of a comparison on one test image; `scores` are those of every seed, by arm."""
    words, genotype = ["genotype=searched", "model.depth=1", "model.embed_dim=8", f"seeds={len(scores[0])}"], chosen(1)
    settings, metric = TASKS["compare"].of(plain_config(compose("compare", words))), metric_for("segmentation")
    arms = [
        Arm(name, [genotype] * len(own), [Scores(torch.zeros(1), torch.tensor([score])) for score in own], metric)
        for name, own in zip((SEARCHED, RANDOM, HAND_MADE), scores, strict=True)
    ]
    return write(
        folder, "compare", words, comparison=summary(settings, load_search_space("localmamba8_w4"), arms, {}, verdict_of(arms))
    )


def compare_run(folder: Path, genotype: Genotype, *, accuracies: Sequence[float] = (0.9, 0.6, 0.88), seeds: int = 3) -> Path:
    """Write the folder of a comparison in which the searched, random and hand-made arms have these accuracies."""
    words = ["genotype=searched", f"model.depth={len(genotype.layers)}", "model.embed_dim=8", f"seeds={seeds}"]
    settings = TASKS["compare"].of(plain_config(compose("compare", words)))
    arms = []
    for arm, accuracy in zip((SEARCHED, RANDOM, HAND_MADE), accuracies, strict=True):
        rng = np.random.default_rng(len(arms))
        right = [torch.tensor(rng.random(200) < accuracy).float() for _ in range(seeds)]
        scores = [Scores(torch.zeros(200), r, torch.zeros(200, dtype=torch.long)) for r in right]
        others = [genotype] * seeds if arm == SEARCHED else [chosen(len(genotype.layers), seed=7 + n) for n in range(seeds)]
        arms.append(Arm(arm, others, scores))
    content = summary(settings, load_search_space("localmamba8_w4"), arms, {"nearest neighbour": 0.7}, verdict_of(arms))
    return write(folder, "compare", words, comparison=content)


def audit_run(folder: Path, rows: Sequence[dict[str, Any]], *words: str) -> Path:
    """Write the folder of an audit that did these parts."""
    measured = read_audit(rows, epochs=4, full_epochs=4, per_round=2, size=70)
    return write(
        folder, "audit", ["model.depth=1", *words], audit=measured | {"score": "accuracy", "spent_s": 300.0, "tested_on": "test"}
    )


def sweep_run(folder: Path, *, done: int = 3) -> Path:
    """Write the folder of a sweep of four trials, some of which gave a value."""
    trials = [
        {
            "trial": number, "state": "complete" if number < done else "failed", "params": {"optim.lr": 0.01 * (number + 1)},
            "values": {"val_accuracy": 0.9 - 0.1 * number} if number < done else {}, "seconds": 2.5, "run_dir": "", "command": "",
            "note": "" if number < done else "it diverged",
        }
        for number in range(4)
    ]  # fmt: skip
    best = {"trial": 0, "values": trials[0]["values"], "command": "lmsearch retrain genotype=x optim.lr=0.01"} if done else None
    goal = {"metrics": ["val_accuracy"], "directions": ["maximize"], "file": "metrics.json"}
    told = {"task": "retrain", "goal": goal, "sampler": "tpe", "seed": 0}
    content = {"best": best, "trials": trials, "pareto": [0] if done else [], "sweep": told}
    return write(folder, "sweep", ["task=retrain", "metric=val_accuracy", "params={optim.lr: log(1e-3,1e-1)}"], results=content)
