"""lmsearch retrain: train the network of a genotype from scratch (or from other weights) and measure it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch
from omegaconf import DictConfig

from lmsearch.config import settings_of
from lmsearch.context import tell
from lmsearch.data import Source
from lmsearch.engine.best import FILE as BEST
from lmsearch.engine.checkpoint import CHECKPOINT, MODEL, ModelSpec, read_model
from lmsearch.engine.distributed import World
from lmsearch.engine.processes import joined
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.state import older_states
from lmsearch.engine.train import Precision
from lmsearch.engine.warm_start import Start, start_from
from lmsearch.errors import ConfigError
from lmsearch.genotype import FILE, Genotype, check_depth, dumps
from lmsearch.literature import genotype_named
from lmsearch.models import model_depth
from lmsearch.models.factory import model_family
from lmsearch.report.baselines import shortfall
from lmsearch.settings.tasks import Compare, Retrain
from lmsearch.status import RunStatus
from lmsearch.tasks.parts.baselines import simple_baselines
from lmsearch.tasks.parts.begun_with import beginning, note_beginning, still_training
from lmsearch.tasks.parts.build import (
    build_objective,
    build_precision,
    check_classes,
    check_training,
    layer_grids,
    model_options,
    model_spec,
    source_options,
)
from lmsearch.tasks.parts.fit import fit, fitting_data
from lmsearch.tasks.parts.measured import show
from lmsearch.tasks.parts.memory import check_memory
from lmsearch.tasks.parts.page import note_network
from lmsearch.tasks.parts.readers import settle_readers
from lmsearch.tasks.parts.run_dir import claim_run_dir, folder_of, tell_next
from lmsearch.tasks.parts.runs import verdict_of
from lmsearch.tasks.parts.settle import settle
from lmsearch.tasks.parts.trained import seen_in_training

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> int:
    """Retrain, write model.safetensors and metrics.json, and print the test score."""
    settings = settings_of(Retrain, cfg)
    check_start(settings)
    precision = build_precision(settings)
    with joined(precision.device) as world:
        retrain(settings, precision, world)
    return 0


def retrain(settings: Retrain, precision: Precision, world: World) -> None:
    """Train the net in the processes of `world`, and tell what it is good for."""
    settings, source = settle(settings, processes=world.size)
    precision = replace(precision, micro_batch=settings.micro_batch)
    settings = settle_readers(settings, source, precision.device, world=world)
    check_classes(settings.optim, source)
    genotype = genotype_of(settings, source)
    spec = derived_spec(settings, source, genotype)
    check_memory(settings.batch_size, spec, precision, world=world)
    fitting_data(settings, source, precision, world=world)  # batches that cannot be made are found before anything is written
    live = settings.init_from is not None and still_training(settings.init_from)  # asked before they are read
    start = None if settings.init_from is None else start_of(settings.init_from, settings, spec, source)
    if start is not None and (told := seen_in_training(source_options(settings.data), start.spec)):
        log.warning("%s %s", start.source, told)
    mark = None if start is None else beginning(settings, start, live=live, world=world)
    content = [spec.directions, mark]
    if start is not None and start.spec.directions != spec.directions:
        content.append(start.spec.directions)
    with claim_run_dir(settings, "retrain", content, source=source, genotype=genotype, world=world) as run_dir:
        run_dir.write(FILE, dumps(genotype))
        note_network(run_dir, spec, source)
        if mark is not None:
            note_beginning(run_dir, mark, live=live)
        if not (done := finished_without_checkpoint(run_dir)):
            metrics, test = fit(settings, run_dir, spec, source, precision, title="retrain", start=start)
            metrics = with_baselines(settings, source, run_dir, metrics)
    if done:
        found = verdict_of(run_dir.path, "retrain", RunStatus.FINISHED)
        print(f"{run_dir} is finished, and its {CHECKPOINT} is gone, so nothing is trained or measured anew: {found}")
        tell_weights(run_dir, source)
        return
    show(source.info, metrics, test, parameters=metrics["parameters"])
    if metrics.get("best_epoch") is not None and (run_dir / BEST).exists():
        tested = "; it is the test set too, which flatters them" if source.test is source.val else ""
        best = f"epoch {metrics['best_epoch'] + 1} of {settings.epochs}, the best on the validation set{tested}"
        tell(f"weights of {best}: {run_dir / BEST}")
    tell_baselines(metrics)
    tell_weights(run_dir, source)


def tell_weights(run_dir: RunDir, source: Source) -> None:
    """Print where weights and metrics are, and what comes next."""
    tell(f"weights: {run_dir / 'model.safetensors'}   metrics: {run_dir / 'metrics.json'}")
    tell_next("checkpoint", run_dir, *(("evaluate",) if source.info.targets.per_token else ("evaluate", "predict images=...")))


def check_start(settings: Retrain) -> None:
    """Raise ConfigError where overwrite=true would delete the weights that the run starts from."""
    if settings.init_from is None or not settings.overwrite:
        return
    run_dir = folder_of(settings, "retrain").resolve()
    if run_dir in (Path(settings.init_from).resolve(), *Path(settings.init_from).resolve().parents):
        raise ConfigError(f"init_from={settings.init_from} would be cleared by overwrite=true; choose another run_dir=")


def finished_without_checkpoint(run_dir: RunDir) -> bool:
    """Tell whether a run has left its results and its checkpoint was deleted, as by lmsearch clean."""
    if (run_dir / CHECKPOINT).exists() or older_states(run_dir.path):
        return False
    return all((run_dir / name).exists() for name in (MODEL, "metrics.json"))


def with_baselines(settings: Retrain, source: Source, run_dir: RunDir, metrics: dict) -> dict:
    """Return the metrics with simple baselines on the same test set, and write them where there are some."""
    baselines = simple_baselines(source, settings.baseline_limit, build_objective(source.info, settings.metric))
    if baselines:
        metrics = metrics | {"baselines": baselines}
        run_dir.write_json("metrics.json", metrics)
    return metrics


def tell_baselines(metrics: dict) -> None:
    """Print the baselines, and warn where the net stays below one."""
    if not (baselines := metrics.get("baselines")):
        return
    tell("on the pixels: " + ", ".join(f"{name} {score:.4f}" for name, score in baselines.items()))
    if short := shortfall({"this net": metrics[f"test_{metrics['metric']}"]}, baselines):
        log.warning(short)


def genotype_of(settings: Retrain, source: Source) -> Genotype:
    """Return the genotype that genotype= names: a set of the literature, or one that is stored."""
    name = settings.model.name
    return genotype_named(settings.genotype, family=model_family(name), depth=depth_of(settings, source), model=name)


def depth_of(settings: Retrain | Compare, source: Source) -> int:
    """Return how many layers the model has on this data."""
    options = model_options(settings, source.info)
    return model_depth(settings.model.name, **{key: options[key] for key in ("depth", "depths") if key in options})


def derived_spec(settings: Retrain | Compare, source: Source, genotype: Genotype) -> ModelSpec:
    """Return the description of the derived net; raise GenotypeError where the genotype has another depth than the model."""
    layer_grids(settings, source.info)  # raises where the model's tokens do not fit the data's targets
    check_depth(genotype, depth_of(settings, source), settings.model.name, where=settings.genotype or "arms")
    spec = model_spec(settings, source.info, genotype.directions, merge="sum")
    check_training(settings, spec)
    return spec


def start_of(init_from: str, settings: Retrain, spec: ModelSpec, source: Source) -> Start:
    """Return the weights that init_from= names, and log what of them does not come along.

    Raises CheckpointError where they do not fit.
    """
    start = Start(*read_model(Path(init_from)), source=f"init_from={init_from}")
    with torch.device("meta"):
        model = spec.build(backend=settings.backend)
    model.to("meta")  # heads of Transformers make some weights elsewhere
    for line in start_from(model, start.without_values(), classes=source.info.class_names, strict=settings.init_strict):
        log.warning(line)
    return start
