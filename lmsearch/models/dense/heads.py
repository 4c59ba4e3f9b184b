"""Every head by name: what it answers, how many maps it sees, and the extra that it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from lmsearch.errors import ModelError, did_you_mean, short
from lmsearch.models.dense.plain import PlainHead
from lmsearch.models.dense.pyramid import Level


@dataclass(frozen=True)
class HeadKind:
    """A head: `build(levels, num_classes)` makes it for maps of these levels; it is called with maps, padded size and size.

    `targets` are the kinds of target that it learns from, the preferred one first, as DataInfo.target. `levels` is the number
    of maps that it sees; None: those of the backbone as they are. `objects`: it answers a DenseOutputs, else logits of pixels.
    `counted`: its MACs follow from the size of an image, so that `complexity` and the check of memory know them.
    """

    name: str
    targets: tuple[str, ...]
    build: Callable[[Sequence[Level], int], nn.Module]
    levels: int | None = 4
    objects: bool = False
    counted: bool = False


HEADS = {kind.name: kind for kind in (HeadKind("plain", ("segmentation",), PlainHead, levels=None, counted=True),)}


def head_kind(name: object) -> HeadKind:
    """Return the record of a head; raise ModelError for a name that is none."""
    if not isinstance(name, str) or name not in HEADS:
        raise ModelError(f"head={short(name)} is not accepted{did_you_mean(str(name), HEADS)}")
    return HEADS[name]
