"""A device without enough memory: one line that says what was needed and which keys to set."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from lmsearch.cli import main
from lmsearch.engine.loop import observing_steps
from lmsearch.engine.memory import OutOfMemory, is_want_of_memory, telling_want_of_memory

TOO_MUCH = 2**50  # bytes


def test_a_training_that_gets_no_memory_is_one_line_with_the_keys_to_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cross.json").write_text('[["h", "v"]]')
    words = ["retrain", f"genotype={tmp_path / 'cross.json'}", "model.depth=1", "model.embed_dim=8", "model.patch_size=4"]
    with observing_steps(lambda *_: torch.empty(TOO_MUCH, dtype=torch.uint8)):
        assert main([*words, "batch_size=256", "micro_batch=64", "baseline_limit=0", f"run_dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(
        r"lmsearch: error: out of memory: 1.05e\+06 GiB more were asked for, [\d.]+ GiB held by this process at most; a step of"
        r" 256 images, 64 at a time, of 2x2 tokens needs about [\d.e-]+ GiB; lower batch_size \(now 256\), set or lower"
        r" micro_batch \(now 64\), set to true model.grad_checkpointing",
        said,
    )
    assert "can't allocate memory" in (tmp_path / "run" / "error.txt").read_text()


@pytest.mark.parametrize("allocate", [lambda: torch.empty(TOO_MUCH, dtype=torch.uint8), lambda: np.empty(TOO_MUCH, np.uint8)])
def test_what_cpu_allocators_say_is_known(allocate: object) -> None:
    with pytest.raises(OutOfMemory, match=r"^out of memory: 1.*iB more were asked for, .* GiB held .*; less$"):
        with telling_want_of_memory("less"):
            allocate()


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity"), "20.00 MiB more"),
        (RuntimeError("CUDA error: out of memory"), "no more could be had"),
        (MemoryError(), "no more could be had"),
    ],
)
def test_what_a_gpu_and_python_say_is_known(error: Exception, asked: str) -> None:
    with pytest.raises(OutOfMemory, match=asked):
        with telling_want_of_memory("less"):
            raise error


def test_other_errors_stay_what_they_are() -> None:
    assert not is_want_of_memory(RuntimeError("shapes do not fit")) and not is_want_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError, match="^shapes do not fit$"), telling_want_of_memory("less"):
        raise RuntimeError("shapes do not fit")
