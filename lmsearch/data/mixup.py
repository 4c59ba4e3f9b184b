"""Mixup and cutmix of a batch with itself reversed, over all processes that share it, and label smoothing, as soft targets.

One draw per batch; mixup: arXiv 1710.09412, cutmix: arXiv 1905.04899. Shapes: images (B, C, H, W), targets (B,) -> (B, classes).
"""

from __future__ import annotations

import numpy as np
import torch

from lmsearch.data.batch import Batch
from lmsearch.data.checks import number
from lmsearch.data.order import Ranks, pairs_are_cut
from lmsearch.errors import DataError


def smooth_one_hot(targets: torch.Tensor, num_classes: int, smoothing: float) -> torch.Tensor:
    """Return (B, num_classes): `smoothing` spread evenly over all classes, the rest on the target (B,)."""
    soft = torch.full((len(targets), num_classes), smoothing / num_classes, device=targets.device)
    return soft.scatter_(1, targets[:, None], 1 - smoothing + smoothing / num_classes)


def cut_box(height: int, width: int, lam: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return (top, bottom, left, right) of a box of share 1 - lam of the image about a random centre, clipped to the image."""
    side = np.sqrt(1 - lam)
    box_height, box_width = int(height * side), int(width * side)
    centre_y, centre_x = int(rng.integers(height)), int(rng.integers(width))
    top, left = centre_y - box_height // 2, centre_x - box_width // 2
    bottom, right = min(max(top + box_height, 0), height), min(max(left + box_width, 0), width)
    return min(max(top, 0), height), bottom, min(max(left, 0), width), right


def mixup_cutmix(
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    num_classes: int,
    mixup_alpha: float = 0.2,
    cutmix_alpha: float = 1.0,
    prob: float = 1.0,
    switch_prob: float = 0.5,
    smoothing: float = 0.1,
    generator: torch.Generator | np.random.Generator,
    partners: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (images, soft targets): with probability `prob` the batch is mixed with its reverse by lam ~ Beta(alpha, alpha).

    `partners` are images and targets to mix with instead. Where both alphas are positive, cutmix is chosen with probability
    `switch_prob`; an alpha of 0 turns its kind off. The given images stay unchanged. Every draw comes from `generator`.
    """
    for name, value in (("mixup_alpha", mixup_alpha), ("cutmix_alpha", cutmix_alpha)):
        number(name, value, least=0)
    for name, value in (("prob", prob), ("switch_prob", switch_prob), ("smoothing", smoothing)):
        number(name, value, least=0, most=1)
    if targets.ndim != 1:
        raise DataError(f"mixup and cutmix need one class label per image (B,); targets have shape {tuple(targets.shape)}")
    rng = _numpy_rng(generator)
    soft = smooth_one_hot(targets, num_classes, smoothing)
    if rng.random() >= prob or not (mixup_alpha or cutmix_alpha):
        return images, soft
    others, their_targets = (images.flip(0), targets.flip(0)) if partners is None else partners
    use_cutmix = bool(cutmix_alpha) and (not mixup_alpha or rng.random() < switch_prob)
    alpha = cutmix_alpha if use_cutmix else mixup_alpha
    lam = float(rng.beta(alpha, alpha))
    if use_cutmix:
        height, width = images.shape[-2:]
        top, bottom, left, right = cut_box(height, width, lam, rng)
        images = images.clone()
        images[..., top:bottom, left:right] = others[..., top:bottom, left:right]
        lam = 1 - (bottom - top) * (right - left) / (height * width)
    else:
        images = images * lam + others * (1 - lam)
    return images, soft * lam + smooth_one_hot(their_targets, num_classes, smoothing) * (1 - lam)


def partners_of(batch: Batch, world: Ranks) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return images and targets at place B - 1 - p of the batch of B that processes share, for each of its own places p.

    None where that is the reverse of what it has. Processes lend each other the samples whose partners others have, few of each.
    """
    if batch.places is None or not pairs_are_cut(batch.of, world):
        return None
    mine, wanted = batch.places, batch.of - 1 - batch.places
    lent = ~torch.isin(wanted, mine)
    there = lent.to(batch.inputs.device)
    places = torch.cat([mine, world.gather(mine[lent])])
    images = torch.cat([batch.inputs, world.gather(batch.inputs[there])])
    targets = torch.cat([batch.target_values, world.gather(batch.target_values[there])])
    found = (wanted[:, None] == places).int().argmax(1).to(batch.inputs.device)
    return images[found], targets[found]


def _numpy_rng(generator: torch.Generator | np.random.Generator) -> np.random.Generator:
    """Return `generator` itself, or a numpy generator seeded by one draw of a torch generator."""
    if isinstance(generator, np.random.Generator):
        return generator
    seed = torch.randint(2**63 - 1, (), generator=generator, device=generator.device)
    return np.random.default_rng(int(seed))
