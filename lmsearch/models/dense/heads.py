"""Every head by name: what it answers, how many maps it sees, and the extra that it needs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from lmsearch.errors import ModelError, did_you_mean, short
from lmsearch.models.dense.plain import PlainHead
from lmsearch.models.dense.pyramid import Level

INSTALL = "python -m pip install 'transformers>=5.24,<6'"


@dataclass(frozen=True)
class HeadKind:
    """A head: `build(levels, num_classes)` makes it for maps of these levels; it is called with maps, padded size and size.

    `targets` are the kinds of target that it learns from, the preferred one first, as DataInfo.target. `levels` is the number
    of maps that it sees; None: those of the backbone as they are. `objects`: it answers a DenseOutputs, else logits of pixels;
    `masks`: it learns objects from their masks and answers them, else boxes alone.
    `counted`: its MACs follow from the size of an image, so that `complexity` and the check of memory know them.
    `recipe` names how it is trained (lmsearch/engine/recipes.py): queries need small steps, and those that find boxes many.
    `classifier` names the module whose rows are classes, if there is one. `extra`: it is made of Transformers' parts, of the
    extra `dense`.
    """

    name: str
    targets: tuple[str, ...]
    build: Callable[[Sequence[Level], int], nn.Module]
    levels: int | None = 4
    objects: bool = False
    masks: bool = False
    counted: bool = False
    classifier: str | None = None
    extra: bool = False
    recipe: str = "pixels"


def _upernet(levels: Sequence[Level], num_classes: int) -> nn.Module:
    from lmsearch.models.dense.upernet import UperNet

    return UperNet(levels, num_classes)


def _mask2former(levels: Sequence[Level], num_classes: int) -> nn.Module:
    from lmsearch.models.dense.mask2former import Mask2Former

    return Mask2Former(levels, num_classes)


def _deformable_detr(levels: Sequence[Level], num_classes: int) -> nn.Module:
    from lmsearch.models.dense.deformable_detr import DeformableDetr

    return DeformableDetr(levels, num_classes)


HEADS = {
    kind.name: kind
    for kind in (
        HeadKind("plain", ("segmentation",), PlainHead, levels=None, counted=True, classifier="classifier"),
        HeadKind("upernet", ("segmentation",), _upernet, extra=True, counted=True, classifier="decoder.classifier"),
        HeadKind(
            "mask2former", ("instances", "segmentation"), _mask2former, extra=True, objects=True, masks=True, recipe="masks"
        ),
        HeadKind("deformable_detr", ("instances",), _deformable_detr, extra=True, objects=True, recipe="queries"),
    )
}


def head_kind(name: object) -> HeadKind:
    """Return the record of a head; raise ModelError for a name that is none, and where what it needs is not installed."""
    if not isinstance(name, str) or name not in HEADS:
        raise ModelError(f"head={short(name)} is not accepted{did_you_mean(str(name), HEADS)}")
    if HEADS[name].extra and importlib.util.find_spec("transformers") is None:
        raise ModelError(f"head={name} needs Transformers, which is not installed; run: {INSTALL}")
    return HEADS[name]
