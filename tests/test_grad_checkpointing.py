"""model.grad_checkpointing, model.compile: keys of how training computes, no part of the model and of what a run is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from lmsearch.cli import main
from lmsearch.config import compose_settings
from lmsearch.data import build_source, search_loaders
from lmsearch.engine.checkpoint import read_model
from lmsearch.engine.compiler import check_compiler, check_programs
from lmsearch.engine.recipe import build_trainer
from lmsearch.errors import ConfigError
from lmsearch.models import create_model
from lmsearch.run_identity import run_digest
from lmsearch.search.supernet.network import named_mixers, weight_parameters
from lmsearch.settings.tasks import TASKS, Search
from lmsearch.tasks.parts.build import build_precision, build_recipe, model_options

TINY = ["model.depth=1", "model.embed_dim=8", "model.patch_size=4", "batch_size=512", "epochs=1", "optim.warmup_epochs=0"]
ON = "model.grad_checkpointing=true"


@pytest.mark.parametrize("task", ["search", "retrain", "compare", "audit"])
def test_the_keys_are_off_and_make_no_other_run_and_no_other_model(task: str) -> None:
    words = ["genotype=g"] if task in ("retrain", "compare") else []
    plain, on = (compose_settings(TASKS[task], [*words, *more]) for more in ([], [ON, "model.compile=true"]))
    info = build_source("digits").info
    for key in ("grad_checkpointing", "compile"):
        assert not getattr(build_precision(plain), key) and getattr(build_precision(on), key)
    assert run_digest(plain.content) == run_digest(on.content)
    assert model_options(plain, info) == model_options(on, info)


@pytest.mark.parametrize("on", [False, True])
def test_the_key_reaches_every_mixer_that_is_trained(on: bool) -> None:
    settings, source = compose_settings(Search, [ON] if on else []), build_source("digits")
    supernet = create_model("local_vim_nano", merge="weighted", depth=2, embed_dim=8)
    loader = search_loaders(source, holdout=0.4, batch_size=64, seed=0).weights
    named = weight_parameters(supernet)
    build_trainer(build_recipe(settings), supernet, named, loader, source.info, build_precision(settings), seed=0)
    assert [mixer.grad_checkpointing for mixer in named_mixers(supernet).values()] == [on, on]


def test_an_empty_program_that_the_compiler_left_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    for name in ("ab/whole.so", "locks/one.lock", "cd/young.so", "ab/old.so"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\x7fELF" if name == "ab/whole.so" else b"")
        if name != "cd/young.so":
            os.utime(tmp_path / name, (0, 0))
    with pytest.raises(ConfigError, match=r"ab/old.so is empty \(one of 1\): .*delete the folder .*TORCHINDUCTOR_CACHE_DIR"):
        check_compiler(torch.device("cpu"))
    (tmp_path / "ab" / "old.so").unlink()
    check_programs(tmp_path)


def test_a_retraining_with_the_key_ends_in_the_same_weights(tmp_path: Path) -> None:
    (tmp_path / "g.json").write_text('[["h", "v"]]')
    ends = []
    for name, more in (("plain", []), ("again", [ON])):
        assert main(["retrain", f"genotype={tmp_path / 'g.json'}", *TINY, *more, f"run_dir={tmp_path / name}"]) == 0
        ends.append(read_model(tmp_path / name))
    (spec, weights), (other, others) = ends
    assert spec == other and all(torch.equal(value, others[key]) for key, value in weights.items())


def test_a_task_that_trains_nothing_takes_it_without_effect() -> None:
    assert main(["complexity", "model=local_vim_nano", ON, "detail=none"]) == 0
