"""lmsearch predict with networks for pixels or objects: files in a folder, written image by image, and one line at the end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn

from lmsearch.data import DataInfo
from lmsearch.data.predict import check_readable, find_files
from lmsearch.data.reading import read_image
from lmsearch.engine.progress import CountProgress
from lmsearch.engine.train import Precision
from lmsearch.errors import CheckpointError, ConfigError, DataError
from lmsearch.files import make_folder, write_image, write_json
from lmsearch.interrupts import INTERRUPTED
from lmsearch.paths import shown
from lmsearch.settings.tasks import Predict
from lmsearch.streams import say
from lmsearch.tasks.parts.pictures import over_objects, over_pixels
from lmsearch.tasks.parts.predict_objects import category_of, coco_results, drawable, find_objects
from lmsearch.tasks.parts.predict_pixels import class_map, label_map, legend

log = logging.getLogger(__name__)
LABELS, PICTURES, CLASSES = "labels", "pictures", "classes.json"
RESULTS, IMAGES = "predictions.json", "images.json"


def run_dense(settings: Predict, model: nn.Module, info: DataInfo, precision: Precision) -> int:
    """Write label maps, or objects, and pictures of every image into the folder that out= names; return the exit code."""
    if settings.tile is not None and settings.overlap >= settings.tile:
        raise ConfigError(f"overlap={settings.overlap} must be smaller than tile={settings.tile}")
    if settings.sheet is not None:
        raise ConfigError("sheet= is for networks with a class per image; this one's pictures are in the folder that out= names")
    check_readable(info)
    files = find_files(settings.images)
    out = output_folder(settings)
    writer = (ObjectFiles if info.targets.objects else PixelFiles)(settings, out, model, info, precision)
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
                    writer.write(path, name, image)
                    done += 1
                progress.advance(1)
    except KeyboardInterrupt:
        say(f"\nlmsearch: interrupted after {done} of {len(files)} images; their results are in {out}")
        return INTERRUPTED
    except CheckpointError as error:
        raise CheckpointError(f"{shown(path)}: {error}") from error
    told = writer.finish()
    if not done:
        raise DataError(f"none of the {len(broken)} images could be read, first: {broken[0]}")
    if broken:
        log.warning("%d image(s) could not be read, first: %s", len(broken), broken[0])
    print(f"{done} images predicted   {told}")
    return 0


def windows_of(settings: Predict) -> dict[str, Any]:
    """Return how an image is cut into windows, and how many of them go through the network at a time."""
    return {"tile": settings.tile, "overlap": settings.overlap, "batch_size": settings.batch_size}


class PixelFiles:
    """Label maps and pictures of every image, and what the values of the maps mean."""

    def __init__(self, settings: Predict, out: Path, model: nn.Module, info: DataInfo, precision: Precision) -> None:
        self.out, self.info = out, info
        self.answer = partial(class_map, model, info, precision=precision, **windows_of(settings))
        for folder in (LABELS, PICTURES):
            make_folder(out / folder, key="out")
        write_json(out / CLASSES, legend(info))

    def write(self, path: Path, name: str, image: Image.Image) -> None:
        """Write what is answered for an image."""
        classes = self.answer(image=image)
        write_image(self.out / LABELS / f"{name}.png", label_map(classes, self.info))
        write_image(self.out / PICTURES / f"{name}.png", over_pixels(image, classes, self.info))

    def finish(self) -> str:
        """Return where things are."""
        return f"label maps: {self.out / LABELS}   pictures: {self.out / PICTURES}   classes: {self.out / CLASSES}"


class ObjectFiles:
    """Pictures of every image, and all objects in one file of COCO's results; `images.json` says which image has which id."""

    def __init__(self, settings: Predict, out: Path, model: nn.Module, info: DataInfo, precision: Precision) -> None:
        self.out, self.info = out, info
        self.answer = partial(find_objects, model, info, precision=precision, **windows_of(settings))
        self.images: list[dict[str, Any]] = []
        self.results: list[dict[str, Any]] = []
        make_folder(out / PICTURES, key="out")

    def write(self, path: Path, name: str, image: Image.Image) -> None:
        """Draw what is found in an image, and remember it."""
        objects, size, number = self.answer(image=image), (image.height, image.width), len(self.images) + 1
        self.images.append({"id": number, "file_name": str(path), "height": size[0], "width": size[1]})
        self.results += coco_results(objects, self.info, size, image_id=number)
        write_image(self.out / PICTURES / f"{name}.png", over_objects(image, drawable(objects, size), self.info))

    def finish(self) -> str:
        """Write the results, and return where things are."""
        categories = [{"id": category_of(self.info, label), "name": name} for label, name in enumerate(self.info.class_names)]
        write_json(self.out / IMAGES, {"images": self.images, "categories": categories})
        write_json(self.out / RESULTS, self.results)
        return f"objects: {self.out / RESULTS} (COCO)   images: {self.out / IMAGES}   pictures: {self.out / PICTURES}"


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
