"""Damaged files are refused with one line, and a checkpoint is continued by its own run only."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from lmsearch.cli import main
from lmsearch.engine.checkpoint import load_checkpoint, load_model, read_model, save_checkpoint, save_model
from lmsearch.engine.digest import digest_of
from lmsearch.engine.optim import adamw, load_optimizer
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import CheckpointError

MODEL = ["model.depth=1", "model.embed_dim=8", "model.patch_size=2", "epochs=1", "optim.warmup_epochs=0", "batch_size=256"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished retraining."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "mine.json").write_text('[["h"]]')
    assert main(["retrain", *MODEL, f"genotype={folder / 'mine.json'}", f"run_dir={folder / 'run'}"]) == 0
    return folder


def words(trained: Path, *more: str) -> list[str]:
    return ["retrain", *MODEL, f"genotype={trained / 'mine.json'}", *more]


def content_of(path: Path) -> object:
    """Return all that loading a file gives."""
    if path.name == "checkpoint.pt":
        return load_checkpoint(path)
    spec, weights = read_model(path)
    return [asdict(spec), weights]


def flip(path: Path, source: bytes, rng: np.random.Generator) -> int:
    """Write `source` with one flipped bit, and return which."""
    bit = int(rng.integers(8 * len(source)))
    data = bytearray(source)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    return bit


@pytest.mark.parametrize("name", ["checkpoint.pt", "model.safetensors", "model.json"])
@pytest.mark.parametrize("count", [25, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_flipped_bit_is_refused_or_changes_nothing(name: str, count: int, trained: Path, tmp_path: Path) -> None:
    for file in ("checkpoint.pt", "model.safetensors", "model.json"):
        shutil.copy(trained / "run" / file, tmp_path)
    path, source = tmp_path / name, (tmp_path / name).read_bytes()
    asked = tmp_path / ("model.safetensors" if name == "model.json" else name)
    before, rng = digest_of(content_of(asked)), np.random.default_rng(count)
    for _ in range(count):
        bit = flip(path, source, rng)
        try:
            assert digest_of(content_of(asked)) == before, f"bit {bit} passed"
        except CheckpointError as error:
            assert str(error).startswith(str(tmp_path)) and "\n" not in str(error)


@pytest.mark.parametrize("name", ["model.json", "metrics.jsonl", "config.yaml"])
def test_another_file_of_a_run_in_the_place_of_weights_is_not_called_damaged(name: str, trained: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"{name}: a \.\w+ file holds no weights; expected a run directory, or its model"):
        read_model(trained / "run" / name)
    with pytest.raises(
        CheckpointError, match="model.safetensors: holds a trained network, not the state of a run; expected a che"
    ):
        load_checkpoint(trained / "run" / "model.safetensors")


def test_a_damaged_checkpoint_is_one_line_and_what_to_do(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    next(iter(state["model"].values())).view(-1)[0] += 1
    torch.save(state, run / "checkpoint.pt")
    assert main(words(trained, f"run_dir={run}")) == 2
    assert "checkpoint.pt: damaged" in capsys.readouterr().err
    assert main(words(trained, f"run_dir={run}", "overwrite=true")) == 0


def test_files_of_the_first_version_without_digests_are_read(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    old = {key: value for key, value in state.items() if key not in ("sha256", "digest")}
    old["spec"]["data"]["info"].pop("mean")  # which knew less of the data
    torch.save(old, run / "checkpoint.pt")
    described = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps({key: value for key, value in described.items() if key != "sha256"}))
    assert read_model(run)[0].name == "local_vim_nano"
    assert main(words(trained, f"run_dir={run}")) == 0


def test_a_digest_tells_types_order_shapes_and_every_bit() -> None:
    contents = [
        {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1.0, "b": 2}, {"a": True, "b": 2}, {"a": "1", "b": 2}, {"a": None, "b": 2},
        [1, 2], (1, 2), [[1], 2], [1, [2]], [[], 1, 2], ["1 2"], [torch.tensor([1, 2])], [torch.tensor([[1, 2]])],
        [torch.tensor([1, 2], dtype=torch.int32)], [torch.tensor([1.0, 2.0])], [torch.tensor([1.0, 2.0]).bfloat16()],
        [torch.tensor(1)], [float("nan")], [0.0], [-0.0],
    ]  # fmt: skip
    assert len({digest_of(content) for content in contents}) == len(contents)
    x = torch.arange(6.0).reshape(2, 3)
    assert digest_of(x.T) == digest_of(x.T.contiguous())


def test_a_checkpoint_of_another_seed_is_not_continued(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(trained / "run" / "checkpoint.pt", other)
    (other / "run_id.txt").write_text("")  # no claim tells
    one = words(trained, "seed=1", f"run_dir={tmp_path / 'one'}")
    assert main(one) == 0
    shutil.copy(trained / "run" / "checkpoint.pt", tmp_path / "one")
    assert main(one) == 2
    assert "a checkpoint of another run" in capsys.readouterr().err


def test_a_state_that_does_not_fit_is_one_line(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    state = load_checkpoint(run)
    state["optimizer"]["param_groups"].pop()
    save_checkpoint(RunDir(run), state)
    assert main(words(trained, f"run_dir={run}")) == 2
    assert "not a state that this run can continue from (optimizer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"version": True}, "version True is not supported"),
        ({"spec": None}, "model description None"),
        *(({name: None}, f"{name} is missing") for name in ("epoch", "model")),
        *(({name: value}, f"{name} is {value!r}") for name in ("epoch", "train_s", "model") for value in ("abc", -5, [])),
        ({"ema": 3}, "ema is 3; expected tensors by name"),
        ({"step": True}, "step is True; expected a whole number"),
        ({"keep": "4"}, "keep is '4'; expected a list"),
        ({"model": {"w": 1}}, "model is {'w': 1}; expected tensors by name"),
    ],
    ids=str,
)
def test_an_entry_of_another_kind_in_a_checkpoint_without_digest_is_one_line(
    changed: dict, message: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    state = torch.load(run / "checkpoint.pt", weights_only=True) | changed
    torch.save({name: value for name, value in state.items() if name != "sha256" and value is not None}, run / "checkpoint.pt")
    assert main(words(trained, f"run_dir={run}")) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in said and "checkpoint.pt" in said


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_weights_of_another_kind_of_number_are_refused(
    kind: torch.dtype, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    spec, weights = read_model(run)
    save_model(RunDir(run), spec, {name: tensor.to(kind) for name, tensor in weights.items()})
    assert main(["evaluate", f"checkpoint={run}", f"run_dir={tmp_path / 'out'}"]) == 2
    assert f"holds {kind}; accepted: float32, float64, float16, bfloat16" in capsys.readouterr().err
    state = load_checkpoint(run)
    state["model"] = {name: tensor.to(kind) for name, tensor in state["model"].items()}
    save_checkpoint(RunDir(run), state)
    assert main(words(trained, f"run_dir={run}")) == 2
    assert f"holds {kind}" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_more_or_fewer_bits_are_read(kind: torch.dtype, trained: Path, tmp_path: Path) -> None:
    spec, weights = read_model(trained / "run")
    save_model(RunDir(tmp_path), spec, {name: tensor.to(kind) for name, tensor in weights.items()})
    model = load_model(*read_model(tmp_path), source="it")
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(2, 2).to_sparse(), torch.zeros(2, device="meta"), torch.zeros(1).expand(10**12)],
    ids=range(3),
)  # fmt: skip
def test_tensors_that_are_not_just_their_values_are_one_line(tensor: torch.Tensor, digest: bool, tmp_path: Path) -> None:
    content = {"schema": "lmsearch.checkpoint", "version": 1, "model": {"w": tensor}} | ({"sha256": "0"} if digest else {})
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="is not stored with all of its values"):
        load_checkpoint(tmp_path)


def test_what_no_checkpoint_holds_is_one_line(tmp_path: Path) -> None:
    content = {"schema": "lmsearch.checkpoint", "version": 1, "sha256": "0", "model": {"w": {1, 2}}}
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="set is neither a tensor nor a plain value"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("change", [lambda average: average[:1], lambda average: average.long(), lambda _: "abc"])
def test_what_an_optimizer_remembers_must_fit(
    change: Callable, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    state = load_checkpoint(run)
    remembered = next(iter(state["optimizer"]["state"].values()))
    remembered["exp_avg"] = change(torch.zeros(3, *remembered["exp_avg"].shape))
    save_checkpoint(RunDir(run), state)
    assert main(words(trained, f"run_dir={run}")) == 2
    assert "can continue from (optimizer: exp_avg of parameter" in capsys.readouterr().err


@pytest.mark.parametrize("fused", [True, False])
def test_a_loaded_optimizer_computes_its_steps_as_it_was_built_to(fused: bool) -> None:
    def built(fused: bool) -> torch.optim.AdamW:
        torch.manual_seed(0)
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.randn(3))], lr=0.1, fused=fused)
        optimizer.param_groups[0]["params"][0].grad = torch.ones(3)
        return optimizer

    saved, loaded = built(not fused), built(fused)
    saved.step()
    load_optimizer(loaded, saved.state_dict())
    assert loaded.param_groups[0]["fused"] is fused
    loaded.step()
    parameter = loaded.param_groups[0]["params"][0]
    assert float(loaded.state[parameter]["step"]) == 2 and loaded.param_groups[0]["lr"] == 0.1


def test_the_betas_of_a_checkpoint_are_kept() -> None:
    parameter = torch.nn.Parameter(torch.randn(2, 2))
    saved = adamw([("w", parameter)], lr=0.1, weight_decay=0.1, betas=(0.8, 0.9))
    loaded = adamw([("w", parameter)], lr=0.1, weight_decay=0.1, betas=(0.9, 0.99))
    load_optimizer(loaded, saved.state_dict())
    assert loaded.param_groups[0]["betas"] == (0.8, 0.9)


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoint.pt", "run_id.txt", "config.yaml", "model.json", "metrics.json"])
def test_starting_over_clears_files_that_cannot_be_read(name: str, trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    (run / name).write_bytes(b"\xff\x00{garbage\n\n")
    assert main(words(trained, f"run_dir={run}", "overwrite=true")) == 0
    for again in ("metrics.jsonl", "model.json", "metrics.json"):
        assert (run / again).read_bytes()[:1] == b"{"


def test_a_damaged_log_is_one_line_and_stays_as_it_is(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    (run / "metrics.jsonl").write_text('{"epoch": 0\nnonsense\n')
    assert main(words(trained, f"run_dir={run}")) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "metrics.jsonl: line 1 is damaged" in said and "overwrite=true" in said
    assert (run / "metrics.jsonl").read_text() == '{"epoch": 0\nnonsense\n'


@pytest.mark.parametrize(
    "line",
    ["{}", '{"epoch": "a"}', '{"epoch": null}', '{"epoch": true}', '{"epoch": -1}', '{"epoch": 0, "probabilities": 3}',
     '{"epoch": 0, "probabilities": {"layers.0": 3}}', '{"epoch": 0, "probabilities": {"layers.0": {"h": "a"}}}',
     '{"epoch": 0, "val_loss": [1]}', '{"epoch": 0, "val_loss": 1e999}'],
)  # fmt: skip
def test_a_line_of_another_shape_in_the_log_is_named(
    line: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    (run / "metrics.jsonl").write_text(f'{{"epoch": 0, "val_loss": NaN}}\n{line}\n')
    assert main(words(trained, f"run_dir={run}")) == 2
    assert "metrics.jsonl: line 2 is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoint.pt", "tb", "model.safetensors"])
def test_a_folder_in_the_place_of_a_file_of_a_run_is_one_line(
    name: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    shutil.rmtree(run / name) if name == "tb" else (run / name).unlink()
    (run / name).touch() if name == "tb" else (run / name).mkdir()
    for more in ([], ["overwrite=true"]):
        assert main(words(trained, f"run_dir={run}", *more)) == 2
        assert str(run / name) in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("lost", [True, False])
def test_best_weights_that_are_lost_or_damaged_are_told_of_and_all_else_goes_on(
    lost: bool, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    best, kept = run / "best.safetensors", ("metrics.json", "metrics.jsonl", "model.safetensors")
    best.unlink() if lost else best.write_bytes(best.read_bytes()[:-1] + b"x")
    assert main(words(trained, f"run_dir={run}")) == 0
    (said,) = [record.getMessage() for record in caplog.records if record.name == "lmsearch.engine.best"]
    assert said.startswith(str(best)) and said.endswith("the best so far, are lost, and the run goes on without them")
    assert not best.exists() and "weights of epoch" not in capsys.readouterr().out
    for name in kept:
        assert (run / name).read_bytes() == (trained / "run" / name).read_bytes()


def test_another_run_is_named_by_what_differs_and_what_to_type(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    assert main(words(trained, f"run_dir={run}", "epochs=3", "optim.lr=0.5")) == 2
    said = capsys.readouterr().err.strip()
    assert "epochs=1 there, 3 here" in said and "optim.lr=" in said and "0.5 here" in said
    assert f"init_from={run}" in said and "run_dir=" in said and "overwrite=true" in said
    assert main(words(trained, f"run_dir={tmp_path / 'more'}", "epochs=3", f"init_from={run}")) == 0
    (trained / "mine.json").write_text('[["v"]]')
    try:
        assert main(words(trained, f"run_dir={run}")) == 2
        assert "its files hold something else now" in capsys.readouterr().err
    finally:
        (trained / "mine.json").write_text('[["h"]]')
    assert main(["compare", *MODEL, f"genotype={trained / 'mine.json'}", f"run_dir={run}"]) == 2
    assert "holds another run (of lmsearch retrain)" in capsys.readouterr().err


def test_a_run_that_starts_over_from_its_own_weights_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    assert main(words(trained, f"run_dir={run}", f"init_from={run}", "overwrite=true")) == 2
    assert "would be cleared" in capsys.readouterr().err and (run / "model.safetensors").exists()


@pytest.mark.parametrize("most", [600, 8_000, 40_000])  # at config.yaml, at the events, at checkpoint.pt
def test_a_run_on_a_full_disk_ends_in_one_line_and_goes_on_with_more_room(
    most: int, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words(trained, f"run_dir={tmp_path / 'run'}")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))  # every write beyond it fails, as on a full disk
    try:
        code = main(command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and "cannot be written (File too large)" in said[-1] and "Traceback" not in "".join(said)
    assert not list((tmp_path / "run").glob(".*.tmp"))
    assert main(command) == 0
    name = "model.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (trained / "run" / name).read_bytes()


def test_weights_beside_the_description_of_another_net_are_refused(trained: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "best.safetensors", "model.json"):
        shutil.copy(trained / "run" / name, tmp_path / name)
    described = json.loads((tmp_path / "model.json").read_text())
    described["directions"] = [["v"]]  # the same shapes, for another direction
    del described["sha256"]
    (tmp_path / "model.json").write_text(json.dumps(described))
    for name in ("model.safetensors", "best.safetensors"):
        with pytest.raises(CheckpointError, match=r"another net than .*model.json"):
            read_model(tmp_path / name)
    shutil.copy(trained / "run" / "model.json", tmp_path / "model.json")
    assert read_model(tmp_path / "best.safetensors")[0].directions == (("h",),)


def test_an_evaluation_keeps_the_results_of_other_tasks(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained / "run"
    before = (run / "metrics.json").read_bytes()
    assert main(["evaluate", f"checkpoint={run}", f"run_dir={run}"]) == 2
    assert "holds a run of lmsearch retrain" in capsys.readouterr().err
    assert (run / "metrics.json").read_bytes() == before
    for name in ("config.yaml", "metrics.json"):
        (tmp_path / name).write_text("my: config")
        assert main(["evaluate", f"checkpoint={run}", f"run_dir={tmp_path}"]) == 2
        assert f"{name} would be lost" in capsys.readouterr().err and (tmp_path / name).read_text() == "my: config"
        (tmp_path / name).unlink()
    assert main(["evaluate", f"checkpoint={run}", f"run_dir={tmp_path}"]) == 0
    (tmp_path / "run_id.txt").unlink()  # versions of before left none
    assert main(["evaluate", f"checkpoint={run}", f"run_dir={tmp_path}"]) == 0
    assert (tmp_path / "run_id.txt").read_text().startswith("evaluate ")
    assert "is replaced; run_dir= keeps both" in caplog.text + capsys.readouterr().err
    assert f"checkpoint: {run}" in (tmp_path / "config.yaml").read_text()
