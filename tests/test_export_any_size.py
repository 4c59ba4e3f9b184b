"""Exported files that take images of any size, in both formats, held against PyTorch at sizes that they were not made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from exported import TINY, network, spec_of
from test_export_networks import CLASS_TOKEN, PAIR, STAGES, exported

from lmsearch.export.certificate import relative_difference
from lmsearch.export.formats import FORMATS
from lmsearch.export.loaded import load_exported
from lmsearch.export.options import ExportOptions
from lmsearch.export.program import example

pytestmark = pytest.mark.slow
FOUR = [["h", "w2_flip", "snake", "zigzag_flip"], ["v", "cw2", "atrous2", "antidiag"]]
PIXELS: dict[str, Any] = {"target": "segmentation", "head": "plain"}
UPERNET: dict[str, Any] = {"target": "segmentation", "head": "upernet"}
SPECS = {
    "stages": spec_of("local_vmamba_nano", FOUR, **STAGES),
    "stages, padded": spec_of("local_vmamba_nano", [*PAIR, ["v", "w2x3"]], window_padding="zeros", **STAGES),
    "stages, pixels": spec_of("local_vmamba_nano", FOUR, window_padding="zeros", **STAGES | PIXELS),
    "rope, curves": spec_of("local_vim_nano", [["spiral", "morton_flip", "antisnake"]], attention="channel", **TINY),
    "rope, padded, both gates": spec_of("local_vim_nano", PAIR, window_padding="zeros", **TINY),
    "class token, padded": spec_of("local_vim_nano", PAIR, window_padding="zeros", **TINY | CLASS_TOKEN),
    "class token, average": spec_of("local_vim_nano", [["h", "v_flip"]], global_pool="avg", **TINY | CLASS_TOKEN),
    "no rope, LayerNorm, stem": spec_of(
        "local_vim_nano", PAIR, use_rope=False, rope_residual=False, attention="none", norm="layer", stem="conv", **TINY
    ),
    "every token": spec_of("local_vim_nano", PAIR, global_pool="", **TINY),
    "one level, pixels": spec_of("local_vim_nano", PAIR, window_padding="zeros", **TINY | PIXELS),
    "one level, UPerNet": spec_of("local_vim_nano", PAIR, side=24, **TINY | UPERNET | {"embed_dim": 16}),
    "stages, UPerNet": spec_of("local_vmamba_nano", [*PAIR, ["v"]], side=24, window_padding="zeros", **STAGES | UPERNET),
}


WAYS = [*((name, format, "scan") for name in SPECS for format in FORMATS)]
WAYS += [(name, "onnx", "linear_attention") for name in ("class token, padded", "stages, padded")]


@pytest.mark.parametrize(("name", "format", "scan"), WAYS)
@torch.no_grad()
def test_a_file_takes_images_of_any_size(name: str, format: str, scan: str, tmp_path: Path) -> None:
    spec = SPECS[name]
    file = load_exported(exported(spec, ExportOptions(format, sizes=True, scan=scan), tmp_path / "x"))
    sizes = {case.img_size for case in file.described.certificate.cases}
    assert len(sizes) == 2 and any(height != width for height, width in sizes)
    net, info = network(spec)
    least = file.described.least * file.described.step
    for batch, size in ((1, (least, least)), (7, (24, 20)), (2, (28, 40))):
        images = example(info, batch, size)
        assert relative_difference(file(images), net(images)) <= 1e-4
