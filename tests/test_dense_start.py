"""Dense networks that start from other networks' weights, and learning rates that fall from layer to layer below the head."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from lmsearch.config_presets import choices_of, kind_of, preset_keys
from lmsearch.data import DataInfo, Source
from lmsearch.engine.checkpoint import ModelSpec, save_model
from lmsearch.engine.optim import decay_groups, layer_scales, set_lr
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.warm_start import Start, start_from
from lmsearch.errors import CheckpointError, ConfigError
from lmsearch.models.dense import DenseNet
from lmsearch.models.layers import resize_positions
from lmsearch.paths import data_dir
from lmsearch.tasks.parts.facts import read_facts
from lmsearch.tasks.parts.known import as_plain, configure
from lmsearch.tasks.parts.run_dir import config_text
from lmsearch.tasks.retrain import start_of

VIM = {"embed_dim": 8, "img_size": [8, 8], "patch_size": 2, "in_chans": 1, "num_classes": 3, "d_state": 2, "depth": 2}
VMAMBA = {"dims": [8, 16], "depths": [2, 1], "img_size": [8, 8], "patch_size": 2, "in_chans": 1, "num_classes": 3, "d_state": 2}
ORDERS = (("h", "v"), ("v_flip", "h"))
FAMILIES = {"local_vim": (VIM, ORDERS), "local_vmamba": (VMAMBA, (*ORDERS, ("h",)))}
PETS = DataInfo("pets", 3, ("cat", "dog", "eel"), (8, 8), 1, (0.5,), (0.5,))


def spec_of(family: str, *, merge: str = "sum", info: DataInfo | None = None, **options) -> ModelSpec:
    own, directions = FAMILIES[family]
    data = {} if info is None else {"info": asdict(info)}
    return ModelSpec(family, directions, merge, own | options, data)


def trained(spec: ModelSpec) -> Start:
    """Return a network whose every weight is random, as after training."""
    torch.manual_seed(0)
    weights = {name: torch.randn_like(value) * 0.1 for name, value in spec.build(backend="reference").state_dict().items()}
    return Start(spec, weights, "init_from=there")


def started(start: Start, spec: ModelSpec, **told) -> tuple[DenseNet, list[str]]:
    torch.manual_seed(1)
    net = spec.build(backend="reference")
    return net, start_from(net, start, **told)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("merge", ["sum", "weighted"])
def test_a_backbone_starts_from_a_classifier_of_another_size(family: str, merge: str) -> None:
    start = trained(spec_of(family, merge=merge))
    fresh = spec_of(family, head="plain", img_size=[12, 17])
    net, lines = started(start, fresh)
    told = lines[-1]
    assert told == "init_from=there classifies images: the head starts fresh, with the maps that it sees"
    assert len(lines) == (2 if merge == "weighted" else 1) and all("alphas" in line for line in lines[:-1])
    for name, value in net.state_dict().items():
        own = name.removeprefix("backbone.")
        if own == "pos_embed":
            assert torch.equal(value, resize_positions(start.weights[own], (4, 4), (6, 9)))
        elif name.startswith("backbone."):
            assert torch.equal(value, start.weights[own]), name
    again = fresh.build(backend="reference")
    torch.manual_seed(1)
    again = fresh.build(backend="reference")
    assert all(
        torch.equal(value, again.state_dict()[name]) for name, value in net.state_dict().items() if name[:4] in ("head", "neck")
    )


def test_a_supernet_under_a_head_starts_from_a_supernet_of_images_with_its_alphas() -> None:
    start = trained(spec_of("local_vim", merge="weighted"))
    start.weights["layers.1.mixer.alphas"][0] = -torch.inf
    directions = (("v", "h"), ("h", "w2", "v_flip"))
    net, lines = started(start, replace(spec_of("local_vim", merge="weighted", head="plain"), directions=directions))
    assert lines[:2] == [
        "init_from=there lacks directions, which start fresh: backbone.layers.1: w2",
        "init_from=there dropped directions during its search, which trained until then: backbone.layers.1: v_flip",
    ]
    first, second = (mixer.supernet_alphas for mixer in net.mixers())
    assert torch.equal(first, start.weights["layers.0.mixer.alphas"][[1, 0]])
    assert second[0] == start.weights["layers.1.mixer.alphas"][1] and torch.isneginf(second[2])


def test_a_classifier_starts_from_the_backbone_of_a_dense_network() -> None:
    start = trained(spec_of("local_vmamba", head="plain"))
    net, lines = started(start, spec_of("local_vmamba"))
    assert lines == ["init_from=there has head=plain: the head starts fresh"]
    same = {name: value for name, value in net.state_dict().items() if not name.startswith("head.")}
    assert same and all(torch.equal(value, start.weights[f"backbone.{name}"]) for name, value in same.items())


def test_a_plain_head_comes_along_class_by_class() -> None:
    start = trained(spec_of("local_vim", head="plain", info=PETS))
    wanted = spec_of("local_vim", head="plain", num_classes=2)
    net, lines = started(start, wanted, classes=("eel", "fox"))
    assert lines == ["init_from=there lacks classes, which start fresh: fox"]
    rows = net.state_dict()["head.classifier.weight"]
    assert torch.equal(rows[0], start.weights["head.classifier.weight"][2])
    assert torch.equal(net.state_dict()["head.fuse.weight"], start.weights["head.fuse.weight"])
    _, lines = started(start, wanted, classes=("fox", "gnu"))
    assert lines == ["init_from=there has other classes: the head's last layer starts fresh"]
    net, lines = started(start, spec_of("local_vim", head="plain"), classes=PETS.class_names)
    assert lines == [] and all(torch.equal(value, start.weights[name]) for name, value in net.state_dict().items())


def test_a_head_on_other_levels_starts_fresh() -> None:
    start = trained(spec_of("local_vim", head="plain"))
    net, lines = started(start, spec_of("local_vim", head="plain", out_indices=[0, 1]))
    assert lines == ["init_from=there has its head on other levels: the head starts fresh, with the maps that it sees"]
    assert torch.equal(net.state_dict()["backbone.norm_f.weight"], start.weights["backbone.norm_f.weight"])


def test_another_architecture_is_refused_and_nothing_loaded() -> None:
    net = spec_of("local_vim", head="plain").build()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for other in (spec_of("local_vmamba"), spec_of("local_vim", embed_dim=16)):
        with pytest.raises(CheckpointError, match="checkpoint of another model"):
            start_from(net, trained(other))
    deeper = replace(spec_of("local_vim", depth=3), directions=(*ORDERS, ("h",)))
    with pytest.raises(CheckpointError, match="backbone.layers.2.* is not in the model"):
        start_from(net, trained(deeper))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_parameter_lies_as_deep_as_its_layer() -> None:
    vim, vmamba = spec_of("local_vim").build(), spec_of("local_vmamba", head="plain").build()
    expected = {
        "patch_embed.proj.weight": 0, "pos_embed": 0, "layers.0.norm.weight": 1, "layers.1.mixer.A_log": 2, "norm_f.weight": 3,
        "head.weight": 3,
    }  # fmt: skip
    assert {name: vim.layer_of(name) for name in expected} == expected
    expected = {
        "backbone.patch_embed.norm.weight": 0, "backbone.stages.0.blocks.1.mixer.D": 2,
        "backbone.stages.0.downsample.reduction.weight": 2, "backbone.stages.1.blocks.0.norm.bias": 3, "backbone.norm.bias": 4,
        "neck.norms.0.weight": 4, "head.fuse.weight": 4,
    }  # fmt: skip
    assert {name: vmamba.layer_of(name) for name in expected} == expected


def test_the_learning_rate_falls_from_layer_to_layer() -> None:
    net = spec_of("local_vim", head="plain").build()
    scales = layer_scales(net, 0.5)
    names = {id(p): name for name, p in net.named_parameters()}
    groups = decay_groups(net.named_parameters(), 0.1, skip={"backbone.pos_embed"}, scales=scales)
    optimizer = torch.optim.SGD(groups, lr=1.0)
    set_lr(optimizer, 0.8)
    assert optimizer.param_groups[0]["lr"] == 0.8
    rates = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert set(rates) == set(scales) == set(names.values())
    assert rates["head.fuse.weight"] == (0.8, 0.1) and rates["head.fuse.bias"] == (0.8, 0.0)
    assert rates["backbone.layers.1.mixer.A_log"] == (0.4, 0.1) and rates["backbone.layers.0.norm.weight"] == (0.2, 0.0)
    assert rates["backbone.pos_embed"] == (0.1, 0.0) and rates["backbone.patch_embed.proj.weight"] == (0.1, 0.1)


def test_without_layer_decay_groups_are_as_ever_and_a_foreign_network_is_refused_with_it() -> None:
    net = spec_of("local_vim").build()
    assert layer_scales(net, 1.0) is None
    assert [set(group) for group in decay_groups(net.named_parameters(), 0.1)] == [{"params", "weight_decay"}] * 2
    with pytest.raises(ConfigError, match="optim.layer_decay=0.9 needs a network of lmsearch"):
        layer_scales(torch.nn.Linear(2, 2), 0.9)


@pytest.mark.parametrize("head", ["mask2former", "deformable_detr"])
def test_a_head_for_objects_comes_along_where_its_classes_are_the_same(head: str, tmp_path: Path) -> None:
    start = trained(spec_of("local_vim", head=head, info=PETS))
    save_model(RunDir(tmp_path), start.spec, start.weights)
    settings: Any = SimpleNamespace(backend="reference", init_strict=True)
    same = start_of(str(tmp_path), settings, start.spec, cast(Source, SimpleNamespace(info=PETS)))
    assert all(torch.equal(value, same.weights[name]) for name, value in start.weights.items()), "tried without memory, kept"
    for classes, told in (
        (PETS.class_names, []),
        (("x", "y", "z"), ["init_from=there has other class names, taken in their order"]),
        (("dog", "cat", "eel"), ["init_from=there has other classes: the head starts fresh"]),
    ):
        net, lines = started(start, spec_of("local_vim", head=head), classes=classes)
        same = [torch.equal(value, start.weights[name]) for name, value in net.state_dict().items()]
        assert lines == told and (all(same) if "fresh" not in str(told) else not all(same))
    _, lines = started(start, spec_of("local_vim", head=head, num_classes=2), classes=("cat", "dog"))
    assert lines == ["init_from=there has other classes: the head starts fresh"]
    _, lines = started(start, spec_of("local_vim", head="plain"), classes=PETS.class_names)
    assert lines == [f"init_from=there has head={head}: the head starts fresh, with the maps that it sees"]


def test_another_preset_of_the_same_data_says_only_what_it_brings(tmp_path: Path) -> None:
    known = {"name": "dense", "root": "shapes", "img_size": 64, "in_chans": 3}
    options = {"head": "plain", "patch_size": 4, "embed_dim": 8}
    (tmp_path / "run").mkdir()
    save_model(RunDir(tmp_path / "run"), ModelSpec("local_vim_nano", (("h",),), options=options, data={"source": known}), {})
    run, given = tmp_path / "run", [f"genotype={tmp_path / 'run'}"]
    same, _ = configure("retrain", given)
    assert (same.head, same.model.patch_size, same.data.root, same.data.img_size) == ("plain", 4, "shapes", 64)
    for words in (["data=shapes"], ["data=dense", "data.root=shapes"]):
        assert configure("retrain", [*given, *words])[0] == same
    other, lines = configure("retrain", [*given, "data=shapes", "data.root=b"])
    assert (other.head, other.model.patch_size, other.data.root) == ("plain", 4, "b")
    assert f"data.root=b given, {run} has shapes" in lines
    paper, lines = configure("retrain", [*given, "data=ade20k", "data.root=a"])
    assert (paper.head, paper.data.img_size, paper.data.reduce_zero_label, paper.epochs) == ("upernet", 512, True, 127)
    assert (paper.model.patch_size, paper.model.embed_dim, paper.model.drop_path_rate) == (4, 8, 0.1)
    assert {f"head=upernet given, {run} has plain", f"data.root=a given, {run} has shapes"} <= set(lines)
    seen, _ = configure("evaluate", [f"checkpoint={run}", "data=ade20k", "data.root=a"])
    assert (seen.data.img_size, seen.data.root) == (64, "a"), "trained weights see images as they were trained to"
    (run / "config.yaml").write_text("data: {name: dense, preset: ade20k}")  # as a search with data=ade20k leaves it
    for task in ("retrain", "compare"):
        cfg, lines = configure(task, given)
        assert (cfg.epochs, cfg.optim.lr, cfg.data.preset) == (127, 6e-5, "ade20k") and "data=ade20k" in lines[0]
        assert (cfg.head, cfg.data.root, cfg.data.img_size, cfg.model.patch_size) == ("plain", "shapes", 64, 4)
    again = tmp_path / "derived"
    again.mkdir()
    (again / "config.yaml").write_text(config_text(as_plain(read_facts(run).sections())))
    assert configure("retrain", [f"genotype={again}"])[0].epochs == 127
    assert configure("retrain", [f"init_from={run}", "genotype=x"])[0].epochs == 127
    for words in (["data=dense"], ["data.root=b"]):
        cfg, _ = configure("retrain", [*given, *words])
        assert (cfg.epochs, cfg.data.preset) == (None, None), "other data, or the recipe that is chosen by them"
    assert configure("retrain", [*given, "data=coco"])[0].epochs == 12
    seen, lines = configure("evaluate", [f"checkpoint={run}"])
    assert (seen.data.name, seen.data.preset, "head" in seen) == ("dense", None, False)
    (run / "config.yaml").write_text("data: {name: dense, preset: [1]}")
    with pytest.raises(ConfigError, match=r"config.yaml: data.preset is \[1\]; expected text"):
        configure("retrain", given)


def test_weights_of_pixels_leave_their_head_out_where_images_have_classes(tmp_path: Path) -> None:
    dense, classes = tmp_path / "dense", tmp_path / "classes"
    options = {"head": "upernet", "out_indices": [0, 1], "frozen_stages": 1, "patch_size": 4}
    for run, more, kind in ((dense, options, "dense"), (classes, {}, "imagefolder")):
        run.mkdir()
        source = {"name": kind, "root": "a"}
        save_model(RunDir(run), ModelSpec("local_vim_nano", (("h",),), options=more, data={"source": source}), {})
    given, other = f"init_from={dense}", ["data=imagefolder", "data.root=c"]
    for words in (["data=digits", "genotype=x"], [*other, "genotype=x"], [*other, f"genotype={dense}"], [f"genotype={classes}"]):
        cfg, _ = configure("retrain", [given, *words])
        assert (cfg.head, cfg.out_indices, cfg.frozen_stages, cfg.model.patch_size) == (None, None, 0, 4), words
    same = ["data=dense", "data.root=c"]
    for words in ([*same, "genotype=x"], [*same, f"genotype={classes}"], [f"genotype={dense}"]):
        cfg, lines = configure("retrain", [given, *words])
        assert (cfg.head, cfg.out_indices, cfg.frozen_stages) == ("upernet", [0, 1], 1), words
        assert not any(line.startswith(("head=", "model.")) for line in lines), lines


def test_the_genotypes_run_says_the_head_and_the_weights_their_model_and_lines_tell_of_both(tmp_path: Path) -> None:
    searched, start = tmp_path / "searched", tmp_path / "start"
    heads = {searched: {"head": "plain", "embed_dim": 16}, start: {"head": "upernet", "out_indices": [0, 1], "embed_dim": 8}}
    for run, options in heads.items():
        run.mkdir()
        spec = ModelSpec("local_vim_nano", (("h",),), options=options, data={"source": {"name": "dense", "root": "a"}})
        save_model(RunDir(run), spec, {})
    words = [f"genotype={searched}", f"init_from={start}"]
    cfg, lines = configure("retrain", words)
    assert (cfg.head, cfg.out_indices, cfg.model.embed_dim) == ("plain", None, 8)
    head, width = f"head=plain from {searched}, {start} has head=upernet", "model.embed_dim=8 from"
    assert head in lines and f"{width} {start}, {searched} has model.embed_dim=16" in lines
    given, lines = configure("retrain", [*words, "head=upernet", "model.embed_dim=24"])
    assert (given.head, given.out_indices, given.model.embed_dim) == ("upernet", None, 24)
    assert f"head=upernet given, {searched} has plain" in lines and not any(width in line or line == head for line in lines)


def test_every_preset_of_data_with_a_recipe_of_its_own_says_its_name() -> None:
    conf = data_dir("conf")
    for name in choices_of("data"):
        mine, kind = preset_keys("data", name, conf), kind_of("data", name, conf)
        recipes = [[preset_keys("optim", f"{task}_{one}", conf) for task in ("search", "retrain")] for one in (name, kind)]
        assert mine.get("data.preset") == (name if recipes[0] != recipes[1] else None)
