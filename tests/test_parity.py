"""Our LocalVim and LocalVMamba against an independent naive re-implementation of the published ones, and their init."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from naive_localmamba import (
    CANDIDATES,
    naive_local_vim,
    naive_local_vmamba,
    official_vim_shapes,
    official_vmamba_shapes,
    random_state_dict,
    rope_tables,
    visits,
)
from torch import Tensor

from lmsearch.interop.localmamba import load_official_state_dict, to_official_state_dict
from lmsearch.kernels import directional_scan
from lmsearch.models import DirectionalMixer, create_model
from lmsearch.models.drop_path import DropPath
from lmsearch.models.layers import resize_positions
from lmsearch.models.layers import rope_tables as our_rope_tables
from lmsearch.models.mixer import Tokens
from lmsearch.models.scan_groups import scan_groups

TOLERANCE = 1e-9  # relative, float64
DERIVED = (["h", "v_flip", "w7", "w2_flip"], ["h_flip", "w7_flip", "w2", "v"], ["h", "h_flip", "w2", "w7_flip"])


@dataclass(frozen=True)
class Case:
    """One small network: image size (height, width) and patch size in pixels, supernet or derived, model options."""

    name: str
    img_size: tuple[int, int]
    patch_size: int
    search: bool = False
    options: dict = field(default_factory=dict)


MIDDLE = {"middle_cls_token": True, "use_rope": False, "rope_residual": False}
VIM = [
    Case("derived, 8x8 tokens padded to 14x14 by w7", (32, 32), 4),
    Case("supernet, 8x8 tokens padded to 14x14 by w7", (32, 32), 4, True),
    Case("supernet, 7x7 tokens padded to 8x8 by w2", (28, 28), 4, True),
    Case("middle class token, even length", (24, 24), 4, options=MIDDLE),
    Case("middle class token, odd length, supernet", (20, 20), 4, True, MIDDLE),
    Case("middle class token, odd length, derived", (20, 20), 4, options=MIDDLE),
    Case("image of no whole number of patches", (30, 30), 4),
    Case("oblong image of no whole number of patches", (18, 25), 4),
    Case("oblong image, supernet", (20, 12), 4, True),
    Case("layer norm", (20, 20), 4, options={"norm": "layer"}),
    Case("layer norm, supernet, residual not rotated", (16, 16), 4, True, {"norm": "layer", "rope_residual": False}),
    Case("no rotary embedding", (16, 16), 4, options={"use_rope": False, "rope_residual": False}),
    Case("pads dropped", (32, 32), 4, options={"window_padding": "none"}),
    Case("spatial and channel attention, supernet", (20, 20), 4, True, {"attention": "spatial_channel"}),
    Case("no attention", (20, 20), 4, options={"attention": "none"}),
]
VMAMBA = [
    Case("derived, 8x8, 4x4 and 2x2 tokens", (16, 16), 2),
    Case("supernet, 7x7, 4x4 and 2x2 tokens", (14, 14), 2, True),
    Case("derived, 7x7 tokens", (14, 14), 2),
    Case("supernet, oblong image of no whole number of patches", (19, 27), 4, True),
    Case("pads dropped, supernet", (20, 20), 4, True, {"window_padding": "none"}),
    Case("spatial and channel attention", (20, 20), 4, options={"attention": "spatial_channel"}),
]
DIMS, DEPTHS = [16, 32, 64], [1, 1, 1]


def vim(case: Case, dtype: torch.dtype = torch.float64):
    """A LocalVim of ours and its state dict under the published names, with the same random weights."""
    directions = [CANDIDATES] * 2 if case.search else list(DERIVED[:2])
    grid = tuple(-(-side // case.patch_size) for side in case.img_size)
    known = {k: v for k, v in case.options.items() if k in ("use_rope", "middle_cls_token", "norm", "attention")}
    shapes = official_vim_shapes(
        directions=directions, embed_dim=16, grid=grid, patch_size=case.patch_size, num_classes=5, search=case.search, **known
    )
    state = random_state_dict(shapes, grid=grid, dtype=dtype)
    model = (
        create_model(
            "local_vim",
            directions=directions,
            merge="weighted" if case.search else "sum",
            embed_dim=16,
            depth=len(directions),
            img_size=case.img_size,
            patch_size=case.patch_size,
            num_classes=5,
            global_pool="token" if case.options.get("middle_cls_token") else "avg",
            **case.options,
        )
        .to(dtype)
        .eval()
    )
    load_official_state_dict(model, state)
    return (
        model,
        state,
        {
            "directions": directions,
            "depth": len(directions),
            "patch_size": case.patch_size,
            "search": case.search,
            **case.options,
        },
    )


def vmamba(case: Case, dtype: torch.dtype = torch.float64):
    """A LocalVMamba of ours and its state dict under the published names, with the same random weights."""
    directions = [CANDIDATES] * 3 if case.search else list(DERIVED)
    known = {k: v for k, v in case.options.items() if k == "attention"}
    shapes = official_vmamba_shapes(
        directions=directions, dims=DIMS, depths=DEPTHS, patch_size=case.patch_size, num_classes=5, search=case.search, **known
    )
    state = random_state_dict(shapes, dtype=dtype)
    model = (
        create_model(
            "local_vmamba",
            directions=directions,
            merge="weighted" if case.search else "sum",
            dims=DIMS,
            depths=DEPTHS,
            img_size=case.img_size,
            patch_size=case.patch_size,
            num_classes=5,
            **case.options,
        )
        .to(dtype)
        .eval()
    )
    load_official_state_dict(model, state)
    return (
        model,
        state,
        {"directions": directions, "depths": DEPTHS, "patch_size": case.patch_size, "search": case.search, **case.options},
    )


def images(case: Case, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """The same images in every dtype."""
    return torch.randn(3, 3, *case.img_size, generator=torch.Generator().manual_seed(1)).to(dtype)


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference over the largest value, both in float64."""
    return ((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max()).item()


def official_gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    """The gradients of our parameters under the published names: the same renaming as for the weights."""
    carrier = copy.deepcopy(model)
    with torch.no_grad():
        for mine, gradient in zip(carrier.parameters(), model.parameters(), strict=True):
            mine.copy_(gradient.grad)
    return {key: g for key, g in to_official_state_dict(carrier).items() if not key.startswith("rope.")}


def check_against(naive, model, state: dict[str, Tensor], x: Tensor, options: dict) -> None:
    """Logits and the gradients of every weight and of the images agree."""
    ours_x, naive_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    weights = {key: value.clone().requires_grad_(not key.startswith("rope.")) for key, value in state.items()}
    logits, expected = model(ours_x), naive(weights, naive_x, **options)
    assert relative(logits, expected) <= TOLERANCE
    pull = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2), dtype=expected.dtype)
    (logits * pull).sum().backward()
    (expected * pull).sum().backward()
    assert relative(ours_x.grad, naive_x.grad) <= TOLERANCE
    ours = official_gradients(model)
    assert ours.keys() == {key for key in weights if not key.startswith("rope.")}
    worst = {key: relative(ours[key], weights[key].grad) for key in ours}
    assert {key: error for key, error in worst.items() if not error <= TOLERANCE} == {}


@pytest.mark.parametrize("case", VIM, ids=lambda case: case.name)
def test_local_vim_agrees_with_the_naive_one_in_logits_and_every_gradient(case):
    model, state, options = vim(case)
    check_against(naive_local_vim, model, state, images(case), options)


@pytest.mark.parametrize("case", VMAMBA, ids=lambda case: case.name)
def test_local_vmamba_agrees_with_the_naive_one_in_logits_and_every_gradient(case):
    model, state, options = vmamba(case)
    check_against(naive_local_vmamba, model, state, images(case), options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["local_vim_tiny", "local_vim_tiny_middle_cls_token", "local_vmamba_tiny"])
def test_published_sizes_agree_with_the_naive_one(name):
    model = create_model(name).double().eval()
    state, x = to_official_state_dict(model), torch.randn(1, 3, 224, 224, dtype=torch.float64)
    directions = [list(m.directions) for m in model.modules() if isinstance(m, DirectionalMixer)]
    with torch.no_grad():
        if name == "local_vmamba_tiny":
            expected = naive_local_vmamba(state, x, directions=directions, depths=[2, 2, 9, 2])
        else:
            options = MIDDLE if "middle" in name else {}
            expected = naive_local_vim(state, x, directions=directions, depth=20, patch_size=16, **options)
        assert relative(model(x), expected) <= TOLERANCE


@pytest.mark.parametrize("build, naive", [(vim, naive_local_vim), (vmamba, naive_local_vmamba)])
@pytest.mark.parametrize("search", [False, True])
def test_float32_stays_within_1e_5_of_the_naive_float64(build, naive, search):
    case = Case("float32", (32, 32), 4, search)
    model, state, options = build(case, torch.float32)
    exact = naive({key: value.double() for key, value in state.items()}, images(case), **options)
    assert relative(model(images(case, dtype=torch.float32)), exact) <= 1e-5


@pytest.mark.parametrize("build, naive", [(vim, naive_local_vim), (vmamba, naive_local_vmamba)])
def test_pads_are_not_inert_so_the_comparison_would_notice_them(build, naive):
    case = Case("8x8", (32, 32), 4)
    _, state, options = build(case)
    padded, dropped = (naive(state, images(case), window_padding=padding, **options) for padding in ("zeros", "none"))
    assert relative(dropped, padded) > 1e-3


def test_the_class_token_of_the_padded_sequence_is_where_the_naive_one_has_it_only():
    case = Case("8x8", (32, 32), 4, options=MIDDLE)
    model, state, options = vim(case)
    moved = {**state, "cls_token": state["cls_token"] + 1}
    assert relative(naive_local_vim(moved, images(case), **options), naive_local_vim(state, images(case), **options)) > 1e-3
    assert relative(model(images(case)), naive_local_vim(state, images(case), **options)) <= TOLERANCE


def test_v_is_unscanned_correctly_on_a_grid_that_is_not_square():
    order = visits("v", 2, 3, "zeros")
    released = [0, 4, 3, 2, 1, 5]  # what the released reverse gives for the tokens 0..5: a bug, not reproduced
    assert order == [0, 3, 1, 4, 2, 5]
    mixer = create_model("local_vim", directions=["v"], embed_dim=16, depth=1, img_size=(2, 3), patch_size=1).layers[0].mixer
    with torch.no_grad():
        mixer.x_proj_weight.zero_()  # B = C = 0: every branch returns D * u * silu(z), token by token
        mixer.conv_weight.zero_()
        mixer.conv_weight[..., -1] = 1.0
        mixer.conv_bias.zero_()
    x = torch.randn(1, 6, mixer.d_inner)
    (group,) = scan_groups(mixer.directions, (2, 3), "zeros", None)
    arguments = mixer.scan_arguments(Tokens(x, torch.ones_like(x)), group, (0,))
    o = group.crop(directional_scan(**arguments))[:, 0]
    expected = F.silu(x) * F.silu(torch.tensor(1.0))
    assert torch.allclose(o, expected, atol=1e-6)
    assert not torch.allclose(o, expected[:, released], atol=1e-6)


# ---------------------------------------------------------------- another resolution
@pytest.mark.parametrize("grid", [(4, 4), (7, 7), (3, 8)])
def test_rotary_tables_follow_the_grid(grid):
    like = torch.zeros(1, dtype=torch.float64)
    for ours, naive in zip(our_rope_tables(16, grid, like=like), rope_tables(16, *grid, torch.float64), strict=True):
        assert torch.allclose(ours, naive, atol=1e-12)


@pytest.mark.parametrize("options", [{}, MIDDLE], ids=["rotary", "middle class token"])
@pytest.mark.parametrize("size", [(24, 24), (12, 28), (22, 17)], ids=str)
def test_another_image_size_equals_a_model_of_that_size_with_resized_positions(size, options):
    model, state, naive_options = vim(Case("", (20, 20), 4, options=options))
    x = images(Case("", size, 4))
    grid = tuple(-(-side // 4) for side in size)
    resized = {**state, "pos_embed": resize_positions(state["pos_embed"], (5, 5), grid, cls_index=12 if options else None)}
    assert relative(model(x), naive_local_vim(resized, x, **naive_options)) <= TOLERANCE


@pytest.mark.parametrize("cls_index", [None, 12])
def test_resizing_positions_keeps_constants_ramps_and_the_class_token(cls_index):
    ramp = torch.linspace(-1, 1, 5, dtype=torch.float64).view(5, 1, 1).expand(5, 5, 2).reshape(1, 25, 2)
    table = ramp if cls_index is None else torch.cat([ramp[:, :12], torch.full((1, 1, 2), 9.0).double(), ramp[:, 12:]], 1)
    out = resize_positions(table, (5, 5), (9, 7), cls_index=cls_index)
    if cls_index is not None:
        assert out.shape == (1, 64, 2)
        assert torch.equal(out[0, 31], torch.full((2,), 9.0).double())
        out = torch.cat([out[:, :31], out[:, 32:]], dim=1)
    rows = out.view(9, 7, 2)
    assert torch.allclose(rows, rows[:, :1].expand_as(rows))  # constant along a row
    assert (rows[1:, 0, 0] > rows[:-1, 0, 0]).all()
    assert torch.allclose(rows[4, :, 0], torch.zeros(7).double(), atol=1e-12)
    assert torch.equal(resize_positions(table, (5, 5), (5, 5), cls_index=cls_index), table)


# ---------------------------------------------------------------- initial weights and drop path
def std_within(x: Tensor, expected: float) -> bool:
    """A sample's std is within five of its own standard errors (and 1 % for truncation) of the expected one."""
    return abs(x.std().item() - expected) <= expected * (0.01 + 5 / math.sqrt(2 * x.numel()))


def uniform_within(x: Tensor, bound: float) -> bool:
    """A sample fills the interval +-bound evenly."""
    return bool(x.abs().max() <= bound and x.abs().max() > 0.98 * bound) and std_within(x, bound / math.sqrt(3))


def check_proper_steps(mixer: DirectionalMixer) -> None:
    """softplus(dt bias) log-uniform in [0.001, 0.1], dt weight uniform in +-dt_rank^-0.5."""
    steps = F.softplus(mixer.dt_proj_bias.double()).log10()
    assert -3 - 1e-4 <= steps.min() and steps.max() <= -1 + 1e-4
    assert abs(steps.mean().item() + 2) < 5 * (2 / math.sqrt(12 * steps.numel()))
    assert std_within(steps, 2 / math.sqrt(12))
    assert uniform_within(mixer.dt_proj_weight, mixer.dt_rank**-0.5)


def check_common(mixer: DirectionalMixer) -> None:
    """What holds for both families and both rules."""
    assert torch.equal(mixer.D, torch.ones_like(mixer.D))
    assert torch.allclose(mixer.A_log, torch.arange(1.0, 17.0).log().expand_as(mixer.A_log))
    for linear in (mixer.in_proj, mixer.attn.global_reduce, mixer.attn.channel_select):
        assert std_within(linear.weight, 0.02) and linear.weight.abs().max() < 2
    assert not mixer.attn.global_reduce.bias.any() and not mixer.attn.channel_select.bias.any()


@pytest.mark.parametrize("name", ["local_vim_tiny", "local_vim_tiny_middle_cls_token", "local_vim_tiny_search"])
@pytest.mark.parametrize("init", ["default", "released"])
def test_local_vim_starts_with_the_published_statistics(name, init):
    torch.manual_seed(0)
    model = create_model(name, init=init)
    for layer in (model.layers[0], model.layers[-1]):
        mixer = layer.mixer
        check_common(mixer)
        assert std_within(mixer.x_proj_weight, 0.02)
        assert uniform_within(mixer.conv_weight, 0.5) and uniform_within(mixer.conv_bias, 0.5)
        assert uniform_within(mixer.out_proj.weight, mixer.d_inner**-0.5 / math.sqrt(20))
        if init == "released":
            assert not mixer.dt_proj_bias.any()
            assert std_within(mixer.dt_proj_weight, 0.02)
        else:
            check_proper_steps(mixer)
    assert std_within(model.pos_embed, 0.02) and std_within(model.head.weight, 0.02) and not model.head.bias.any()
    assert uniform_within(model.patch_embed.proj.weight, (3 * 16 * 16) ** -0.5)
    if "middle" in name:
        assert not model.cls_token.any()
    if "search" in name:
        assert std_within(torch.cat([layer.mixer.alphas for layer in model.layers]), 1e-3)


@pytest.mark.parametrize("name", ["local_vmamba_tiny", "local_vmamba_tiny_search"])
@pytest.mark.parametrize("init", ["default", "released"])
def test_local_vmamba_starts_with_the_published_statistics_under_either_rule(name, init):
    torch.manual_seed(0)
    model = create_model(name, init=init)
    for stage in model.stages:
        mixer = stage.blocks[0].mixer
        check_common(mixer)
        check_proper_steps(mixer)
        assert uniform_within(mixer.x_proj_weight, mixer.d_inner**-0.5)
        assert uniform_within(mixer.conv.weight, 1 / 3)
        assert std_within(mixer.out_proj.weight, 0.02)
    assert std_within(model.stages[0].downsample.reduction.weight, 0.02)
    assert std_within(model.head.weight, 0.02) and not model.head.bias.any()


def test_drop_path_rates_are_assigned_as_published():
    model = create_model("local_vim", depth=5, embed_dim=16, drop_path_rate=0.4, img_size=32)
    rates = [layer.drop_path.drop_prob for layer in model.layers]
    assert rates == pytest.approx([0.0, 0.0, 0.1, 0.2, 0.3])
    assert model.drop_path.drop_prob == 0.4
    hierarchical = create_model("local_vmamba", dims=DIMS, depths=[2, 2, 1], drop_path_rate=0.4, img_size=32)
    assert [m.drop_prob for m in hierarchical.modules() if isinstance(m, DropPath)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
