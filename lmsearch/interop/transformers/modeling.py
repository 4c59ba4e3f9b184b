"""Backbones and image classifiers of both families as PreTrainedModels: `model` is the network of `create_model`.

Shapes: images (B, C, h, w) of any size; feature maps (B, D, H, W); logits (B, classes).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoBackbone, AutoConfig, AutoModelForImageClassification, PreTrainedModel
from transformers.backbone_utils import BackboneMixin
from transformers.modeling_outputs import BackboneOutput, ImageClassifierOutput

from lmsearch.interop.transformers.configuration import DirectionalConfig, LocalVimConfig, LocalVMambaConfig
from lmsearch.models import Backbone, create_model
from lmsearch.models.dense.net import chosen_levels, to_whole_patches
from lmsearch.models.dense.pyramid import Pyramid, levels_of


class DirectionalModel(PreTrainedModel):
    """What both kinds share. A network keeps the weights that its constructor gives it, as Transformers does not know them."""

    config_class: type[DirectionalConfig]
    base_model_prefix = ""
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _no_split_modules: list[str] = []

    def parts(self, config: DirectionalConfig) -> dict[str, nn.Module]:
        """Return the modules that the model is made of, with fresh weights."""
        raise TypeError(f"{type(self).__name__} does not say what it is made of")

    def __init__(self, config: DirectionalConfig) -> None:
        super().__init__(config)
        for name, part in self.parts(config).items():
            self.add_module(name, part)
        self.empty = any(parameter.is_meta for parameter in self.parameters())

    def _init_weights(self, module: nn.Module) -> None:
        """Change nothing: the constructor has made all weights."""

    @torch.no_grad()
    def initialize_weights(self, *args, **kwargs) -> None:
        """Give weights that a file lacks, such as a new classifier's, the values that a new network has.

        `from_pretrained` makes the network without memory, and what no file fills is whatever lay there.
        """
        missing = {name: p for name, p in self.named_parameters() if not getattr(p, "_is_hf_initialized", False)}
        if self.empty and missing:
            with torch.device("cpu"):
                fresh = nn.ModuleDict(self.parts(self.config)).state_dict()
            for name, parameter in missing.items():
                parameter.copy_(fresh[name])
        super().initialize_weights(*args, **kwargs)

    def activation_checkpointing_enable(self, *args, **kwargs) -> None:
        """Compute every mixer again in the backward pass of training instead of keeping its activations."""
        self.network.set_grad_checkpointing(True)

    def activation_checkpointing_disable(self) -> None:
        """Keep activations again."""
        self.network.set_grad_checkpointing(False)

    @property
    def network(self) -> Backbone:
        """The network of `create_model`."""
        return self.get_submodule("model")


class DirectionalBackbone(BackboneMixin, DirectionalModel):
    """Normalised feature maps, each of twice the stride of the one before; images are padded to whole patches."""

    has_attentions = False

    def parts(self, config: DirectionalConfig) -> dict[str, nn.Module]:
        """Return the network without a classifier, and what makes its maps."""
        net = create_model(config.model_type, **config.options() | {"num_classes": 0})
        levels = levels_of(net.feature_info, chosen_levels(net, None, most=None))
        return {"model": net, "neck": Pyramid(levels, config.stages())}

    def __init__(self, config: DirectionalConfig) -> None:
        super().__init__(config)
        self.num_features = [level.channels for level in self.neck.levels]
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> BackboneOutput | tuple:
        """Images to the maps that out_features name; `hidden_states` are all maps. There are no attentions."""
        levels = chosen_levels(self.network, None, most=None)
        images = to_whole_patches(pixel_values, self.network.patch_size)
        maps = self.neck(self.network.forward_intermediates(images, levels, norm=True, intermediates_only=True))
        shown = tuple(maps[self.stage_names.index(name)] for name in self.out_features)
        if return_dict is False:
            return (shown, tuple(maps)) if output_hidden_states else (shown,)
        return BackboneOutput(feature_maps=shown, hidden_states=tuple(maps) if output_hidden_states else None)


class DirectionalForImageClassification(DirectionalModel):
    """The network with its classifier; the loss is that of the config's `problem_type`, cross-entropy for class indices (B,)."""

    accepts_loss_kwargs = False  # the loss is a mean over the batch, which Trainer must divide where it accumulates

    def parts(self, config: DirectionalConfig) -> dict[str, nn.Module]:
        """Return the network."""
        return {"model": create_model(config.model_type, **config.options())}

    def __init__(self, config: DirectionalConfig) -> None:
        super().__init__(config)
        self.post_init()

    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, return_dict: bool | None = None
    ) -> ImageClassifierOutput | tuple:
        """Images, and labels where a loss is wanted, to logits."""
        logits = self.network(pixel_values)
        loss = None if labels is None else self.loss_function(labels, logits.float(), self.config)
        if return_dict is False:
            return (logits,) if loss is None else (loss, logits)
        return ImageClassifierOutput(loss=loss, logits=logits)


class LocalVimBackbone(DirectionalBackbone):
    """LocalVim as a backbone of four maps."""

    config_class: Any = LocalVimConfig


class LocalVMambaBackbone(DirectionalBackbone):
    """LocalVMamba as a backbone of a map per stage."""

    config_class: Any = LocalVMambaConfig


class LocalVimForImageClassification(DirectionalForImageClassification):
    """LocalVim as an image classifier."""

    config_class: Any = LocalVimConfig


class LocalVMambaForImageClassification(DirectionalForImageClassification):
    """LocalVMamba as an image classifier."""

    config_class: Any = LocalVMambaConfig


BACKBONES = {"local_vim": LocalVimBackbone, "local_vmamba": LocalVMambaBackbone}
CLASSIFIERS = {"local_vim": LocalVimForImageClassification, "local_vmamba": LocalVMambaForImageClassification}


def register_all() -> None:
    """Make both families known to Transformers' Auto classes."""
    for name, backbone in BACKBONES.items():
        AutoConfig.register(name, backbone.config_class, exist_ok=True)
        AutoBackbone.register(backbone.config_class, backbone, exist_ok=True)
        AutoModelForImageClassification.register(backbone.config_class, CLASSIFIERS[name], exist_ok=True)
