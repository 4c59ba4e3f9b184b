"""The memory of a training step: said, near what is measured, and refused where the machine has less."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lmsearch.bench.memory import supported
from lmsearch.cli import main
from lmsearch.config import compose_settings
from lmsearch.context import CARDS, FREE, SHARING, setting
from lmsearch.engine.distributed import World
from lmsearch.engine.memory import free_bytes
from lmsearch.errors import ConfigError
from lmsearch.kernels import native
from lmsearch.models import create_model
from lmsearch.models.step_memory import step_bytes
from lmsearch.settings.tasks import Search
from lmsearch.tasks.parts import memory
from lmsearch.tasks.parts.build import build_precision
from lmsearch.tasks.parts.search_setup import search_setup
from lmsearch.tasks.parts.settle import settle

FACTOR = 1.4  # between the estimate and the measured peak, either way
EIGHT = ["h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w7", "w7_flip"]
MODELS = {
    "vim": ("local_vim_nano", {"img_size": 28, "patch_size": 2, "directions": EIGHT[:4]}, 64),
    "vim, supernet": ("local_vim_nano", {"img_size": 28, "patch_size": 2, "directions": EIGHT, "merge": "weighted"}, 32),
    "vim, photos": ("local_vim_nano", {"img_size": 112, "patch_size": 8, "directions": EIGHT[:4]}, 32),
    "vmamba": ("local_vmamba_nano", {"img_size": 56, "patch_size": 4}, 64),
}
STEP = """
import sys, torch
from lmsearch.bench.memory import _mark, _peak
from lmsearch.engine.optim import adamw
from lmsearch.models import create_model
torch.set_num_threads(1)
model = create_model({name!r}, **{options})
images = torch.randn({batch}, 1, {side}, {side})
create_model("local_vim_nano")(torch.randn(2, 1, 8, 8)).sum().backward()  # libraries are loaded
before = _mark("cpu")
optimizer = adamw(model.named_parameters(), lr=1e-3, weight_decay=0.0, betas=(0.9, 0.999))
model(images).sum().backward()
optimizer.step()
print(_peak("cpu") - before)
"""


def meta(name: str):
    """Return a model of MODELS without memory."""
    family, options, batch = MODELS[name]
    with torch.device("meta"):
        return create_model(family, **options), (options["img_size"],) * 2, batch


@pytest.mark.slow
@pytest.mark.skipif(not supported("cpu"), reason="needs Linux")
@pytest.mark.skipif(native.unavailable_reason(torch.device("cpu")) is not None, reason="needs the native kernels")
@pytest.mark.parametrize("name", MODELS)
def test_the_memory_of_a_step_is_near_its_measured_peak(name: str) -> None:
    model, size, batch = meta(name)
    family, options, _ = MODELS[name]
    code = STEP.format(name=family, options=options, batch=batch, side=size[0])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1 / FACTOR < step_bytes(model, size, batch) / int(done.stdout) < FACTOR


def test_branches_that_do_not_run_need_nothing_but_their_weights() -> None:
    model, size, batch = meta("vim, supernet")
    whole, half = (step_bytes(model, size, batch, running=[number] * 3) for number in (8, 4))
    assert 0.5 * whole < half < 0.7 * whole
    assert step_bytes(model, size, batch) == whole > step_bytes(model, size, batch, bytes_per_value=2) > whole / 2


def test_parts_of_a_batch_and_recomputed_layers_need_less() -> None:
    model, size, batch = meta("vim, supernet")
    whole, weights = step_bytes(model, size, batch), step_bytes(model, size, 0)
    assert step_bytes(model, size, batch // 4) - weights == pytest.approx((whole - weights) / 4, rel=1e-6)
    assert 0.5 * whole < step_bytes(model, size, batch, recomputed=True) < 0.8 * whole, "two of three layers are not kept"


@pytest.mark.parametrize("words", [["micro_batch=8"], ["model.grad_checkpointing=true"]])
def test_what_saves_memory_is_part_of_what_is_told(words: list[str], caplog: pytest.LogCaptureFixture) -> None:
    told = []
    for more in ([], words):
        settings = compose_settings(Search, more)
        settings, source = settle(settings, task="search")
        with caplog.at_level("INFO"):
            caplog.clear()
            setup = search_setup(settings, source)
            memory.check_memory(settings.batch_size, setup.spec, build_precision(settings))
        told.append(float(re.search(r"needs about ([0-9.e-]+) GiB", caplog.text)[1]))
    assert told[1] < 0.9 * told[0]


def test_processes_need_memory_for_their_own_share_and_workers_for_all_of_theirs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = compose_settings(Search, [])
    settings, source = settle(settings, task="search")
    setup, precision = search_setup(settings, source), build_precision(settings)
    world = World(rank=1, size=4, exchange=lambda tensor: [tensor] * 4)

    def told(batch_size: int, **options: Any) -> str:
        with caplog.at_level("INFO"):
            caplog.clear()
            memory.check_memory(batch_size, setup.spec, options.pop("precision", precision), **options)
        return caplog.text.partition("memory: ")[2].partition(" of ")[2]

    need = re.compile(r"needs about ([0-9.e-]+) GiB")
    one, share = told(16), told(64, world=world)
    assert share.startswith("64 images, 16 in each process, of 8x8 tokens") and need.search(share)[1] == need.search(one)[1]
    small = told(64, world=world, precision=replace(precision, micro_batch=8))
    part, held = float(need.search(told(8))[1]), 3 * 16 * 8 * 8 * 4 / memory.GIB
    assert small.startswith("64 images, 16 in each process, 8 at a time, of")
    assert float(need.search(small)[1]) == pytest.approx(part + held, rel=0.06)  # two digits
    monkeypatch.setattr(memory, "free_bytes", lambda device: int(1.5 * float(need.search(one)[1]) * memory.GIB))
    told(64, world=world)  # they are on machines of their own, or each has a GPU of its own
    for options in ({"workers": 2}, {"world": world}):
        for name, value in {"WORLD_SIZE": "4", "RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items() if "world" in options else ():
            monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError, match="GiB, 2 processes here [0-9.]+ GiB, [0-9.]+ GiB are free on cpu"):
            told(64 if "world" in options else 16, **options)
    monkeypatch.undo()
    monkeypatch.setattr(memory, "room_on", lambda device: 1)
    with setting(SHARING, 3), pytest.raises(ConfigError, match="GiB are free on cpu for each of the 3 workers of the sweep; low"):
        told(16)


@pytest.mark.parametrize(
    ("device", "sharing", "free", "before", "expected"),
    [
        ("cpu", 1, 60, 40, 60),
        ("cpu", 4, 60, 80, 20),
        ("cpu", 4, 10, 80, 10),
        ("cpu", 4, 60, None, 60),
        ("cpu", 4, None, 80, None),
        ("cuda", 4, 60, 999, 25),
        ("cuda", 1, 60, 999, 60),
    ],
)
def test_trials_side_by_side_have_their_share_of_what_was_free_before_them(
    device: str, sharing: int, free: int | None, before: int | None, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 100))
    with setting(SHARING, sharing), setting(FREE, before):
        assert memory.room_on(torch.device(device)) == expected


def test_trials_that_are_spread_over_gpus_share_each_with_the_others_there() -> None:
    with setting(SHARING, 5), setting(CARDS, 3):
        assert [memory.sharers(torch.device(device)) for device in ("cuda", "cpu")] == [2, 5]


def test_free_memory_is_what_the_system_and_the_container_leave(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       4000 kB\nMemFree:        100 kB\nMemAvailable:   3000 kB\n")
    cpu = torch.device("cpu")
    assert free_bytes(cpu, meminfo=meminfo, group=tmp_path) == 3000 * 1024
    (tmp_path / "memory.current").write_text("1000\n")
    for limit, free in (("max", 3000 * 1024), ("5000", 4000)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert free_bytes(cpu, meminfo=meminfo, group=tmp_path) == free
    (tmp_path / "memory.stat").write_text("anon 100\ninactive_file 700\nactive_file 5\n")
    assert free_bytes(cpu, meminfo=meminfo, group=tmp_path) == 4700, "files that were read are no memory in use"
    assert free_bytes(cpu, meminfo=tmp_path / "none") is None and free_bytes(torch.device("meta")) is None


@pytest.mark.parametrize("task", ["search", "retrain"])
def test_a_step_that_does_not_fit_is_refused_before_anything_is_written(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10**6)
    words = [] if task == "search" else [f"genotype={tmp_path / 'g.json'}"]
    (tmp_path / "g.json").write_text('[["h"], ["h"], ["h"]]')
    assert main([task, *words, f"run_dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert "a step of 64 images of 8x8 tokens needs about" in said and "model.patch_size (now 1)" in said
    assert not (tmp_path / "run").exists()
