"""Seconds of a training step with a dense head and with the classifier, on the same tokens: printed, and in results.json."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from lmsearch import create_model, tune_process
from lmsearch.data.instances import Instances
from lmsearch.models.dense import HEADS

CASES = {  # label: model, its options, images of a step, classes
    "local_vim_nano 64 px, patches of 4": ("local_vim_nano", {"img_size": 64, "patch_size": 4, "in_chans": 3}, 8, 10),
    "local_vim_nano 64 px, patches of 2": ("local_vim_nano", {"img_size": 64, "patch_size": 2, "in_chans": 3}, 4, 10),
    "local_vmamba_nano 64 px, patches of 4": ("local_vmamba_nano", {"img_size": 64, "patch_size": 4, "in_chans": 3}, 8, 10),
    "local_vmamba_nano 64 px, patches of 2": ("local_vmamba_nano", {"img_size": 64, "patch_size": 2, "in_chans": 3}, 4, 10),
    "local_vim_tiny 224 px": ("local_vim_tiny", {"img_size": 224}, 2, 150),
    "local_vmamba_tiny 224 px": ("local_vmamba_tiny", {"img_size": 224}, 1, 150),
}
WARM = 2  # turns that do not count


def targets_of(batch: int, side: int, classes: int) -> dict[str, torch.Tensor | Instances]:
    """Return random targets by kind: a class per image, a class per pixel, two objects per image."""
    pixels = torch.randint(classes, (batch, side, side))
    boxes = torch.tensor([[2.0, 2.0, side / 2, side / 2], [side / 4, side / 2, side - 2.0, side - 2.0]]).repeat(batch, 1, 1)
    masks = torch.zeros(batch, 2, side, side, dtype=torch.bool)
    masks[:, 0, 2 : side // 2, 2 : side // 2] = masks[:, 1, side // 2 : side - 2, side // 4 : side - 2] = True
    objects = Instances(boxes, torch.randint(classes, (batch, 2)), torch.zeros(batch, 2, dtype=torch.bool), masks)
    return {"class": torch.randint(classes, (batch,)), "segmentation": pixels, "instances": objects}


def step(
    net: torch.nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, targets: torch.Tensor | Instances
) -> float:
    """Train one step and return its seconds."""
    start = time.perf_counter()
    outputs = net(images)
    plain = isinstance(outputs, torch.Tensor)
    loss = F.cross_entropy(outputs, targets) if plain else outputs.losses(targets).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - start


def measured(name: str, options: dict, batch: int, classes: int, *, heads: list[str], turns: int) -> dict[str, float]:
    """Return the median seconds of a step by head, which take turns so that a busy machine is unfair to none."""
    torch.manual_seed(0)
    side, targets = options["img_size"], targets_of(batch, options["img_size"], classes)
    images = torch.randn(batch, 3, side, side)
    nets = {head: create_model(name, num_classes=classes, head=head, **options) for head in (None, *heads)}
    optimizers = {head: torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True) for head, net in nets.items()}
    seconds: dict[str | None, list[float]] = {head: [] for head in nets}
    for _ in range(WARM + turns):
        for head, net in nets.items():
            kind = "class" if head is None else HEADS[head].targets[0]
            seconds[head].append(step(net, optimizers[head], images, targets[kind]))
    return {head or "classifier": statistics.median(found[WARM:]) for head, found in seconds.items()}


def main() -> None:
    """Measure every case; `--all` with the heads of Transformers on the small ones."""
    torch.set_num_threads(1)
    results = {}
    for label, (name, options, batch, classes) in CASES.items():
        heads = list(HEADS) if "--all" in sys.argv and "nano" in name else ["plain"]
        found = measured(name, options, batch, classes, heads=heads, turns=7)
        results[label] = found
        ratios = "  ".join(f"{head} {found[head] / found['classifier']:.2f}" for head in heads)
        print(f"{label:40} classifier {found['classifier'] * 1e3:7.1f} ms; times that: {ratios}", flush=True)
    Path(__file__).with_name("results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    tune_process()
    main()
