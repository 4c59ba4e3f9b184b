"""What lmsearch predict writes for networks that answer pixels or objects: files and pictures in a folder, image by image."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn

from lmsearch.data import DataInfo
from lmsearch.data.dense.numbers import Numbers
from lmsearch.engine.train import Precision
from lmsearch.files import make_folder, remove, write_image, write_json
from lmsearch.interrupts import held_signals
from lmsearch.report.predictions import JsonList
from lmsearch.tasks.parts.pictures import over_objects, over_pixels
from lmsearch.tasks.parts.predict_objects import coco_results, drawable, find_objects
from lmsearch.tasks.parts.predict_pixels import class_map, label_map, legend

LABELS, PICTURES, CLASSES = "labels", "pictures", "classes.json"
RESULTS, MASK_RESULTS, IMAGES = "predictions.json", "predictions_masks.json", "images.json"


class PixelFiles:
    """Label maps and pictures of every image, what the values of the maps mean, and which map is of which image."""

    def __init__(self, out: Path, model: nn.Module, info: DataInfo, precision: Precision, windows: dict[str, Any]) -> None:
        self.out, self.info = out, info
        self.answer = partial(class_map, model, info, precision=precision, **windows)
        self.images: list[dict[str, Any]] = []
        self.unreadable: list[dict[str, Any]] = []

    def begin(self, names: Sequence[str]) -> None:
        """Make the folder ready for images of these names: what is there of them was answered before, and goes."""
        make_ready(self.out, (LABELS, PICTURES), names, (CLASSES, IMAGES))
        write_json(self.out / CLASSES, legend(self.info))

    def write(self, path: Path, name: str, image: Image.Image) -> None:
        """Write what is answered for an image."""
        classes = self.answer(image=image)
        written = {"label_map": label_map(classes, self.info), "picture": over_pixels(image, classes, self.info)}
        files = {"label_map": f"{LABELS}/{name}.png", "picture": f"{PICTURES}/{name}.png"}
        with held_signals():
            for key, file in files.items():
                write_image(self.out / file, written[key])
            self.images.append({"file_name": str(path), "height": image.height, "width": image.width} | files)

    def broken(self, path: Path, error: str) -> None:
        """Note an image that cannot be read, and why."""
        self.unreadable.append({"file_name": str(path), "error": error})

    def finish(self) -> str:
        """Write which files are of which image, and return where things are."""
        with held_signals():
            write_json(self.out / IMAGES, {"images": self.images, "unreadable": self.unreadable})
        places = f"label maps: {self.out / LABELS}   pictures: {self.out / PICTURES}"
        return f"{places}   classes: {self.out / CLASSES}   images: {self.out / IMAGES}"


class ObjectFiles:
    """Pictures of every image, and all objects in one file of COCO's results; `images.json` says which image has which id.

    Masks are in a file of their own too, without boxes, so that those who score them take areas from the masks.
    """

    def __init__(
        self, out: Path, model: nn.Module, info: DataInfo, precision: Precision, windows: dict[str, Any], numbers: Numbers
    ) -> None:
        self.out, self.info, self.numbers = out, info, numbers
        self.answer = partial(find_objects, model, info, precision=precision, **windows)
        self.images: list[dict[str, Any]] = []
        self.unreadable: list[dict[str, Any]] = []
        self.lists: dict[str, JsonList] = {}

    def begin(self, names: Sequence[str]) -> None:
        """Make the folder ready for images of these names: what is there of them was answered before, and goes."""
        make_ready(self.out, (PICTURES,), names, (RESULTS, MASK_RESULTS, IMAGES))
        self.lists = {RESULTS: JsonList(self.out / RESULTS)}

    def write(self, path: Path, name: str, image: Image.Image) -> None:
        """Draw what is found in an image, and write it down."""
        size = (image.height, image.width)
        objects, number = self.answer(image=image), self.numbers.images[path]
        found = coco_results(objects, self.numbers.categories, size, image_id=number)
        write_image(self.out / PICTURES / f"{name}.png", over_objects(image, drawable(objects, size), self.info))
        with held_signals():
            self.lists[RESULTS].add(found)
            if objects.found.outlines is not None:
                if MASK_RESULTS not in self.lists:
                    self.lists[MASK_RESULTS] = JsonList(self.out / MASK_RESULTS)
                self.lists[MASK_RESULTS].add([{key: entry[key] for key in entry if key != "bbox"} for entry in found])
            entry = {"id": number, "file_name": str(path), "height": size[0], "width": size[1]}
            self.images.append(entry | {"picture": f"{PICTURES}/{name}.png"})

    def broken(self, path: Path, error: str) -> None:
        """Note an image that cannot be read, and why; it is none of `images`, of which scorers read the sizes."""
        self.unreadable.append({"id": self.numbers.images[path], "file_name": str(path), "error": error})

    def finish(self) -> str:
        """Close the results, write what is known of the images, and return where things are; each is done if another fails."""
        listed = zip(self.numbers.categories, self.info.class_names, strict=True)
        categories = [{"id": number, "name": name} for number, name in listed]
        with held_signals(), ExitStack() as last_first:
            told = {"images": self.images, "categories": categories, "unreadable": self.unreadable}
            last_first.callback(write_json, self.out / IMAGES, told)
            for results in self.lists.values():
                last_first.callback(results.close)
        masks = f" (COCO; masks alone: {self.out / MASK_RESULTS})" if MASK_RESULTS in self.lists else " (COCO)"
        return f"objects: {self.out / RESULTS}{masks}   images: {self.out / IMAGES}   pictures: {self.out / PICTURES}"


def make_ready(out: Path, folders: Sequence[str], names: Sequence[str], files: Sequence[str]) -> None:
    """Make the folders, and delete the files and the pictures of these names that an earlier prediction has left there."""
    for folder in folders:
        make_folder(out / folder, key="out")
        for name in names:
            remove(out / folder / f"{name}.png")
    for file in files:
        for path in (out / file, out / f"{file}.part"):
            remove(path)


def entries_of(out: Path) -> frozenset[Path]:
    """Return what is in a folder; the folder itself is one of its entries where it is there."""
    return frozenset([out, *out.iterdir()]) if out.is_dir() else frozenset()


def take_back(out: Path, before: Collection[Path], names: Sequence[str]) -> None:
    """Delete what a prediction of images of these names has made beside the entries of `before`, where it answered none."""
    for file in (CLASSES, RESULTS, MASK_RESULTS, IMAGES):
        if out / file not in before:
            remove(out / file)
    for folder in (path for path in (out / LABELS, out / PICTURES, out) if path not in before and path.is_dir()):
        for name in names if folder != out else ():
            remove(folder / f"{name}.png")
        if not any(folder.iterdir()):
            folder.rmdir()
