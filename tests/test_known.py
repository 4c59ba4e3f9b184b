"""What a run knows of its data and model is not asked again: who reads the run takes it from there, and says what differs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from lmsearch.cli import main
from lmsearch.context import DRAWING, setting
from lmsearch.engine.checkpoint import read_model, save_model
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import ConfigError
from lmsearch.tasks.parts.facts import read_facts
from lmsearch.tasks.parts.known import configure

SHAPE = ["data.img_size=[8,12]", "data.in_chans=1", "model.patch_size=4", "model.embed_dim=8", "model.depth=1"]
SHAPE += ["model.stem=patch"]
BRIEF = ["epochs=1", "batch_size=8", "optim.warmup_epochs=0"]


def write_images(root: Path, *, names: tuple[str, ...] = ("rows", "spots"), seed: int = 0) -> Path:
    """Write 8 training and 6 validation images of 10x16 grey pixels for each class."""
    rng = np.random.default_rng(seed)
    for label, name in enumerate(names):
        for split, count in (("train", 8), ("val", 6)):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 120, (10, 16)) + 100 * label
                Image.fromarray(pixels.astype("uint8")).save(root / split / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "mine")


@pytest.fixture(scope="module")
def searched(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("search") / "run"
    words = [*BRIEF, *SHAPE, "data=imagefolder", f"data.root={images}", "search_space=localmamba8_w4", "search.recheck=0"]
    assert main(["search", *words, f"run_dir={run_dir}"]) == 0
    return run_dir


@pytest.fixture(scope="module")
def retrained(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("retrain") / "run"
    with setting(DRAWING, True):
        assert main(["retrain", *BRIEF, f"genotype={searched}", f"run_dir={run_dir}"]) == 0
    return run_dir


def metrics(run_dir: Path) -> dict:
    return json.loads((run_dir / "metrics.json").read_text())


def data_and_model(cfg: DictConfig) -> tuple:
    keys = ("data.name", "data.img_size", "data.in_chans", "model.name", "model.patch_size", "model.embed_dim", "model.depth")
    values = [OmegaConf.select(cfg, key) for key in keys]
    return tuple(list(v) if OmegaConf.is_config(v) else v for v in values)


MINE = ("imagefolder", [8, 12], 1, "local_vim_nano", 4, 8, 1)


def test_retrain_takes_data_and_model_from_the_run_of_the_search(searched: Path, retrained: Path, images: Path) -> None:
    cfg, lines = configure("retrain", [f"genotype={searched}"])
    assert data_and_model(cfg) == MINE and cfg.data.root == str(images)
    assert cfg.epochs is None, "the recipe is chosen by the data"
    assert len(lines) == 1 and lines[0].startswith(f"from {searched}: data=imagefolder model=local_vim_nano ")
    assert {"model.patch_size=4", "data.img_size=[8,12]", f"data.root={images}"} <= set(lines[0].split())
    spec, _ = read_model(retrained)
    assert (spec.options["embed_dim"], spec.options["img_size"], spec.data["source"]["root"]) == (8, [8, 12], str(images))


def test_what_the_command_line_gives_wins_and_is_said(searched: Path) -> None:
    cfg, lines = configure("retrain", [f"genotype={searched}", "data=imagefolder", "data.root=b", "model.embed_dim=16"])
    assert data_and_model(cfg) == (*MINE[:5], 16, 1) and cfg.data.root == "b"
    assert f"model.embed_dim=16 given, {searched} has 8" in lines
    assert any(line.startswith("data.root=b given, ") for line in lines)
    assert not any(line.startswith("from") and "embed_dim" in line for line in lines)


def test_what_was_set_for_some_images_is_not_taken_for_others(searched: Path, tmp_path: Path) -> None:
    shutil.copy(searched / "genotype.json", tmp_path)
    content = yaml.safe_load((searched / "config.yaml").read_text())
    content["data"]["on_error"] = "skip"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    same, _ = configure("retrain", [f"genotype={tmp_path}"])
    other, _ = configure("retrain", [f"genotype={tmp_path}", "data.root=b"])
    assert (same.data.on_error, other.data.on_error, other.data.img_size) == ("skip", "raise", [8, 12])


def test_averaged_weights_are_those_of_the_run(images: Path, searched: Path, tmp_path: Path) -> None:
    words = [*BRIEF, f"genotype={searched}", "optim.ema_decay=0.5", "optim.lr=0.01", f"run_dir={tmp_path / 'run'}"]
    assert main(["retrain", *words]) == 0
    for name in ("model.safetensors", "checkpoint.pt"):
        assert main(["evaluate", f"checkpoint={tmp_path / 'run' / name}", f"run_dir={tmp_path / 'out'}"]) == 0
        assert metrics(tmp_path / "out")["test_loss"] == pytest.approx(metrics(tmp_path / "run")["test_loss"], rel=1e-5)


def test_a_key_that_is_given_as_the_run_has_it_is_no_difference(searched: Path) -> None:
    _, lines = configure("retrain", [f"genotype={searched}", *SHAPE])
    assert [line.partition(":")[0] for line in lines] == [f"from {searched}"]


def test_other_data_and_bare_files_take_nothing_from_a_run(searched: Path) -> None:
    plain, _ = configure("retrain", ["genotype=localmamba/local_vim_tiny"])
    bare, lines = configure("retrain", [f"genotype={searched / 'genotype.json'}"])
    assert data_and_model(bare) == data_and_model(plain) and lines == []
    other, lines = configure("retrain", [f"genotype={searched}", "data=digits"])
    assert data_and_model(other) == data_and_model(plain)
    assert lines == [f"data=digits given, {searched} has data=imagefolder"]


def test_another_model_takes_the_data_alone(searched: Path) -> None:
    cfg, lines = configure("retrain", [f"genotype={searched}", "model=local_vmamba_nano"])
    assert data_and_model(cfg)[:5] == ("imagefolder", [8, 12], 1, "local_vmamba_nano", None)
    assert f"model=local_vmamba_nano given, {searched} has model=local_vim_nano" in lines


def test_compare_and_complexity_ask_for_the_genotype_alone(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg, _ = configure("compare", [f"genotype={searched}"])
    assert data_and_model(cfg) == MINE and cfg.search_space == "localmamba8_w4"
    cfg, _ = configure("complexity", [f"genotype={searched}"])
    assert (cfg.model.embed_dim, list(cfg.img_size), cfg.in_chans, cfg.num_classes) == (8, [8, 12], 1, 2)
    assert main(["complexity", f"genotype={searched}", "detail=none"]) == 0
    assert "8x12" in capsys.readouterr().out


def test_what_is_derived_knows_what_its_search_knew(searched: Path, tmp_path: Path) -> None:
    one, again, both = (tmp_path / name for name in ("one", "again", "both"))
    assert main(["derive", f"checkpoint={searched}", "keep=2", "derivation=climb", f"run_dir={one}"]) == 0
    shutil.copytree(one, again)
    genotype = json.loads((one / "genotype.json").read_text())
    genotype["provenance"] |= {"seed": 1, "run_sha256": "0" * 64}
    (again / "genotype.json").write_text(json.dumps(genotype))
    assert main(["derive", f"genotypes=[{one},{again}]", f"run_dir={both}"]) == 0
    for folder in (one, both):
        cfg, _ = configure("compare", [f"genotype={folder}"])
        assert data_and_model(cfg) == MINE and cfg.search_space == "localmamba8_w4"


def test_fine_tuning_asks_for_the_weights_alone(retrained: Path, tmp_path: Path) -> None:
    still = ["optim.lr=1e-12", "optim.min_lr=1e-12", "optim.warmup_lr=1e-12"]
    assert main(["retrain", *BRIEF, *still, f"init_from={retrained}", f"run_dir={tmp_path}"]) == 0
    assert metrics(tmp_path)["test_loss"] == pytest.approx(metrics(retrained)["test_loss"], rel=1e-4)


def test_weights_say_their_model_and_the_genotypes_run_its_data(retrained: Path, searched: Path) -> None:
    cfg, lines = configure("retrain", [f"genotype={searched}", f"init_from={retrained}", "data.root=elsewhere"])
    assert data_and_model(cfg) == MINE
    assert [line.split()[1] for line in lines if line.startswith("from")] == [f"{retrained}:", f"{searched}:"]


def test_a_sweep_takes_from_a_run_what_its_task_takes(searched: Path, tmp_path: Path) -> None:
    words = ["task=retrain", f"overrides=[genotype={searched},{','.join(BRIEF)}]", "params={optim.lr: [1e-3]}", "trials=1"]
    assert main(["sweep", *words, "metric=val_accuracy", f"run_dir={tmp_path}"]) == 0
    assert data_and_model(OmegaConf.load(tmp_path / "best.yaml")) == MINE


def test_evaluate_sees_other_images_as_the_network_was_trained_to(
    retrained: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(images, tmp_path / "copy")
    words = ["evaluate", f"checkpoint={retrained}", f"run_dir={tmp_path / 'out'}"]
    for given in ([], [f"data.root={copy}"], ["data=imagefolder", f"data.root={copy}", "data.in_chans=1"]):
        assert main([*words, *given]) == 0
        assert metrics(tmp_path / "out")["test_loss"] == pytest.approx(metrics(retrained)["test_loss"], rel=1e-5)
    said = capsys.readouterr().out
    assert f"data.root={copy} given, {retrained} has {images}" in said and "data.img_size=[8,12]" in said


def test_evaluate_at_another_size_says_so_and_other_channels_are_refused(
    retrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", f"checkpoint={retrained}", f"run_dir={tmp_path}"]
    assert main([*words, "data.img_size=[16,24]"]) == 0
    assert f"data.img_size=[16,24] given, {retrained} has [8,12]" in capsys.readouterr().out
    assert main([*words, "data.in_chans=3"]) == 2
    assert "in_chans=1, the data has 3" in capsys.readouterr().err


def test_evaluate_finds_the_classes_by_name(retrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, weights = read_model(retrained)
    swapped = spec.data | {"info": spec.data["info"] | {"class_names": ["spots", "rows"]}}
    rows = [1, 0]
    weights |= {name: weights[name][rows] for name in weights if name.startswith("head.")}
    save_model(RunDir(tmp_path), type(spec)(spec.name, spec.directions, spec.merge, spec.options, swapped), weights)
    assert main(["evaluate", f"checkpoint={tmp_path}", f"run_dir={tmp_path / 'out'}"]) == 0
    assert metrics(tmp_path / "out")["test_loss"] == pytest.approx(metrics(retrained)["test_loss"], rel=1e-5)
    other = write_images(tmp_path / "other", names=("rows", "stars"))
    assert main(["evaluate", f"checkpoint={retrained}", f"data.root={other}", f"run_dir={tmp_path / 'out'}"]) == 2
    assert "stars" in capsys.readouterr().err


def test_evaluate_keeps_the_planted_task(tmp_path: Path) -> None:
    words = ["data=planted", "data.direction=v_flip", "data.grid=4", "epochs=1", "data.steps_per_epoch=2"]
    (tmp_path / "g.json").write_text('[["v_flip"]]')
    assert main(["retrain", *words, f"genotype={tmp_path / 'g.json'}", f"run_dir={tmp_path / 'run'}"]) == 0
    for given in ([], ["data=planted"]):
        assert main(["evaluate", f"checkpoint={tmp_path / 'run'}", *given, f"run_dir={tmp_path / 'out'}"]) == 0
        assert metrics(tmp_path / "out")["test_loss"] == pytest.approx(metrics(tmp_path / "run")["test_loss"], rel=1e-5)


def test_what_came_back_from_the_released_format_knows_its_data_again(retrained: Path, tmp_path: Path) -> None:
    assert main(["convert", "to=official", f"source={retrained}", f"out={tmp_path / 'x.pth'}"]) == 0
    assert main(["convert", f"source={tmp_path / 'x.pth'}", f"genotype={retrained}", f"out={tmp_path / 'back'}"]) == 0
    assert main(["evaluate", f"checkpoint={tmp_path / 'back'}", f"run_dir={tmp_path / 'out'}"]) == 0
    assert metrics(tmp_path / "out")["test_loss"] == pytest.approx(metrics(retrained)["test_loss"], rel=1e-4)


def test_weights_without_data_ask_for_it(retrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, weights = read_model(retrained)
    save_model(
        RunDir(tmp_path), type(spec)(spec.name, spec.directions, spec.merge, spec.options, {"info": spec.data["info"]}), weights
    )
    assert main(["evaluate", f"checkpoint={tmp_path}"]) == 2
    assert "set data=" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["data: [1]\nmodel: {name: x}\n", "a: [", "\xff"])
def test_an_unreadable_configuration_of_a_run_is_one_clear_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_bytes(text.encode("latin-1"))
    assert main(["retrain", f"genotype={tmp_path}"]) == 2
    assert "config.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["model: resnet50\ndata: cifar10\n", "data: {{ data }}\nmodel: [", "run: \xff"])
def test_a_configuration_of_others_beside_copied_files_is_left_alone(
    text: str, searched: Path, retrained: Path, tmp_path: Path
) -> None:
    for file in (retrained / "model.safetensors", retrained / "model.json", searched / "genotype.json"):
        shutil.copy(file, tmp_path)
    (tmp_path / "config.yaml").write_bytes(text.encode("latin-1"))
    for path in (tmp_path, tmp_path / "model.safetensors"):
        assert read_facts(path) == replace(read_facts(retrained), search_space=None)
        assert data_and_model(configure("evaluate", [f"checkpoint={path}"])[0])[:3] == MINE[:3]
    (tmp_path / "run_id.txt").write_text("retrain 00 00\n")  # in a run it is damaged
    with pytest.raises(ConfigError, match="config.yaml"):
        read_facts(tmp_path)
    for name in ("model.safetensors", "model.json", "run_id.txt"):
        (tmp_path / name).unlink()
    assert read_facts(tmp_path) is None


@pytest.mark.parametrize(
    ("section", "changed", "message"),
    [
        ("source", "abc", "the data source 'abc' is not an object"),
        ("source", 3, "the data source 3 is not an object"),
        ("source", [[]], "is not an object"),
        ("source", {"name": []}, "name is []; expected text"),
        ("source", {"name": "x,y"}, "'x,y' is not a data source"),
        ("source", {"root": []}, "root of data source 'imagefolder' is []; expected text"),
        ("source", {"root": "z" * 500_000}, "no such folder"),
        ("source", {"rot": "x"}, "no option 'rot'"),
        ("source", {"val_digest": 3}, "val_digest of data source 'imagefolder' is 3"),
        ("info", 3, "data description: 3 is not an object"),
        ("info", {"img_size": 5}, "img_size cannot be 5"),
        ("info", {"num_classes": 0}, "num_classes is 0, but class_names lists 2"),
        ("info", {"num_classes": 10**9}, "num_classes is 1000000000, but class_names lists 2"),
        ("info", {"num_classes": 1, "class_names": ["a"]}, "its network has num_classes=2, its data description 1"),
        ("info", {"class_names": ["a", "b" * 500_000]}, "class_names cannot be"),
    ],
    ids=range(15),
)
@pytest.mark.parametrize("task", ["evaluate", "predict"])
def test_a_wrong_description_of_data_beside_weights_is_one_short_line(
    section: str, changed: object, message: str, task: str, retrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(retrained / "model.safetensors", tmp_path)
    described = json.loads((retrained / "model.json").read_text())
    del described["sha256"]
    described["data"][section] = described["data"][section] | changed if isinstance(changed, dict) else changed
    (tmp_path / "model.json").write_text(json.dumps(described))
    more = [f"run_dir={tmp_path / 'out'}"] if task == "evaluate" else [f"images={retrained}"]
    unused = task == "predict" and message == "no such folder"  # it reads no images but those that it is given
    assert main([task, f"checkpoint={tmp_path}", *more]) == (0 if unused else 2)
    captured = capsys.readouterr()
    said = captured.err.strip().splitlines()
    assert unused or (said[-1].startswith("lmsearch: error: ") and message in said[-1])
    assert len(captured.out) < 3_000 and len(captured.err) < 3_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {name: []}\nmodel: {name: x}", "name is []; expected text"),
        ("data: {name: imagefolder, root: []}\nmodel: {name: x}", "root of data source 'imagefolder' is []"),
        ("model: {name: [x]}", "model.name is ['x']; expected text"),
        ("model: {name: x}", "model='x', which is not a choice"),
        ("model: {name: local_vim_nano}\ninfo: {img_size: 5}", "data description"),
    ],
)
def test_a_configuration_of_a_run_with_wrong_data_or_model_is_one_line(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(text)
    assert main(["retrain", f"genotype={tmp_path}"]) == 2
    assert message in capsys.readouterr().err


def test_a_run_without_unset_keys_is_read_as_one_with_them(searched: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((searched / "config.yaml").read_text())
    shutil.copy(searched / "genotype.json", tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": content["model"], "data": content["data"]}))
    assert data_and_model(configure("retrain", [f"genotype={tmp_path}"])[0]) == MINE
