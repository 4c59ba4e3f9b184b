"""lmsearch predict with networks for pixels or objects: files in a folder, written image by image, and one line at the end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from lmsearch.data import DataInfo
from lmsearch.data.dense.numbers import counted, of_coco
from lmsearch.data.predict import check_readable, find_files
from lmsearch.data.reading import read_image
from lmsearch.engine.progress import CountProgress
from lmsearch.engine.train import Precision
from lmsearch.errors import CheckpointError, ConfigError, DataError
from lmsearch.interrupts import INTERRUPTED
from lmsearch.paths import shown
from lmsearch.settings.tasks import Predict
from lmsearch.streams import say
from lmsearch.tasks.parts.predict_files import ObjectFiles, PixelFiles, entries_of, take_back
from lmsearch.tasks.parts.trained import images_per_step

log = logging.getLogger(__name__)
Writer = PixelFiles | ObjectFiles


def run_dense(settings: Predict, model: nn.Module, info: DataInfo, precision: Precision) -> int:
    """Write label maps, or objects, and pictures of every image into the folder that out= names; return the exit code.

    What was answered before an interruption or an error is kept; where nothing was, nothing is left in the way of the next try.
    """
    if settings.tile is not None and settings.overlap >= settings.tile:
        raise ConfigError(f"overlap={settings.overlap} must be smaller than tile={settings.tile}")
    if settings.sheet is not None:
        raise ConfigError("sheet= is for networks with a class per image; this one's pictures are in the folder that out= names")
    check_readable(info)
    files = find_files(settings.images)
    out = output_folder(settings)
    writer = writer_for(settings, files, out, model, info, precision)
    names, done, broken, before = output_names(files), 0, [], entries_of(out)
    writer.begin(names)
    try:
        with CountProgress("predict", total=len(files), unit="images") as progress:
            for path, name in zip(files, names, strict=True):
                try:
                    writer.write(path, name, read_image(path, info.in_chans))
                    done += 1
                except DataError as error:
                    if settings.on_error == "raise":
                        raise DataError(f"{error}; on_error=skip goes on and counts such files") from error
                    broken.append(str(error))
                    writer.broken(path, str(error))
                progress.advance(1)
    except KeyboardInterrupt:
        kept = f"; their results are in {out}" if done else ""
        say(f"\nlmsearch: interrupted after {done} of {len(files)} images{kept}")
        return INTERRUPTED
    except CheckpointError as error:
        raise CheckpointError(f"{shown(path)}: {error}") from error
    finally:
        told = writer.finish()
        if not done:
            take_back(out, before, names)
    if not done:
        raise DataError(f"none of the {len(broken)} images could be read, first: {broken[0]}")
    if broken:
        log.warning("%d image(s) could not be read, first: %s", len(broken), broken[0])
    print(f"{done} images predicted   {told}")
    return 0


def writer_for(
    settings: Predict, files: Sequence[Path], out: Path, model: nn.Module, info: DataInfo, precision: Precision
) -> Writer:
    """Return what writes the answers of a network; raise ConfigError or DataError where annotations= does not fit."""
    options = (out, model, info, precision, windows_of(settings, info))
    if not info.targets.objects:
        if settings.annotations is not None:
            raise ConfigError("annotations= is for networks that answer objects; this one answers a class per pixel")
        return PixelFiles(*options)
    if settings.annotations is not None:
        numbers = of_coco(Path(settings.annotations), files, info)
        numbers.check_sizes()
        return ObjectFiles(*options, numbers)
    log.info("image ids count from 1 in the order of images.json; annotations=<COCO file> gives images and classes its own")
    return ObjectFiles(*options, counted(files, info))


def windows_of(settings: Predict, info: DataInfo) -> dict[str, Any]:
    """Return how an image is cut into windows, and how many of them go through the network at a time."""
    return {"tile": settings.tile, "overlap": settings.overlap, "batch_size": images_per_step(settings.batch_size, info)}


def output_folder(settings: Predict) -> Path:
    """Return the folder that out= names; raise ConfigError where there is none, or one that holds something else."""
    if settings.out is None:
        raise ConfigError("this network answers with pixels or objects; set out=<folder> for its files and pictures")
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
