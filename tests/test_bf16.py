"""precision=bf16: what is computed in bf16 under autocast, and what stays in float32. CPUs without bf16 imitate it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lmsearch.engine.train import Precision
from lmsearch.kernels import directional_scan, weighted_merge
from lmsearch.models import local_vim, merge, mixer
from lmsearch.models.local_vim import LocalVimMixer
from lmsearch.models.local_vmamba import LocalVMambaMixer
from lmsearch.models.merge import merge_weighted
from lmsearch.models.mixer import MixerOptions

BF16 = Precision(torch.device("cpu"), "bf16")
GRID, NAMES = (4, 4), ("h", "v_flip", "w2")
backends = pytest.mark.parametrize("backend", ["auto", "reference"])


def a_mixer(family: type[LocalVimMixer] | type[LocalVMambaMixer], backend: str) -> LocalVimMixer | LocalVMambaMixer:
    """Return a small supernet mixer."""
    torch.manual_seed(0)
    return family(16, NAMES, MixerOptions(merge="weighted", d_state=4, backend=backend))


@backends
def test_projections_convolution_and_merge_are_in_bf16_and_decay_rates_in_float32(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, dict[str, torch.dtype]] = {}

    def spy(name: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def run(*args: object, **kwargs: object) -> Tensor:
            y = function(*args, **kwargs)
            tensors = {str(key): t for key, t in [*enumerate(args), *kwargs.items(), ("out", y)] if isinstance(t, Tensor)}
            seen[name] = {key: t.dtype for key, t in tensors.items()}
            return y

        return run

    for home, name in ((local_vim, "directional_conv"), (mixer, "directional_scan"), (merge, "weighted_merge")):
        monkeypatch.setattr(home, name, spy(name, getattr(home, name)))
    layer, x = a_mixer(LocalVimMixer, backend), torch.randn(2, 16, 16)
    for part in (layer.in_proj, layer.out_proj):
        part.register_forward_hook(lambda module, given, y: seen.setdefault("projections", {}).update({str(module): y.dtype}))
    with BF16.autocast():
        y = layer(x, GRID)
    assert {*seen["projections"].values(), y.dtype} == {torch.bfloat16}
    conv, scan, merged = (seen[name] for name in ("directional_conv", "directional_scan", "weighted_merge"))
    assert conv["0"] == conv["out"] == merged["0"] == merged["out"] == torch.bfloat16
    assert {scan[name] for name in ("x", "delta", "B", "C", "z", "out")} == {torch.bfloat16} and scan["A"] == torch.float32


@backends
def test_weights_of_branches_and_their_gradients_are_not_rounded_to_bf16(backend: str) -> None:
    """Weights that are equal in bf16 differ in what they make of the branches: only the result is rounded."""
    o = torch.randn(2, 2, 3, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    weights = torch.tensor([0.5, 0.5 + 2**-10], requires_grad=True)
    with BF16.autocast():
        y = weighted_merge(o, None, weights, eps=1e-5, backend=backend)
    want = weighted_merge(o.float(), None, weights, eps=1e-5, backend=backend).bfloat16()
    assert y.dtype == torch.bfloat16 and torch.equal(y, want)
    mine, its = (torch.autograd.grad(out.float().square().sum(), weights)[0] for out in (y, want))
    assert torch.equal(mine, its)


@backends
def test_weights_without_norms_are_not_rounded_either(backend: str) -> None:
    o = torch.stack([torch.ones(1, 3, 4), -torch.ones(1, 3, 4)], 1).bfloat16()
    with BF16.autocast():
        y = merge_weighted(o, (None, None), torch.tensor([0.5, 0.5 + 2**-10]), branch_norm=False, backend=backend)
    assert torch.equal(y, torch.full((1, 3, 4), -(2**-10), dtype=torch.bfloat16))


@backends
def test_the_state_keeps_what_bf16_would_lose(backend: str) -> None:
    """Each token adds a thousandth; a sum in bf16 stops at one half, where a thousandth is less than half of its last digit."""
    length = 1024
    x, steps = torch.ones(1, length, 1), torch.full((1, 1, length, 1), 1e-3)
    ones, order = torch.ones(1, 1, length, 1), torch.arange(length, dtype=torch.int32)[None]
    values = {"x": x, "delta": steps, "B": ones, "C": ones, "D": torch.zeros(1, 1)}
    half = {name: t.bfloat16() for name, t in values.items()}
    A = torch.full((1, 1, 1), -1e-3)
    y = directional_scan(**half, A=A, order=order, backend=backend)
    whole = {name: t.double() for name, t in half.items()}
    want = directional_scan(**whole, A=A.double(), order=order, backend="reference")
    assert y.dtype == torch.bfloat16 and want[0, 0, -1, 0] > 0.95
    torch.testing.assert_close(y.double(), want, rtol=2**-8, atol=0)  # one rounding


@backends
@pytest.mark.parametrize("family", [LocalVimMixer, LocalVMambaMixer])
def test_a_mixer_in_bf16_is_near_the_exact_one_with_all_gradients(
    family: type[LocalVimMixer] | type[LocalVMambaMixer], backend: str
) -> None:
    layer, x, weighting = a_mixer(family, backend), torch.randn(2, 16, 16), torch.randn(2, 16, 16, dtype=torch.float64)
    exact = a_mixer(family, "reference").double()
    exact.options = replace(exact.options, backend="reference")

    def results(module: torch.nn.Module, given: Tensor) -> dict[str, Tensor]:
        given = given.requires_grad_()
        with BF16.autocast() if given.dtype == torch.float32 else torch.enable_grad():
            y = module(given, GRID)
        (y.double() * weighting).sum().backward()
        assert all(p.grad is not None and p.grad.dtype == p.dtype for p in module.parameters())
        return {"y": y, "x": given.grad} | {name: p.grad for name, p in module.named_parameters()}

    got, want = results(layer, x.clone()), results(exact, x.double())
    if family is LocalVMambaMixer:  # its branches are so alike at first that what tells them apart is below the digits of bf16
        del want["alphas"]
    for name, value in want.items():
        error = (got[name].double() - value).norm() / value.norm()
        assert error < 0.05, f"{name} is off by {error:.1%}"
