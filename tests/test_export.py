"""Exported files: they compute what the network does, say what they are, and are refused where a byte differs."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from exported import TINY, network, spec_of, write_run
from torch import Tensor

from lmsearch.cli import main
from lmsearch.engine.checkpoint import ModelSpec, read_model
from lmsearch.errors import CheckpointError, DataError, ExportError
from lmsearch.export import onnx_file
from lmsearch.export.certificate import Case, Certificate, certify, relative_difference
from lmsearch.export.described import Described
from lmsearch.export.formats import FORMATS, format_for
from lmsearch.export.loaded import ExportedNet, describe_exported, load_exported
from lmsearch.export.make import export_network
from lmsearch.export.options import ExportOptions, check_network
from lmsearch.export.portable import Portable
from lmsearch.export.program import example, portable_copy, quietly
from lmsearch.export.scans import SCANS
from lmsearch.export.seal import BLANK, check_seal, sealed
from lmsearch.interop.released_file import read_official_checkpoint
from lmsearch.models.dense import HEADS, HeadKind
from lmsearch.settings.exporting import Export

VIM = spec_of("local_vim_nano", [["h", "w2_flip"]], attention="none", **TINY)
CASES = (Case(1, (8, 8), 1e-6), Case(7, (8, 8), 2e-6))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export a network of the digits by the command, beside its run folder."""
    folder = tmp_path_factory.mktemp("shipped")
    write_run(folder / "run", VIM)
    assert main(["export", f"checkpoint={folder / 'run'}", f"out={folder / 'x.onnx'}"]) == 0
    return folder


class Loop(Portable):
    """The recurrence step by step; `forgets` leaves out what the state was, as wrong exports do."""

    def __init__(self, *, forgets: bool = False) -> None:
        self.forgets = forgets

    def recurrence(self, dt: Tensor, du: Tensor, B: Tensor, C: Tensor, A: Tensor) -> Tensor:
        h, found = dt.new_zeros(*A.shape), []
        for t in range(dt.shape[2]):
            decay = torch.exp(dt[:, :, t, :, None] * A)
            h = (0 if self.forgets else decay * h) + du[:, :, t, :, None] * B[:, :, t, None, :]
            found.append((h * C[:, :, t, None, :]).sum(-1))
        return torch.stack(found, 2)


def error_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that a command with bad input ends with."""
    capsys.readouterr()
    assert main(words) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_a_file_answers_as_the_network_does_and_says_what_it_is(shipped: Path) -> None:
    file, (net, info) = load_exported(shipped / "x.onnx"), network(VIM)
    for batch in (1, 2, 5):
        images = example(info, batch, (8, 8))
        assert relative_difference(file(images), net(images)) <= 1e-4
    assert asdict(file.described.spec) == json.loads(json.dumps(asdict(VIM))) | {"directions": VIM.directions}
    assert file.described.info == info
    assert file.described.certificate.difference <= file.described.certificate.tolerance == 1e-4
    told = json.loads(onnx_file.description_in((shipped / "x.onnx").read_bytes(), source="x"))
    assert told["class_names"] == [str(n) for n in range(10)] and told["genotype"] == [["h", "w2_flip"]]
    assert told["mean"] == list(info.mean) and told["std"] == list(info.std)
    assert str(Path(__file__).parent.parent).encode() not in (shipped / "x.onnx").read_bytes()


def test_a_file_is_evaluated_and_predicts_as_its_run(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = []
    for checkpoint in ("run", "x.onnx"):
        run_dir = shipped / f"evaluated-{checkpoint}"
        assert main(["evaluate", f"checkpoint={shipped / checkpoint}", f"run_dir={run_dir}"]) == 0
        scores.append(json.loads((run_dir / "metrics.json").read_text()))
    assert scores[0]["test_accuracy"] == scores[1]["test_accuracy"]
    assert scores[0]["test_class_accuracy"] == scores[1]["test_class_accuracy"]
    words = [f"checkpoint={shipped / 'x.onnx'}", f"run_dir={shipped / 'other'}", "precision=bf16"]
    assert "computes as it was written; leave precision=bf16 out" in error_of(["evaluate", *words], capsys)


def test_every_scan_of_a_file_is_one_node_and_no_node_counts_tokens(shipped: Path) -> None:
    import onnx

    nodes = onnx.load(shipped / "x.onnx").graph.node
    assert [node.op_type for node in nodes].count("Scan") == 1 and len(nodes) < 200


def test_a_changed_byte_is_noticed_wherever_it_is(shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray((shipped / "x.onnx").read_bytes())
    for place in (20, len(content) // 2, len(content) - 100):
        changed = content.copy()
        changed[place] ^= 1
        (tmp_path / "x.onnx").write_bytes(changed)
        with pytest.raises(CheckpointError, match="damaged"):
            describe_exported(tmp_path / "x.onnx")
    told = error_of(["evaluate", f"checkpoint={tmp_path / 'x.onnx'}", f"run_dir={tmp_path / 'r'}"], capsys)
    assert "x.onnx" in told and not (tmp_path / "r").exists()


def test_a_file_without_a_certificate_or_of_another_version_is_refused(shipped: Path, tmp_path: Path) -> None:
    import onnx

    proto = onnx.load(shipped / "x.onnx")
    told = json.loads(proto.metadata_props[0].value)
    (tmp_path / "x.onnx").write_bytes(onnx_file.pack(proto, json.dumps(told | {"version": 9, "lmsearch": "9.1"})))
    with pytest.raises(CheckpointError, match=r"an export of version 9, written by lmsearch 9.1; accepted: 1"):
        load_exported(tmp_path / "x.onnx")
    (tmp_path / "x.onnx").write_bytes(onnx_file.pack(proto, json.dumps(told | {"certificate": None})))
    with pytest.raises(CheckpointError, match="no certificate"):
        load_exported(tmp_path / "x.onnx")
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "x.onnx")
    with pytest.raises(CheckpointError, match="no certificate"):
        load_exported(tmp_path / "x.onnx")


def test_a_fixed_file_names_the_image_size_that_it_takes(shipped: Path) -> None:
    with pytest.raises(ValueError, match="takes images of 8x8 pixels only, not of 10x8; export with dynamic=size"):
        load_exported(shipped / "x.onnx")(torch.zeros(1, 1, 10, 8))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["out=y.pt2"], "another ending than format=onnx; accepted: .onnx"),
        (["out=x.onnx"], "exists already"),
        (["out=y.pt2", "format=torch_export", "int8=true"], "format=torch_export cannot hold int8=true; accepted: onnx"),
        (["out=y.pt2", "format=torch_export", "scan=linear_attention"], "cannot hold scan=linear_attention; accepted: onnx"),
        (["out=y.onnx", "scan=loop"], "scan='loop' is not accepted; accepted: scan, linear_attention"),
        (["out=y.onnx", "format=tflite"], "accepted: onnx, torch_export"),
        (["out=y.onnx", "tolerance=-1"], "tolerance=-1.0 is out of range; accepted: 0.0 to 1.0"),
        (["out=y.onnx", "tolerance=0"], "tolerance=0.0 is not accepted; accepted: above 0"),
        (["out=y.onnx", "tolerance=inf"], "tolerance='inf' is not a finite number"),
        (["out=y.onnx", "checkpoint=x.onnx"], "is an exported file"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run", VIM)
    (tmp_path / "x.onnx").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert told in error_of(["export", "checkpoint=run", *words], capsys)
    assert not {path.name for path in tmp_path.iterdir()} & {"y.onnx", "y.pt2"}


@pytest.mark.parametrize("name", ["x.onnx", "x.pt2"])
def test_an_exported_file_in_the_place_of_weights_is_told_as_what_it_is(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    for read in (read_model, read_official_checkpoint):
        with pytest.raises(CheckpointError, match=rf"{name}.* is an exported file, which evaluate, predict and latency take"):
            read(tmp_path / name)


def test_a_missing_package_is_named_with_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run", VIM)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnxscript" else real(name, *rest))
    told = error_of(["export", f"checkpoint={tmp_path / 'run'}", f"out={tmp_path / 'x.onnx'}"], capsys)
    assert "needs onnxscript, which is not installed; run: python -m pip install onnx onnxscript onnxruntime" in told


def test_supernets_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "supernet", replace(VIM, merge="weighted"))
    told = error_of(["export", f"checkpoint={tmp_path / 'supernet'}", f"out={tmp_path / 'x.onnx'}"], capsys)
    assert "holds a supernet (merge=weighted); derive a genotype" in told


def test_the_heads_that_can_be_exported_are_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, objects in (("mine", False), ("boxes", True)):
        monkeypatch.setitem(HEADS, name, HeadKind(name, (), HEADS["plain"].build, levels=None, objects=objects))
    net = spec_of("local_vim_nano", [["h"]], head="boxes", **TINY).build()
    accepted = ", ".join(name for name, kind in HEADS.items() if not kind.objects)
    with pytest.raises(ExportError, match=f"head=boxes .*; accepted: no head, {accepted}$"):
        check_network(net, merge="sum", source="run")


@pytest.mark.slow  # for Transformers' import
def test_heads_for_objects_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "objects", spec_of("local_vim_nano", [["h"]], target="instances", head="mask2former", **TINY))
    told = error_of(["export", f"checkpoint={tmp_path / 'objects'}", f"out={tmp_path / 'x.onnx'}"], capsys)
    assert "head=mask2former answers a set of objects, which cannot be exported; accepted: no head, plain" in told


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (spec_of("local_vim_nano", [["h", "random7"]], **TINY), "the order random7 has no formula for any size"),
        (spec_of("local_vmamba_nano", [["h", "hilbert"]], depths=[1], dims=[8]), "the order hilbert has no formula for any size"),
        (
            spec_of("local_vim_nano", [["h", "w3"]], **TINY | {"patch_size": 3}),
            "takes sides that are multiples of 3 pixels, from 6 on, and was trained on 8x8",
        ),
    ],
)
def test_networks_that_do_not_take_images_of_any_size_are_refused_with_the_reason(spec: ModelSpec, told: str) -> None:
    net, info = network(spec)
    with pytest.raises(ExportError, match=f"dynamic=size: .*{told}"):
        export_network(net, spec, info, ExportOptions(sizes=True), source="a run")


def test_a_network_is_timed_and_scored_as_it_is_and_as_a_file(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints = f"checkpoint=[{shipped / 'run'},{shipped / 'x.onnx'}]"
    words = ["latency", checkpoints, "what=[pytorch]", "batches=[1,3]", "repeats=2", f"run_dir={shipped / 'latency'}"]
    assert main([*words, "quiet=true"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("latency: ") and out.count("\n") == 1
    found = json.loads((shipped / "latency" / "latency.json").read_text())["tables"]
    assert [[(row["variant"], row["batch"]) for row in table["rows"]] for table in found] == [
        [("pytorch", 1), ("pytorch", 3)],
        [("file", 1), ("file", 3)],
    ]
    assert all(0 < row["min_s"] <= row["median_s"] and row["std_s"] >= 0 for table in found for row in table["rows"])
    assert found[0]["scores"]["pytorch"] == found[1]["scores"]["file"]
    assert "| file | 1 | 3 |" in (shipped / "latency" / "latency.md").read_text()
    assert "did you mean pytorch?" in error_of(["latency", f"checkpoint={shipped / 'run'}", "what=[pytorhc]"], capsys)
    assert "batches=0 is not accepted" in error_of(["latency", f"checkpoint={shipped / 'run'}", "batches=0"], capsys)
    assert "what=[] leaves no way to run" in error_of(["latency", f"checkpoint={shipped / 'run'}", "what=[]"], capsys)
    said = error_of(["latency", f"checkpoint=[{shipped / 'run'},{shipped / 'nope'}]", f"run_dir={shipped / 'other'}"], capsys)
    assert "no such checkpoint" in said and not (shipped / "other").exists()
    assert "would be lost; choose another run_dir=" in error_of(["latency", f"checkpoint={shipped / 'run'}", *words[2:]], capsys)


def test_portable_operators_compute_what_the_kernels_do_and_a_wrong_scan_is_refused() -> None:
    for spec in (
        spec_of("local_vim_nano", [["h", "w3_flip", "v"]], window_padding="zeros", **TINY | {"patch_size": 1}, side=4),
        spec_of("local_vmamba_nano", [["h", "v_flip"]], depths=[1], dims=[8], d_state=2, side=4),
    ):
        net, info = network(spec)
        found = certify(portable_copy(net, Loop()), net, info, [(4, 4)], tolerance=1e-4)
        assert [(case.batch, case.img_size) for case in found.cases] == [(1, (4, 4)), (7, (4, 4))]
        with pytest.raises(ExportError, match=r"not written: at 1 image.* of 4x4 pixels .* accepted: 0.0001 \(tolerance=\)"):
            certify(portable_copy(net, Loop(forgets=True)), net, info, [(4, 4)], tolerance=1e-4)


def test_a_difference_is_a_share_of_the_largest_output_and_never_hides_what_is_not_finite() -> None:
    wanted = torch.tensor([1.0, -4.0])
    assert relative_difference(torch.tensor([1.0, -3.0]), wanted) == 0.25
    for other in (torch.tensor([1.0, float("nan")]), torch.tensor([1.0]), torch.tensor([[1.0, -4.0]])):
        assert relative_difference(other, wanted) == float("inf")


def test_a_seal_is_that_of_every_byte() -> None:
    content = sealed(b"before " + BLANK.encode() + b" after")
    check_seal(content, source="x")
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        with pytest.raises(CheckpointError, match="^x: "):
            check_seal(bytes(changed), source="x")
    with pytest.raises(ValueError, match="one blank seal"):
        sealed(content)


@pytest.mark.parametrize("int8", [False, True])
def test_a_description_is_read_as_it_was_written(int8: bool) -> None:
    _, info = network(VIM)
    described = Described(VIM, info, ExportOptions(int8=int8), Certificate(1e-4, torch.__version__, CASES))
    read = Described.from_json(described.to_json(), source="x")
    assert read.to_json() == described.to_json() and replace(read, spec=VIM) == described
    assert described.options.accepted_difference == (0.1 if int8 else 1e-4)


def test_every_format_and_every_scan_is_found_by_its_name() -> None:
    assert [format_for(ExportOptions(name)) for name in FORMATS] == list(FORMATS.values())
    words = {field.name: field.metadata["key"].words for field in dataclasses.fields(Export) if "key" in field.metadata}
    assert list(words["format"]) == list(FORMATS) and list(words["scan"]) == list(SCANS)


def test_what_is_compared_is_what_was_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    net, info = network(VIM)
    forgetful = replace(
        FORMATS["torch_export"], pack=lambda made, told: b"x", opened=lambda content: lambda images: content and images
    )
    monkeypatch.setitem(FORMATS, "torch_export", forgetful)
    with pytest.raises(ExportError, match="not written: at 1 image"):
        export_network(net, VIM, info, ExportOptions("torch_export"), source="a run")


@pytest.mark.parametrize("tolerance", [0.0, -1.0, 1.5, float("inf"), float("nan")])
def test_a_tolerance_is_above_0_and_at_most_1(tolerance: float) -> None:
    with pytest.raises(ExportError, match="accepted: above 0, at most 1"):
        ExportOptions(tolerance=tolerance)


def test_outputs_of_another_shape_are_refused_whatever_the_tolerance() -> None:
    net, info = network(VIM)
    with pytest.raises(ExportError, match="not written"):
        certify(lambda images: net(images)[:, :2], net, info, [(8, 8)], tolerance=float("inf"))


def test_what_onnxruntime_refuses_is_one_line_with_the_file(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    file = load_exported(shipped / "x.onnx")
    with pytest.raises(CheckpointError, match=r"x.onnx: onnxruntime cannot run it: .*images"):
        file(torch.zeros(1, 3, 8, 8))
    proto = onnx.load(shipped / "x.onnx")
    told = proto.metadata_props[0].value
    proto.graph.node[0].op_type = "Unheard"
    (tmp_path / "x.onnx").write_bytes(onnx_file.pack(proto, told))
    line = error_of(["evaluate", f"checkpoint={tmp_path / 'x.onnx'}", f"run_dir={tmp_path / 'r'}"], capsys)
    assert "x.onnx: cannot be opened here: onnxruntime cannot run it: " in line and "Unheard" in line


def test_a_file_of_any_size_names_the_sizes_that_it_takes(shipped: Path) -> None:
    file = load_exported(shipped / "x.onnx")
    options = replace(file.described.options, sizes=True)
    any_size = ExportedNet(lambda images: images, replace(file.described, options=options, step=4), "y.onnx")
    assert any_size(torch.zeros(1, 1, 8, 12)).shape == (1, 1, 8, 12)
    for size in ((8, 10), (4, 8)):
        with pytest.raises(DataError, match=f"y.onnx takes .* multiples of 4 pixels, from 8 on, not of {size[0]}x{size[1]}"):
            any_size(torch.zeros(1, 1, *size))
    assert Described.from_json(any_size.described.to_json(), source="y").step == 4


def test_reading_needs_no_package_that_only_writes(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnxscript" else real(name, *rest))
    assert describe_exported(shipped / "x.onnx").step is None


def test_exporters_are_quiet_inside_the_block_only(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    with quietly():
        logging.getLogger("torch.onnx").warning("nothing to act on")
    logging.getLogger("lmsearch").warning("something")
    assert [record.message for record in caplog.records] == ["something"]


def test_a_copied_file_is_the_same_file(shipped: Path, tmp_path: Path) -> None:
    shutil.copy(shipped / "x.onnx", tmp_path / "y.onnx")
    assert describe_exported(tmp_path / "y.onnx") == describe_exported(shipped / "x.onnx")
