"""lmsearch predict: classify an image, or every image of a folder, with a trained network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import nn

from lmsearch.data import DataInfo
from lmsearch.data.predict import load_images
from lmsearch.engine.train import Precision
from lmsearch.errors import CheckpointError
from lmsearch.files import write_text
from lmsearch.tasks.build import build_precision
from lmsearch.tasks.run_dir import make_folder
from lmsearch.tasks.trained import load_trained


def run(cfg: DictConfig) -> int:
    """Print the most probable classes of every image; also write them as JSON to cfg.out where given."""
    precision = build_precision(cfg)
    model, spec, info = load_trained(cfg.checkpoint, precision, backend=cfg.backend)
    if info.target != "class":
        raise CheckpointError(
            f"{cfg.checkpoint}: {spec.name} was trained on {info.name}, which has no classes to predict"
        )
    if cfg.out is not None:
        make_folder(Path(cfg.out).absolute().parent, key="out")
    found = {}
    for path, classes in predictions(model, info, Path(cfg.images), precision, batch_size=cfg.batch_size, top=cfg.top):
        found[str(path)] = classes
        print(f"{path}: " + ", ".join(f"{name} {p:.3f}" for name, p in classes.items()))
    if cfg.out is not None:
        write_text(cfg.out, json.dumps(found, indent=1) + "\n")
    return 0


@torch.no_grad()
def predictions(
    model: nn.Module, info: DataInfo, images: Path, precision: Precision, *, batch_size: int, top: int
) -> Iterator[tuple[Path, dict[str, float]]]:
    """Yield (path, {class name: probability}) with the `top` most probable classes of every image."""
    loaded = iter(load_images(images, info))
    while batch := list(islice(loaded, batch_size)):
        pixels = torch.stack([image for _, image in batch]).to(precision.device)
        with precision.autocast():
            logits = model(pixels)
        if not torch.isfinite(logits).all():
            raise CheckpointError(f"{batch[0][0]}: the network's outputs are not finite (precision={precision.name})")
        values, classes = torch.softmax(logits.float(), -1).topk(min(top, info.num_classes))
        for (path, _), p, c in zip(batch, values.tolist(), classes.tolist(), strict=True):
            yield path, {info.class_names[i]: round(value, 6) for i, value in zip(c, p, strict=True)}
