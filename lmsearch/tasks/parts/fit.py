"""Training one fixed network from start to finish: what `retrain` does once and `compare` does for every arm."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch

from lmsearch.data import Loaders, Source, build_loaders
from lmsearch.data.batch import Batch
from lmsearch.data.info import Loader
from lmsearch.engine.best import Best
from lmsearch.engine.checkpoint import ModelSpec, save_model
from lmsearch.engine.distributed import World
from lmsearch.engine.finite import TrainingDiverged
from lmsearch.engine.log import RunLog
from lmsearch.engine.loop import run_epochs
from lmsearch.engine.objectives import Objective, Scores
from lmsearch.engine.progress import Phase, TrainingProgress
from lmsearch.engine.randomness import key
from lmsearch.engine.recipe import build_trainer
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.state import Keeping, RunState
from lmsearch.engine.train import Precision, Trainer, evaluate, validate_and_test
from lmsearch.engine.warm_start import Start, start_from
from lmsearch.run_identity import run_digest
from lmsearch.settings.shared import GoingOn
from lmsearch.tasks.parts.board import example_predictions, fill_board
from lmsearch.tasks.parts.build import build_objective, build_recipe
from lmsearch.tasks.parts.measured import measured, warn_about_classes, write_confusion, write_precision
from lmsearch.tasks.parts.pictures import write_curves, write_first_batch
from lmsearch.tasks.parts.watch import is_due


def fit(
    settings: GoingOn,
    run_dir: RunDir,
    spec: ModelSpec,
    source: Source,
    precision: Precision,
    *,
    title: str,
    start: Start | None = None,
    trainings_left: int = 0,
) -> tuple[dict, Scores]:
    """Train `spec` on `source`, write weights, metrics.json and the confusion matrix, return (metrics, scores of test samples).

    The weights of the last epoch count, or their moving average; those that were best on the validation set are kept beside
    them. Nothing is selected on the test set. `trainings_left`: as many like it come after it, for the time left.
    """
    loaders = fitting_data(settings, source, precision, world=run_dir.world)
    torch.manual_seed(key(settings.seed, "init"))
    model = spec.build(backend=settings.backend)
    if start is not None:
        start_from(model, start, classes=source.info.class_names)
    model.to(precision.device)
    trainer = build_trainer(
        build_recipe(settings),
        model,
        model.named_parameters(),
        loaders.train,
        source.info,
        precision,
        seed=settings.seed,
        world=run_dir.world,
    )
    objective = build_objective(source.info, settings.metric)
    best = Best(run_dir, spec, objective.metric)
    state = RunState(
        run_dir, trainer.parts() | {"best": best}, spec=spec, run=run_digest(settings.content), keeping=keeping_of(settings)
    )
    try:
        train(
            settings,
            run_dir,
            trainer,
            state,
            loaders.train,
            loaders.val,
            objective,
            title=title,
            best=best,
            trainings_left=trainings_left,
        )
        with Phase(f"{title}: evaluation", images=loaders.num_measured):
            val, test = validate_and_test(trainer.result, loaders, objective, precision)
    except TrainingDiverged as error:
        raise TrainingDiverged(f"{title}: {error}", spoilt=error.spoilt) from error
    save_model(run_dir, spec, trainer.result.state_dict())
    metrics = measured(source.info, objective, test=test, val=val) | best.to_dict()
    metrics |= trainer.skips.counts() | {
        "parameters": sum(p.numel() for p in model.parameters()),
        "epochs": settings.epochs,
        "train_s": round(state.train_s, 1),
    }
    run_dir.write_json("metrics.json", metrics)
    write_confusion(run_dir, source.info, test)
    write_precision(run_dir, source.info, test)
    if source.info.targets.per_pixel or source.info.targets.objects:
        write_curves(run_dir, objective.metric)
        write_first_batch(run_dir, trainer.result, source.info, loaders.val, precision)
    shown = source.info.targets.classes and run_dir.world.main
    examples = example_predictions(trainer.result, source.info, loaders.val, precision) if shown else None
    fill_board(run_dir, settings.content, metrics, step=settings.epochs, examples=examples)
    warn_about_classes(source.info, test=test, val=val, what=title)
    return metrics, test


def fitting_data(settings: GoingOn, source: Source, precision: Precision, *, world: World) -> Loaders:
    """Return the batches of a training, of which each process of `world` has a part; raise DataError where there is not one."""
    return build_loaders(
        source,
        batch_size=settings.batch_size,
        seed=settings.seed,
        world=world,
        num_workers=settings.readers,
        pin_memory=precision.device.type == "cuda",
    )


def keeping_of(settings: GoingOn) -> Keeping:
    """Return how the states of a training are kept."""
    return Keeping(settings.save_every_s, settings.keep_checkpoints)


def train(
    settings: GoingOn,
    run_dir: RunDir,
    trainer: Trainer,
    state: RunState,
    loader: Loader,
    val_loader: Iterable[Batch],
    objective: Objective,
    *,
    title: str,
    split: str = "val",
    best: Best | None = None,
    run: Callable[..., None] | None = None,
    trainings_left: int = 0,
) -> None:
    """Train for settings.epochs epochs, continuing where run_dir left off; `split` names what val_loader holds in the metrics.

    `best` keeps the weights of the best epoch. Averaged weights are what is evaluated, where there are some. `run` trains in
    place of run_epochs(trainer, loader, epochs=settings.epochs).
    """
    start, steps = state.restore(), len(loader)
    total, metric = settings.epochs * steps, objective.metric.in_training
    progress = TrainingProgress(
        title,
        total_steps=total,
        done_steps=start.steps(steps),
        metric=metric,
        later=trainings_left * total,
        epochs=settings.epochs,
        processes=run_dir.world.size,
    )
    with RunLog(run_dir, start_epoch=start.epoch) as run_log, progress:

        def log_epoch(epoch: int, seen: Scores) -> None:
            """Evaluate, write it down, and keep the weights where they are the best."""
            val = evaluate(trainer.result, val_loader, objective, trainer.precision, what=f"{split} (epoch {epoch + 1})")
            run_log.write(
                epoch,
                {
                    **trainer.objective.trained(seen),
                    f"{split}_loss": val.loss,
                    f"{split}_{objective.metric}": val.score,
                    **{f"{split}_{name}": value for name, value in val.told.items()},
                    "lr": trainer.rate(epoch * steps),
                    **trainer.skips.counts(),
                },
            )
            if is_due(None, epoch, settings.epochs):
                run_log.histograms(epoch, trainer.model)
            if best is not None:
                best.offer(trainer.result, val, epoch=epoch)

        run = run or partial(run_epochs, trainer, loader, epochs=settings.epochs)
        run(start=start, on_step=progress.step, on_epoch=log_epoch, state=state)
