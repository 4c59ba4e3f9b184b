"""Small networks in run folders for tests of exports: untrained, of the digits' 8 x 8 pixels, or of pixels of the shapes."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from lmsearch.data import DataInfo, build_source
from lmsearch.engine.checkpoint import ModelSpec, save_model
from lmsearch.engine.run_dir import RunDir
from lmsearch.models.backbone import Network

TINY = {"embed_dim": 8, "d_state": 2, "patch_size": 2, "depth": 1}
DIGITS = {"name": "digits"}


def spec_of(name: str, directions: list[list[str]], *, side: int = 8, target: str = "class", **options: Any) -> ModelSpec:
    """Return the description of a network for the digits' classes, of images or of their pixels."""
    info = replace(build_source("digits").info, img_size=(side, side), target=target)
    told = {"img_size": [side, side], "in_chans": info.in_chans, "num_classes": info.num_classes}
    data = {"info": asdict(info)} | ({"source": DIGITS} if target == "class" else {})
    return ModelSpec(name, tuple(map(tuple, directions)), "sum", told | options, data)


def network(spec: ModelSpec) -> tuple[Network, DataInfo]:
    """Return the network of a description with weights that let every direction speak, and what its data are."""
    torch.manual_seed(0)
    net = spec.build().eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.add_(0.3 * torch.randn_like(parameter) + 3.0 * name.endswith("dt_proj_bias"))  # steps that are not tiny
    return net, DataInfo.from_dict(spec.data["info"])


def write_run(folder: Path, spec: ModelSpec) -> Path:
    """Write the network of a description as a retraining does."""
    run_dir = RunDir(folder)
    with run_dir.owned(key="run_dir"):
        save_model(run_dir, spec, network(spec)[0].state_dict())
    return folder
