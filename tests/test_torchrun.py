"""torchrun: several processes train as one does, write once, and go on as fewer or more."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from test_distributed import Meeting

from lmsearch.cli import main
from lmsearch.config import compose, compose_settings
from lmsearch.data import build_source, fetching
from lmsearch.engine.checkpoint import load_checkpoint
from lmsearch.engine.distributed import World
from lmsearch.engine.processes import joined, own_gpu, parting, speaking, started_by_torchrun
from lmsearch.engine.side_by_side import Workers
from lmsearch.errors import ConfigError
from lmsearch.settings.tasks import Search
from lmsearch.tasks.parts.run_dir import claim_run_dir
from lmsearch.tasks.parts.shared_batch import share_batch

MODEL = ["model.depth=2", "model.embed_dim=8", "model.d_state=2"]
SEARCH = ["search", "data=planted", "data.grid=5", "data.num_train=192", *MODEL, "batch_size=32", "epochs=2"]
RETRAIN = ["retrain", *MODEL, "model.patch_size=4", "batch_size=256", "epochs=2", "optim.warmup_epochs=1", "baseline_limit=0"]
CROSS = '[["h", "v"], ["h", "w2"]]'


def torchrun(words: list[str], *, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Run lmsearch in several processes."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m", "lmsearch"]
    return subprocess.run([*start, *words], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


@pytest.fixture
def as_one_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be one that torchrun started, as far as its environment tells."""
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)


def test_a_process_is_one_of_several_where_torchrun_says_so() -> None:
    assert started_by_torchrun({"WORLD_SIZE": "2", "RANK": "0"})
    assert not started_by_torchrun({"WORLD_SIZE": "1", "RANK": "0"}) and not started_by_torchrun({})


@pytest.mark.parametrize(
    ("task", "words", "batch"),
    [
        ("search", [], 63),
        ("search", ["data=coco", "data.root=d"], 15),
        ("search", ["batch_size=64"], 64),
        ("search", ["data=imagefolder", "data.root=d"], None),
        ("evaluate", ["checkpoint=none"], None),
    ],
)
def test_the_batch_of_a_preset_is_one_that_processes_can_share(
    task: str, words: list[str], batch: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"WORLD_SIZE": "3", "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    cfg = compose(task, words)
    lines = share_batch(cfg, words)
    assert cfg.batch_size == batch and (not lines if batch in (64, None) else "which 3 processes can share (alone" in lines[0])


@pytest.mark.usefixtures("as_one_of_two")
@pytest.mark.parametrize(
    "words",
    [
        ["audit"],
        ["bench", "quick=true"],
        ["search", "search=random", "search.trials=2"],
        ["search", "workers=2", "seeds=2", *SEARCH[1:]],
    ],
)
def test_what_runs_in_one_process_refuses_several(words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code = None
    if "workers=2" in words:  # found once the processes have met, so here without them
        with pytest.raises(ConfigError, match="workers=2 runs in one process, and torchrun started 2"):
            Workers.asked_for(2, 1, "cpu")
        return
    code = main([*words, f"run_dir={tmp_path / 'run'}"])
    assert code == 2 and "runs in one process, and torchrun started 2" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_port_that_is_in_use_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError, match=f"MASTER_PORT={port} is in use on this machine"), joined(torch.device("cpu")):
            pass


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "but not MASTER_ADDR and MASTER_PORT; start it with torchrun"),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "here"}, "but not MASTER_PORT; start it with torchrun"),
        ({"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "1"}, "RANK=2 is none of WORLD_SIZE=2"),
        ({"RANK": "0", "WORLD_SIZE": "two"}, "WORLD_SIZE='two' is no whole number"),
    ],
)
def test_processes_that_cannot_meet_are_one_line(environment: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=says), joined(torch.device("cpu")):
        pass


def test_a_process_takes_the_gpu_of_its_number_and_guesses_none() -> None:
    assert (own_gpu({"LOCAL_RANK": "3"}, 8), own_gpu({}, 1)) == (3, 0)
    with pytest.raises(ConfigError, match="LOCAL_RANK is not set, which says which of 8 GPUs"):
        own_gpu({}, 8)
    with pytest.raises(ConfigError, match="process 8 of this machine has no GPU of its own: there are 8"):
        own_gpu({"LOCAL_RANK": "8"}, 8)


@pytest.mark.parametrize(
    ("backend", "fails", "told"), [("nccl", True, 0), ("nccl", False, 1), ("gloo", True, 1), ("gloo", False, 1)]
)
def test_a_process_that_fails_waits_for_no_goodbye_of_others(
    backend: str, fails: bool, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parted: list[str] = []
    monkeypatch.setattr(dist, "destroy_process_group", lambda: parted.append(backend))
    try:
        with parting(backend):
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert len(parted) == told, "all NCCL processes part together or not at all"


def test_only_the_first_process_speaks_but_all_tell_of_files_that_they_could_not_read(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "lmsearch"):  # as the command line has it
        before = [logging.getLogger(name).level for name in ("", "lmsearch", fetching.__name__)]
        with speaking(1):
            print("from the second process")
            fetching.log.info("it reads")
            fetching.log.warning("a file is skipped")
            logging.getLogger("lmsearch.some").warning("all say this")
        assert [logging.getLogger(name).level for name in ("", "lmsearch", fetching.__name__)] == before
    assert caplog.messages == ["a file is skipped"] and not capsys.readouterr().out


def test_processes_with_other_configurations_are_one_line(tmp_path: Path) -> None:
    words = [*SEARCH[1:], f"run_dir={tmp_path / 'run'}"]
    settings = [compose_settings(Search, [*words, f"seed={seed}"]) for seed in (0, 1)]

    def claim(world: World) -> None:
        with claim_run_dir(settings[world.rank], "search", [], source=build_source("digits"), world=world):
            pytest.fail("they differ")

    told = {str(error) for error in Meeting(2).run(claim)}
    assert told == {f"the configuration of process {other} is not that of process {1 - other}" for other in (0, 1)}
    assert not (tmp_path / "run").exists()


def choices(folder: Path) -> list[list[str]]:
    """Return the kept directions of every layer."""
    return [layer["directions"] for layer in json.loads((folder / "genotype.json").read_text())["layers"]]


def close(one: Path, other: Path) -> bool:
    """Tell whether two runs have the same weights and alphas up to rounding."""
    mine, theirs = (load_checkpoint(folder)["model"] for folder in (one, other))
    return all(torch.allclose(value, theirs[name], rtol=1e-3, atol=1e-4) for name, value in mine.items())


def lines_of(run_dir: Path) -> list[dict[str, float]]:
    """Return what a run has logged, an epoch a line."""
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("search", ["fair", "darts"])
def test_two_processes_search_as_one_does(search: str, tmp_path: Path) -> None:
    words = [*SEARCH, f"search={search}", "search.recheck=0.5"]
    assert main([*words, f"run_dir={tmp_path / 'one'}"]) == 0
    done = torchrun([*words, f"run_dir={tmp_path / 'two'}"])
    assert done.returncode == 0, done.stderr
    assert choices(tmp_path / "one") == choices(tmp_path / "two") and close(tmp_path / "one", tmp_path / "two")
    assert done.stdout.count("search status:") == 1, "one process prints"
    lines = [lines_of(tmp_path / run) for run in ("one", "two")]
    assert len(lines[0]) == len(lines[1])
    for mine, theirs in zip(*lines, strict=True):
        assert theirs["train_loss"] == pytest.approx(mine["train_loss"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("search", ["fair", "darts"])
def test_over_fifty_steps_two_processes_lose_what_one_does(
    search: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search", "data=planted", "data.grid=4", "data.steps_per_epoch=1", *MODEL, "batch_size=32", "epochs=50"]
    words += [f"search={search}", "search.health_every=0"]
    assert main([*words, f"run_dir={tmp_path / 'one'}"]) == 0
    assert torchrun([*words, f"run_dir={tmp_path / 'two'}"]).returncode == 0
    assert choices(tmp_path / "one") == choices(tmp_path / "two")
    curves = [[line["train_loss"] for line in lines_of(tmp_path / run)] for run in ("one", "two")]
    worst = max(abs(its / mine - 1) for mine, its in zip(*curves, strict=True))
    with capsys.disabled():
        print(f" {search}: losses of {len(curves[0])} steps differ by {worst:.1e} of them at most")
    assert len(curves[0]) == 50 and worst < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("task", ["search", "retrain"])
@pytest.mark.parametrize("key", ["model.grad_checkpointing=true", "model.compile=true"])
def test_two_processes_train_alike_where_layers_are_computed_again_or_compiled(task: str, key: str, tmp_path: Path) -> None:
    (tmp_path / "cross.json").write_text(CROSS)
    (tmp_path / "space.yaml").write_text("name: three\ncandidates: [h, v, w2]\nkeep: 1\n")
    few = [f"search_space={tmp_path / 'space.yaml'}", "search.recheck=0"]  # a program is made for every choice of branches
    words = {"search": [*SEARCH, *few], "retrain": [*RETRAIN, f"genotype={tmp_path / 'cross.json'}"]}[task]
    for run, more in (("plain", []), ("other", [key])):
        done = torchrun([*words, *more, f"run_dir={tmp_path / run}"])
        assert done.returncode == 0, done.stderr
        assert "recompile_limit" not in done.stderr
    plain, other = (load_checkpoint(tmp_path / run)["model"] for run in ("plain", "other"))
    if "checkpointing" in key:
        assert all(torch.equal(value, other[name]) for name, value in plain.items())
    assert close(tmp_path / "plain", tmp_path / "other")
    for mine, its in zip(lines_of(tmp_path / "plain"), lines_of(tmp_path / "other"), strict=True):
        assert its["train_loss"] == pytest.approx(mine["train_loss"], rel=1e-4)


@pytest.mark.slow
def test_two_processes_retrain_and_evaluate_every_sample_once(tmp_path: Path) -> None:
    (tmp_path / "cross.json").write_text(CROSS)
    words = [*RETRAIN, f"genotype={tmp_path / 'cross.json'}"]
    assert torchrun([*words, f"run_dir={tmp_path / 'two'}"]).returncode == 0
    assert main([*words, f"run_dir={tmp_path / 'one'}"]) == 0
    assert close(tmp_path / "one", tmp_path / "two")
    for run, start in (("by one", main), ("by three", lambda words: torchrun(words, processes=3).returncode)):
        assert start(["evaluate", f"checkpoint={tmp_path / 'two'}", f"run_dir={tmp_path / run}"]) == 0
    mine, theirs = (json.loads((tmp_path / run / "metrics.json").read_text()) for run in ("by one", "by three"))
    assert mine == theirs, "neither 359 test samples nor 256 of a batch divide by three"


@pytest.mark.slow
@pytest.mark.parametrize(("head", "format"), [("deformable_detr", "yolo"), ("mask2former", "coco"), ("plain", "masks")])
def test_two_processes_measure_objects_and_pixels_as_one_does(head: str, format: str, tmp_path: Path) -> None:
    data = ["data=dense", f"data.root={tmp_path / 'data'}", f"head={head}"]
    assert main(["shapes", f"out={tmp_path / 'data'}", f"format={format}", "images=12", "img_size=[32,40]"]) == 0
    (tmp_path / "cross.json").write_text(CROSS)
    small = ["model.embed_dim=16", "batch_size=4", "data.img_size=32", "model.patch_size=8", "run_dir=" + str(tmp_path / "two")]
    done = torchrun([*RETRAIN, f"genotype={tmp_path / 'cross.json'}", *data, *small])
    assert done.returncode == 0, done.stderr
    assert main(["evaluate", f"checkpoint={tmp_path / 'two'}", f"run_dir={tmp_path / 'by one'}"]) == 0
    assert torchrun(["evaluate", f"checkpoint={tmp_path / 'two'}", f"run_dir={tmp_path / 'by two'}"]).returncode == 0
    mine, theirs, trained = (json.loads((tmp_path / run / "metrics.json").read_text()) for run in ("by one", "by two", "two"))
    assert mine == theirs and mine["num_test"] == 3, "3 test samples do not divide by two"
    assert {name: trained[name] for name in mine} == mine


@pytest.mark.slow
def test_a_run_goes_on_with_fewer_and_more_processes(tmp_path: Path) -> None:
    words = [*SEARCH, "search.recheck=0"]
    run = f"run_dir={tmp_path / 'run'}"
    assert main([*words, f"run_dir={tmp_path / 'whole'}"]) == 0
    from interruptions import signalled

    with signalled(15, after=2):
        assert main([*words, run]) == 75
    assert torchrun([*words, run, "resume=must"]).returncode == 0
    assert choices(tmp_path / "run") == choices(tmp_path / "whole") and close(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_a_batch_that_processes_cannot_share_is_one_line(tmp_path: Path) -> None:
    done = torchrun([*SEARCH, "batch_size=33", f"run_dir={tmp_path / 'run'}"])
    assert done.returncode != 0 and "batch_size=33 cannot be shared by 2 processes" in done.stderr
