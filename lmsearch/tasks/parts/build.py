"""From settings to plain objects: device, data, model description, recipe."""

from __future__ import annotations

import logging
from dataclasses import asdict

import numpy as np
import torch

from lmsearch.data import NOT_BUILT, DataInfo, Source, build_source
from lmsearch.data.dense.folder import DenseFolder
from lmsearch.data.info import TargetKind, target_kind
from lmsearch.data.layout import Folder
from lmsearch.data.listing import some
from lmsearch.data.sources.dense import without_masks
from lmsearch.data.sources.idx import IdxSets
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.engine.compiler import check_compiler
from lmsearch.engine.devices import device_named, lacks_bf16
from lmsearch.engine.objectives import Objective, metric_for, objective_for
from lmsearch.engine.recipe import Recipe
from lmsearch.engine.train import Precision
from lmsearch.errors import ConfigError, DataError
from lmsearch.kernels import choose_backend
from lmsearch.models import create_model
from lmsearch.models.dense import HEADS, HeadKind, head_kind
from lmsearch.scan.grids import Grid, grid_text
from lmsearch.settings.model import Model
from lmsearch.settings.optim import Optim
from lmsearch.settings.shared import Data, Machine, Training
from lmsearch.stats.detection import evaluator

log = logging.getLogger(__name__)
UNEQUAL = 3  # times as many training images in the largest class as in the smallest, at which that is said


def build_precision(settings: Machine) -> Precision:
    """Return the device and how it computes; raise ConfigError for device=cuda without a CUDA device."""
    device = device_named(settings.device)
    if settings.precision == "bf16" and device.type == "cpu" and lacks_bf16():
        log.warning("precision=bf16: this CPU has no arithmetic for it (AVX512-BF16, AMX) and imitates it; fp32 is far faster")
    if not isinstance(settings, Training):
        return Precision(device, settings.precision)
    model = settings.model
    return Precision(device, settings.precision, settings.micro_batch, model.grad_checkpointing, model.compile)


def build_data(data: Data, *, folder: Folder | DenseFolder | IdxSets | None = None) -> Source:
    """Return a data source, drawn as data.sampler says; `folder` is what is at its root, once listed or read."""
    options = source_options(data) | ({} if folder is None else {"root": folder})
    source = build_source(options.pop("name"), **options)
    return source.balanced() if data.options().get("sampler") == "balanced" else source


def seen_by(head: object, source: Source) -> Source:
    """Return the data as a head needs them: objects without masks where it answers boxes alone. `head` None: the model's own."""
    if head is None or not source.info.targets.objects or head_kind(head).masks:
        return source
    return without_masks(source)


def check_classes(optim: Optim, source: Source) -> None:
    """Say what the numbers of training images of the classes mean for a training.

    Classes without any are named. Where some have many more than others and nothing evens that out, the keys to set are. Raises
    DataError where all images are of one class.
    """
    weighted, drawn = optim.class_weights == "balanced", source.sampler == "balanced"
    if weighted and drawn:
        log.warning("optim.class_weights=balanced has no effect with data.sampler=balanced, which draws all classes alike")
    if source.train.labels is None:
        return
    counts, names = np.bincount(source.train.labels, minlength=source.info.num_classes), source.info.class_names
    there = np.flatnonzero(counts)
    if len(there) < 2:
        raise DataError(
            f"data={source.info.name}: all {counts.sum()} training images are of one class, {names[there[0]]!r}; expected two"
            " classes or more to tell apart"
        )
    if lacking := [name for name, count in zip(names, counts, strict=True) if not count]:
        told = "no training image is of %d of the %d classes, of which nothing is learned: %s"
        log.warning(told, len(lacking), len(names), some(lacking))
    if weighted or drawn or counts.max() < UNEQUAL * counts[there].min():
        return
    least, most = (f"{counts[i]} of {names[i]!r}" for i in (there[counts[there].argmin()], counts.argmax()))
    log.warning(
        "classes are unequal: from %s to %s training images, so that answering large classes pays; optim.class_weights=balanced"
        " or data.sampler=balanced train them alike, metric=balanced_accuracy judges them alike",
        least,
        most,
    )


def source_options(data: Data) -> dict:
    """Return what a section says about the data themselves, not how training draws them."""
    return {key: value for key, value in data.options().items() if key not in NOT_BUILT}


def build_objective(info: DataInfo, metric: str | None = None) -> Objective:
    """Return what the data asks for, one class per image or one value per token, judged by `metric` or the default one."""
    return objective_for(info.target, metric=metric)


def model_options(settings: Training, info: DataInfo) -> dict:
    """Return the options of create_model: those that are set, and image size, channels and classes from the data.

    Raises ConfigError for a head that does not answer what the data ask.
    """
    check_head(settings, info)
    options = settings.model.options()
    options.pop("name")
    check_pool(options.get("global_pool"), settings, info)
    options |= {"img_size": list(info.img_size), "in_chans": info.in_chans, "num_classes": info.num_classes}
    if settings.head is None:
        return options
    options |= {"head": settings.head, "frozen_stages": settings.frozen_stages}
    if (levels := settings.out_indices) is not None:
        options["out_indices"] = [levels] if isinstance(levels, int) else levels
    return options


def check_head(settings: Training, info: DataInfo) -> None:
    """Raise ConfigError where the data need another head, a head at all, or none.

    Raises LmsearchError where there are objects, and what measures them in the end is not installed.
    """
    needed = info.targets.per_pixel or info.targets.objects
    if settings.head is None:
        if needed:
            raise ConfigError(f"data={info.name} has {info.targets.told}; set head= to what answers that")
        if given := [key for key in ("out_indices", "frozen_stages") if settings.get(key)]:
            raise ConfigError(f"{given[0]}={settings.get(given[0])} is a key of heads, and data={info.name} takes no head=")
        return
    kind = check_learns(settings.head, info.name, info.targets)
    if info.targets.objects:
        evaluator()
        if metric_for(info.target, settings.metric).masks and not kind.masks:
            raise ConfigError(f"metric={settings.metric} needs answers with masks, and head={kind.name} answers boxes alone")


def check_pool(pool: str | None, settings: Training, info: DataInfo) -> None:
    """Raise ConfigError where the model answers for each token and the data ask for each image, or the other way round."""
    if settings.head is None and info.targets.per_token != (pool == ""):
        asked = '"" (one output per token)' if info.targets.per_token else "null, avg, or token (one output per image)"
        given = {None: "null", "": '""'}.get(pool, pool)
        raise ConfigError(
            f"model.global_pool={given} does not go with data={info.name}, which has {info.targets.told}; accepted: {asked}"
        )


def check_learns(head: str, name: str, target: TargetKind) -> HeadKind:
    """Return the head of a name; raise ConfigError where it does not learn what data=`name` has."""
    kind = head_kind(head)
    if target.name not in kind.targets:
        fitting = [other.name for other in HEADS.values() if target.name in other.targets]
        other = f"accepted: {', '.join(fitting)}" if fitting else "leave head out"
        raise ConfigError(f"head={head} does not learn from data={name}, which has {target.told}; {other}")
    return kind


def model_spec(settings: Training, info: DataInfo, directions: tuple[tuple[str, ...], ...], *, merge: str) -> ModelSpec:
    """Return the description of the model with `directions`, for this data."""
    data = {"info": asdict(info), "source": source_options(settings.data)}
    return ModelSpec(settings.model.name, directions, merge, model_options(settings, info), data)


def check_tokens(model: Model, info: DataInfo, grid: Grid) -> None:
    """Raise ConfigError where the model has other tokens than the data has targets."""
    if info.targets.per_token and tuple(grid) != tuple(info.img_size):
        raise ConfigError(
            f"data={info.name} has one target for each of {grid_text(info.img_size)} pixels, but model={model.name} makes"
            f" {grid_text(grid)} tokens of them; set model.patch_size=1"
        )


def layer_grids(settings: Training, info: DataInfo) -> tuple[list[Grid], str]:
    """Return the token grid of every layer of the model on this data, and its window padding."""
    with torch.device("meta"):  # no memory, no time
        net = create_model(settings.model.name, **model_options(settings, info))
    padding = net.mixers()[0].options.window_padding
    grids = net.layer_grids(info.img_size)
    check_tokens(settings.model, info, grids[-1])
    return grids, padding


def build_recipe(settings: Training) -> Recipe:
    """Return optimizer, epochs and batch size as plain values; raise ConfigError where the warm-up outlasts the run."""
    optim, epochs = settings.optim, settings.epochs
    if optim.warmup_epochs > epochs:
        raise ConfigError(f"optim.warmup_epochs={optim.warmup_epochs} is more than epochs={epochs}, of which it is part")
    return Recipe(epochs, settings.batch_size, **vars(optim) | {"betas": tuple(optim.betas)})


def check_micro_batch(micro_batch: int | None, batch_size: int) -> None:
    """Raise ConfigError where a batch cannot be cut into equal parts of that size."""
    if micro_batch is not None and batch_size % micro_batch:
        fitting = max(part for part in range(1, min(micro_batch, batch_size) + 1) if batch_size % part == 0)
        raise ConfigError(
            f"micro_batch={micro_batch} does not divide batch_size={batch_size}; the next smaller one that does is {fitting}"
        )


def check_training(settings: Training, spec: ModelSpec) -> None:
    """Raise an error where recipe, metric or model do not fit, or the backend or torch.compile do not run on the device.

    So all this is found before anything is written or started over.
    """
    target = spec.data["info"]["target"]
    metric_for(target, settings.metric)
    check_micro_batch(settings.micro_batch, settings.batch_size)
    weights = build_recipe(settings).class_weights
    if weights != "none" and not target_kind(target).classes:
        raise ConfigError(f"optim.class_weights={weights} needs data with classes; {settings.data.name} has none")
    with torch.device("meta"):  # no memory, no time
        spec.build(backend=settings.backend)
    choose_backend(settings.backend, device_named(settings.device), torch.float32)
    if settings.model.compile:
        check_compiler(device_named(settings.device))
