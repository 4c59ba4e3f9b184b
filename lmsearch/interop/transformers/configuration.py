"""Configurations of both families for Transformers: the options of `create_model` as attributes, the directions among them.

A configuration holds every option, also those at their default, so that it makes the same network in later versions too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedConfig
from transformers.backbone_utils import BackboneConfigMixin

from lmsearch.models.factory import FAMILIES, PRESETS, accepted_options, layer_directions, model_depth
from lmsearch.plain import plain_numbers

MAPS = 4  # feature maps of a LocalVim backbone


class DirectionalConfig(BackboneConfigMixin, PreTrainedConfig):
    """What both families have. `directions`: one list per layer, or one for all; None takes h, h_flip, w2, w2_flip.

    `genotype` may hold what a genotype.json says, for the record. `image_mean` and `image_std` are what the pixels (0 to 1)
    were normalised with. out_features or out_indices choose among `stage_names`, as for every backbone.
    """

    directions: Any = None
    merge: str = "sum"
    img_size: Any = 224
    in_chans: int = 3
    attention: str = "channel"
    window_padding: str = "zeros"
    d_state: int = 16
    expand: int = 2
    branch_norm: bool = True
    partial_channels: int = 1
    init: str = "default"
    genotype: dict[str, Any] | None = None
    image_mean: list[float] | None = None
    image_std: list[float] | None = None

    def __post_init__(self, **kwargs) -> None:
        shown = {name: plain_numbers(kwargs.pop(name, None)) for name in ("out_features", "out_indices")}
        kwargs.pop("stage_names", None)  # they follow from the rest
        super().__post_init__(**kwargs)
        for name in accepted_options(self.model_type) - NOT_KEPT:
            setattr(self, name, plain_numbers(getattr(self, name)))
        given = PRESETS[self.model_type]["directions"] if self.directions is None else self.directions
        self.directions = [list(names) for names in layer_directions(self.model_type, given, self.layers())]
        self.stage_names = [f"stage{place}" for place in range(1, self.stages() + 1)]
        self.set_output_features_output_indices(**shown)

    def layers(self) -> int:
        """Return the number of layers with directions."""
        sizes = {name: getattr(self, name) for name in ("depth", "depths") if hasattr(self, name)}
        return model_depth(self.model_type, **sizes)

    def stages(self) -> int:
        """Return the number of feature maps that a backbone offers."""
        return MAPS

    def options(self) -> dict[str, Any]:
        """Return what `create_model` takes: all options, directions and merge."""
        names = accepted_options(self.model_type) - NOT_KEPT
        return {name: getattr(self, name) for name in sorted(names)} | {"num_classes": self.num_labels}


class LocalVimConfig(DirectionalConfig):
    """Of a LocalVim; see `lmsearch.create_model` for what the attributes mean. Its maps are a simple feature pyramid."""

    model_type = "local_vim"
    attribute_map = {
        "hidden_size": "embed_dim", "num_hidden_layers": "depth", "image_size": "img_size", "num_channels": "in_chans",
    }  # fmt: skip

    patch_size: int = 16
    embed_dim: int = 192
    depth: int = 20
    global_pool: str | None = None
    drop_path_rate: float = 0.1
    use_rope: bool = True
    rope_residual: bool = True
    middle_cls_token: bool = False
    norm: str = "rms"
    stem: str = "patch"


class LocalVMambaConfig(DirectionalConfig):
    """Of a LocalVMamba; see `lmsearch.create_model` for what the attributes mean. Its maps are those of its stages."""

    model_type = "local_vmamba"
    attribute_map = {"image_size": "img_size", "num_channels": "in_chans"}

    patch_size: int = 4
    dims: Any = (96, 192, 384, 768)
    depths: Any = (2, 2, 9, 2)
    global_pool: str = "avg"
    drop_path_rate: float = 0.2

    def stages(self) -> int:
        """Return the number of feature maps that a backbone offers."""
        return 1 if isinstance(self.depths, int) else len(self.depths)


NOT_KEPT = {"backend", "num_classes", "head", "out_indices", "frozen_stages", "features_only"}  # of an option's own kinds
CONFIGS = {config.model_type: config for config in (LocalVimConfig, LocalVMambaConfig)}


def config_of(
    name: str,
    directions: Sequence[Sequence[str]],
    merge: str,
    options: Mapping[str, Any],
    *,
    labels: Sequence[str] = (),
    **known,
) -> DirectionalConfig:
    """Return the configuration of `create_model(name, directions=, merge=, **options)`; `labels` are the names of classes.

    `known`: genotype, image_mean, image_std, out_features, out_indices.
    """
    all_options = PRESETS[name] | dict(options)
    family = all_options.pop("family")
    classes = all_options.pop("num_classes", FAMILY_CLASSES)
    kept = {option: value for option, value in all_options.items() if option in accepted_options(family) - NOT_KEPT}
    if labels:
        named = {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}
    else:
        named = {"num_labels": classes}
    return CONFIGS[family](**kept | {"directions": [list(names) for names in directions], "merge": merge} | named | known)


FAMILY_CLASSES = 1000  # of a network whose options do not say
assert set(CONFIGS) == set(FAMILIES)
