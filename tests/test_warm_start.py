"""Starting from another network's weights: rows of directions and classes are found by name, whatever their order."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from itertools import permutations
from pathlib import Path

import pytest
import torch

from lmsearch.cli import main
from lmsearch.data import DataInfo
from lmsearch.engine.checkpoint import ModelSpec, save_checkpoint
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.warm_start import Start, mixers_by_name, start_from
from lmsearch.errors import CheckpointError
from lmsearch.models import create_model
from lmsearch.models.layers import resize_positions
from lmsearch.scan.tables import table_name

VIM = {"embed_dim": 16, "img_size": 8, "patch_size": 2, "in_chans": 1, "num_classes": 3, "d_state": 4, "depth": 2}
VMAMBA = {"dims": [16, 32], "depths": [1, 1], "img_size": 8, "patch_size": 2, "in_chans": 1, "num_classes": 3, "d_state": 4}
CLS = {"use_rope": False, "rope_residual": False, "middle_cls_token": True}
NETS = {
    "vim": ("local_vim", VIM),
    "vim with a class token": ("local_vim", VIM | CLS),
    "vim with the nano options": ("local_vim_nano", VIM | {"attention": "spatial_channel"}),
    "vmamba": ("local_vmamba", VMAMBA),
}
MINE = table_name("mine", {(4, 4): list(range(16))[::-1], (2, 2): [3, 1, 2, 0]})
OTHER = table_name("mine", {(4, 4): list(range(16)), (2, 2): [0, 1, 2, 3]})
ORDERS = [["h", "h_flip", "w2"], ["v", MINE, "v_flip"]]
INFO = DataInfo("pets", 3, ("cat", "dog", "eel"), (8, 8), 1, (0.5,), (0.5,))
IMAGES = torch.linspace(-1, 1, 2 * 64).reshape(2, 1, 8, 8).sin()


def spec_of(net: str, directions: list[list[str]], *, merge: str = "sum") -> ModelSpec:
    name, options = NETS[net]
    return ModelSpec(name, tuple(map(tuple, directions)), merge, options)


def trained(spec: ModelSpec, *, seed: int = 0) -> Start:
    """Return a network whose every weight is random, as after training."""
    torch.manual_seed(seed)
    weights = {key: torch.randn_like(value) * 0.1 for key, value in spec.build(backend="reference").state_dict().items()}
    return Start(spec, weights, "init_from=there")


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IMAGES)


def net_of(start: Start) -> torch.nn.Module:
    """Return the network of a start itself."""
    model = start.spec.build(backend="reference")
    model.load_state_dict(dict(start.weights))
    return model


@pytest.mark.parametrize("merge", ["sum", "weighted"])
@pytest.mark.parametrize("net", NETS)
def test_the_same_directions_in_any_order_give_the_same_logits(net: str, merge: str) -> None:
    start = trained(spec_of(net, ORDERS, merge=merge))
    if merge == "weighted":
        start.weights["layers.0.mixer.alphas" if "vim" in net else "stages.0.blocks.0.mixer.alphas"][1] = -torch.inf
    expected = logits(net_of(start))
    for first, second in zip(permutations(ORDERS[0]), permutations(ORDERS[1]), strict=True):
        model = spec_of(net, [first, second], merge=merge).build(backend="reference")
        start_from(model, start)
        assert torch.allclose(logits(model), expected, atol=1e-5), (first, second)


@pytest.mark.parametrize("net", NETS)
def test_every_tensor_with_a_row_per_direction_is_listed(net: str) -> None:
    counts = [spec_of(net, [["h", "v", "w2", "snake", "diag"][:k]] * 2, merge="weighted").build() for k in (3, 5)]
    few, many = ({key: value.shape for key, value in model.state_dict().items()} for model in counts)
    grows = {key for key in few if few[key] != many[key]}
    assert grows == {f"{name}.{part}" for name, m in mixers_by_name(counts[0]).items() for part in m.PER_DIRECTION}


def test_directions_that_the_source_lacks_start_fresh_and_are_named() -> None:
    start = trained(spec_of("vim", ORDERS))
    model = spec_of("vim", [["w2", "h"], ["v", OTHER, "diag"]]).build(backend="reference")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    lines = start_from(model, start)
    assert lines == ["init_from=there lacks directions, which start fresh: layers.1: mine (another table), diag"]
    after = model.state_dict()
    assert torch.equal(after["layers.0.mixer.A_log"], start.weights["layers.0.mixer.A_log"][[2, 0]])
    assert torch.equal(after["layers.1.mixer.conv_weight"][0], start.weights["layers.1.mixer.conv_weight"][0])
    assert torch.equal(after["layers.1.mixer.conv_weight"][1:], before["layers.1.mixer.conv_weight"][1:])


def test_a_flipped_order_is_another_direction() -> None:
    start = trained(spec_of("vim", [["h"], ["v"]]))
    model = spec_of("vim", [["h_flip"], ["v"]]).build(backend="reference")
    assert start_from(model, start) == ["init_from=there lacks directions, which start fresh: layers.0: h_flip"]


def test_strict_refuses_and_loads_nothing() -> None:
    start = trained(spec_of("vim", ORDERS))
    model = spec_of("vim", [["h"], ["diag"]]).build()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match="layers.1: diag; init_strict=true"):
        start_from(model, start, strict=True)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    start_from(spec_of("vim", [["w2"], ["v"]]).build(), start, strict=True)


def test_a_shrunk_supernet_fills_a_derived_net_without_its_alphas_and_says_so() -> None:
    start = trained(spec_of("vim", ORDERS, merge="weighted"))
    start.weights["layers.0.mixer.alphas"][2] = -torch.inf
    model = spec_of("vim", [["w2", "h"], ["v"]]).build()
    dropped, summed = start_from(model, start)
    assert "dropped directions" in dropped and "layers.0: w2" in dropped and "h" not in dropped.rpartition(":")[2]
    assert "is a supernet" in summed
    assert torch.equal(model.state_dict()["layers.0.mixer.D"], start.weights["layers.0.mixer.D"][[2, 0]])
    with pytest.raises(CheckpointError, match="is a supernet"):
        start_from(model, start, strict=True)


def test_a_derived_net_fills_a_supernet_and_its_alphas_start_fresh() -> None:
    start = trained(spec_of("vmamba", [["v", "h"], ["w2"]]))
    model = spec_of("vmamba", [["h", "v", "w2"], ["h", "w2"]], merge="weighted").build()
    fresh, alphas = start_from(model, start)
    assert fresh.endswith("stages.0.blocks.0: w2; stages.1.blocks.0: h") and "alphas start fresh" in alphas
    there = start.weights["stages.0.blocks.0.mixer.x_proj_weight"]
    assert torch.equal(model.state_dict()["stages.0.blocks.0.mixer.x_proj_weight"][:2], there[[1, 0]])


def test_classes_are_found_by_name_and_fresh_where_they_are_new() -> None:
    spec = spec_of("vim", ORDERS)
    start = trained(replace(spec, data={"info": asdict(INFO)}))
    model = spec.build(backend="reference")
    assert start_from(model, start, classes=("dog", "eel", "cat")) == []
    assert torch.allclose(logits(model), logits(net_of(start))[:, [1, 2, 0]], atol=1e-6)
    assert start_from(model, start, classes=("ant", "dog", "cat")) == ["init_from=there lacks classes, which start fresh: ant"]
    assert start_from(model, start, classes=("a", "b", "c")) == ["init_from=there has other class names, taken in their order"]
    wide = replace(spec, options=spec.options | {"num_classes": 4}).build()
    assert start_from(wide, start, classes="abcd") == ["init_from=there has other classes: the head starts fresh"]
    assert start_from(wide, start, classes=("a", "dog", "c", "d"))[0].endswith("classes, which start fresh: a; c; d")
    assert torch.equal(wide.head.weight[1], start.weights["head.weight"][1])


def test_positions_are_resized_to_a_grid_of_as_many_tokens() -> None:
    spec = spec_of("vim", [["h", "v"], ["w2", "h_flip"]])
    wide, tall = (replace(spec, options=VIM | {"img_size": size}) for size in ([4, 8], [8, 4]))
    start, model = trained(wide), tall.build()
    assert start_from(model, start) == []
    table = start.weights["pos_embed"]
    assert model.pos_embed.shape == table.shape and torch.equal(model.pos_embed, resize_positions(table, (2, 4), (4, 2)))


def test_positions_are_resized_and_another_architecture_is_refused() -> None:
    start = trained(spec_of("vim with a class token", ORDERS))
    model = create_model("local_vim", directions=ORDERS[0], **VIM | CLS | {"img_size": 12})
    assert len(start_from(model, start)) == 1 and model.pos_embed.shape == (1, 37, 16)
    for other in (VIM | {"embed_dim": 32}, VIM | {"d_state": 8}, VIM | {"depth": 3}, VIM):
        with pytest.raises(CheckpointError, match="init_from=there: a checkpoint of another model"):
            start_from(create_model("local_vim", directions=ORDERS[0], **other), start)


def test_rows_that_the_description_does_not_list_are_refused() -> None:
    start = trained(spec_of("vim", ORDERS))
    short = Start(replace(start.spec, directions=(("h", "w2"), ORDERS[1])), start.weights, "init_from=there")
    with pytest.raises(CheckpointError, match="holds 3 rows, its description lists 2"):
        start_from(start.spec.build(), short)


# ---------------------------------------------------------------- the command
STILL = ["optim.lr=0", "optim.min_lr=0", "optim.warmup_lr=0", "optim.weight_decay=0"]
DIGITS = ["batch_size=256", "epochs=1", "optim.warmup_epochs=0", "model.embed_dim=16", "model.depth=2", "model.patch_size=2"]


def genotype_file(path: Path, *layers: list[str]) -> str:
    path.write_text(json.dumps(layers))
    return f"genotype={path}"


def loss_on_test(run_dir: Path) -> float:
    return json.loads((run_dir / "metrics.json").read_text())["test_loss"]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A retrained net of the digits."""
    folder = tmp_path_factory.mktemp("good")
    two = genotype_file(folder / "two.json", ["h", "v"], ["w2", "h_flip"])
    assert main(["retrain", *DIGITS, two, f"run_dir={folder / 'run'}"]) == 0
    return folder / "run"


def test_fine_tuning_with_directions_in_another_order_starts_at_the_same_loss(good: Path, tmp_path: Path) -> None:
    swapped = genotype_file(tmp_path / "swapped.json", ["v", "h"], ["h_flip", "w2"])
    start = [f"init_from={good}", "init_strict=true"]
    assert main(["retrain", *DIGITS, *STILL, swapped, *start, f"run_dir={tmp_path / 'run'}"]) == 0
    assert loss_on_test(tmp_path / "run") == pytest.approx(loss_on_test(good), rel=1e-5)


def test_strict_fine_tuning_with_another_direction_is_refused_before_anything_is_written(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    other = genotype_file(tmp_path / "other.json", ["v", "diag"], ["h_flip", "w2"])
    command = ["retrain", *DIGITS, *STILL, other, f"init_from={good}", f"run_dir={tmp_path / 'run'}"]
    assert main([*command, "init_strict=true"]) == 2
    error = capsys.readouterr().err
    assert f"init_from={good} lacks directions, which start fresh: layers.0: diag" in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert main(command) == 0
    assert "layers.0: diag" in caplog.text


@pytest.fixture
def live(good: Path, tmp_path: Path) -> Path:
    """A copy of a retrained net as it is before its last epoch ends."""
    shutil.copytree(good, tmp_path / "live")
    for result in ("model.safetensors", "metrics.json"):
        (tmp_path / "live" / result).unlink()
    return tmp_path / "live"


def test_a_run_goes_on_whose_weights_to_start_from_were_still_being_trained(
    good: Path, live: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    command = ["retrain", *DIGITS, f"genotype={good}", f"init_from={live}", f"run_dir={run}"]
    assert main(command) == 0
    assert f"init_from={live} is not finished" in caplog.text
    caplog.clear()
    shutil.copy(run / "checkpoint.pt", live / "checkpoint.pt")  # it has trained on
    before = (run / "init_from.json").read_text()
    assert main(command) == 0
    assert "is not finished" not in caplog.text and f"init_from={live} holds other weights by now" in caplog.text
    shutil.copytree(good, live, dirs_exist_ok=True)  # and finished
    shutil.copy(run / "model.safetensors", live / "model.safetensors")
    assert main(command) == 0
    (run / "checkpoint.pt").unlink()  # as by lmsearch clean
    assert main(command) == 0 and "is finished, and its checkpoint.pt is gone" in capsys.readouterr().out
    assert (run / "init_from.json").read_text() == before
    assert main([*command, "overwrite=true"]) == 0
    assert not (run / "init_from.json").exists()
    (live / "model.safetensors").write_bytes((good / "model.safetensors").read_bytes())
    assert main(command) == 2 and "its files hold something else now" in capsys.readouterr().err


def test_a_beginning_that_saved_nothing_is_forgotten(live: Path, good: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "init_from.json").write_text(json.dumps({"fingerprint": "of weights that are gone"}))
    command = ["retrain", *DIGITS, f"genotype={good}", f"init_from={good}", f"run_dir={run}", "overwrite=true"]
    assert main(command) == 0 and not (run / "init_from.json").exists()
    (run / "init_from.json").write_text(json.dumps({"fingerprint": "of weights that are gone"}))
    for name in ("checkpoint.pt", "model.safetensors"):
        (run / name).unlink()
    assert main(command[:-1]) == 0 and not (run / "init_from.json").exists()
    assert main(command[:-1]) == 0


def test_a_job_that_is_started_again_goes_on_with_the_weights_that_it_began_with(
    live: Path, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    command = ["retrain", *DIGITS, f"genotype={good}", f"init_from={live}", f"run_dir={run}", "overwrite=true"]
    assert main(command) == 0
    before = (run / "checkpoint.pt").read_bytes()
    shutil.copy(run / "checkpoint.pt", live / "checkpoint.pt")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert main(command) == 0
    assert (run / "checkpoint.pt").read_bytes() == before


def test_a_recheck_of_other_candidates_is_not_taken_for_this_search(tmp_path: Path) -> None:
    from lmsearch.search.trust.recheck import SUPERNETS
    from lmsearch.tasks.parts.recheck import file_of, stored_supernets

    spec = spec_of("vim", ORDERS, merge="weighted")
    state = {"spec": asdict(spec), "model": spec.build().state_dict(), "epoch": 1, "epochs": 1, "digest": "d"}
    for number in range(SUPERNETS):
        save_checkpoint(RunDir(tmp_path), state, file=file_of(number))
    found = stored_supernets(tmp_path, spec, "d", backend="auto", device="cpu")
    assert len(list(found)) == SUPERNETS
    swapped = replace(spec, directions=(tuple(ORDERS[0][::-1]), spec.directions[1]))
    assert list(stored_supernets(tmp_path, swapped, "d", backend="auto", device="cpu")) == []
