"""What is served: the modules that other people's code imports, their names, and where ours are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

HERE = "lmsearch.compat."
DROP_IN, INNER, MIXER = "lmsearch.kernels.drop_in", HERE + "inner", HERE + "mixer"
CONV, NORM, EXTENSION, TEXT = HERE + "conv", HERE + "norm", HERE + "extension", HERE + "text"


@dataclass(frozen=True)
class StandIn:
    """One package that is served: its modules, each with {name: (our module, our name)}, and the version it says it has."""

    modules: Mapping[str, Mapping[str, tuple[str, str]]] = field(default_factory=dict)
    version: str | None = None


def _same(module: str, *names: str) -> dict[str, tuple[str, str]]:
    return {name: (module, name) for name in names}


_SCANS = {**_same(DROP_IN, "selective_scan_fn"), **_same(HERE + "scan", "selective_scan_ref")}
_INNER = _same(INNER, "mamba_inner_fn", "mamba_inner_fn_no_out_proj", "bimamba_inner_fn")
_CONVS = _same(CONV, "causal_conv1d_fn", "causal_conv1d_update")

# The version is the last of mamba-ssm without Mamba-2, which is not served: code that asks for 2.0 goes its other way.
STAND_INS = {
    "mamba_ssm": StandIn(
        {
            "mamba_ssm": {
                **_same(DROP_IN, "selective_scan_fn"),
                **_same(INNER, "mamba_inner_fn", "bimamba_inner_fn"),
                **_same(MIXER, "Mamba"),
            },
            "mamba_ssm.modules": {},
            "mamba_ssm.modules.mamba_simple": _same(MIXER, "Mamba"),
            "mamba_ssm.ops": {},
            "mamba_ssm.ops.selective_scan_interface": {**_SCANS, **_INNER},
            "mamba_ssm.ops.triton": {},
            "mamba_ssm.ops.triton.layer_norm": _same(NORM, "RMSNorm", "layer_norm_fn", "rms_norm_fn"),
            "mamba_ssm.ops.triton.layernorm": {
                "RMSNorm": (NORM, "OldRMSNorm"),
                "layer_norm_fn": (NORM, "old_layer_norm_fn"),
                "rms_norm_fn": (NORM, "old_rms_norm_fn"),
            },
            "mamba_ssm.ops.triton.selective_state_update": _same(HERE + "scan", "selective_state_update"),
            "mamba_ssm.utils": {},
            "mamba_ssm.utils.generation": _same(TEXT, "GenerationMixin"),
            "mamba_ssm.utils.hf": _same(TEXT, "load_config_hf", "load_state_dict_hf"),
        },
        version="1.2.2+lmsearch",
    ),
    "causal_conv1d": StandIn(
        {"causal_conv1d": _CONVS, "causal_conv1d.causal_conv1d_interface": _CONVS}, version="1.6.1+lmsearch"
    ),
    "selective_scan_cuda": StandIn({"selective_scan_cuda": {"fwd": (EXTENSION, "cuda_fwd"), "bwd": (EXTENSION, "cuda_bwd")}}),
    "selective_scan_cuda_core": StandIn(
        {"selective_scan_cuda_core": {"fwd": (EXTENSION, "core_fwd"), "bwd": (EXTENSION, "core_bwd")}}
    ),
    "selective_scan_cuda_oflex": StandIn(
        {"selective_scan_cuda_oflex": {"fwd": (EXTENSION, "oflex_fwd"), "bwd": (EXTENSION, "oflex_bwd")}}
    ),
}
