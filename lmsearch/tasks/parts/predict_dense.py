"""predict= of networks that answer pixels: files in a folder, written image by image, and one line at the end."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import nn

from lmsearch.data import DataInfo
from lmsearch.data.predict import check_readable, find_files
from lmsearch.data.reading import read_image
from lmsearch.engine.progress import CountProgress
from lmsearch.engine.train import Precision
from lmsearch.errors import CheckpointError, ConfigError, DataError
from lmsearch.figures.overlay import class_colours, over_pixels
from lmsearch.files import make_folder, write_image, write_json
from lmsearch.interrupts import INTERRUPTED
from lmsearch.paths import shown
from lmsearch.settings.tasks import Predict
from lmsearch.tasks.parts.predict_pixels import class_map, label_map, legend

log = logging.getLogger(__name__)
LABELS, PICTURES, CLASSES = "labels", "pictures", "classes.json"


def run_dense(settings: Predict, model: nn.Module, info: DataInfo, precision: Precision) -> int:
    """Write label maps and pictures of every image into the folder that out= names; return the exit code."""
    if settings.tile is not None and settings.overlap >= settings.tile:
        raise ConfigError(f"overlap={settings.overlap} must be smaller than tile={settings.tile}")
    if settings.sheet is not None:
        raise ConfigError("sheet= is of networks for classes; pictures of pixels are in the folder that out= names")
    check_readable(info)
    files = find_files(settings.images)
    out = output_folder(settings)
    for name in (LABELS, PICTURES):
        make_folder(out / name, key="out")
    write_json(out / CLASSES, legend(info))
    done, broken = 0, []
    try:
        with CountProgress("predict", total=len(files), unit="images") as progress:
            for path, name in zip(files, output_names(files), strict=True):
                try:
                    image = read_image(path, info.in_chans)
                except DataError as error:
                    if settings.on_error == "raise":
                        raise DataError(f"{error}; on_error=skip goes on and counts such files") from error
                    broken.append(str(error))
                else:
                    write_pixels(settings, out, name, model, info, image, precision)
                    done += 1
                progress.advance(1)
    except KeyboardInterrupt:
        print(f"\nlmsearch: interrupted after {done} of {len(files)} images; their results are in {out}", file=sys.stderr)
        return INTERRUPTED
    except CheckpointError as error:
        raise CheckpointError(f"{shown(path)}: {error}") from error
    if not done:
        raise DataError(f"none of the {len(broken)} images could be read, first: {broken[0]}")
    if broken:
        log.warning("%d image(s) could not be read, first: %s", len(broken), broken[0])
    print(f"{done} images predicted   label maps: {out / LABELS}   pictures: {out / PICTURES}   classes: {out / CLASSES}")
    return 0


def write_pixels(
    settings: Predict, out: Path, name: str, model: nn.Module, info: DataInfo, image: Image.Image, precision: Precision
) -> None:
    """Write the label map of an image and the picture with its classes."""
    classes = class_map(
        model, info, image, precision, tile=settings.tile, overlap=settings.overlap, batch_size=settings.batch_size
    )
    write_image(out / LABELS / f"{name}.png", label_map(classes, info))
    write_image(out / PICTURES / f"{name}.png", over_pixels(image, classes, class_colours(info.num_classes)))


def output_folder(settings: Predict) -> Path:
    """Return the folder that out= names; raise ConfigError where there is none, or one that holds something else."""
    if settings.out is None:
        raise ConfigError("this network answers with a class per pixel; set out=<folder> for label maps and pictures")
    out = Path(settings.out)
    if out.is_file():
        raise ConfigError(f"out={settings.out!r} is a file; this network's label maps and pictures need a folder")
    if out.is_dir() and any(out.iterdir()) and not settings.overwrite:
        raise ConfigError(f"out={settings.out!r} holds files already; name another folder, or set overwrite=true to write there")
    return out


def output_names(files: Sequence[Path]) -> list[str]:
    """Return a name without ending for what is written of every file: its own, with a number where another has it too."""
    taken: set[str] = set()
    names = []
    for path in files:
        name, number = path.stem, 1
        while name in taken:
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name)
        names.append(name)
    return names
