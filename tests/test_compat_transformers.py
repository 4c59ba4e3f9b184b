"""Transformers takes a package called mamba_ssm where it finds one: its Mamba models on our kernels, on a CPU."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from types import ModuleType

import pytest
import torch

from lmsearch import compat
from lmsearch.compat import inner
from lmsearch.kernels import directional_scan, drop_in

pytest.importorskip("transformers", minversion="5.24")
# Where FalconMamba trains, mamba-ssm's function norms delta behind its projection and Transformers' own code before it.
MODELS = {"mamba": ("Mamba", True), "falcon_mamba": ("FalconMamba", False)}  # and whether training is compared


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """Return a function that imports the code of a model anew, with the stand-ins or without them."""

    def imported(name: str, *, ours: bool) -> ModuleType:
        path = f"transformers.models.{name}.modeling_{name}"
        monkeypatch.delitem(sys.modules, path, raising=False)
        with compat.installed(replace=True, quiet=True) if ours else nullcontext():
            return importlib.import_module(path)

    yield imported


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that the scans of our operator are noted in."""
    noted: list[str] = []

    def scan(*args, **kwargs):
        noted.append("scan")
        return directional_scan(*args, **kwargs)

    for module in (drop_in, inner):
        monkeypatch.setattr(module, "directional_scan", scan)
    return noted


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_transformers_trains_and_generates_the_same_on_our_kernels(name, imported, calls) -> None:
    title, trains = MODELS[name]
    config_of = getattr(importlib.import_module("transformers"), f"{title}Config")
    config = config_of(vocab_size=20, hidden_size=8, num_hidden_layers=2, state_size=4, pad_token_id=0, eos_token_id=None)
    tokens, found = torch.arange(14).view(2, 7), {}
    for ours in (False, True):
        module = imported(name, ours=ours)
        torch.manual_seed(0)
        model = getattr(module, f"{title}ForCausalLM")(config).train(trains)
        out = model(tokens, labels=tokens)
        out.loss.backward()
        written = model.eval().generate(tokens, max_new_tokens=4, do_sample=False, attention_mask=torch.ones_like(tokens))
        found[ours] = [out.logits.detach(), *(p.grad for p in model.parameters()), written]
    for plain, ours in zip(found[False], found[True], strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
    assert len(calls) == 2 * config.num_hidden_layers  # once per layer in each pass over the whole sequence
