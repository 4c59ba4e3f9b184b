"""Folders of images with masks or objects for tests: the shapes, written in any layout, and small ones made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lmsearch.data.dense.writing import shapes_files

SIZE = (24, 32)


def write_shapes(folder: Path, format: str, *, images: int = 8, img_size: tuple[int, int] = SIZE) -> Path:
    """Write the shapes in a layout; val and test get two images each."""
    for name, content in shapes_files(format, images=images, img_size=img_size, seed=0):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_picture(path: Path, values: np.ndarray) -> Path:
    """Write pixels (H, W) or (H, W, 3) uint8, or uint16, as an image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def write_pairs(folder: Path, masks: list[np.ndarray], *, split: str = "train") -> Path:
    """Write grey images of a split with these masks beside them."""
    for number, mask in enumerate(masks):
        grey = np.full(mask.shape[:2], 90, dtype=np.uint8)
        write_picture(folder / "images" / split / f"{number}.png", grey)
        write_picture(folder / "annotations" / split / f"{number}.png", mask)
    return folder


def rows(*values: int, size: tuple[int, int] = (6, 8)) -> np.ndarray:
    """Return a mask whose rows hold these values, each as often."""
    height, width = size
    return np.repeat(np.array(values, dtype=np.uint8), height // len(values))[:, None].repeat(width, axis=1)


def coco(
    images: list[dict] | None = None, annotations: list[dict] | None = None, categories: list[dict] | None = None
) -> dict[str, Any]:
    """Return the content of a COCO file of two images of 6 x 8 pixels, the first with one square; parts may be replaced."""
    square = {"id": 1, "image_id": 5, "category_id": 7, "bbox": [1, 2, 3, 2], "area": 6, "iscrowd": 0,
              "segmentation": [[1, 2, 4, 2, 4, 4, 1, 4]]}  # fmt: skip
    return {
        "images": [{"id": id, "file_name": f"{id}.png", "height": 6, "width": 8} for id in (5, 9)] if images is None else images,
        "annotations": [square] if annotations is None else annotations,
        "categories": [{"id": 7, "name": "square"}] if categories is None else categories,
    }


def write_coco(folder: Path, content: object = None, *, split: str = "train") -> Path:
    """Write a split of a COCO folder with the images that its files name; text is written as it is."""
    content = coco() if content is None else content
    for entry in content["images"] if isinstance(content, dict) and isinstance(content.get("images"), list) else ():
        size = (entry.get("height", 6), entry.get("width", 8))
        write_picture(folder / split / entry["file_name"], np.full(size, 90, dtype=np.uint8))
    path = folder / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder
