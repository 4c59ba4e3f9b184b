"""lmsearch predict: what a trained network answers for images; the results come as the images are read."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import nn

from lmsearch.config import settings_of
from lmsearch.data import DataInfo
from lmsearch.data.ahead import pieces_read
from lmsearch.data.predict import check_readable, find_files, read_tensor
from lmsearch.data.reading import read_image
from lmsearch.engine.progress import CountProgress
from lmsearch.engine.train import Precision
from lmsearch.errors import CheckpointError, ConfigError, DataError
from lmsearch.figures.sheet import Cell, contact_sheet, spaced
from lmsearch.files import make_folder, write_image
from lmsearch.interrupts import INTERRUPTED
from lmsearch.paths import shown
from lmsearch.report.predictions import ENDINGS, Prediction, open_predictions
from lmsearch.settings.tasks import Predict
from lmsearch.streams import say
from lmsearch.tasks.parts.build import build_precision
from lmsearch.tasks.parts.out_file import out_file
from lmsearch.tasks.parts.predict_dense import run_dense
from lmsearch.tasks.parts.readers import reading_threads
from lmsearch.tasks.parts.trained import images_per_step, load_answering

log = logging.getLogger(__name__)


@dataclass
class Tally:
    """What has been predicted so far: how many images, what is wrong with the first unreadable one, those for the sheet."""

    read: int = 0
    unreadable: int = 0
    first_error: str = ""
    sheet: list[Prediction] = field(default_factory=list)


def run(cfg: DictConfig) -> int:
    """Answer with a network for classes of images, for pixels or for objects."""
    settings = settings_of(Predict, cfg)
    precision = build_precision(settings)
    model, spec, info = load_answering(settings.checkpoint, precision, backend=settings.backend)
    if settings.overlap and settings.tile is None:
        raise ConfigError(f"overlap={settings.overlap} is of neighbouring windows; set tile= to their side")
    if info.targets.per_pixel or info.targets.objects:
        return run_dense(settings, model, info, precision)
    if not info.targets.classes:
        raise CheckpointError(f"{settings.checkpoint}: {spec.name} was trained on {info.name}, which has no classes to predict")
    others = [key for key in ("tile", "annotations") if settings.get(key) is not None]
    if others:
        told = f"{others[0]}={settings.get(others[0])} is for networks that answer pixels or objects"
        raise ConfigError(f"{told}; {spec.name} answers with a class per image")
    return classify(settings, model, info, precision)


def classify(settings: Predict, model: nn.Module, info: DataInfo, precision: Precision) -> int:
    """Print or write the most probable classes of every image, and a sheet of thumbnails where asked for."""
    out = output_file("out", settings.out, ENDINGS, overwrite=settings.overwrite)
    sheet = output_file("sheet", settings.sheet, (".png",), overwrite=settings.overwrite)
    check_readable(info)
    files = find_files(settings.images)
    top, tally = min(settings.top, info.num_classes), Tally()
    chosen = {files[place] for place in spaced(len(files))} if sheet else set()
    batches = predictions(
        model, info, files, precision, batch_size=images_per_step(settings.batch_size, info), top=top,
        on_error=settings.on_error, threads=reading_threads(precision.device),
    )  # fmt: skip
    progress = CountProgress("predict", total=len(files), unit="images") if out else nullcontext()
    try:
        with open_predictions(out, top=top) if out else nullcontext(print_predictions) as write, progress as counter:
            for batch in batches:
                write(batch)
                count(tally, batch, chosen)
                if counter is not None:
                    counter.advance(len(batch))
    except KeyboardInterrupt:
        kept = f"; their results are in {out}" if out and out.suffix != ".json" else ""
        say(f"\nlmsearch: interrupted after {tally.read + tally.unreadable} of {len(files)} images{kept}")
        return INTERRUPTED
    if sheet:
        write_image(sheet, contact_sheet([cell_of(prediction, info) for prediction in tally.sheet]))
    return finish(tally, [path for path in (out, sheet) if path])


def output_file(key: str, value: str | None, endings: Sequence[str], *, overwrite: bool) -> Path | None:
    """Return the file that a key names, None for none; raise ConfigError where it cannot or must not be written."""
    if value is None:
        return None
    if Path(value).suffix not in endings:
        raise ConfigError(f"{key}={value!r} has an unknown ending; accepted: {', '.join(endings)}")
    path = out_file(value, key=key, overwrite=overwrite)
    make_folder(path.absolute().parent, key=key)
    return path


@torch.no_grad()
def predictions(
    model: nn.Module,
    info: DataInfo,
    files: Sequence[Path],
    precision: Precision,
    *,
    batch_size: int,
    top: int,
    on_error: str,
    threads: int = 0,
) -> Iterator[list[Prediction]]:
    """Yield the predictions of batch after batch of files, in their order: the `top` most probable classes of every image.

    `threads` read the next batches meanwhile.
    The first class is the one that evaluation counts. Raises DataError for an unreadable file with on_error "raise", else it
    is part of the results; CheckpointError where the network gives no finite numbers.
    """
    for piece in pieces_read(files, partial(read_or_error, info=info), size=batch_size, threads=threads):
        tensors: dict[Path, torch.Tensor] = {}
        found: dict[Path, Prediction] = {}
        for path, read in piece:
            if isinstance(read, torch.Tensor):
                tensors[path] = read
            elif on_error == "raise":
                raise DataError(f"{read}; on_error=skip goes on and names such files in the results") from read
            else:
                found[path] = Prediction(path, error=str(read).removeprefix(f"{shown(path)}: "))
        if tensors:
            with precision.autocast():
                logits = model(torch.stack(list(tensors.values())).to(precision.device)).float()
            if not logits.isfinite().all():
                first = shown(next(iter(tensors)))
                raise CheckpointError(f"{first}: the network's outputs are not finite (precision={precision.name})")
            ranked = logits.argsort(dim=-1, descending=True, stable=True)[:, :top]  # ties as argmax breaks them
            probabilities = torch.softmax(logits, -1).gather(-1, ranked)
            for path, classes, values in zip(tensors, ranked.tolist(), probabilities.tolist(), strict=True):
                names = (info.class_names[place] for place in classes)
                found[path] = Prediction(path, tuple((name, round(p, 6)) for name, p in zip(names, values, strict=True)))
        yield [found[path] for path, _ in piece]


def read_or_error(path: Path, *, info: DataInfo) -> torch.Tensor | DataError:
    """Return what the network sees of a file, or why that cannot be read."""
    try:
        return read_tensor(path, info)
    except DataError as error:
        return error


def print_predictions(batch: Sequence[Prediction]) -> None:
    """Print one line per image."""
    for prediction in batch:
        answer = ", ".join(f"{name} {p:.3f}" for name, p in prediction.classes)
        print(f"{shown(prediction.path)}: {answer or prediction.error}")


def count(tally: Tally, batch: Sequence[Prediction], chosen: set[Path]) -> None:
    """Add a batch to the tally."""
    for prediction in batch:
        tally.read += not prediction.error
        tally.unreadable += bool(prediction.error)
        if prediction.error and not tally.first_error:
            tally.first_error = f"{shown(prediction.path)}: {prediction.error}"
    tally.sheet += [prediction for prediction in batch if prediction.path in chosen]


def cell_of(prediction: Prediction, info: DataInfo) -> Cell:
    """Return the thumbnail of an image, as the network reads it, with its name and the most probable class."""
    name = shown(prediction.path.name)
    if prediction.error:
        return Cell(None, (name, "unreadable"))
    (best, probability), *_ = prediction.classes
    return Cell(read_image(prediction.path, info.in_chans).convert("RGB"), (name, f"{best} {probability:.2f}"))


def finish(tally: Tally, written: list[Path]) -> int:
    """Print how many images were read and what was written; raise DataError where none could be read."""
    if not tally.read:
        raise DataError(f"none of the {tally.unreadable} images could be read, first: {tally.first_error}")
    if tally.unreadable:
        log.warning("%d image(s) could not be read, first: %s", tally.unreadable, tally.first_error)
    if written:
        left = f", {tally.unreadable} could not be read" if tally.unreadable else ""
        print(f"{tally.read} images predicted{left}   written: {', '.join(map(str, written))}")
    return 0
