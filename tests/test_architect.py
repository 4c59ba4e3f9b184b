"""How alphas learn: single level, bilevel of first and second order, on a problem whose gradients are known."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from lmsearch.config import compose_settings
from lmsearch.data import Batch
from lmsearch.engine.objectives import objective_for
from lmsearch.engine.train import Precision
from lmsearch.errors import ConfigError
from lmsearch.models import create_model
from lmsearch.search.architects.alpha_update import alpha_optimizer
from lmsearch.search.architects.kinds import ARCHITECTS, Knobs, Parts, architect_kind
from lmsearch.search.architects.learning import Timing
from lmsearch.search.supernet.network import arch_parameters, weight_parameters
from lmsearch.search.supernet.policy import BranchPolicy, Schedule
from lmsearch.search.supernet.relax import RELAXATIONS
from lmsearch.settings.tasks import Search

MSE = replace(objective_for("dense"), losses=lambda y, t: (y - t).square().flatten(1).mean(1))  # in the outputs' own float64
CPU = Precision(torch.device("cpu"))
SCALER = CPU.scaler()
LR = 0.05


class Loader:
    """Hands out one batch for ever."""

    def __init__(self, batch: Batch) -> None:
        self.batch, self.epochs = batch, []

    def set_epoch(self, epoch: int, *, start_batch: int = 0) -> None:
        self.epochs.append(epoch)

    def __len__(self) -> int:
        return 1

    def __iter__(self):
        return iter([self.batch])


def supernet() -> nn.Module:
    torch.manual_seed(3)
    model = create_model(
        "local_vim",
        img_size=4,
        patch_size=1,
        in_chans=1,
        num_classes=1,
        embed_dim=8,
        depth=1,
        d_state=4,
        use_rope=False,
        rope_residual=False,
        global_pool="",
        directions=["h", "v", "w2"],
        merge="weighted",
        attention="none",
        drop_path_rate=0.0,
    ).double()
    return model.train()


def batch(seed: int) -> Batch:
    g = torch.Generator().manual_seed(seed)
    inputs, targets = (torch.randn(3, *shape, generator=g).double() for shape in ((1, 4, 4), (16, 1)))
    return Batch(inputs, targets, torch.arange(3))


def loss(model: nn.Module, data: Batch) -> torch.Tensor:
    return MSE.losses(model(data[0]), data[1]).mean()


def architect(
    name: str,
    model: nn.Module,
    held: tuple | Loader,
    optimizer: torch.optim.Optimizer,
    *,
    warmup: int = 0,
    decay: Schedule = Schedule(0.0, 0.0),
    follows_lr: bool = False,
    **knobs,
):
    policy = BranchPolicy(model, RELAXATIONS["softmax"], (1,), (1,), seed=0)
    loader = held if isinstance(held, Loader) else Loader(held)
    parts = Parts(policy, Timing(4, 4, warmup), loader, MSE, optimizer, CPU, decay, follows_lr=follows_lr)
    return architect_kind(name).build(parts, Knobs(**knobs))


def held_out_loss_after_one_step(model: nn.Module, train: tuple, held: tuple) -> torch.Tensor:
    """L_val(w - lr grad L_train(w)), the function whose gradient in alpha the second order approximates."""
    ahead = copy.deepcopy(model)
    names = [p for _, p in weight_parameters(ahead)]
    gradients = torch.autograd.grad(loss(ahead, train), names)
    with torch.no_grad():
        for w, g in zip(names, gradients, strict=True):
            w -= LR * g
    return loss(ahead, held)


def test_second_order_matches_the_numerical_gradient_of_the_look_ahead_loss() -> None:
    model, train, held = supernet(), batch(1), batch(2)
    (alpha,) = arch_parameters(model)
    second = architect("bilevel", model, held, torch.optim.SGD([alpha], lr=0.0), order=2)
    weights = {n: p.detach().clone() for n, p in weight_parameters(model)}
    second.before_step(train, epoch=0, step=0, lr=LR)
    assert all(torch.equal(p, weights[n]) for n, p in weight_parameters(model)), "the look-ahead step must be undone"
    numerical, eps = torch.zeros_like(alpha), 1e-5
    for i in range(len(alpha)):
        for sign in (1, -1):
            moved = copy.deepcopy(model)
            with torch.no_grad():
                arch_parameters(moved)[0][i] += sign * eps
            numerical[i] += sign * held_out_loss_after_one_step(moved, train, held).detach() / (2 * eps)
    torch.testing.assert_close(alpha.grad, numerical, rtol=2e-3, atol=1e-7)


def test_first_order_moves_alphas_by_the_held_out_gradient_only() -> None:
    model, held = supernet(), batch(2)
    (alpha,) = arch_parameters(model)
    expected = torch.autograd.grad(loss(model, held), [alpha])[0]
    start = alpha.detach().clone()
    first = architect("bilevel", model, held, torch.optim.SGD([alpha], lr=1.0))
    first.before_step(batch(1), epoch=0, step=0, lr=LR)
    torch.testing.assert_close(start - alpha.detach(), expected)


def test_mixed_moves_alphas_by_the_sum_of_both_gradients() -> None:
    model, train, held = supernet(), batch(1), batch(2)
    (alpha,) = arch_parameters(model)
    expected = sum(w * torch.autograd.grad(loss(model, data), [alpha])[0] for w, data in ((1.0, train), (0.5, held)))
    start = alpha.detach().clone()
    both = architect("mixed", model, held, torch.optim.SGD([alpha], lr=1.0), mixed_weight=0.5)
    both.before_step(train, epoch=0, step=0, lr=LR)
    loss(model, train).backward()
    both.after_backward(SCALER)
    torch.testing.assert_close(start - alpha.detach(), expected)


def test_the_decay_of_alphas_follows_its_schedule() -> None:
    model = supernet()
    optimizer = alpha_optimizer(model, lr=0.1, betas=(0.5, 0.999), weight_decay=0.0)
    single = architect("single", model, batch(2), optimizer, decay=Schedule(0.0, 0.4))
    seen = []
    for epoch in range(4):
        single.before_step(batch(1), epoch=epoch, step=0, lr=LR)
        seen.append(optimizer.param_groups[0]["weight_decay"])
    assert seen == pytest.approx([0.0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize("name", ["single", "bilevel", "mixed"])
def test_alphas_take_the_learning_rate_of_the_weights_where_they_have_none(name: str) -> None:
    model = supernet()
    optimizer = alpha_optimizer(model, lr=0.0, betas=(0.9, 0.999), weight_decay=0.0)
    hook, (alpha,) = architect(name, model, batch(2), optimizer, follows_lr=True), arch_parameters(model)
    for step, lr in enumerate((1e-7, 5e-4, 1e-3)):
        before = alpha.detach().clone()
        hook.before_step(batch(1), epoch=0, step=step, lr=lr)
        loss(model, batch(1)).backward()
        hook.after_backward(SCALER)
        assert 0 < (alpha - before).abs().max() <= 1.5 * lr  # a step of Adam is about as long as its rate


def test_localmambas_search_gives_alphas_the_learning_rate_of_the_weights() -> None:
    rates = [compose_settings(Search, [f"search={name}"]).supernet.alpha_lr for name in ("localmamba", "darts")]
    assert rates == [None, 0.01]


def test_a_short_held_out_split_starts_over_in_a_new_order() -> None:
    model, loader = supernet(), Loader(batch(2))
    first = architect("bilevel", model, loader, torch.optim.SGD(arch_parameters(model), lr=0.0))
    for epoch in (0, 1):
        for step in range(3):
            first.before_step(batch(1), epoch=epoch, step=step, lr=LR)
    assert len(loader.epochs) == 6 and len(set(loader.epochs)) == 6


@pytest.mark.parametrize("name", [kind.name for kind in ARCHITECTS.values() if kind.learns])
def test_no_alpha_moves_during_its_warm_up(name: str) -> None:
    model = supernet()
    (alpha,) = arch_parameters(model)
    optimizer = alpha_optimizer(model, lr=0.1, betas=(0.5, 0.999), weight_decay=0.0)
    warming = architect(name, model, batch(2), optimizer, warmup=1)
    start = alpha.detach().clone()
    for epoch, moves in ((0, False), (1, True)):
        warming.before_step(batch(1), epoch=epoch, step=0, lr=LR)
        loss(model, batch(1)).backward()
        warming.after_backward(SCALER)
        assert torch.equal(alpha.detach(), start) is not moves


def test_alphas_are_not_decayed_unless_asked_for() -> None:
    model = supernet()
    (alpha,) = arch_parameters(model)
    start = alpha.detach().clone()
    optimizer = alpha_optimizer(model, lr=0.1, betas=(0.5, 0.999), weight_decay=0.0)
    alpha.grad = torch.zeros_like(alpha)
    optimizer.step()
    assert torch.equal(alpha.detach(), start)


@pytest.mark.parametrize("options", [{"name": "darts", "order": 1}, {"name": "bilevel", "order": 3}])
def test_unknown_architects_and_orders_are_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match="accepted"):
        architect(model=supernet(), held=batch(2), optimizer=None, **options)
