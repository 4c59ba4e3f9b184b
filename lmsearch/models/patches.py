"""Which patch size for which image: one that leaves about as many tokens as the model's directions were made for."""

from __future__ import annotations

import math

from lmsearch.models.factory import PRESETS

SIDE = 14  # tokens along a side of a LocalVim: windows of 2 and 7 divide it
LAST_SIDE = 7  # of the last stage of a LocalVMamba, which halves the side after every other one
STAGES = 4
PUBLISHED = {"local_vim": 16, "local_vmamba": 4}  # patch sizes of the published models


def own_patch(name: str) -> int:
    """Return the patch size that a model has where none is given."""
    patch: int = PRESETS[name].get("patch_size", PUBLISHED[PRESETS[name]["family"]])
    return patch


def wanted_side(name: str, *, stages: int | None = None) -> int:
    """Return the tokens along a side that suit a model."""
    if PRESETS[name]["family"] == "local_vim":
        return SIDE
    stages = stages or len(PRESETS[name].get("depths", (0,) * STAGES))
    return LAST_SIDE * 2 ** (stages - 1)


def largest_dense_patch(name: str) -> int:
    """Return the largest patch size that suits pixels and objects, whatever the image: the published one, or a larger own."""
    return max(own_patch(name), PUBLISHED[PRESETS[name]["family"]])


def choose_patch(name: str, img_size: tuple[int, int], *, stages: int | None = None) -> int:
    """Return the patch size that brings the tokens of an image (height, width) nearest to the wanted number.

    Sizes that divide both sides come first; where none leaves between half and twice the wanted side, any size may be taken.
    """
    wanted = wanted_side(name, stages=stages)
    side = math.sqrt(img_size[0] * img_size[1])

    def miss(patch: int) -> float:
        """How far the tokens along a side are from the wanted ones, as a ratio."""
        return abs(math.log(side / patch / wanted))

    dividing = [p for p in range(1, min(img_size) + 1) if math.gcd(*img_size) % p == 0]
    best = min(dividing, key=miss)
    if miss(best) <= math.log(2) or side <= wanted:
        return best
    return min(range(1, min(img_size) + 1), key=miss)
