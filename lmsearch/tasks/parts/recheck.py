"""The fresh supernets of a search's recheck: trained in its run directory, and read again by `lmsearch derive`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig
from torch import nn

from lmsearch.data import SearchLoaders, Source
from lmsearch.engine.checkpoint import ModelSpec, load_checkpoint, load_model
from lmsearch.engine.loop import run_epochs
from lmsearch.engine.progress import TrainingProgress
from lmsearch.engine.state import RunState
from lmsearch.files import remove
from lmsearch.run_identity import run_digest
from lmsearch.search.supernet.single_path import single_path
from lmsearch.search.trust.recheck import SUPERNETS, fresh_seeds, recheck_recipe
from lmsearch.tasks.parts.build import build_objective, build_precision, build_recipe
from lmsearch.tasks.parts.candidates import Candidates


def checkpoint_of(run_dir: Path, number: int) -> Path:
    """Return where a fresh supernet is kept."""
    return run_dir / f"recheck{number}.pt"


def trained_supernets(
    cfg: DictConfig, run_dir: Path, candidates: Candidates, loaders: SearchLoaders, source: Source
) -> Iterator[nn.Module]:
    """Train and yield one fresh supernet after the other, continuing where run_dir left off.

    They learn from the samples that the search's weights learned from, in the same order. What another search left in
    run_dir is not taken for theirs. With search.recheck=0 none are trained; those that the same search left when it was
    rechecked before are yielded.
    """
    if cfg.search.recheck == 0:
        device = build_precision(cfg).device
        yield from stored_supernets(run_dir, candidates.spec, run_digest(cfg), backend=cfg.backend, device=device)
        return
    total = sum(len(layer) for layer in candidates.spec.directions)
    recipe = recheck_recipe(build_recipe(cfg), cfg.search.recheck, candidates=total, keep=sum(candidates.keep))
    precision, steps = build_precision(cfg), len(loaders.weights)  # of its own: fp16 scales its gradients by itself
    metric = build_objective(source.info).metric.plain
    for number, seed in enumerate(fresh_seeds(cfg.seed)):
        policy, trainer = single_path(
            candidates.spec, candidates.keep, recipe, loaders.weights, source.info, precision, seed=seed, backend=cfg.backend
        )
        path, mine = checkpoint_of(run_dir, number), {"digest": run_digest(cfg), "epochs": recipe.epochs}
        if path.exists() and not mine.items() <= load_checkpoint(path).items():
            remove(path)
        extra = {"relaxation": policy.relaxation.name, "epochs": recipe.epochs}
        state = RunState(path, trainer.parts(), spec=candidates.spec, run=run_digest(cfg), extra=extra)
        start = state.restore()
        progress = TrainingProgress(
            f"recheck {number + 1}/{SUPERNETS}",
            total_steps=recipe.epochs * steps,
            done_steps=start.steps(steps),
            metric=metric,
        )
        with policy.attached(), progress:
            run_epochs(trainer, loaders.weights, epochs=recipe.epochs, start=start, on_step=progress.step, state=state)
        yield policy.module


def stored_supernets(folder: Path, spec: ModelSpec, digest: str | None, *, backend: str, device: object) -> Iterator[nn.Module]:
    """Yield the fresh supernets that the search with this digest left in its folder.

    None are yielded unless all are there, done, as long, and of the same candidates in the same order.
    """
    paths = [checkpoint_of(folder, number) for number in range(SUPERNETS)]
    states = [load_checkpoint(path) for path in paths if path.exists()]
    lengths = {s["epochs"] for s in states}
    if len(states) < len(paths) or len(lengths) > 1 or any(s["epoch"] < s["epochs"] or s["digest"] != digest for s in states):
        return
    stored = {ModelSpec.from_dict(state["spec"], source=str(path)).directions for path, state in zip(paths, states, strict=True)}
    if stored != {spec.directions}:
        return
    for path, state in zip(paths, states, strict=True):
        supernet = load_model(spec, state["model"], source=str(path), backend=backend)
        yield supernet.to(device).eval()
