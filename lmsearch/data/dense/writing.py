"""The shapes as files of a COCO, YOLO or mask folder; the description that makes the folder a data set comes last.

Shapes: H W image, P points of a polygon.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from lmsearch.data.dense.outlines import joined_paths, to_rle, to_runs, traced
from lmsearch.data.dense.shapes import CLASSES, Scene, make_scene

File = tuple[str, bytes]  # path in the folder, content
SPLITS = ("train", "val", "test")
CATEGORY_IDS = (3, 4, 8, 15, 40)  # of the classes in COCO files, with gaps as COCO's own have
PALETTE = (
    0,
    0,
    0,
    230,
    70,
    60,
    60,
    170,
    80,
    70,
    110,
    220,
    240,
    190,
    50,
    170,
    80,
    190,
)  # red, green, blue of the ground and classes


def shapes_files(format: str, *, images: int, img_size: tuple[int, int], seed: int) -> Iterator[File]:
    """Yield the files of a data set in one of FORMS; val and test have a quarter of the training images each, at least one."""
    counts = {split: images if split == SPLITS[0] else max(1, images // 4) for split in SPLITS}
    scenes = {split: [(k, split, img_size, seed) for k in range(count)] for split, count in counts.items()}
    yield from FORMS[format]({split: map(_scene, listed) for split, listed in scenes.items()})


def _scene(which: tuple[int, str, tuple[int, int], int]) -> Scene:
    number, split, size, seed = which
    return make_scene(number, split=split, size=size, seed=seed)


Scenes = dict[str, Iterator[Scene]]


def mask_files(scenes: Scenes) -> Iterator[File]:
    """Yield images/<split>/*.png, annotations/<split>/*.png with a palette, and classes.txt."""
    for split, listed in scenes.items():
        for number, scene in enumerate(listed):
            mask = Image.fromarray(scene.class_map)
            mask.putpalette(PALETTE)
            yield f"images/{split}/{number:05}.png", png(Image.fromarray(scene.image))
            yield f"annotations/{split}/{number:05}.png", png(mask)
    yield "classes.txt", "".join(f"{name}\n" for name in ("background", *CLASSES)).encode()


def coco_files(scenes: Scenes) -> Iterator[File]:
    """Yield <split>/*.png and annotations/instances_<split>.json: polygons, or run lengths where there are holes or parts."""
    categories = [{"id": id, "name": name} for id, name in zip(CATEGORY_IDS, CLASSES, strict=True)]
    descriptions = []
    for split, listed in scenes.items():
        images, annotations = [], []
        for number, scene in enumerate(listed):
            name, (height, width) = f"{number:05}.png", scene.image.shape[:2]
            yield f"{split}/{name}", png(Image.fromarray(scene.image))
            images.append({"id": number + 1, "file_name": name, "height": height, "width": width})
            annotations += [{**entry, "image_id": number + 1} for entry in coco_objects(scene)]
        numbered = [{"id": id, **entry} for id, entry in enumerate(annotations, start=1)]
        content = {"images": images, "annotations": numbered, "categories": categories}
        descriptions.append((f"annotations/instances_{split}.json", json.dumps(content).encode()))
    yield from descriptions


def coco_objects(scene: Scene) -> Iterator[dict[str, Any]]:
    """Yield the objects of a scene as COCO writes them, without ids of image and annotation."""
    for label, mask, (left, top, right, bottom) in zip(scene.classes, scene.masks, scene.boxes.tolist(), strict=True):
        yield {
            "category_id": CATEGORY_IDS[label],
            "bbox": [left, top, right - left, bottom - top],
            "area": int(mask.sum()),
            "iscrowd": 0,
            "segmentation": coco_outline(mask),
        }


def coco_outline(mask: np.ndarray) -> Any:
    """Return a polygon, or run lengths where there are holes or several parts: as text, or as numbers where they are few."""
    paths = traced(mask)
    if len(paths) == 1:
        return [paths[0].reshape(-1).tolist()]
    runs = to_runs(mask)
    return {"size": list(mask.shape), "counts": runs} if len(runs) < 30 else to_rle(mask)


def yolo_files(scenes: Scenes) -> Iterator[File]:
    """Yield <split>/images/*.png, <split>/labels/*.txt with polygons (none for an empty image), and data.yaml."""
    for split, listed in scenes.items():
        for number, scene in enumerate(listed):
            yield f"{split}/images/{number:05}.png", png(Image.fromarray(scene.image))
            if len(scene.classes):
                lines = [yolo_line(int(label), mask) for label, mask in zip(scene.classes, scene.masks, strict=True)]
                yield f"{split}/labels/{number:05}.txt", "".join(lines).encode()
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(CLASSES))
    paths = "".join(f"{split}: {split}/images\n" for split in SPLITS)
    yield "data.yaml", f"{paths}names:\n{names}".encode()


def yolo_line(label: int, mask: np.ndarray) -> str:
    """Return the line of an object: its class, and one polygon of shares of the sides, bridged where there are several paths."""
    height, width = mask.shape
    points = joined_paths(traced(mask)) / (width, height)
    return f"{label} {' '.join(f'{value:.9g}' for value in points.reshape(-1).tolist())}\n"


def png(image: Image.Image) -> bytes:
    """Return an image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return buffer.getvalue()


FORMS: dict[str, Callable[[Scenes], Iterator[File]]] = {"masks": mask_files, "coco": coco_files, "yolo": yolo_files}
