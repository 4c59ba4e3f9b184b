"""What neck and head of a DenseNet cost for one image: run on the meta device, which takes neither memory nor time.

Shapes: maps (1, C, H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lmsearch.errors import ModelError
from lmsearch.models.dense.net import DenseNet, whole_patches

LINEAR = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def head_count(net: DenseNet, img_size: tuple[int, int]) -> tuple[int, int]:
    """Return the MACs of linear layers and convolutions, and how many values autograd keeps, for an image of `img_size` pixels.

    Raises ModelError for a head whose work depends on what it sees.
    """
    if not net.kind.counted:
        raise ModelError(f"head={net.kind.name} cannot be counted: what it computes depends on what it sees")
    padded = whole_patches(img_size, net.patch_size)
    with torch.device("meta"):
        neck, head = net.fresh_parts()
        maps = [torch.empty(1, channels, *grid, requires_grad=True) for channels, grid in net.map_shapes(padded)]
    macs = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        weight = module.get_parameter("weight")
        reached = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output  # where each weight of a channel is used once
        macs += weight.numel() * reached[0].numel() // weight.shape[0]

    for module in (*neck.modules(), *head.modules()):
        if isinstance(module, LINEAR):
            module.register_forward_hook(count)
    weights = {parameter.untyped_storage()._cdata for part in (neck, head) for parameter in part.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        head(neck(maps), padded, img_size)
    return macs, sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in weights) // 4
