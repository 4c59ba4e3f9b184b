"""create_model: every model by name, in timm's argument names."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal, overload

from lmsearch.errors import ModelError, did_you_mean, short
from lmsearch.genotype import load_genotype
from lmsearch.models.backbone import Backbone, Network
from lmsearch.models.dense import DenseNet, head_kind
from lmsearch.models.dense.net import whole_patches
from lmsearch.models.features import FeatureNet
from lmsearch.models.local_vim import LocalVim
from lmsearch.models.local_vmamba import LocalVMamba
from lmsearch.models.mixer import MixerOptions
from lmsearch.plain import plain_numbers
from lmsearch.scan.directions import label, parse_direction

FAMILIES: dict[str, type[LocalVim] | type[LocalVMamba]] = {"local_vim": LocalVim, "local_vmamba": LocalVMamba}
CANDIDATES = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w7", "w7_flip")  # LocalMamba's eight
HAND_MADE = ("h", "h_flip", "w2", "w2_flip")  # LocalMamba's un-searched choice
SEARCHED = "searched"  # the layer directions that LocalMamba published under the model's name

VIM = {"family": "local_vim", "img_size": 224, "depth": 20, "window_padding": "zeros", "directions": HAND_MADE}
VMAMBA = {"family": "local_vmamba", "img_size": 224, "window_padding": "zeros", "directions": HAND_MADE}
RASTER_PAIR = ("h", "h_flip")  # Vim's directions
CROSS = ("h", "v", "h_flip", "v_flip")  # VMamba's, in the order of its weights
CLS_TOKEN = {"use_rope": False, "rope_residual": False, "middle_cls_token": True}
NANO = {"attention": "spatial_channel", "window_padding": "none", "drop_path_rate": 0.0, "img_size": 8, "patch_size": 1}
NANO |= {"d_state": 8, "in_chans": 1, "num_classes": 10}  # the digits
SUPERNET = {"directions": CANDIDATES, "merge": "weighted", "drop_path_rate": 0.1}

PRESETS: dict[str, dict[str, Any]] = {
    "local_vim": VIM,
    "local_vim_nano": VIM | NANO | {"stem": "conv", "embed_dim": 32, "depth": 3},
    "local_vim_tiny": VIM | {"directions": SEARCHED},
    "local_vim_tiny_middle_cls_token": VIM | CLS_TOKEN | {"directions": SEARCHED},
    "local_vim_small": VIM | {"directions": SEARCHED, "embed_dim": 384},
    "local_vim_tiny_search": VIM | SUPERNET | {"embed_dim": 128},
    "local_vmamba": VMAMBA,
    "local_vmamba_nano": VMAMBA | NANO | {"dims": (32, 64), "depths": (2, 1)},
    "local_vmamba_tiny": VMAMBA | {"directions": SEARCHED},
    "local_vmamba_small": VMAMBA | {"directions": SEARCHED, "depths": (2, 2, 27, 2)},
    "local_vmamba_tiny_search": VMAMBA | SUPERNET | {"dims": (32, 64, 128, 256)},
    "vim_tiny": VIM | {"directions": RASTER_PAIR, "attention": "none", "depth": 24},
    "vim_small": VIM | {"directions": RASTER_PAIR, "attention": "none", "depth": 24, "embed_dim": 384},
    "vmamba_tiny": VMAMBA | {"directions": CROSS, "attention": "none"},
    "vmamba_small": VMAMBA | {"directions": CROSS, "attention": "none", "depths": (2, 2, 27, 2), "drop_path_rate": 0.3},
    "local_vmamba_small_search": VMAMBA | SUPERNET | {"dims": (32, 64, 128, 256), "depths": (2, 2, 27, 2)},
}
MIXER_OPTIONS = {f.name for f in fields(MixerOptions)}
HEAD_OPTIONS = {"out_indices": None, "frozen_stages": 0}  # what a dense head takes, and its default


def model_names() -> list[str]:
    """Names that `create_model` takes."""
    return list(PRESETS)


def model_family(name: str) -> str:
    """Name of the family of a model, a key of FAMILIES."""
    return str(_preset(name)["family"])


def model_depth(name: str, **options) -> int:
    """Number of mixers (layers with directions) that `create_model(name, **options)` would have."""
    config = _preset(name) | options
    _check_sizes(config)
    return config["depth"] if config["family"] == "local_vim" else sum(config.get("depths", (2, 2, 9, 2)))


def _preset(name: str) -> dict:
    if name not in PRESETS:
        raise ModelError(f"{short(name)} is not a model{did_you_mean(str(name), PRESETS)}")
    return PRESETS[name]


def accepted_options(family: str) -> set[str]:
    """Names of the options that the models of one family take."""
    own = set(inspect.signature(FAMILIES[family]).parameters) - {"mixer"}
    return own | MIXER_OPTIONS | {*HEAD_OPTIONS} | ({"depth"} if family == "local_vim" else set())


def layer_directions(name: str, directions: str | Sequence, depth: int) -> list[tuple[str, ...]]:
    """One tuple of canonical direction names per layer, from one list for all layers, one list per layer, or SEARCHED."""
    if directions == SEARCHED:
        return [layer.directions for layer in load_genotype(f"localmamba/{name}").layers]
    if isinstance(directions, str):
        raise ModelError(f"directions={short(directions)}: expected a list of directions, or one such list per layer")
    if all(isinstance(d, str) for d in directions):
        directions = [directions] * depth
    if len(directions) != depth:
        raise ModelError(f"directions has {len(directions)} layers but {name} has {depth}")
    layers = [tuple(parse_direction(d).name for d in layer) for layer in directions]
    for number, layer in enumerate(layers):
        if len(set(layer)) != len(layer):
            raise ModelError(f"directions of layer {number} list one twice: {', '.join(map(label, layer))}")
    return layers


SIZES = {  # least and most of every option that is a whole number, or whole numbers where SEVERAL says so
    "img_size": (1, 2**16),
    "patch_size": (1, 2**16),
    "in_chans": (1, 2**12),
    "num_classes": (0, 2**24),
    "embed_dim": (1, 2**16),
    "depth": (1, 2**10),
    "dims": (1, 2**16),
    "depths": (1, 2**10),
    "d_state": (1, 2**12),
    "expand": (1, 2**6),
    "partial_channels": (1, 2**16),
    "frozen_stages": (0, 2**10),
}
SEVERAL = ("img_size", "dims", "depths")
SWITCHES = ("use_rope", "rope_residual", "middle_cls_token", "branch_norm")
TEXTS = ("merge", "attention", "window_padding", "backend", "norm", "stem", "init", "global_pool")


def _check_sizes(config: dict) -> None:
    """Raise ModelError where a size is no whole number within SIZES; numbers become Python's, a lone dims or depths one stage."""
    config |= {option: plain_numbers(value) for option, value in config.items()}
    for option in ("dims", "depths"):
        if isinstance(config.get(option), int):
            config[option] = (config[option],)
    for option, (least, most) in SIZES.items():
        if option not in config:
            continue
        value = config[option]
        numbers = value if option in SEVERAL and isinstance(value, Sequence) and value else (value,)
        if not all(type(number) is int and least <= number <= most for number in numbers):
            raise ModelError(f"{option}={short(value)} is not accepted; expected whole numbers from {least} to {most}")
    if isinstance(config["img_size"], Sequence) and len(config["img_size"]) != 2:
        raise ModelError(f"img_size={short(config['img_size'])} is not accepted; expected one side, or [height, width]")


def _check_kinds(config: dict) -> None:
    """Raise ModelError where an option that is no size has another type than it takes."""
    for option in SWITCHES:
        if not isinstance(config.get(option, True), bool):
            raise ModelError(f"{option}={short(config[option])} is not accepted; expected true or false")
    for option in TEXTS:
        value = config.get(option, "")
        if not isinstance(value, str) and not (option == "global_pool" and value is None):
            raise ModelError(f"{option}={short(value)} is not accepted; expected text")
    rate = config.get("drop_path_rate", 0.0)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise ModelError(f"drop_path_rate={short(rate)} is not accepted; expected a number of at least 0 and below 1")


Directions = Sequence[Sequence[str]] | Sequence[str]  # one list per layer, or one for every layer


@overload
def create_model(
    name: str, *, directions: Directions | None = None, merge: str | None = None, head: None = None, **options
) -> Backbone: ...
@overload
def create_model(
    name: str, *, directions: Directions | None = None, merge: str | None = None, head: str, **options
) -> DenseNet: ...
@overload
def create_model(
    name: str, *, directions: Directions | None = None, merge: str | None = None, features_only: Literal[True], **options
) -> FeatureNet: ...
def create_model(
    name: str,
    *,
    directions: Directions | None = None,
    merge: str | None = None,
    head: str | None = None,
    features_only: bool = False,
    **options,
) -> Network:
    """Build a LocalVim or LocalVMamba: `name` is one of `model_names()`.

    directions: one list per layer, or one list for every layer; None takes the name's own (published, or h, h_flip, w2,
    w2_flip). merge: "sum" (a derived net) or "weighted" (a supernet with learnable alphas). options: num_classes, img_size
    (int or (height, width), pixels), patch_size, in_chans, drop_path_rate, global_pool, embed_dim and depth (LocalVim),
    dims and depths (LocalVMamba), attention, window_padding, init, backend, use_rope, rope_residual, middle_cls_token, norm.
    With head ("plain" and others: see `lmsearch.models.dense`) it is a DenseNet, and with features_only=True, as in timm, a
    network that returns a list of feature maps and tells of them in `feature_info`. Both take out_indices and frozen_stages.
    Raises ModelError for an unknown name or option, DirectionError for an unknown direction and for one without an order
    on its layer's grid.
    """
    config = _preset(name) | options
    config |= {k: v for k, v in (("directions", directions), ("merge", merge)) if v is not None}
    family = config.pop("family")
    for option in config:
        if option not in accepted_options(family):
            raise ModelError(
                f"{short(option)} is not an option of {name}{did_you_mean(option, sorted(accepted_options(family)))}"
            )
    _check_sizes(config)
    _check_kinds(config)
    size = config["img_size"]
    config["img_size"] = (size, size) if isinstance(size, int) else tuple(size)
    config["directions"] = layer_directions(name, config["directions"], model_depth(name, **options))
    config.pop("depth", None)
    dense = {option: config.pop(option, default) for option, default in HEAD_OPTIONS.items()}
    if features_only and head is not None:
        raise ModelError(f"features_only=True leaves the head out, and head={short(head)} asks for one; take one of them")
    model: Network
    if head is None and not features_only:
        for option, default in HEAD_OPTIONS.items():
            if dense[option] != default:
                raise ModelError(f"{option}={short(dense[option])} needs a dense head, such as head=plain")
        model = _backbone(family, config)
    else:
        model = _features(family, config, **dense) if features_only else _with_head(family, config, head, **dense)
    for mixer, grid in zip(model.mixers(), model.layer_grids(config["img_size"]), strict=True):
        for direction in mixer.directions:
            parse_direction(direction).check_grid(grid)
            if mixer.options.window_padding == "zeros":
                parse_direction(direction).padded_grid(grid)
    return model


def _backbone(family: str, config: dict) -> Backbone:
    """Build a network of one family from checked options."""
    mixer = MixerOptions(**{k: config[k] for k in MIXER_OPTIONS & config.keys()})
    return FAMILIES[family](**{k: v for k, v in config.items() if k not in MIXER_OPTIONS}, mixer=mixer)


def _without_classifier(family: str, config: dict) -> Backbone:
    """Build a network of one family, for images that are padded to whole patches, without its classifier."""
    patch = config.get("patch_size", inspect.signature(FAMILIES[family]).parameters["patch_size"].default)
    return _backbone(family, config | {"num_classes": 0, "img_size": whole_patches(config["img_size"], patch)})


def _features(family: str, config: dict, **dense) -> FeatureNet:
    """Build a network of one family that returns its maps."""
    return FeatureNet(_without_classifier(family, config), **dense)


def _with_head(family: str, config: dict, head: object, **dense) -> DenseNet:
    """Build a network of one family with a dense head instead of its classifier."""
    kind = head_kind(head)
    if config.get("global_pool") is not None:
        raise ModelError(f"global_pool={config['global_pool']!r} has no meaning with head={kind.name}, which pools no tokens")
    classes = config.get("num_classes", 1000)
    if classes < 1:
        raise ModelError(f"head={kind.name} needs num_classes of at least 1")
    return DenseNet(_without_classifier(family, config), kind, num_classes=classes, **dense)
