"""How weights are trained: the keys of the presets in conf/optim/."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmsearch.settings.fields import Clip, key
from lmsearch.settings.groups import Group

LEAST_LAYER_DECAY = 0.01  # below that the first layers of a deep network do not move at all
LARGEST_RATE = 1e30  # far above any that trains; beyond single precision PyTorch raises errors of its own


def betas_fault(betas: Sequence[float]) -> str:
    """Return what is wrong with the betas of Adam, "" for nothing."""
    return "" if len(betas) == 2 and all(0 <= beta < 1 for beta in betas) else "is not accepted; expected two numbers in [0, 1)"


@dataclass(frozen=True, kw_only=True)
class Optim(Group):
    """Optimizer, schedule and regularisation of a training.

    The presets of image folders leave keys to a recipe, which is chosen by the number of training images, their size and the
    model's width: LocalMamba's from 50,000 images of 128 pixels on, else one for small images and small sets.
    """

    lr: float = key("peak learning rate (AdamW)", least=0.0, most=LARGEST_RATE, by_recipe="null")
    min_lr: float = key("learning rate at the end of the cosine", least=0.0, most=LARGEST_RATE, by_recipe="null")
    warmup_lr: float = key("learning rate before the warm-up", least=0.0, most=LARGEST_RATE, by_recipe="null")
    warmup_epochs: int = key("epochs of linear warm-up, part of `epochs`", least=0, by_recipe="null")
    warmup_prefix: bool = key(
        "the cosine begins where the warm-up ends; false: at the start, and the warm-up hides that",
        by_recipe="null", added=(False, None),
    )  # fmt: skip
    weight_decay: float = key("AdamW's, of matrices; vectors, biases and positions are not decayed", least=0.0, by_recipe="null")
    betas: list[float] = key("the two betas of AdamW", check=betas_fault)
    clip_grad: Clip | None = key("largest gradient norm", least=0.0, null="no clipping", by_recipe="auto")
    label_smoothing: float = key("share of the target spread over all classes", least=0.0, most=1.0, by_recipe="null")
    class_weights: str = key(
        words={"none": "", "balanced": "classes count alike in the loss of training, however many images they have"},
        added=("none",),
    )
    layer_decay: float = key(
        "each layer's learning rate as a share of the next one's, such as 0.75 to fine-tune; 1: all alike",
        least=LEAST_LAYER_DECAY,
        most=1.0,
        added=(1.0,),
    )
    mixup: float = key("blending two images: alpha of the Beta distribution; 0: off", least=0.0, by_recipe="null")
    cutmix: float = key("pasting a part of another image: alpha of the Beta distribution; 0: off", least=0.0, by_recipe="null")
    mix_prob: float = key("probability of mixing a batch at all", least=0.0, most=1.0, by_recipe="null")
    mix_switch_prob: float = key("probability of cutmix where both are on", least=0.0, most=1.0)
    ema_decay: float | None = key("moving average of the weights", least=0.0, most=1.0, null="off")
    on_nonfinite: str = key(
        "what is done about a loss or gradient that is not finite",
        words={
            "stop": "end, and name the samples",
            "skip": "leave the step out and count it",
            "rollback": "leave it out, then go back to the last saved state with half the learning rates",
        },
        counts=False,
    )
    nonfinite_steps: int = key("steps in a row, not finite, that end the training or send it back", least=1, counts=False)
