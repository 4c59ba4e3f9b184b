"""How far it is from the training loop to the kernel: few floors, so that a traceback and a profile can be read."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import lmsearch
from lmsearch.data import build_source, search_loaders
from lmsearch.engine.loop import run_epochs
from lmsearch.engine.objectives import objective_for
from lmsearch.engine.train import Precision, Trainer
from lmsearch.kernels import native
from lmsearch.models import create_model
from lmsearch.search.architects.learning import SingleLevel, Timing
from lmsearch.search.supernet.network import arch_parameters, weight_parameters
from lmsearch.search.supernet.policy import BranchPolicy
from lmsearch.search.supernet.relax import RELAXATIONS

PACKAGE = Path(lmsearch.__file__).parent
# Functions of lmsearch between run_epochs and the native operator. The stages of LocalVMamba are modules of their own: one more.
MOST = {"local_vim_nano": 8, "local_vmamba_nano": 9}
CPU = torch.device("cpu")


def frames_of(call: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the functions of lmsearch that are open where the native scan is called first, outermost first."""
    found: list[list[str]] = []
    real = native.native_scan

    def look(*args: object) -> object:
        stack = [f for f in traceback.extract_stack() if Path(f.filename).is_relative_to(PACKAGE)]
        found.append([f"{Path(f.filename).stem}.{f.name}" for f in stack])
        return real(*args)

    monkeypatch.setattr(native, "native_scan", look)
    call()
    return found[0]


@pytest.mark.skipif(native.unavailable_reason(CPU) is not None, reason="needs the native kernels")
@pytest.mark.parametrize("name", MOST)
def test_from_the_loop_to_the_native_kernel_there_are_few_functions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source, precision = build_source("digits"), Precision(CPU)
    torch.manual_seed(0)
    supernet = create_model(name, directions=["h", "v"], merge="weighted", backend="native")
    loaders = search_loaders(source, holdout=0.4, batch_size=512, seed=0)
    policy = BranchPolicy(supernet, RELAXATIONS["softmax"], (1, 1, 1), (1, 1, 1), 0)
    architect = SingleLevel(
        policy, Timing(len(loaders.weights), 1), torch.optim.SGD(arch_parameters(supernet), lr=0.0), precision
    )
    optimizer = torch.optim.SGD([p for _, p in weight_parameters(supernet)], lr=0.0)
    trainer = Trainer(supernet, optimizer, objective_for("class"), lambda step: 0.0, precision, seed=0, hook=architect)

    def train() -> None:
        with policy.attached():
            run_epochs(trainer, loaders.weights, epochs=1)

    frames = frames_of(train, monkeypatch)
    between = frames[frames.index("loop.run_epochs") + 1 :]
    assert "mixer.forward" in between and between[-1] == "native.directional_scan"
    assert len(between) <= MOST[name], between
