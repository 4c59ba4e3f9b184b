"""Supernets: disjoint parameter groups, branch choices without mutation, duplicates removed per layer."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from lmsearch.errors import ModelError
from lmsearch.models import create_model
from lmsearch.models.complexity import complexity
from lmsearch.models.merge import merge_weighted
from lmsearch.search.supernet.network import (
    Branches,
    arch_parameters,
    layer_candidates,
    masked,
    named_mixers,
    probabilities,
    running,
    weight_parameters,
)
from lmsearch.search.supernet.relax import RELAXATIONS
from lmsearch.search_space import load_search_space

CANDIDATES = ["h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w4", "w4_flip"]


def supernet(name: str = "local_vim_nano", **options) -> nn.Module:
    torch.manual_seed(0)
    return create_model(name, directions=CANDIDATES, merge="weighted", **options).eval()


def images() -> torch.Tensor:
    return torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["local_vim_nano", "local_vmamba_nano"])
def test_alphas_and_weights_share_no_parameter_and_cover_all(name: str) -> None:
    model = supernet(name)
    alphas = {id(p) for p in arch_parameters(model)}
    weights = {id(p) for _, p in weight_parameters(model)}
    assert alphas and not alphas & weights
    assert alphas | weights == {id(p) for p in model.parameters()}


def test_masking_a_branch_equals_a_supernet_whose_alpha_for_it_is_minus_infinity() -> None:
    model = supernet()
    active = (0, 1, 2, 3, 5, 6, 7)
    with running(model, {layer: Branches(active) for layer in named_mixers(model)}):
        without = model(images())
    with torch.no_grad():
        for alpha in arch_parameters(model):
            alpha[4] = -torch.inf
    torch.testing.assert_close(without, model(images()))


def test_a_branch_cannot_scale_itself_unless_the_norm_of_branches_is_off() -> None:
    o = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    scaled, weights = o * torch.tensor([1.0, 7.0, 1.0]).view(1, 3, 1, 1), torch.full((3,), 1 / 3)
    gates = (None, None)
    torch.testing.assert_close(merge_weighted(o, gates, weights), merge_weighted(scaled, gates, weights), rtol=1e-3, atol=1e-3)
    plain = merge_weighted(scaled, gates, weights, branch_norm=False)
    torch.testing.assert_close(plain, scaled.mean(1))


def test_the_norm_of_branches_is_an_option_of_every_supernet() -> None:
    with_norm, without = (supernet(branch_norm=norm) for norm in (True, False))
    assert not torch.allclose(with_norm(images()), without(images()))


def test_a_choice_leaves_no_trace_after_its_context() -> None:
    model = supernet()
    before = model(images())
    with running(model, masked(model, {layer: ["v"] for layer in named_mixers(model)})):
        inside = model(images())
    assert not torch.allclose(before, inside)
    assert torch.equal(before, model(images()))


def test_a_choice_reaches_mixers_inside_another_network_also_when_recomputed_in_backward() -> None:
    model = supernet()
    model.train()
    model.set_grad_checkpointing()
    user_net = nn.Sequential(nn.Identity(), model)
    layer = next(iter(named_mixers(user_net)))
    with running(user_net, {layer: Branches((2,))}):
        loss = user_net(images()).square().sum()
    loss.backward()
    mixer = named_mixers(user_net)[layer]
    used = mixer.x_proj_weight.grad.flatten(1).abs().sum(1) > 0
    assert used.tolist() == [d == "v" for d in mixer.directions]


def test_probabilities_sum_to_one_in_every_layer() -> None:
    for scores in probabilities(supernet(), RELAXATIONS["softmax"]).values():
        assert sum(scores.values()) == pytest.approx(1.0)
        assert list(scores) == CANDIDATES


def test_candidates_that_a_small_grid_cannot_tell_apart_are_searched_once() -> None:
    space = load_search_space("localmamba8")
    all_of_them, fewer = (layer_candidates(space, [(14, 14), (7, 7)], padding="none", deduplicate=d) for d in (False, True))
    assert all_of_them == (space.candidates,) * 2
    assert fewer == (space.candidates, ("h", "h_flip", "v", "v_flip", "w2", "w2_flip"))


def test_a_derived_net_is_not_a_supernet() -> None:
    with pytest.raises(ModelError, match="merge='weighted'"):
        named_mixers(derived := create_model("local_vim_nano"))
    mixer = derived.mixers()[0]
    assert not hasattr(mixer, "supernet_alphas") and dict(inspect.getmembers(mixer))["alphas"] is None
    with pytest.raises(ModelError, match="has no alphas"):
        mixer.branch_weights((0,))
    with pytest.raises(AttributeError, match="no attribute 'alpha'"):
        mixer.alpha  # noqa: B018


@pytest.mark.parametrize("name", ["local_vim_nano", "local_vmamba_nano"])
@pytest.mark.parametrize("active", [(2, 3, 4), (0, 3, 6)])  # rows that are a slice, and rows that are not
def test_chosen_branches_give_the_output_and_gradients_of_a_supernet_that_holds_only_them(
    name: str, active: tuple[int, ...]
) -> None:
    model = supernet(name)
    small = create_model(name, directions=[CANDIDATES[k] for k in active], merge="weighted").eval()
    weights = {key: value[list(active)] if value.shape != small.state_dict()[key].shape else value
               for key, value in model.state_dict().items()}  # fmt: skip
    small.load_state_dict(weights)
    with running(model, {layer: Branches(active) for layer in named_mixers(model)}):
        output = model(images())
    torch.testing.assert_close(output, small(images()))
    output.square().sum().backward()
    small(images()).square().sum().backward()
    for large, alone in zip(model.parameters(), small.parameters(), strict=True):
        grad = large.grad if large.shape == alone.shape else large.grad[list(active)]
        torch.testing.assert_close(grad, alone.grad, rtol=1e-4, atol=1e-4)


def test_a_model_that_ran_in_inference_mode_can_still_be_trained() -> None:
    directions = ["h", "v", "snake", "spiral"]  # a set that no other test runs first
    model = create_model("local_vim_nano", directions=directions, merge="weighted")
    choice = {layer: Branches((0, 1, 3)) for layer in named_mixers(model)}
    with torch.inference_mode(), running(model, choice):
        model(images())
    with running(model, choice):
        model(images()).sum().backward()
    assert all(p.grad is not None for p in arch_parameters(model))


def test_extended16_searches_both_families() -> None:
    candidates = load_search_space("extended16").candidates
    for name in ("local_vim_nano", "local_vmamba_nano"):
        model = create_model(name, directions=candidates, merge="weighted")
        assert model(images()).shape == (2, 10)
        assert all(set(scores) == set(candidates) for scores in probabilities(model, RELAXATIONS["softmax"]).values())


@pytest.mark.parametrize("name", ["local_vim_nano", "local_vmamba_nano"])
def test_partial_channels_scan_a_part_and_let_the_rest_pass(name: str) -> None:
    model = supernet(name, partial_channels=4)
    first = next(iter(named_mixers(model).values()))
    assert first.x_proj_weight.shape[-1] * 4 == first.d_inner
    x = torch.randn(2, 64, first.in_proj.in_features)
    branches, inside = [], {}
    handle = first.out_proj.register_forward_pre_hook(lambda _, args: inside.update(y=args[0]))
    for active in ((0,), (3,)):
        first(x, (8, 8), active=active)
        branches.append(inside["y"])
    handle.remove()
    if name == "local_vim_nano":  # the bypass does not depend on the direction, the scanned part does
        assert torch.equal(branches[0][..., first.d_scan :], branches[1][..., first.d_scan :])
    assert not torch.allclose(branches[0][..., : first.d_scan], branches[1][..., : first.d_scan])


def test_partial_channels_keep_about_their_share_of_the_directions_memory() -> None:
    whole, part = (complexity(supernet(partial_channels=m)) for m in (1, 4))
    kept = [sum(d.total.activation_bytes for layer in c.layers for d in layer.directions) for c in (whole, part)]
    assert kept[1] < 0.4 * kept[0]


@pytest.mark.parametrize("wrong", [0, 3, 1.5])
def test_partial_channels_must_divide_the_channels(wrong: float) -> None:
    with pytest.raises(ModelError, match="partial_channels"):
        supernet(partial_channels=wrong)
