"""The data that a task reads: the keys of the presets in conf/data/."""

from __future__ import annotations

from dataclasses import dataclass

from lmsearch.settings.fields import AnyValue, Ints, Numbers, PathName, key
from lmsearch.settings.groups import Group

OF_COLOURS = "ImageNet's for RGB, 0.5 for grey"
OF_TRAINING = "of the images that train"


@dataclass(frozen=True, kw_only=True)
class Data(Group):
    """What all data have."""

    name: str = key("name of the data source")


@dataclass(frozen=True, kw_only=True)
class Classes(Data):
    """Data with classes, which training may draw alike."""

    sampler: str = key(
        words={"shuffled": "", "balanced": "every class is drawn as often, images of small ones several times an epoch"},
        added=("shuffled",),
    )


@dataclass(frozen=True, kw_only=True)
class Digits(Classes):
    """The handwritten digits of scikit-learn."""

    shift: int = key("largest random shift", unit="pixels")
    rotate_degrees: float = key("largest random rotation", unit="degrees")
    scale: float = key("random zoom of 1 +- scale")


@dataclass(frozen=True, kw_only=True)
class Idx(Classes):
    """Images in MNIST's format."""

    root: PathName = key("folder of train-images-idx3-ubyte and the three others, also .gz; EMNIST's images lie transposed")
    val_fraction: float = key("share of every class of the training images that validates", least=0.001, most=0.9)
    split_seed: int = key("draws which images validate, and which of the others train; `seed` does not", least=0)
    val_digest: str | None = key("filled in by a search: which images validate; other files are refused later")
    num_train: int | None = key("training images, every class with its share", least=1, null="all that do not validate")
    names: PathName | None = key("text file with one class name per line", null="names.txt beside the images, else 0, 1, 2, ...")
    mean: Numbers | None = key("of a channel, of values from 0 to 1, subtracted", null=OF_TRAINING, added=(None,))
    std: Numbers | None = key("standard deviation of a channel, divided by", null=OF_TRAINING, added=(None,))
    shift: int = key("largest random shift", unit="pixels")
    rotate_degrees: float = key("largest random rotation", unit="degrees")
    zoom: float = key("random zoom of 1 +- zoom")


@dataclass(frozen=True, kw_only=True)
class OwnImages(Data):
    """How image files are read."""

    val_digest: str | None = key(
        "filled in: names of the images that validate; a folder that gives other ones is refused later", added=(None,)
    )
    img_size: Ints | None = key("one side, or [height,width]", unit="pixels", null="the images' own, 224 at most")
    in_chans: int | None = key("1 (grey) or 3 (RGB)", null="1 where all images looked at are grey")
    mean: Numbers | None = key("of a channel, of values from 0 to 1, subtracted", null=OF_COLOURS, added=(None,))
    std: Numbers | None = key("standard deviation of a channel, divided by", null=OF_COLOURS, added=(None,))


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Classes, OwnImages):
    """Images of one's own."""

    root: PathName = key("folder that holds train/, or the class folders")
    val_fraction: float | None = key(
        "where there is no val/: share of each class that validates",
        least=0.001, most=0.9, null="0.1 beside test/, else 0.2", added=(None,),
    )  # fmt: skip
    scale: Numbers = key(
        "share of the image's area that a random crop keeps, [least,most]", by_recipe="null", added=([0.08, 1.0],)
    )
    ratio: Numbers = key("width / height of a random crop, [least,most]", by_recipe="null", added=([3 / 4, 4 / 3],))
    flip_prob: float = key(
        "probability of a horizontal flip, 0 where left and right are different things",
        least=0.0, most=1.0, by_recipe="null", added=(0.5,),
    )  # fmt: skip
    randaugment_ops: int = key("RandAugment: operations per image, 0: off", least=0, by_recipe="null", added=(2,))
    randaugment_magnitude: float = key("RandAugment: strength, 0 to 10", least=0.0, most=10.0, by_recipe="null", added=(9.0,))
    randaugment_std: float = key("RandAugment: standard deviation of the strength", least=0.0, by_recipe="null", added=(0.5,))
    randaugment_set: str = key(
        "RandAugment",
        words={
            "increasing": "15 operations, all stronger with the strength, as timm's inc1",
            "localmamba": "the 19 of its released code; colours grow with the strength, posterize and solarize weaken",
        },
        by_recipe="null",
        added=("increasing", None),
    )
    erasing_prob: float = key("probability of erasing a box", least=0.0, most=1.0, by_recipe="null", added=(0.25,))
    crop_pct: float = key(
        "evaluation: share of the resized image's side that the centre crop keeps",
        least=0.01, most=1.0, by_recipe="null", added=(0.875,),
    )  # fmt: skip
    on_error: str = key("a broken image: raise | skip (and count)")


@dataclass(frozen=True, kw_only=True)
class Dense(OwnImages):
    """Images of one's own with masks or objects."""

    preset: str | None = key("filled in: the data= that was given, whose recipe a retraining takes", counts=False, null="dense")
    root: PathName = key("folder of images with masks or objects; its layout is recognised")
    format: str | None = key(words=("masks", "coco", "yolo"), null="recognised by the layout")
    target: str | None = key("filled in: what head= learns from", null="by head=", added=(None,))
    ignore_index: int = key("value of a mask that has no class; -1: every value has one", least=-1)
    reduce_zero_label: bool = key("masks: 0 has no class either, and class numbers begin at 1")
    val_fraction: float | None = key(
        "where there is no val split: share of the images that validates",
        least=0.001, most=0.9, null="0.1 beside a test split, else 0.2", added=(None,),
    )  # fmt: skip
    scale: Numbers = key("training: sides of the image over those at which it just fits img_size, [least,most]")
    ratio: Numbers = key("training: change of width / height, [least,most]", added=([3 / 4, 4 / 3],))
    flip_prob: float = key(
        "probability of a horizontal flip, 0 where left and right are different things", least=0.0, most=1.0, added=(0.5,)
    )
    colour: float = key("training: brightness, contrast and saturation change by up to this share", least=0.0, most=1.0)
    on_error: str = key("a broken image or object: raise | skip (and count)")


@dataclass(frozen=True, kw_only=True)
class Planted(Data):
    """Tasks whose best direction is known."""

    direction: str = key("the direction to find")
    directions: AnyValue | None = key(
        "several in its place: [h,v_flip] for groups of channels or chained layers, [[h,v],[w2]] for teacher"
    )
    task: str = key("decayed_sum | latest_key | chained | teacher | token_mean (no direction) | random (no signal)")
    grid: Ints | None = key("tokens per side, or [height,width]")
    num_train: int | None = key("training samples", null="fresh data in every step")
    set_seed: int = key("draws the fixed samples and the teacher; `seed` does not")
    noise: float = key("standard deviation of noise on the targets")
    input_noise: float = key("standard deviation of noise on the token values")
    memorise: str | None = key("a direction along which part of the training targets can be learned by heart", null="none")
    memorise_strength: float = key("standard deviation of that part over the rule's")
    code_chans: int = key("channels of the samples' codes, which that part hangs on")
    steps_per_epoch: int = key("steps of an epoch of fresh data")
