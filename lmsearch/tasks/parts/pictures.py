"""Pictures of a training on pixels or objects: its curves, and the first validation batch with labels beside answers."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lmsearch.data import DataInfo, EvalLoader
from lmsearch.engine.log import read_metrics
from lmsearch.engine.objectives import Metric
from lmsearch.engine.objectives.segmentation import answers
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.train import Precision
from lmsearch.figures.curves import curves_figure
from lmsearch.figures.overlay import beside, class_colours, over_pixels

CURVES, FIRST_BATCH = "curves.png", "val_batch.png"
MOST = 8  # images of the first batch


def write_curves(run_dir: RunDir, metric: Metric) -> None:
    """Draw losses and scores of every epoch."""
    lines = read_metrics(run_dir.path)
    if not lines:
        return
    panels = {"loss": ("train_loss", "val_loss"), metric.name: (f"train_{metric.in_training}", f"val_{metric}")}
    shown = {
        title: {name: [line[name] for line in lines] for name in names if all(name in line for line in lines)}
        for title, names in panels.items()
    }
    run_dir.write_figure(CURVES, curves_figure([line["epoch"] for line in lines], shown))


@torch.no_grad()
def write_first_batch(run_dir: RunDir, model: nn.Module, info: DataInfo, loader: EvalLoader, precision: Precision) -> None:
    """Draw the first images of a set, as the network sees them, with their labels beside its answers."""
    batch = precision.to_device(next(iter(loader.at(np.arange(min(MOST, loader.num_samples))))))
    model.eval()
    with precision.autocast():
        outputs = model(batch.inputs)
    colours = class_colours(info.num_classes)
    images = [image_of(x, info) for x in batch.inputs]
    truth, found = batch.target_values.cpu().numpy(), answers(outputs).cpu().numpy()
    rows = [
        (image, over_pixels(image, labels, colours), over_pixels(image, answered, colours))
        for image, labels, answered in zip(images, truth, found, strict=True)
    ]
    run_dir.write_image(FIRST_BATCH, beside(rows, ("image", "labels", "answers")))


def image_of(inputs: Tensor, info: DataInfo) -> Image.Image:
    """Return what a network sees (C, h, w) as a picture; 0, which is the mean, where there is no image."""
    mean, std = (inputs.new_tensor(values)[:, None, None] for values in (info.mean, info.std))
    pixels = (inputs * std + mean).clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).convert("RGB")
