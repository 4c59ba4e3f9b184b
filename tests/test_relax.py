"""Contracts that every relaxation, every update and the branch policy keep."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lmsearch.engine.randomness import generator
from lmsearch.errors import ConfigError
from lmsearch.models import create_model
from lmsearch.search.architects.alpha_update import UPDATES, alpha_optimizer
from lmsearch.search.supernet.network import alive, arch_parameters, masked, named_mixers, probabilities, running
from lmsearch.search.supernet.options import SearchOptions
from lmsearch.search.supernet.policy import BranchPolicy, Schedule, Shrink, read_shrink
from lmsearch.search.supernet.relax import RELAXATIONS, Relaxation, at_temperature, relaxation

CANDIDATES = ["h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w4", "w4_flip"]
K, SAMPLES = len(CANDIDATES), 3
every_relaxation = pytest.mark.parametrize("how", RELAXATIONS.values(), ids=RELAXATIONS)
LEARNING = [how for how in RELAXATIONS.values() if how.learns]
every_learning = pytest.mark.parametrize("how", LEARNING, ids=[how.name for how in LEARNING])


def alphas(seed: int = 0) -> torch.Tensor:
    return torch.randn(K, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def draw(how: Relaxation, a: torch.Tensor, *address: int) -> tuple[tuple[int, ...], torch.Tensor]:
    noise = None if how.noise is None else how.noise(K, generator("test", *address))
    picked = tuple(range(K)) if how.pick is None else how.pick(a.detach(), noise, SAMPLES)
    return picked, how.weights(a, noise, picked, 0.7)


@every_relaxation
def test_weights_are_finite_positive_and_sum_to_one(how: Relaxation) -> None:
    for seed in range(20):
        picked, weights = draw(how, alphas(seed), seed)
        assert len(weights) == len(picked) == (K if how.pick is None else SAMPLES)
        assert list(picked) == sorted(set(picked)) and set(picked) <= set(range(K))
        assert (weights >= 0).all() and weights.sum().item() == pytest.approx(1.0, abs=1e-5)


@every_relaxation
def test_weights_follow_the_temperature_or_the_record_says_that_there_is_none(how: Relaxation) -> None:
    def told(temperature: float) -> torch.Tensor:
        """Weights and their gradient at a temperature."""
        a = alphas()
        noise = None if how.noise is None else how.noise(K, generator("test"))
        picked = tuple(range(K)) if how.pick is None else how.pick(a.detach(), noise, SAMPLES)
        weights = how.weights(a, noise, picked, temperature)
        if weights.requires_grad:
            (weights * torch.linspace(-1.0, 1.0, len(picked))).sum().backward()
        return torch.cat([weights.detach(), torch.zeros(K) if a.grad is None else a.grad])

    assert torch.equal(told(1.0), told(0.3)) is not how.has_temperature


@every_relaxation
def test_the_same_address_draws_the_same(how: Relaxation) -> None:
    one, same, other = (draw(how, alphas(), *address) for address in ((1, 2), (1, 2), (1, 3)))
    assert one[0] == same[0] and torch.equal(one[1], same[1])
    if how.noise is not None and how.learns:
        assert one[0] != other[0] or not torch.equal(one[1], other[1])


@every_relaxation
def test_probabilities_sum_to_one_and_rank_as_alphas_do(how: Relaxation) -> None:
    a = alphas().detach()
    p = how.probabilities(a)
    assert p.sum().item() == pytest.approx(1.0, abs=1e-6)
    if how.learns:
        assert torch.equal(torch.argsort(p), torch.argsort(a))


@every_learning
def test_a_branch_that_lowers_the_loss_gains_and_one_that_raises_it_loses(how: Relaxation) -> None:
    cost = torch.linspace(-1.0, 1.0, K)[torch.randperm(K, generator=torch.Generator().manual_seed(5))]
    a = torch.zeros(K, requires_grad=True)
    optimizer = torch.optim.Adam([a], lr=0.05)
    for step in range(300):
        picked, weights = draw(how, a, step)
        optimizer.zero_grad()
        (weights * cost[list(picked)]).sum().backward()
        optimizer.step()
    p = how.probabilities(a.detach())
    assert p[cost.argmin()] > 1.5 / K and p[cost.argmax()] < 0.5 / K


def test_gumbel_top_k_picks_branches_as_often_as_softmax_says() -> None:
    how, a = RELAXATIONS["gumbel"], torch.tensor([2.0, 1.0, 0.0, -1.0])
    counts = torch.zeros(4)
    for trial in range(4000):
        counts[list(how.pick(a, how.noise(4, generator("count", trial)), 1))] += 1
    torch.testing.assert_close(counts / 4000, torch.softmax(a, 0), atol=0.02, rtol=0)


def supernet(**options) -> nn.Module:
    torch.manual_seed(0)
    return create_model("local_vim_nano", directions=CANDIDATES, merge="weighted", depth=2, embed_dim=8, **options)


def images() -> torch.Tensor:
    return torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def policy(how: Relaxation, model: nn.Module, **options) -> BranchPolicy:
    return BranchPolicy(model, how, (SAMPLES, SAMPLES), (2, 2), seed=3, **options)


@every_relaxation
@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_supernet_under_a_policy_trains_its_alphas_and_only_picked_branches(how: Relaxation, checkpointed: bool) -> None:
    model = supernet().train()
    model.set_grad_checkpointing(checkpointed)
    steering = policy(how, model)
    with steering.attached():
        steering.begin_step(epoch=0, step=0, progress=0.0)
        model(images()).square().sum().backward()
    for layer, mixer in named_mixers(model).items():
        used = mixer.x_proj_weight.grad.flatten(1).abs().sum(1) > 0
        assert used.nonzero().flatten().tolist() == list(steering.draws[layer].picked)
        assert (mixer.alphas.grad is not None) == how.learns


@every_relaxation
def test_evaluation_runs_the_expected_mixture_and_running_overrules_it(how: Relaxation) -> None:
    model = supernet().eval()
    choice = masked(model, {layer: ["v"] for layer in named_mixers(model)})
    with running(model, choice):
        alone = model(images())
    with policy(how, model).attached():
        first, second = model(images()), model(images())
        with running(model, choice):
            assert torch.equal(model(images()), alone)
    assert torch.equal(first, second)


def test_evaluation_looks_at_alphas_again_only_where_they_were_written_to(monkeypatch) -> None:
    model, seen = supernet().eval(), []
    monkeypatch.setattr("lmsearch.search.supernet.policy.alive", lambda a: seen.append(a) or alive(a))
    first = named_mixers(model)["layers.0"]
    with policy(RELAXATIONS["softmax"], model).attached() as steering, torch.no_grad():
        model(images()), model(images())
        assert len(seen) == 2  # once in each layer
        first.alphas[3] = -torch.inf
        model(images())
        assert len(seen) == 3 and steering.branches("layers.0", first)["active"] == (0, 1, 2, 4, 5, 6, 7)
    want = torch.softmax(first.alphas[[0, 1, 2, 4, 5, 6, 7]], 0)
    assert torch.equal(steering.branches("layers.0", first)["weights"], want)


@every_relaxation
def test_shrinking_drops_the_least_probable_branches_for_good(how: Relaxation) -> None:
    model = supernet()
    steering = policy(how, model, shrink=(Shrink(0.25, 5), Shrink(0.5, 1)))
    before = probabilities(model, how)
    assert steering.end_epoch(0.2) == {}
    dropped = steering.end_epoch(0.3)
    for layer, mixer in named_mixers(model).items():
        assert len(dropped[layer]) == 3 and len(alive(mixer.alphas)) == 5
        left = [d for d in CANDIDATES if d not in dropped[layer]]
        assert min(before[layer][d] for d in left) >= max(before[layer][d] for d in dropped[layer])
    steering.end_epoch(0.6)  # stops at the two that each layer keeps
    assert all(len(alive(m.alphas)) == 2 for m in named_mixers(model).values())
    for scores in probabilities(model, how).values():
        assert sum(scores.values()) == pytest.approx(1.0) and sorted(scores.values())[: K - 2] == [0.0] * (K - 2)


@every_learning
@pytest.mark.parametrize("update", UPDATES)
def test_dropped_branches_stay_dropped_and_the_others_stay_finite(how: Relaxation, update: str) -> None:
    if update != "adam" and how.probabilities is not RELAXATIONS["softmax"].probabilities:
        with pytest.raises(ConfigError, match=r"softmax\(alphas\)"):
            options(relaxation=how.name, update=update)
        return
    model = supernet().train()
    steering = policy(how, model, shrink=(Shrink(0.25, 4),))
    optimizer = alpha_optimizer(model, lr=0.1, betas=(0.5, 0.999), weight_decay=0.1, update=update)
    with steering.attached():
        for step in range(4):
            steering.begin_step(epoch=0, step=step, progress=step / 4)
            optimizer.zero_grad()
            model(images()).square().sum().backward()
            optimizer.step()
            steering.end_epoch((step + 1) / 4)
    for alpha in arch_parameters(model):
        assert torch.isneginf(alpha).sum() == K - 4 and torch.isfinite(alpha[list(alive(alpha))]).all()


def test_the_exponentiated_gradient_step_multiplies_probabilities() -> None:
    model = supernet()
    alpha = arch_parameters(model)[0]
    p = torch.softmax(alpha.detach(), 0).requires_grad_()
    cost = torch.linspace(-1, 1, K)
    (p * cost).sum().backward()
    expected = torch.softmax(torch.log(p.detach()) - 0.3 * p.grad, 0)
    (torch.softmax(alpha, 0) * cost).sum().backward()
    alpha_optimizer(model, lr=0.3, betas=(0.5, 0.999), weight_decay=0.0, update="exponentiated_gradient").step()
    torch.testing.assert_close(torch.softmax(alpha.detach(), 0), expected)


def test_schedules_are_geometric_and_linear_where_an_end_is_zero() -> None:
    assert [Schedule(10.0, 0.1)(p) for p in (0, 0.5, 1)] == pytest.approx([10.0, 1.0, 0.1])
    assert [Schedule(0.4, 0.0)(p) for p in (0, 0.5, 1, 2)] == pytest.approx([0.4, 0.2, 0.0, 0.0])


def options(**changed) -> SearchOptions:
    plain = {
        "relaxation": "softmax", "update": "adam", "architect": "single", "order": 1, "mixed_weight": 1.0, "alpha_lr": 0.01,
        "alpha_betas": (0.5, 0.999), "alpha_weight_decay": 0.0, "alpha_weight_decay_end": None, "alpha_warmup_epochs": 0,
        "temperature": 1.0, "temperature_end": None, "samples": None, "shrink": [], "passes": None,
    }  # fmt: skip
    return SearchOptions(**plain | changed)


@pytest.mark.parametrize(
    "wrong",
    [
        {"relaxation": "softmx"},
        {"relaxation": "uniform"},
        {"relaxation": "sigmoid", "update": "exponentiated_gradient"},
        {"samples": 4},
        {"order": 2},
        {"mixed_weight": 0.5},
        {"relaxation": "dirichlet", "temperature": 2.0},
        {"temperature": 0.0},
        {"temperature_end": -1.0},
    ],
)
def test_contradictory_options_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match="search."):
        options(**wrong)


@pytest.mark.parametrize("stages", [[[0.5, 4], [0.2, 2]], [[0.2, 4], [0.5, 4]], [[1.5, 4]], [[0.2, 0]], [[0.2, 2.5]], [3]])
def test_shrinking_stages_must_rise_in_progress_and_fall_in_branches(stages: list) -> None:
    with pytest.raises(ConfigError, match="search.shrink"):
        read_shrink(stages)


@pytest.mark.parametrize("samples", [1, 9])
def test_samples_lie_between_two_and_the_candidates(samples: int) -> None:
    with pytest.raises(ConfigError, match="not between 2 .* and the 8 candidates"):
        options(relaxation="gumbel", samples=samples).samples_of((4,), (8,))
    assert options(relaxation="gumbel").samples_of((4, 1), (8, 8)) == (4, 2)


@pytest.mark.parametrize("name", ["gumbel", "sampled"])
def test_picked_branches_do_not_gain_from_a_larger_output_alone(name: str) -> None:
    """While the output is too small every branch's weight has a negative gradient: that must not reward being picked."""
    a = alphas()
    picked, weights = draw(RELAXATIONS[name], a, 1)
    (-weights.sum()).backward()
    torch.testing.assert_close(a.grad, torch.zeros(K), atol=1e-6, rtol=0)


def test_an_unknown_relaxation_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean softmax"):
        relaxation("softmx")


def test_evaluation_weighs_branches_at_the_temperature_of_training() -> None:
    a = alphas().detach()
    sharp = at_temperature(RELAXATIONS["softmax"], 0.5)
    torch.testing.assert_close(sharp.probabilities(a), torch.softmax(a / 0.5, 0))
    assert at_temperature(RELAXATIONS["gumbel"], 0.5) is RELAXATIONS["gumbel"]  # its draws do not know the temperature
    model = supernet().eval()
    steering = policy(RELAXATIONS["softmax"], model, temperature=Schedule(0.5, 0.5))
    steering.begin_step(epoch=0, step=0, progress=0.0)
    layer, mixer = next(iter(named_mixers(model).items()))
    torch.testing.assert_close(steering.branches(layer, mixer)["weights"], torch.softmax(mixer.alphas / 0.5, 0))


def test_the_exponentiated_gradient_is_for_temperature_one() -> None:
    with pytest.raises(ConfigError, match="temperature 1"):
        options(update="exponentiated_gradient", temperature=2.0)
