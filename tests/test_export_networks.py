"""Every kind of network that can be exported, in both formats, held against PyTorch: what the certificate stands for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from exported import TINY, network, spec_of, write_run
from test_export import Loop

from lmsearch.cli import main
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.errors import ExportError
from lmsearch.export import onnx_file
from lmsearch.export.certificate import relative_difference
from lmsearch.export.formats import FORMATS
from lmsearch.export.loaded import load_exported
from lmsearch.export.make import export_network
from lmsearch.export.options import ExportOptions
from lmsearch.export.program import example
from lmsearch.export.scans import SCANS, ScanKind

pytestmark = pytest.mark.slow
STAGES: dict[str, Any] = {"dims": [8, 16], "depths": [1, 1], "d_state": 2}
CLASS_TOKEN = {"use_rope": False, "rope_residual": False, "middle_cls_token": True}
PAIR = [["h", "w3_flip"]]
SPECS = {
    "rope, one gate per channel": spec_of("local_vim_nano", PAIR, attention="channel", **TINY),
    "rope, both gates, padded": spec_of("local_vim_nano", PAIR, window_padding="zeros", **TINY),
    "class token, padded, 5 x 5 tokens": spec_of("local_vim_nano", PAIR, window_padding="zeros", side=10, **TINY | CLASS_TOKEN),
    "no rope, no gates, LayerNorm": spec_of(
        "local_vim_nano",
        [["spiral", "hilbert_flip"]],
        use_rope=False,
        rope_residual=False,
        attention="none",
        norm="layer",
        **TINY,
    ),
    "stages": spec_of("local_vmamba_nano", [*PAIR, ["v"]], **STAGES),
    "stages, padded, 12 x 12 pixels": spec_of("local_vmamba_nano", [*PAIR, ["v"]], side=12, window_padding="zeros", **STAGES),
    "pixels, plain head": spec_of("local_vmamba_nano", [*PAIR, ["v"]], target="segmentation", head="plain", **STAGES),
    "pixels, UPerNet": spec_of("local_vim_nano", PAIR, target="segmentation", head="upernet", **TINY | {"embed_dim": 16}),
}


def exported(spec: ModelSpec, options: ExportOptions, path: Path) -> Path:
    net, info = network(spec)
    path = path.with_suffix(FORMATS[options.format].ending)
    path.write_bytes(export_network(net, spec, info, options, source="a run").content)
    return path


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", SPECS)
@torch.no_grad()
def test_a_file_computes_what_the_network_does(name: str, format: str, tmp_path: Path) -> None:
    spec = SPECS[name]
    file, (net, info) = load_exported(exported(spec, ExportOptions(format), tmp_path / "x")), network(spec)
    assert [case.batch for case in file.described.certificate.cases] == [1, 7]
    for batch in (1, 3, 7):
        images = example(info, batch, info.img_size)
        assert relative_difference(file(images), net(images)) <= 1e-4


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("name", ["class token, padded, 5 x 5 tokens", "stages, padded, 12 x 12 pixels"])
@torch.no_grad()
def test_a_file_that_scans_by_linear_attention_computes_the_same(name: str, int8: bool, tmp_path: Path) -> None:
    import onnx

    spec, options = SPECS[name], ExportOptions(scan="linear_attention", int8=int8, tolerance=0.5 if int8 else None)
    path = exported(spec, options, tmp_path / "x")
    nodes = [node.op_type for node in onnx.load(path).graph.node]
    assert "LinearAttention" in nodes and "Scan" not in nodes
    assert json.loads(onnx_file.description_in(path.read_bytes(), source="x"))["options"]["scan"] == "linear_attention"
    file, (net, info) = load_exported(path), network(spec)
    for batch in (1, 3, 7):
        images = example(info, batch, info.img_size)
        assert relative_difference(file(images), net(images)) <= options.accepted_difference


@pytest.mark.parametrize("format", FORMATS)
def test_a_wrong_scan_is_not_written(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SPECS["rope, one gate per channel"]
    monkeypatch.setitem(SCANS, "scan", ScanKind("scan", lambda: Loop(forgets=True)))
    net, info = network(spec)
    with pytest.raises(ExportError, match="not written: at 1 image"):
        export_network(net, spec, info, ExportOptions(format), source="a run")


@pytest.mark.parametrize("format", FORMATS)
def test_equal_exports_are_equal_bytes(format: str, tmp_path: Path) -> None:
    spec = SPECS["stages"]
    one, other = (exported(spec, ExportOptions(format), tmp_path / name).read_bytes() for name in ("one", "other"))
    assert one == other and str(Path(__file__).parent.parent).encode() not in one


def test_more_tokens_make_no_more_nodes_and_no_constant_but_tables_of_tokens_larger(tmp_path: Path) -> None:
    found = []
    for side in (8, 32):  # 16 tokens, and 16 times as many
        spec = spec_of("local_vim_nano", PAIR, side=side, **TINY)
        found.append(insides(exported(spec, ExportOptions(), tmp_path / str(side))))
    (nodes, few), (more_nodes, many) = found
    assert nodes == more_nodes
    assert all(size % 16 == 0 and size // 16 in few for size in set(many) - set(few))  # the exporter merges small equal tables


def insides(path: Path) -> tuple[list[str], list[int]]:
    """Return the operators of a file, also those inside others, and the bytes of its constants: what it takes to load it."""
    import onnx

    parts = list(onnx_file.parts_of(onnx.load(path).graph))
    nodes = [part.op_type for part in parts if isinstance(part, onnx.NodeProto)]
    held = [part for part in parts if isinstance(part, onnx.TensorProto)]
    held += [a.t for part in parts if isinstance(part, onnx.NodeProto) for a in part.attribute if a.HasField("t")]
    return nodes, [onnx.numpy_helper.to_array(tensor).nbytes for tensor in held]


def test_weights_in_8_bits_are_written_with_the_accuracy_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run = write_run(tmp_path / "run", spec_of("local_vim_nano", PAIR, **TINY | {"embed_dim": 64}))
    plain, small = tmp_path / "plain.onnx", tmp_path / "small.onnx"
    assert main(["export", f"checkpoint={run}", f"out={plain}"]) == 0
    capsys.readouterr()
    assert main(["export", f"checkpoint={run}", f"out={small}", "int8=true", "tolerance=0.5"]) == 0
    (told,) = re.findall(r"int8=true: (\d+) of (\d+) weights are in 8 bits", caplog.text)
    assert 0 < int(told[0]) < int(told[1])
    assert re.search(r"test_accuracy: PyTorch 0\.\d{4}, .*small.onnx 0\.\d{4}", capsys.readouterr().out)
    assert small.stat().st_size < plain.stat().st_size
    assert 0 < load_exported(small).described.certificate.difference <= 0.5
    with pytest.raises(ExportError, match="not written"):
        exported(load_exported(small).described.spec, ExportOptions(int8=True, tolerance=1e-6), tmp_path / "strict")
    assert isinstance(onnx_file.description_in(small.read_bytes(), source="x"), str)
