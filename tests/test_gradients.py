"""Curvature in the alphas and agreement of gradients, against second derivatives of the reference kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lmsearch.data import Batch
from lmsearch.engine.objectives import objective_for
from lmsearch.engine.train import Precision
from lmsearch.models import create_model
from lmsearch.search.architects.gradients import alpha_gradient, batch_losses, branch_cosines, lanczos, largest_eigenvalue
from lmsearch.search.supernet.network import Branches, arch_parameters, running


def supernet() -> nn.Module:
    torch.manual_seed(3)
    model = create_model(
        "local_vim", img_size=4, patch_size=1, in_chans=1, num_classes=1, embed_dim=8, depth=2, d_state=4,
        use_rope=False, rope_residual=False, global_pool="", directions=["h", "v", "w2"], merge="weighted",
        attention="none", drop_path_rate=0.0, backend="reference",
    )  # fmt: skip
    return model.double().eval()


def squared_error(model: nn.Module, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    images, targets = torch.randn(3, 1, 4, 4, generator=g).double(), torch.randn(3, 16, 1, generator=g).double()
    return (model(images) - targets).square().mean()


def test_lanczos_finds_the_largest_eigenvalue_not_the_largest_in_size() -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    matrix = basis @ np.diag([-9.0, -1.0, 0.0, 1.0, 2.0, 3.0]) @ basis.T
    assert lanczos(lambda v: matrix @ v, 6, steps=6, seed=1) == pytest.approx(3.0)


def test_lanczos_stops_when_the_space_is_exhausted() -> None:
    assert lanczos(lambda v: 2.0 * v, 4, steps=4, seed=0) == pytest.approx(2.0)


def test_the_largest_eigenvalue_is_that_of_the_exact_hessian() -> None:
    model = supernet()
    alphas = arch_parameters(model)
    first = torch.autograd.grad(squared_error(model, 1), alphas, create_graph=True)
    rows = [
        torch.cat([torch.zeros_like(a) if g is None else g for g, a in zip(row, alphas, strict=True)])
        for entry in torch.cat(first)
        for row in [torch.autograd.grad(entry, alphas, retain_graph=True, allow_unused=True)]
    ]
    expected = torch.linalg.eigvalsh(torch.stack(rows)).max().item()
    found = largest_eigenvalue(model, lambda: [squared_error(model, 1)], seed=0, steps=6, radius=1e-3)
    assert found == pytest.approx(expected, rel=1e-3)


def test_measuring_leaves_alphas_and_gradients_as_they_were() -> None:
    model = supernet()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    largest_eigenvalue(model, lambda: [squared_error(model, 1)], seed=0)
    branch_cosines(model, lambda: [squared_error(model, 1)], lambda: [squared_error(model, 2)])
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in model.named_parameters())


def test_alphas_that_the_loss_does_not_reach_have_zero_gradient() -> None:
    model = supernet()
    assert not alpha_gradient(model, lambda: [model.head.weight.square().sum()]).any()


def test_equal_losses_have_cosine_one_and_opposite_ones_minus_one() -> None:
    model = supernet()
    for sign in (1.0, -1.0):
        cosines = branch_cosines(model, lambda: [squared_error(model, 1)], lambda s=sign: [s * squared_error(model, 1)])
        assert set(cosines) == {"layers.0", "layers.1"}
        assert all(value == pytest.approx(sign) for layer in cosines.values() for value in layer.values())


def test_a_branch_that_did_not_run_has_no_cosine() -> None:
    model = supernet()
    with running(model, {"layers.0": Branches((0, 2))}):
        cosines = branch_cosines(model, lambda: [squared_error(model, 1)], lambda: [squared_error(model, 2)])
    assert set(cosines["layers.0"]) == {"h", "w2"}


@pytest.mark.parametrize("micro", [1, 2])
def test_curvature_and_cosines_are_measured_in_the_parts_of_a_batch(micro: int) -> None:
    model, sizes = supernet(), []
    draw = torch.Generator().manual_seed(4)
    batches = [
        Batch(torch.randn(3, 1, 4, 4, generator=draw).double(), torch.randn(3, 16, 1, generator=draw).double(), torch.arange(3))
        for _ in range(2)
    ]
    model.register_forward_hook(lambda module, inputs, outputs: sizes.append(len(outputs)))

    def measured(micro: int | None) -> tuple[float, dict]:
        precision = Precision(torch.device("cpu"), micro_batch=micro)
        train, holdout = (lambda b=b: batch_losses(model, b, objective_for("dense"), precision) for b in batches)
        return largest_eigenvalue(model, train, seed=0), branch_cosines(model, train, holdout)

    (whole, cosines), (parts, others) = measured(None), measured(micro)
    assert set(sizes) == {3, *([1] if micro == 1 else [2, 1])}
    assert parts == pytest.approx(whole, rel=1e-3)  # losses are float32, and curvature a difference of their gradients
    assert {layer: pytest.approx(mine, rel=1e-5) for layer, mine in cosines.items()} == others
