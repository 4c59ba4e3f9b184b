"""Initial weights. "default" is LocalMamba's rule but keeps Mamba's step init, which "released", its code, erases in LocalVim.

"fan_in" suits narrow networks: Linears draw with std 1 / sqrt(inputs) instead of 0.02, which is meant for hundreds of channels.
At 16 channels 0.02 shrinks B and C until the scans output next to nothing, and learning them takes the first 60 steps or so.
"""

from __future__ import annotations

import math

from torch import nn

from lmsearch.errors import ModelError
from lmsearch.models.mixer import DirectionalMixer

INITS = ("default", "released", "fan_in")


def check_init(init: str) -> None:
    """Raise ModelError unless `init` is a known rule."""
    if init not in INITS:
        raise ModelError(f"init={init!r} is not accepted; accepted: {', '.join(INITS)}")


def init_linears(model: nn.Module, init: str) -> None:
    """Every Linear: weight truncated normal (std 0.02; with "fan_in" 1 / sqrt(inputs), except the head), bias 0."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            narrow = init == "fan_in" and module is not model.head
            nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5 if narrow else 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_local_vim(model: nn.Module, init: str, depth: int) -> None:
    """LocalVim's rules: Linears and x_proj as above, out_proj scaled by 1 / sqrt(depth).

    "released" also draws dt_proj like a Linear and zeroes its bias, so that every step starts at softplus(0) = 0.693.
    """
    init_linears(model, init)
    if next(model.parameters()).is_meta:
        return  # without values, as in DirectionalMixer
    for module in model.modules():
        if not isinstance(module, DirectionalMixer):
            continue
        nn.init.kaiming_uniform_(module.out_proj.weight, a=math.sqrt(5))
        module.out_proj.weight.data.div_(math.sqrt(depth))
        nn.init.trunc_normal_(module.x_proj_weight, std=module.d_scan**-0.5 if init == "fan_in" else 0.02)
        if init == "released":
            nn.init.trunc_normal_(module.dt_proj_weight, std=0.02)
            nn.init.zeros_(module.dt_proj_bias)
