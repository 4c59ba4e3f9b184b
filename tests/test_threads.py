"""What a process computes with: threads as asked for inside a task, recorded, and no part of what a run is; bf16."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from lmsearch.cli import main
from lmsearch.config import compose, compose_settings, plain_config
from lmsearch.context import SHARING, setting
from lmsearch.engine.devices import lacks_bf16
from lmsearch.engine.threads import cores, using_threads
from lmsearch.errors import ConfigError
from lmsearch.run_identity import run_digest
from lmsearch.settings.tasks import Evaluate, Retrain, Search
from lmsearch.tasks.parts import build, readers
from lmsearch.tasks.parts.readers import settle_readers

NET = ["data=digits", "model.depth=1", "model.embed_dim=8", "model.patch_size=4"]
TINY = [*NET, "batch_size=512", "epochs=1", "optim.warmup_epochs=0"]
MORE = cores() + 1


@pytest.mark.skipif(cores() < 2, reason="one core")
@pytest.mark.parametrize(
    ("features", "lacks"),
    [
        ("flags\t: fpu avx2 avx512f", True),
        ("flags\t: fpu avx512f avx512_bf16", False),
        ("Features\t: fp asimd bf16", False),
        ("cpu family: 6", False),
    ],
)
def test_a_cpu_says_whether_it_computes_in_bf16(tmp_path: Path, features: str, lacks: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{features}\n")
    assert lacks_bf16(tmp_path / "cpuinfo") is lacks
    assert not lacks_bf16(tmp_path / "missing"), "where nothing can be read nothing is said"


def test_fp32_is_no_tf32_within_a_task_unless_matrices_are_multiplied_so(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("lmsearch.tasks.doctor.run", lambda _: seen.append(torch.backends.cudnn.allow_tf32))
    assert not torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32, "PyTorch's defaults are others now"
    assert main(["doctor"]) == 0
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        assert main(["doctor"]) == 0
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    assert seen == [False, True] and torch.backends.cudnn.allow_tf32


def test_bf16_that_is_imitated_is_told_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    settings = compose_settings(Search, ["precision=bf16", "device=cpu"])
    for lacks in (True, False):
        caplog.clear()
        monkeypatch.setattr(build, "lacks_bf16", lambda lacks=lacks: lacks)
        assert build.build_precision(settings).name == "bf16"
        assert ("precision=bf16: this CPU has no arithmetic for it" in caplog.text) is lacks


def test_threads_are_used_inside_a_task_and_recorded(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    wanted = 2 if before == 1 else 1
    genotype = tmp_path / "h.json"
    genotype.write_text(json.dumps({"schema": "lmsearch.genotype", "version": 1, "layers": [{"directions": ["h"]}]}))
    assert main(["retrain", *TINY, f"genotype={genotype}", f"threads={wanted}", f"run_dir={tmp_path / 'run'}"]) == 0
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["threads"] == wanted
    assert torch.get_num_threads() == before


def test_without_a_number_threads_are_left_alone() -> None:
    before = torch.get_num_threads()
    with using_threads(None):
        assert torch.get_num_threads() == before


def test_threads_are_a_whole_number_from_python_too() -> None:
    with using_threads(np.int64(1)):
        assert torch.get_num_threads() == 1
    for wrong in ("1", True, 1.0):
        with pytest.raises(ConfigError, match=rf"^threads={wrong!r} is not accepted; this process may use 1 to {cores()}$"):
            with using_threads(wrong):
                pass


@pytest.mark.parametrize(
    ("given", "told"),
    [("0", "accepted: 1 to any"), ("-2", "1 to any"), ("1.5", "is not an integer"), (str(MORE), f"may use 1 to {cores()}")],
)
def test_other_numbers_of_threads_are_one_clear_line(given: str, told: str, capsys: pytest.CaptureFixture) -> None:
    for task in (["predict", "checkpoint=none", "images=none"], ["retrain", "genotype=cross"], ["search"], ["audit"]):
        assert main([*task, f"threads={given}"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("lmsearch: error: threads=") and told in said and said.count("\n") == 1


@pytest.mark.parametrize("task", [["retrain", "genotype=x"], ["search"], ["compare", "genotype=x"], ["audit"]])
def test_a_run_goes_on_with_other_threads(task: list[str]) -> None:
    assert run_digest(plain_config(compose(task[0], task[1:]))) == run_digest(
        plain_config(compose(task[0], [*task[1:], "threads=1"]))
    )


@pytest.mark.parametrize(
    ("device", "in_memory", "at_once", "loaders", "ranks", "sweeping", "expected"),
    [
        ("cuda", False, 1, 1, 1, 1, 8),
        ("cuda", False, 3, 1, 1, 1, 6),
        ("cuda", False, 2, 1, 2, 1, 5),
        ("cuda", False, 1, 2, 1, 2, 5),
        ("cuda", False, 1, 1, 1, 10, 2),
        ("cuda", False, 1, 1, 64, 1, 1),
        ("cuda", True, 1, 1, 1, 1, 0),
        ("cpu", False, 1, 1, 1, 1, 0),
    ],
)
def test_a_gpu_has_images_read_by_the_cores_that_its_training_has_for_itself(
    device: str,
    in_memory: bool,
    at_once: int,
    loaders: int,
    ranks: int,
    sweeping: int,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(readers, "processes_here", lambda: ranks)
    with setting(SHARING, sweeping):
        settled = settled_with(
            10**12, monkeypatch, device=device, in_memory=in_memory, at_once=at_once, loaders=loaders, caplog=caplog
        )
    assert settled.readers == settled.num_workers == settled.content["num_workers"] == expected
    assert len(caplog.messages) == (device == "cuda" and not in_memory)
    assert all(
        f"beside a training{', as many for weights as for alphas' * (loaders - 1)}: {expected};" in line
        for line in caplog.messages
    )


@pytest.mark.parametrize(
    ("batches", "loaders", "sweeping", "expected"),
    [(0, 1, 1, 0), (8, 1, 1, 1), (39, 1, 1, 4), (39, 2, 1, 2), (39, 2, 2, 1), (10**6, 1, 1, 8)],
)
def test_where_shared_memory_is_small_fewer_processes_read(
    batches: int, loaders: int, sweeping: int, expected: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with setting(SHARING, sweeping):
        settled = settled_with(batches * 32 * 3 * 16 * 16 * 4, monkeypatch, loaders=loaders, caplog=caplog)
    assert settled.num_workers == expected
    monkeypatch.setattr(readers, "PIECE", 16)  # they hold pieces of large batches
    with setting(SHARING, sweeping):
        settled = settled_with(batches * 16 * 3 * 16 * 16 * 4, monkeypatch, loaders=loaders, caplog=caplog)
    assert settled.num_workers == expected
    wanted = min(8, 20 // (loaders * sweeping))
    assert (f"with room in / they would be {wanted}" in caplog.text) is (expected < wanted)


@pytest.mark.parametrize("task", ["search", "audit"])
@pytest.mark.parametrize(("search", "expected"), [("fair", 1), ("darts", 1), ("bilevel", 2)])
def test_alphas_that_learn_on_held_out_samples_have_a_loader_of_their_own(
    task: str, search: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def settle(settings: object, source: object, device: object, *, loaders: int, **_: object) -> None:
        seen.append(loaders)
        raise ConfigError("enough")

    monkeypatch.setattr(f"lmsearch.tasks.{task}.settle_readers", settle)
    assert main([task, *TINY, f"search={search}"]) == 2
    assert seen == [expected]


def settled_with(
    free: int,
    monkeypatch: pytest.MonkeyPatch,
    *,
    device: str = "cuda",
    in_memory: bool = False,
    at_once: int = 1,
    loaders: int = 1,
    caplog: pytest.LogCaptureFixture,
) -> Retrain:
    """Return settings with processes chosen on a machine of 20 cores with so many bytes of shared memory."""
    monkeypatch.setattr(readers, "cores", lambda: 20)
    monkeypatch.setattr(readers, "SHARED", Path("/"))
    monkeypatch.setattr(readers.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    part, info = SimpleNamespace(in_memory=in_memory), SimpleNamespace(in_chans=3, img_size=(16, 16))
    settings = compose_settings(Retrain, ["genotype=x", "batch_size=32"])
    with caplog.at_level("INFO"):
        source = cast(Any, SimpleNamespace(train=part, val=part, test=part, info=info))
        return settle_readers(settings, source, torch.device(device), at_once=at_once, loaders=loaders)


@pytest.mark.parametrize("given", [0, 3])
def test_given_processes_that_read_images_stay_and_are_no_part_of_a_run(given: int, caplog: pytest.LogCaptureFixture) -> None:
    source = cast(Any, SimpleNamespace(train=SimpleNamespace(in_memory=False)))
    asked = compose_settings(Evaluate, ["checkpoint=x", f"num_workers={given}"])
    with caplog.at_level("INFO"):
        assert settle_readers(asked, source, torch.device("cuda")) is asked and not caplog.messages
    assert asked.readers == given and compose_settings(Evaluate, ["checkpoint=x"]).readers == 0
    left, set_ = (run_digest(compose_settings(Search, words).content) for words in ([], [f"num_workers={given}"]))
    assert left == set_
