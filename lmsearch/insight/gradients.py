"""What a network's outputs hang on in its input, by gradients.

Shapes: images (B, C, h, w), normalised as the network takes them; maps (h, w).
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from lmsearch.errors import ModelError
from lmsearch.models.backbone import Backbone

STEPS = 32  # between the mean image and the image


def receptive_field(
    model: Backbone, images: Tensor, *, level: int = -1, token: tuple[int, int] | None = None
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the effective receptive field (h, w) of a token (row, column) of a level, and that token; None: the middle one.

    It is the gradient of the token's features with respect to the pixels, absolute, summed over channels, mean over images
    (Luo et al., arXiv 1701.04128), scaled to a largest value of 1. Raises ModelError for a token that is not there.
    """
    inputs = images.detach().clone().requires_grad_(True)
    maps = model.forward_intermediates(inputs, indices=[level], intermediates_only=True)
    features = cast(list[Tensor], maps)[0]  # (B, D, H, W)
    height, width = features.shape[2:]
    row, column = (height // 2, width // 2) if token is None else token
    if not (0 <= row < height and 0 <= column < width):
        raise ModelError(f"token=[{row},{column}] is outside the grid of {height}x{width} tokens of this level")
    (gradient,) = torch.autograd.grad(features[:, :, row, column].sum(), inputs)
    field = gradient.abs().sum(1).mean(0)
    return (field / field.max().clamp_min(torch.finfo(field.dtype).tiny)).cpu().numpy(), (row, column)


def saliency(model: nn.Module, image: Tensor, *, target: int | None = None) -> tuple[np.ndarray, int]:
    """Return what every pixel of an image (C, h, w) adds to the logit of a class, and that class; None: the answer.

    Integrated gradients (Sundararajan et al., arXiv 1703.01365) from the mean image of the data, which is zero: the map (h, w),
    summed over channels, adds up to the logit of the image minus that of the mean image, as far as STEPS points tell.
    """
    shares = (torch.arange(STEPS, device=image.device, dtype=image.dtype) + 0.5) / STEPS
    points = (shares[:, None, None, None] * image.detach()).requires_grad_(True)
    if target is None:
        with torch.no_grad():
            target = int(model(image.unsqueeze(0)).argmax(1).item())
    (gradients,) = torch.autograd.grad(model(points)[:, target].sum(), points)
    return (gradients.mean(0) * image).sum(0).detach().cpu().numpy(), target
