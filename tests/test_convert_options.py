"""Every option of our models, through `lmsearch convert` to the released names and back."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from lmsearch.cli import main
from lmsearch.data import DataInfo
from lmsearch.engine.checkpoint import ModelSpec, read_model, save_checkpoint, save_model
from lmsearch.engine.run_dir import RunDir
from lmsearch.interop.localmamba import beyond_released
from lmsearch.models import create_model
from lmsearch.scan.tables import table_name

SIZES = {"img_size": [8, 12], "patch_size": 4, "num_classes": 3}
VIM = SIZES | {"embed_dim": 16, "depth": 1}
VMAMBA = SIZES | {"dims": [16, 32], "depths": [1, 1]}
CLS = {"use_rope": False, "middle_cls_token": True}
ZEROS = {"window_padding": "zeros"}
MINE = table_name("mine", {(2, 3): [5, 4, 3, 2, 1, 0]})
# what is set -> what the released code does not have of it
VIM_OPTIONS = [
    ({}, []),
    (CLS, []),
    (CLS | {"global_pool": "avg"}, ["global_pool='avg'"]),
    ({"use_rope": False}, []),
    ({"rope_residual": False}, ["rope_residual=false"]),
    ({"stem": "conv"}, ["stem=conv"]),
    ({"stem": "conv", "in_chans": 1}, ["stem=conv"]),
    ({"norm": "layer"}, ["norm=layer"]),
    ({"in_chans": 1, "num_classes": 0}, []),
    ({"init": "fan_in", "drop_path_rate": 0.3}, []),
]
BOTH_OPTIONS = [
    ({"attention": "none"}, ["attention=none"]),
    ({"attention": "spatial_channel"}, ["attention=spatial_channel"]),
    ({"window_padding": "none"}, ["window_padding=none"]),
    ({"d_state": 4}, ["d_state=4"]),
    ({"expand": 1}, ["expand=1"]),
    ({"global_pool": ""}, ["global_pool=''"]),
    ({"num_classes": 0}, []),
    ({"in_chans": 1}, []),
]
CASES = [("local_vim", VIM | o, beyond) for o, beyond in VIM_OPTIONS + BOTH_OPTIONS]
CASES += [("local_vmamba", VMAMBA | o, beyond) for o, beyond in [({}, []), *BOTH_OPTIONS]]
SETTABLE = ("patch_size", "embed_dim", "depth", "dims", "depths", "d_state", "attention", "window_padding", "stem", "use_rope")
SETTABLE += ("rope_residual", "middle_cls_token", "global_pool")


def saved(
    folder: Path, name: str, options: dict, directions: list[list[str]], *, merge: str = "sum", data: dict | None = None
) -> ModelSpec:
    """Save a network with random weights, as a run directory of ours."""
    classes, chans = options["num_classes"], options.get("in_chans", 3)
    names = tuple(f"class {i}" for i in range(classes))
    info = DataInfo("mine", classes, names, (8, 12), chans, (0.5,) * chans, (0.5,) * chans)
    spec = ModelSpec(name, tuple(map(tuple, directions)), merge, options, {"info": asdict(info)} | (data or {}))
    torch.manual_seed(0)
    weights = {key: torch.randn_like(value) * 0.1 for key, value in spec.build().state_dict().items()}
    folder.mkdir()
    save_model(RunDir(folder), spec, weights)
    return spec


def same(first: Path, second: Path) -> bool:
    """Tell whether two run directories hold the same tensors."""
    a, b = read_model(first)[1], read_model(second)[1]
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(("name", "options", "beyond"), CASES, ids=str)
def test_every_option_goes_there_and_back_and_what_the_released_code_lacks_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, options: dict, beyond: list[str]
) -> None:
    layers = [["h", "w2_flip"], ["v"]][: options.get("depth", 2)]
    spec = saved(tmp_path / "ours", name, options, layers)
    file = tmp_path / "there.pth"
    assert main(["convert", "to=official", f"source={tmp_path / 'ours'}", f"out={file}"]) == 0
    assert beyond_released(spec.build()) == beyond
    assert (", ".join(beyond) in caplog.text) if beyond else not caplog.text
    assert main(["convert", f"source={file}", f"out={tmp_path / 'back'}"]) == 0
    assert same(tmp_path / "ours", tmp_path / "back")
    assert read_model(tmp_path / "back")[0] == read_model(tmp_path / "ours")[0]


@pytest.mark.parametrize(("name", "options"), [case[:2] for case in CASES if not {"norm", "expand"} & case[1].keys()], ids=str)
def test_a_file_without_our_description_is_read_with_the_options_given(tmp_path: Path, name: str, options: dict) -> None:
    layers = [["h", "w2_flip"], ["v"]][: options.get("depth", 2)]
    saved(tmp_path / "ours", name, options, layers)
    (tmp_path / "directions.json").write_text(json.dumps(layers))
    file = tmp_path / "there.pth"
    assert main(["convert", "to=official", f"source={tmp_path / 'ours'}", f"out={file}"]) == 0
    torch.save({"model": torch.load(file, weights_only=True)["model"]}, file)
    words = [f"model.{key}={json.dumps(options[key])}".replace('"', "") for key in SETTABLE if key in options]
    words += [f"model={name}", "img_size=[8,12]", f"genotype={tmp_path / 'directions.json'}"]
    assert main(["convert", f"source={file}", f"out={tmp_path / 'back'}", *words]) == 0
    assert same(tmp_path / "ours", tmp_path / "back")


def test_own_directions_go_there_and_back_in_any_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "ours", "local_vim", VIM, [["h", MINE, "w2_flip"]])
    file = tmp_path / "there.pth"
    assert main(["convert", "to=official", f"source={tmp_path / 'ours'}", f"out={file}"]) == 0
    assert "directions mine" in caplog.text
    orders = {"mine": {"2x3": "5 4 3 2 1 0"}}
    head = {"schema": "lmsearch.genotype", "version": 1, "orders": orders}
    (tmp_path / "swapped.json").write_text(json.dumps(head | {"layers": [{"directions": ["w2_flip", "h", "mine"]}]}))
    swapped = [f"genotype={tmp_path / 'swapped.json'}", f"out={tmp_path / 'back'}"]
    assert main(["convert", f"source={file}", *swapped]) == 0
    assert read_model(tmp_path / "back")[0].directions == (("w2_flip", "h", MINE),)
    before, after = (read_model(tmp_path / name)[1] for name in ("ours", "back"))
    assert torch.equal(after["layers.0.mixer.A_log"], before["layers.0.mixer.A_log"][[2, 0, 1]])
    (tmp_path / "other.json").write_text(json.dumps([["h", "v", "w2_flip"]]))
    assert main(["convert", f"source={file}", f"genotype={tmp_path / 'other.json'}", f"out={tmp_path / 'no'}"]) == 2
    assert "layer 0 has the directions h, mine, w2_flip" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=local_vim_tiny"], "holds a local_vim, not a local_vim_tiny"),
        (["model=local_vim", "model.patch_size=2"], "was written with patch_size=4, not 2"),
        (["img_size=32"], "was written with img_size=[8, 12], not [32, 32]"),
    ],
)
def test_words_that_contradict_the_description_are_refused(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "ours", "local_vim", VIM, [["h"]])
    file = tmp_path / "there.pth"
    assert main(["convert", "to=official", f"source={tmp_path / 'ours'}", f"out={file}"]) == 0
    assert main(["convert", f"source={file}", f"out={tmp_path / 'back'}", *words]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "back").exists()


def test_class_names_can_be_given_anew(tmp_path: Path) -> None:
    saved(tmp_path / "ours", "local_vim", VIM, [["h"]])
    file = tmp_path / "there.pth"
    (tmp_path / "names.txt").write_text("cat\ndog\neel\n")
    assert main(["convert", "to=official", f"source={tmp_path / 'ours'}", f"out={file}"]) == 0
    assert main(["convert", f"source={file}", f"out={tmp_path / 'back'}", f"class_names={tmp_path / 'names.txt'}"]) == 0
    assert read_model(tmp_path / "back")[0].data["info"]["class_names"] == ["cat", "dog", "eel"]


def test_partial_channels_and_unnormalised_branches_are_named() -> None:
    model = create_model("local_vim", directions=["h"], merge="weighted", **VIM, partial_channels=2, branch_norm=False)
    assert beyond_released(model) == ["branch_norm=False", "partial_channels=2"]


def test_convert_writes_over_no_file_and_into_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "ours", "local_vim", VIM, [["h", "w2_flip"]])
    before = (tmp_path / "ours" / "model.safetensors").read_bytes()
    command = ["convert", "to=official", f"source={tmp_path / 'ours'}"]
    assert main([*command, f"out={tmp_path / 'ours' / 'model.safetensors'}"]) == 2
    assert "exists already" in capsys.readouterr().err and (tmp_path / "ours" / "model.safetensors").read_bytes() == before
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run_id.txt").write_text("retrain 0 0\n")
    assert main([*command, f"out={tmp_path / 'run' / 'model.safetensors'}"]) == 2, "a run writes it later"
    assert "a file of a run of lmsearch retrain" in capsys.readouterr().err
    assert main([*command, f"out={tmp_path / 'x.pth'}"]) == 0
    assert main(["convert", f"source={tmp_path / 'x.pth'}", f"out={tmp_path / 'run'}"]) == 2
    assert "holds a run of lmsearch retrain" in capsys.readouterr().err
    (tmp_path / "run" / "run_id.txt").unlink()
    for name in ("checkpoint.pt", "model.safetensors", "model.json", "genotype.json"):
        file = tmp_path / "run" / name
        file.write_text("other")
        assert main(["convert", f"source={tmp_path / 'x.pth'}", f"out={tmp_path / 'run'}"]) == 2
        assert f"{name} exists already" in capsys.readouterr().err and file.read_text() == "other"
        file.unlink()


def test_a_supernet_of_an_unknown_search_asks_for_keep_and_one_of_another_kind_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "ours", "local_vim", VIM, [["h", "w2_flip"]], merge="weighted")
    file, back = tmp_path / "x.pth", tmp_path / "back"
    assert main(["convert", "to=official", f"source={tmp_path / 'ours'}", f"out={file}"]) == 0
    assert main(["convert", f"source={file}", f"out={back}"]) == 0
    assert capsys.readouterr().out.endswith(f"next: lmsearch derive checkpoint={back} keep=...\n")
    content = torch.load(file, weights_only=True)
    for told in (1, {"keep": "two"}, {"policy": 1}):
        torch.save(content | {"lmsearch": content["lmsearch"] | {"search": told}}, file)
        assert main(["convert", f"source={file}", f"out={tmp_path / 'no'}"]) == 2
        assert f"{file}: " in capsys.readouterr().err and not (tmp_path / "no").exists()
    torch.save(content | {"lmsearch": content["lmsearch"] | {"search": {"relaxation": "uniform"}}}, file)
    assert main(["convert", f"source={file}", f"out={tmp_path / 'shared'}"]) == 0
    assert "nothing can be derived" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["model=local_vim_tiny"], ["genotype=nowhere.json"], ["weights=ema", "img_size=99"], ["class_names=nowhere.txt"]]
)
def test_keys_that_say_nothing_of_a_network_of_ours_are_refused(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "ours", "local_vim", VIM, [["h"]])
    assert main(["convert", "to=official", f"source={tmp_path / 'ours'}", f"out={tmp_path / 'x.pth'}", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and not (tmp_path / "x.pth").exists()
    assert f"{', '.join(word.partition('=')[0] + '=' for word in words)} would change nothing: to=official" in error


def test_what_is_ours_is_told_to_need_to_official(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, out = tmp_path / "ours", f"out={tmp_path / 'back'}"
    saved(ours, "local_vim", VIM, [["h"]])
    save_checkpoint(RunDir(ours), {"epoch": 1, "model": {"a": torch.zeros(1)}})
    told = {"": "is a folder", "model.safetensors": "is of a run of ours", "checkpoint.pt": "is of a run of ours",
            "model.json": "a .json file holds no weights"}  # fmt: skip
    for name, says in told.items():
        assert main(["convert", f"source={ours / name}", out]) == 2
        error = capsys.readouterr().err
        assert f"{ours / name}: {says}" in error and "to=official writes" in error


def test_what_comes_next_names_data_only_where_the_file_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, source, says in (("bare", {}, " data=imagefolder data.root=..."), ("known", {"source": {"name": "digits"}}, "")):
        saved(tmp_path / folder, "local_vim", VIM, [["h"]], data=source)
        file, back = tmp_path / f"{folder}.pth", tmp_path / f"{folder} back"
        assert main(["convert", "to=official", f"source={tmp_path / folder}", f"out={file}"]) == 0
        assert main(["convert", f"source={file}", f"out={back}"]) == 0
        assert f"next: lmsearch evaluate 'checkpoint={back}'{says}\n" in capsys.readouterr().out
