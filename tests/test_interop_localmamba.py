"""Released LocalMamba state dicts: counts, round trips, refusals, and the convert task."""

from __future__ import annotations

import argparse
import json
import math
import os
import pickle
import sys
import types

import pytest
import torch
from naive_localmamba import (
    CANDIDATES,
    naive_local_vim,
    naive_local_vmamba,
    official_vim_shapes,
    official_vmamba_shapes,
    random_state_dict,
    released_rope_buffers,
    rope_tables,
)
from torch import Tensor

from lmsearch.cli import main
from lmsearch.config import compose
from lmsearch.engine.checkpoint import read_model
from lmsearch.errors import CheckpointError, ConfigError, LmsearchError, ModelError
from lmsearch.genotype import load_genotype
from lmsearch.interop.localmamba import load_official_state_dict, to_official_state_dict
from lmsearch.interop.released_file import read_official_checkpoint
from lmsearch.models import create_model
from lmsearch.tasks import convert

VIM_MIDDLE = {"use_rope": False, "middle_cls_token": True}
WIDE, NARROW = [96, 192, 384, 768], [32, 64, 128, 256]
TINY, SMALL = [2, 2, 9, 2], [2, 2, 27, 2]


def shipped(name: str) -> list[tuple[str, ...]]:
    return list(load_genotype(f"localmamba/{name}").directions)


# name -> (keys and shapes, parameters, entries); the figures were counted on the released models
PUBLISHED = {
    "local_vim_tiny": (lambda: official_vim_shapes(directions=shipped("local_vim_tiny"), embed_dim=192), 7_994_152, 748),
    "local_vim_tiny_middle_cls_token": (
        lambda: official_vim_shapes(directions=shipped("local_vim_tiny_middle_cls_token"), embed_dim=192, **VIM_MIDDLE),
        7_994_536,
        747,
    ),
    "local_vim_small": (lambda: official_vim_shapes(directions=shipped("local_vim_small"), embed_dim=384), 27_783_784, 748),
    "local_vim_tiny_search": (
        lambda: official_vim_shapes(directions=[CANDIDATES] * 20, embed_dim=128, search=True),
        5_473_288,
        1328,
    ),
    "local_vmamba_tiny": (
        lambda: official_vmamba_shapes(directions=shipped("local_vmamba_tiny"), dims=WIDE, depths=TINY),
        25_527_160,
        302,
    ),
    "local_vmamba_small": (
        lambda: official_vmamba_shapes(directions=shipped("local_vmamba_small"), dims=WIDE, depths=SMALL),
        49_748_536,
        644,
    ),
    "local_vmamba_tiny_search": (
        lambda: official_vmamba_shapes(directions=[CANDIDATES] * 15, dims=NARROW, depths=TINY, search=True),
        4_576_656,
        317,
    ),
    "local_vmamba_small_search": (
        lambda: official_vmamba_shapes(directions=[CANDIDATES] * 33, dims=NARROW, depths=SMALL, search=True),
        9_148_512,
        677,
    ),
}
SMALL_VIM = {"embed_dim": 16, "depth": 2, "img_size": 32, "patch_size": 8, "num_classes": 5}
SMALL_DIRECTIONS = [["h", "v_flip", "w2"], ["w2_flip", "h_flip", "v", "w7"]]


@pytest.mark.parametrize("name", PUBLISHED)
def test_round_trip_of_every_published_model_is_exact_in_names_shapes_counts_and_bits(name):
    make_shapes, parameters, entries = PUBLISHED[name]
    shapes = make_shapes()
    assert len(shapes) == entries
    assert sum(math.prod(shape) for key, shape in shapes.items() if not key.startswith("rope.")) == parameters
    with torch.device("meta"):
        model = create_model(name)
    assert sum(p.numel() for p in model.parameters()) == parameters
    model = model.to_empty(device="cpu")
    state = random_state_dict(shapes, grid=(14, 14))
    load_official_state_dict(model, state)
    back = to_official_state_dict(model)
    assert back.keys() == state.keys()
    assert [key for key in state if not torch.equal(back[key], state[key])] == []


def small_vim(**options) -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """A small derived LocalVim of ours and a random released state dict that fits it."""
    model = create_model("local_vim", directions=SMALL_DIRECTIONS, **SMALL_VIM, **options)
    shapes = official_vim_shapes(directions=SMALL_DIRECTIONS, embed_dim=16, grid=(4, 4), patch_size=8, num_classes=5)
    return model, random_state_dict(shapes, grid=(4, 4))


def small_supernet() -> dict[str, Tensor]:
    """A random released state dict of a small LocalVim supernet."""
    shapes = official_vim_shapes(directions=[CANDIDATES] * 2, embed_dim=16, grid=(4, 4), patch_size=8, num_classes=5, search=True)
    return random_state_dict(shapes, grid=(4, 4))


def snapshot(model: torch.nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def check_refused_and_untouched(model: torch.nn.Module, state: dict, *needles: str) -> None:
    """One CheckpointError of one line that holds every needle; no weight of the model has changed."""
    before = snapshot(model)
    with pytest.raises(CheckpointError) as caught:
        load_official_state_dict(model, state)
    message = str(caught.value)
    assert "\n" not in message
    for needle in needles:
        assert needle in message
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_missing_unexpected_and_misshaped_keys_are_named_together_and_nothing_is_loaded():
    model, state = small_vim()
    del state["layers.1.mixer.A_log_3"]
    state["layers.0.mixer.A_log_3"] = torch.zeros(32, 16)
    state["head.weight"] = torch.zeros(7, 16)
    check_refused_and_untouched(
        model,
        state,
        "1 missing: layers.1.mixer.A_log_3",
        "1 unexpected: layers.0.mixer.A_log_3",
        "1 mis-shaped: head.weight [7, 16] instead of [5, 16]",
    )


def test_another_width_another_family_and_a_supernet_are_refused():
    model, _ = small_vim()
    wide = official_vim_shapes(directions=SMALL_DIRECTIONS, embed_dim=32, grid=(4, 4), patch_size=8, num_classes=5)
    wide = random_state_dict(wide, grid=(4, 4))
    check_refused_and_untouched(model, wide, "mis-shaped", "more)")
    other = random_state_dict(official_vmamba_shapes(directions=[["h"]], dims=[16], depths=[1], num_classes=5))
    check_refused_and_untouched(model, other, "missing", "unexpected: patch_embed.0.weight")
    check_refused_and_untouched(model, small_supernet(), "the checkpoint is a supernet's, the model a derived net's")


def test_a_value_that_is_no_tensor_is_refused():
    model, state = small_vim()
    check_refused_and_untouched(model, {**state, "head.bias": [0.0] * 5}, "head.bias is a list, not a tensor")


def test_a_model_of_another_kind_has_no_released_names():
    with pytest.raises(ModelError, match="Linear has no published LocalMamba counterpart"):
        to_official_state_dict(torch.nn.Linear(2, 2))


def test_rotary_tables_are_compared_where_present_and_may_be_absent():
    model, state = small_vim()
    check_refused_and_untouched(model, {**state, "rope.freqs_cos": state["rope.freqs_sin"]}, "rope.freqs_cos differs by")
    for kind in (torch.float16, torch.bfloat16):
        load_official_state_dict(model, {key: value.to(kind) for key, value in state.items()})
    turned = {"rope.freqs_cos": state["rope.freqs_sin"].bfloat16()}
    check_refused_and_untouched(model, state | turned, "rope.freqs_cos differs by")
    del state["rope.freqs_cos"], state["rope.freqs_sin"]
    load_official_state_dict(model, state)
    assert torch.equal(model.head.weight, state["head.weight"])


@pytest.mark.parametrize("grid", [4, 14])
def test_exported_rotary_tables_are_the_released_ones_bit_for_bit_and_right(grid):
    model = create_model("local_vim", directions=["h"], embed_dim=16, depth=1, img_size=grid, patch_size=1)
    exported = to_official_state_dict(model)
    tables = zip(released_rope_buffers(16, grid), rope_tables(16, grid, grid, torch.float64), strict=True)
    for key, (released, exact) in zip(("rope.freqs_cos", "rope.freqs_sin"), tables, strict=True):
        assert torch.equal(exported[key], released)
        assert torch.allclose(exported[key].double(), exact, atol=1e-5)


def test_tensors_come_back_as_copies_and_a_single_direction_keeps_its_suffix():
    model = create_model("local_vim", directions=["h"], embed_dim=16, depth=1, img_size=8, patch_size=4, num_classes=2)
    official = to_official_state_dict(model)
    assert official["layers.0.mixer.conv1d_0.weight"].shape == (32, 1, 4)
    official["head.weight"].fill_(7.0)
    assert not (model.head.weight == 7.0).any()


# ---------------------------------------------------------------- files
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state},
        lambda state: {"state_dict": state, "epoch": 300},
        lambda state: state,
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {"model": state, "args": argparse.Namespace(lr=1e-3)},
        lambda state: {"model": state, "config": CfgNode(MODEL=CfgNode(NAME="vssm_tiny"))},
        lambda state: {"ema_model": {f"module.module.{key}": value for key, value in state.items()}},
        lambda state: {"model": {"a": torch.zeros(1)}, "model_ema": state},
        lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}},
        lambda state: {"model": {f"module._orig_mod.{key}": value for key, value in state.items()}},
    ],
    ids=[
        "model",
        "state_dict",
        "bare",
        "data-parallel",
        "with options",
        "of VMamba",
        "averaged",
        "averaged too",
        "of Lightning",
        "compiled",
    ],
)
def test_weights_are_found_where_released_checkpoints_keep_them(tmp_path, wrap, monkeypatch, request):
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", types.SimpleNamespace(CfgNode=CfgNode))
    _, state = small_vim()
    torch.save(wrap(state), tmp_path / "released.pth")
    monkeypatch.undo()  # reading must not need the package
    which = "ema" if "averaged" in request.node.callspec.id else "model"
    read = read_official_checkpoint(tmp_path / "released.pth", which=which)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[key], state[key]) for key in state)


def test_averaged_weights_that_are_left_are_named_and_asked_for_in_vain_refused(tmp_path, caplog):
    file, weights = tmp_path / "two.pth", {"a": torch.zeros(1)}
    torch.save({"model": weights, "model_ema": {"a": torch.ones(1)}, "ema_model": None}, file)
    assert read_official_checkpoint(file)["a"].item() == 0
    assert "its averaged weights, under model_ema, are left; weights=ema takes them" in caplog.text
    torch.save({"model": weights, "ema_model": None}, file)
    with pytest.raises(CheckpointError, match="holds no averaged weights, which are expected under ema_model or model_ema"):
        read_official_checkpoint(file, which="ema")


class CfgNode(dict):
    """Stands in for that of yacs, which need not be installed."""


CfgNode.__module__ = "yacs.config"


class Code:
    """Unpickling it would create a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "bare pickle"])
def test_a_pickle_with_code_is_refused_without_running_it(tmp_path, legacy):
    file, trap = tmp_path / "evil.pth", tmp_path / "trap"
    content = {"model": {"head.bias": torch.zeros(5)}, "args": Code(str(trap))}
    if legacy:
        file.write_bytes(pickle.dumps({"args": Code(str(trap))}))
    else:
        torch.save(content, file)
    with pytest.raises(CheckpointError, match=r"evil\.pth: refused, it ") as caught:
        read_official_checkpoint(file)
    named = "Unsupported operand" if legacy else f"it holds a {os.mkdir.__module__}.mkdir; only tensors and plain values are read"
    assert named in str(caught.value) and "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    assert not trap.exists()


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused_in_one_line(tmp_path, keep):
    _, state = small_vim()
    file = tmp_path / "cut.pth"
    torch.save({"model": state}, file)
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(CheckpointError, match=r"cut\.pth") as caught:
        read_official_checkpoint(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [[1, 2], {"model": {}}, {"epoch": 3}, {"model": {"a": 1}}, {1: torch.zeros(1)}], ids=str)
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_official_checkpoint(tmp_path / "other.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere.pth: no such checkpoint file"):
        read_official_checkpoint(tmp_path / "nowhere.pth")


# ---------------------------------------------------------------- the convert task
def run_convert(*words: str) -> int:
    return convert.run(compose("convert", words))


SMALL_WORDS = ["model=local_vim", "model.embed_dim=16", "model.depth=2", "model.patch_size=8", "img_size=32"]


def small_genotype(tmp_path) -> str:
    path = tmp_path / "directions.json"
    layers = [{"directions": names} for names in SMALL_DIRECTIONS]
    path.write_text(json.dumps({"schema": "lmsearch.genotype", "version": 1, "layers": layers}))
    return str(path)


def test_convert_there_and_back_gives_the_same_tensors_and_logits(tmp_path, capsys):
    _, state = small_vim()
    torch.save({"model": state}, tmp_path / "released.pth")
    out, back = tmp_path / "ours", tmp_path / "back" / "again.pth"
    genotype = f"genotype={small_genotype(tmp_path)}"
    assert run_convert(f"source={tmp_path / 'released.pth'}", f"out={out}", genotype, *SMALL_WORDS) == 0
    assert load_genotype(out).directions == tuple(map(tuple, SMALL_DIRECTIONS))
    assert "at other sizes than 32x32 the released code answers otherwise" in (said := capsys.readouterr().out)
    spec, weights = read_model(out)
    model = spec.build(backend="reference").eval()
    model.load_state_dict(weights)
    x = torch.randn(2, 3, 32, 32)
    expected = naive_local_vim(state, x, directions=SMALL_DIRECTIONS, depth=2, patch_size=8)
    assert torch.allclose(model(x), expected, atol=1e-4)
    assert run_convert(f"source={out}", "to=official", f"out={back}") == 0
    again = torch.load(back, weights_only=True)["model"]
    assert again.keys() == state.keys() and all(torch.equal(again[key], state[key]) for key in state)
    assert "genotype:" in said


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named_and_not_converted(tmp_path, bad):
    _, state = small_vim()
    state["head.bias"][1] = bad
    torch.save({"model": state}, tmp_path / "released.pth")
    words = [f"source={tmp_path / 'released.pth'}", f"out={tmp_path / 'ours'}", f"genotype={small_genotype(tmp_path)}"]
    with pytest.raises(CheckpointError, match=r"released.pth: its weights are not finite \(head.bias\)"):
        run_convert(*words, *SMALL_WORDS)
    assert not (tmp_path / "ours").exists()


def test_a_file_without_a_head_is_not_said_to_be_ready_to_evaluate(tmp_path, capsys):
    _, state = small_vim()
    torch.save({key: value for key, value in state.items() if not key.startswith("head.")}, tmp_path / "released.pth")
    words = [f"source={tmp_path / 'released.pth'}", f"out={tmp_path / 'ours'}", f"genotype={small_genotype(tmp_path)}"]
    assert run_convert(*words, *SMALL_WORDS) == 0
    assert "no classes" in (said := capsys.readouterr().out) and "evaluate checkpoint" not in said


def test_a_converted_hierarchical_net_keeps_classes_channels_and_logits(tmp_path):
    directions = [["h", "w2"], ["v_flip", "w7"]]
    shapes = official_vmamba_shapes(directions=directions, dims=[16, 32], depths=[1, 1], in_chans=1, num_classes=3)
    state = random_state_dict(shapes)
    torch.save(state, tmp_path / "released.pth")
    (tmp_path / "names.txt").write_text("cat\ndog\nbird\n")
    (tmp_path / "d.json").write_text(json.dumps(directions))
    assert (
        run_convert(
            f"source={tmp_path / 'released.pth'}",
            f"out={tmp_path / 'ours'}",
            f"genotype={tmp_path / 'd.json'}",
            "model=local_vmamba",
            "model.dims=[16,32]",
            "model.depths=[1,1]",
            "img_size=[32,24]",
            f"class_names={tmp_path / 'names.txt'}",
        )
        == 0
    )
    spec, weights = read_model(tmp_path / "ours")
    assert spec.data["info"]["class_names"] == ["cat", "dog", "bird"] and spec.data["info"]["in_chans"] == 1
    model = spec.build(backend="reference").eval()
    model.load_state_dict(weights)
    x = torch.randn(2, 1, 32, 24)
    expected = naive_local_vmamba(state, x, directions=directions, depths=[1, 1])
    assert torch.allclose(model(x), expected, atol=1e-4)


def test_a_converted_supernet_derives_with_its_alphas(tmp_path):
    derive = pytest.importorskip("lmsearch.tasks.derive")
    state = small_supernet()
    torch.save({"model": state}, tmp_path / "supernet.pth")
    out = tmp_path / "ours"
    assert run_convert(f"source={tmp_path / 'supernet.pth'}", f"out={out}", *SMALL_WORDS) == 0
    assert derive.run(compose("derive", [f"checkpoint={out}", f"run_dir={tmp_path / 'derived'}"])) == 0
    genotype = load_genotype(tmp_path / "derived")
    for b, layer in enumerate(genotype.directions):
        alphas = state[f"layers.{b}.mixer.multi_scan.weights"].flatten().tolist()
        best = sorted(range(8), key=lambda i: -alphas[i])[:4]
        assert layer == tuple(CANDIDATES[i] for i in sorted(best))


@pytest.mark.parametrize(
    "words, needle",
    [
        (["model=local_vim_tiny"], "released.pth as local_vim_tiny: the checkpoint does not fit"),
        ([], "needs model="),
        (["model=local_vim", "img_size=0"], "img_size=0"),
        (["model=local_vim", "to=elsewhere"], "to='elsewhere' is not accepted; accepted: lmsearch, official"),
        (["model=local_vim", "class_names=nowhere.txt"], "no such file"),
        (["model=local_vim", "genotype=localmamba/local_vmamba_tiny"], "15 layers"),
    ],
)
def test_bad_input_to_convert_is_one_clear_line_and_writes_nothing(tmp_path, words, needle):
    _, state = small_vim()
    torch.save({"model": state}, tmp_path / "released.pth")
    with pytest.raises(LmsearchError) as caught:
        run_convert(f"source={tmp_path / 'released.pth'}", f"out={tmp_path / 'ours'}", *words)
    assert needle in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "ours").exists()


def test_convert_says_which_directions_it_takes_for_the_name_that_the_released_code_defines_twice(tmp_path, caplog):
    state = random_state_dict(PUBLISHED["local_vim_small"][0](), grid=(14, 14))
    torch.save({"model": state}, tmp_path / "released.pth")
    words = [f"source={tmp_path / 'released.pth'}", "model=local_vim_small"]
    assert run_convert(*words, f"out={tmp_path / 'searched'}") == 0
    assert "genotype=localmamba/local_vim_small_wo_search" in caplog.text
    caplog.clear()
    assert run_convert(*words, f"out={tmp_path / 'ours'}", "genotype=localmamba/local_vim_small_wo_search") == 0
    assert caplog.text == ""
    assert load_genotype(tmp_path / "ours").directions == tuple(shipped("local_vim_small_wo_search"))


def test_convert_refuses_a_folder_where_a_file_is_written_and_the_reverse(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is a folder"):
        run_convert(f"source={tmp_path}", f"out={tmp_path / 'folder'}", "to=official")
    with pytest.raises(ConfigError, match="is a file"):
        run_convert(f"source={tmp_path}", f"out={tmp_path / 'file'}", "model=local_vim")


def test_the_command_converts_and_answers_a_wrong_file_with_one_line_and_exit_code_2(tmp_path, capsys):
    (tmp_path / "broken.pth").write_bytes(b"not a checkpoint")
    assert main(["convert", f"source={tmp_path / 'broken.pth'}", "model=local_vim_tiny", f"out={tmp_path / 'ours'}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lmsearch: error: ") and "broken.pth" in error and error.count("\n") == 1
    torch.save({"model": small_vim()[1]}, tmp_path / "released.pth")
    words = [f"source={tmp_path / 'released.pth'}", f"out={tmp_path / 'ours'}", f"genotype={small_genotype(tmp_path)}"]
    assert main(["convert", *words, *SMALL_WORDS]) == 0
    assert (tmp_path / "ours" / "model.safetensors").is_file()
