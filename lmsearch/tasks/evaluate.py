"""lmsearch evaluate: measure a trained network on the test set of its data, or of other data with the same classes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lmsearch.config import settings_of
from lmsearch.context import tell
from lmsearch.data import DataInfo, Source, build_loaders, options_of
from lmsearch.data.dense.folder import Wanted, read_dense_for_evaluation
from lmsearch.data.layout import read_for_evaluation, split_folders
from lmsearch.engine.checkpoint import ModelSpec, fingerprint
from lmsearch.engine.distributed import World
from lmsearch.engine.finite import TrainingDiverged
from lmsearch.engine.processes import joined
from lmsearch.engine.progress import Phase
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.train import Precision, validate_and_test
from lmsearch.errors import CheckpointError, ConfigError, DataError
from lmsearch.reading import is_folder, is_same
from lmsearch.run_identity import config_digest
from lmsearch.scan.grids import grid_text
from lmsearch.settings.data import Dense, ImageFolder
from lmsearch.settings.shared import Data
from lmsearch.settings.tasks import Evaluate
from lmsearch.tasks.parts.build import build_objective, build_precision, seen_by, source_options
from lmsearch.tasks.parts.measured import PRECISION, measured, show, warn_about_classes, write_confusion, write_precision
from lmsearch.tasks.parts.readers import settle_readers
from lmsearch.tasks.parts.run_dir import Claim, is_configured, open_run_dir, refuse_foreign, tell_next, write_config
from lmsearch.tasks.parts.trained import data_for, images_per_step, load_answering, seen_in_training

WRITTEN = ("config.yaml", "metrics.json", "confusion.json", "confusion.png", PRECISION)
log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> int:
    """Evaluate and write metrics.json."""
    settings = settings_of(Evaluate, cfg)
    precision = build_precision(settings)
    with joined(precision.device) as world:
        measure(settings, precision, world)
    return 0


def measure(settings: Evaluate, precision: Precision, world: World) -> None:
    """Evaluate on the samples of both sets, which the processes of `world` share, and write down what came out."""
    checkpoint = settings.checkpoint
    world.assert_same(config_digest(settings.content), what="the configuration")
    model, spec, info = load_answering(checkpoint, precision, backend=settings.backend)
    world.assert_same(fingerprint(model.state_dict()), what=f"the network of {checkpoint}")
    if settings.data is None:
        raise ConfigError(f"{checkpoint} does not say what data it was trained on; set data=...")
    if told := seen_in_training(source_options(settings.data), spec):
        log.warning("%s %s", checkpoint, told)
    source = seen_by(spec.options.get("head"), data_for(measured_on(settings.data, spec, info), info))
    check_fits(source, info, checkpoint)
    batch_size = images_per_step(settings.batch_size, info, processes=world.size)
    settings = settings.changed({"batch_size": batch_size})
    settings = settle_readers(settings, source, precision.device, world=world)
    loaders = build_loaders(
        source,
        batch_size=batch_size,
        seed=0,
        drop_last=False,
        num_workers=settings.readers,
        pin_memory=precision.device.type == "cuda",
        world=world,
    )
    objective = build_objective(info)
    try:
        with Phase("evaluation", images=loaders.num_measured):
            val, test = validate_and_test(model, loaders, objective, precision)
    except TrainingDiverged as error:
        raise CheckpointError(f"{checkpoint}: {error}") from error
    metrics = measured(info, objective, test=test, val=val)
    with open_run_dir(settings, "evaluate", data=source.info.name, model=spec.name, world=world) as run_dir:
        keep_others(run_dir)
        Claim(f"evaluate {config_digest(settings.content)}").write(run_dir)
        write_config(run_dir, settings)  # says what was measured, on what
        run_dir.write_json("metrics.json", metrics)
        write_confusion(run_dir, info, test)
        write_precision(run_dir, info, test)
    warn_about_classes(info, test=test, val=val, what=checkpoint)
    show(info, metrics, test)
    tell(f"metrics: {run_dir / 'metrics.json'}")
    if not source.info.targets.per_token:
        tell_next("checkpoint", checkpoint, "predict images=...")


def keep_others(run_dir: RunDir) -> None:
    """Raise ConfigError where the folder holds another task's run; say where another evaluation's results are replaced."""
    task = Claim.read(run_dir.path).task
    if task not in ("", "evaluate"):
        raise ConfigError(f"{run_dir} holds a run of lmsearch {task}, whose metrics.json would be lost; choose another run_dir=")
    if not is_configured(run_dir.path, "checkpoint"):
        refuse_foreign(run_dir.path, WRITTEN, but="")
    if (run_dir / "metrics.json").exists():
        log.warning("%s of an evaluation before is replaced; run_dir= keeps both", run_dir / "metrics.json")


def measured_on(data: Data, spec: ModelSpec, info: DataInfo) -> dict[str, Any]:
    """Return the options of the data, with no more read of a folder than is measured.

    Of another folder than that of the training, all images for testing count. Of its own, wherever it lies now, those count that
    validated, which are training images that were set aside where `val_digest` says so.
    """
    options, trained = source_options(data), spec.data.get("source") or {}
    if "root" in options and "root" in trained and is_same(options["root"], trained["root"]) and some_set_aside(data):
        return options
    recorded = {key: trained.get(key) for key in ("val_fraction", "val_digest")}
    if isinstance(data, ImageFolder):
        return options | {"root": read_for_evaluation(Path(data.root), class_names=info.class_names, **recorded)}
    if isinstance(data, Dense):
        wanted = Wanted(
            data.ignore_index,
            data.reduce_zero_label,
            data.on_error,
            info.class_names,
            info.categories or None,
            per_pixel=info.targets.per_pixel,
        )
        folder = read_dense_for_evaluation(Path(data.root), format=data.format, wanted=wanted, **recorded)
        return options | {"root": folder, "target": info.target}
    return options


def some_set_aside(data: Data) -> bool:
    """Tell whether training images validate, which have to be listed then: no split of their own does, or nothing tells."""
    if isinstance(data, ImageFolder) and not (is_folder(data.root) and "val" in split_folders(Path(data.root))):
        return True
    return not isinstance(data, Dense | ImageFolder) or (data.val_fraction, data.val_digest) != (None, None)


def check_fits(source: Source, own: DataInfo, checkpoint: str) -> None:
    """Raise DataError where the data's classes or channels are not those that the network was trained for.

    Images of another size, which no key of theirs tells, are measured as they are, and that is said.
    """
    for name in ("class_names", "in_chans", "target"):
        if getattr(own, name) != getattr(source.info, name):
            raise DataError(
                f"{checkpoint} was trained for {name}={getattr(own, name)}, the data has {getattr(source.info, name)}"
            )
    if own.img_size != source.info.img_size and "img_size" not in options_of(source.info.name):
        sizes = grid_text(own.img_size), grid_text(source.info.img_size)
        log.warning("%s was trained on images of %s, the data has %s; they are measured at that size", checkpoint, *sizes)
