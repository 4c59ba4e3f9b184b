"""Pictures of a training on pixels or objects: its curves, and the first validation batch with labels beside answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lmsearch.data import Batch, DataInfo, EvalLoader
from lmsearch.data.instances import Instances
from lmsearch.engine.log import read_metrics
from lmsearch.engine.objectives import Metric
from lmsearch.engine.objectives.segmentation import answers
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.train import Precision
from lmsearch.figures import overlay
from lmsearch.figures.curves import curves_figure
from lmsearch.figures.overlay import Drawn, beside, class_colours

CURVES, FIRST_BATCH = "curves.png", "val_batch.png"
MOST = 8  # images of the first batch
LIKELY = 0.3  # score from which on a detection is drawn


def write_curves(run_dir: RunDir, metric: Metric) -> None:
    """Draw losses and scores of every epoch."""
    lines = read_metrics(run_dir.path)
    if not lines:
        return
    panels: dict[str, tuple[str, ...]] = {"loss": ("train_loss", "val_loss")}
    panels[metric.name] = (f"train_{metric.in_training}", f"val_{metric}")
    drawn = {name for names in panels.values() for name in names}
    others = [name for name in lines[0] if name.startswith("val_") and all(name in line for line in lines)]
    panels |= {name.removeprefix("val_"): (name,) for name in others if name not in drawn}
    shown = {
        title: {name: [line[name] for line in lines] for name in names if all(name in line for line in lines)}
        for title, names in panels.items()
    }
    run_dir.write_figure(CURVES, lambda: curves_figure([line["epoch"] for line in lines], shown))


@torch.no_grad()
def write_first_batch(run_dir: RunDir, model: nn.Module, info: DataInfo, loader: EvalLoader, precision: Precision) -> None:
    """Draw the first images of a set, as the network sees them, with their labels beside its answers; none can be read: nothing.

    The process that writes draws them all.
    """
    if not run_dir.world.main:
        return
    model.eval()
    rows = []
    for batch in loader.alone().at(np.arange(min(MOST, loader.num_samples))):
        rows += answered(model, precision.to_device(batch), info, precision)
    if rows:
        run_dir.write_image(FIRST_BATCH, beside(rows, ("image", "labels", "answers")))


def answered(model: nn.Module, batch: Batch, info: DataInfo, precision: Precision) -> list[tuple[Image.Image, ...]]:
    """Return each image of a batch, with its labels, and with the network's answer."""
    with precision.autocast():
        outputs = model(batch.inputs)
    images = [image_of(x, info) for x in batch.inputs]
    if isinstance(batch.targets, Instances):
        truth = [true_objects(batch.targets, place) for place in range(len(images))]
        found = [found_objects(one) for one in outputs.detections()]
        drawn = [[over_objects(image, one, info) for one in pair] for image, *pair in zip(images, truth, found, strict=True)]
    else:
        maps = zip(batch.targets.cpu().numpy(), answers(outputs).cpu().numpy(), strict=True)
        drawn = [[over_pixels(image, one, info) for one in pair] for image, pair in zip(images, maps, strict=True)]
    return [(image, *pair) for image, pair in zip(images, drawn, strict=True)]


def over_pixels(image: Image.Image, classes: np.ndarray, info: DataInfo) -> Image.Image:
    """Return a picture with a class map (H, W) over it."""
    return overlay.over_pixels(image, classes, class_colours(info.num_classes))


def over_objects(image: Image.Image, objects: Drawn, info: DataInfo) -> Image.Image:
    """Return a picture with objects over it."""
    colours = class_colours(info.num_classes + 1)[1:]  # no class is the ground
    return overlay.over_objects(image, objects, info.class_names, colours)


def true_objects(targets: Instances, place: int) -> Drawn:
    """Return the objects of one image of a batch, to be drawn."""
    own = targets.of_image(place).to("cpu")
    masks = None if own.masks is None else own.masks[0].numpy()
    return Drawn(own.boxes[0].numpy(), own.classes[0].numpy(), masks)


def found_objects(found: Any, *, least: float = LIKELY) -> Drawn:
    """Return the detections of one image that are likely enough, to be drawn."""
    likely = (found.scores >= least).cpu()
    boxes, classes, scores = (part.cpu()[likely].numpy() for part in (found.boxes, found.classes, found.scores))
    return Drawn(boxes, classes, None if found.masks is None else found.masks.cpu()[likely].numpy(), scores)


def image_of(inputs: Tensor, info: DataInfo) -> Image.Image:
    """Return what a network sees (C, h, w) as a picture; 0, which is the mean, where there is no image."""
    mean, std = (inputs.new_tensor(values)[:, None, None] for values in (info.mean, info.std))
    pixels = (inputs * std + mean).clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).convert("RGB")
