"""The backbone contract of both families: features by level in timm's names, and what the optimizer leaves undecayed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lmsearch import create_model
from lmsearch.api.nets import copied
from lmsearch.compat.mixer import Mamba
from lmsearch.engine.optim import undecayed
from lmsearch.errors import ModelError
from lmsearch.models import Backbone
from lmsearch.models.backbone import take_levels

VIM = {"embed_dim": 16, "depth": 3, "patch_size": 4, "img_size": 32, "num_classes": 5}
KINDS = {
    "vim": ("local_vim", VIM),
    "vim_cls": ("local_vim", VIM | {"use_rope": False, "middle_cls_token": True}),
    "vmamba": ("local_vmamba", {"dims": (8, 16, 32), "depths": (1, 2, 1), "img_size": 32, "num_classes": 5}),
}
SIZES = [(32, 32), (30, 45)]


def build(kind: str, **options) -> Backbone:
    torch.manual_seed(0)
    name, own = KINDS[kind]
    return create_model(name, directions=["h", "v_flip", "w2"], **own | options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_maps_have_the_channels_and_strides_that_feature_info_tells(kind: str, size: tuple[int, int]) -> None:
    model = build(kind).eval()
    maps = model.forward_intermediates(torch.randn(2, 3, *size), intermediates_only=True)
    assert len(maps) == len(model.feature_info) == 3
    grids = dict.fromkeys(model.layer_grids(size))  # in order, each once
    for told, found in zip(model.feature_info, maps, strict=True):
        assert found.shape[:2] == (2, told["num_chs"]) and tuple(found.shape[2:]) in grids
        assert all(abs(side / told["reduction"] - n) < 1 for side, n in zip(size, found.shape[2:], strict=True))
        assert isinstance(model.get_submodule(told["module"]), nn.Module)


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokens_beside_the_maps_are_those_of_forward_features(kind: str) -> None:
    model, x = build(kind).eval(), torch.randn(2, 3, 30, 45)
    tokens, maps = model.forward_intermediates(x, norm=True)
    assert torch.equal(tokens, model.forward_features(x))
    grid = tuple(maps[-1].shape[2:])
    assert torch.equal(maps[-1].flatten(2).transpose(1, 2), model.spatial(tokens, grid))


@pytest.mark.parametrize("kind", [*KINDS, "vim_layer_norm"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_results_are_in_the_dtype_of_the_weights(kind: str, dtype: torch.dtype) -> None:
    model = (build("vim", norm="layer") if kind == "vim_layer_norm" else build(kind)).eval()
    x = torch.randn(2, 3, 32, 32)
    want = [model(x), *model.forward_intermediates(x, norm=True, intermediates_only=True)]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.forward_intermediates(x, intermediates_only=True)  # LocalVMamba's stream is as wide as its projections
    assert {t.dtype for t in rounded} == {torch.bfloat16 if kind == "vmamba" else torch.float32}
    model, x = model.to(dtype), x.to(dtype)
    tokens, maps = model.forward_intermediates(x, norm=True)
    got = [model(x), *maps]
    assert {t.dtype for t in [tokens, *got]} == {dtype} and torch.equal(tokens, model.forward_features(x))
    torch.testing.assert_close([t.float() for t in got], want, rtol=0.1, atol=0.1)


def test_a_stage_of_local_vmamba_gives_the_tokens_of_its_map() -> None:
    model, x, seen = build("vmamba").eval(), torch.randn(1, 3, 32, 32), []
    for told in model.feature_info:
        model.get_submodule(told["module"]).register_forward_hook(lambda module, inputs, tokens: seen.append(tokens))
    model(x)
    maps = model.forward_intermediates(x, intermediates_only=True)
    assert all(torch.equal(m.flatten(2).transpose(1, 2), tokens) for m, tokens in zip(maps, seen[:3], strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_levels_can_be_chosen_from_either_end_and_run_no_further(kind: str) -> None:
    model, x = build(kind).eval(), torch.randn(1, 3, 32, 32)
    every = model.forward_intermediates(x, intermediates_only=True)
    last_two = model.forward_intermediates(x, 2, intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(last_two, every[1:], strict=True))
    ran = []
    model.get_submodule(model.feature_info[2]["module"]).register_forward_hook(lambda *_: ran.append(2))
    first, third_last = model.forward_intermediates(x, [0, -3], stop_early=True, intermediates_only=True)
    assert torch.equal(first, every[0]) and torch.equal(third_last, every[0]) and not ran
    wide = model.forward_intermediates(x, [0], output_fmt="NHWC", intermediates_only=True)[0]
    assert torch.equal(wide.permute(0, 3, 1, 2), every[0])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_level_in_training(kind: str) -> None:
    model = build(kind, drop_path_rate=0.2).train()
    maps = model.forward_intermediates(torch.randn(2, 3, 32, 32), norm=True, intermediates_only=True)
    sum(m.square().mean() for m in maps).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None and not n.startswith("head.")]
    assert not without


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        ({"indices": [3]}, "3 levels"),
        ({"indices": 4}, "3 levels"),
        ({"indices": [True, "a"]}, "3 levels"),
        ({"indices": []}, "at least one"),
        ({"indices": True}, "^indices=True: the model has 3 levels; accepted: -3 to 2$"),
        ({"indices": 1.5}, "^indices=1.5: the model has 3 levels; accepted: -3 to 2$"),
        ({"output_fmt": "NLC"}, "NCHW, NHWC"),
        ({"indices": [0], "stop_early": True}, "intermediates_only"),
    ],
)
def test_a_level_or_format_that_is_not_there_is_named(arguments: dict, needle: str) -> None:
    with pytest.raises(ModelError, match=needle):
        build("vmamba").forward_intermediates(torch.randn(1, 3, 32, 32), **arguments)


@pytest.mark.parametrize("given", [[np.int64(0), -1], np.array([0, 2]), (torch.tensor(0), 2), range(0, 3, 2)])
def test_levels_of_numpy_and_pytorch_are_taken_as_pythons(given: object) -> None:
    assert take_levels(3, given) == [0, 2] and take_levels(3, np.int64(2)) == [1, 2]
    net = create_model("local_vmamba_nano", features_only=True, out_indices=np.array([0, 1]))
    assert net.feature_info.channels() == [32, 64]
    with pytest.raises(ModelError, match=r"^out_indices=.*\[0, 5\]\)?: the model has 2 levels; accepted: -2 to 1$"):
        create_model("local_vmamba_nano", features_only=True, out_indices=np.array([0, 5]))


def test_a_foreign_network_around_our_mixers_leaves_their_vectors_undecayed() -> None:
    inner = build("vim").layers[0].mixer
    skip = undecayed(nn.ModuleDict({"mine": inner, "linear": nn.Linear(2, 2)}))
    assert skip == {"mine.D", "mine.dt_proj_bias", "mine.conv_bias"}
    assert skip <= {name for name, _ in nn.ModuleDict({"mine": inner}).named_parameters()}


def test_what_mamba_marks_stays_undecayed_in_a_copy_too() -> None:
    net = nn.ModuleDict({"mamba": Mamba(8, d_state=2), "linear": nn.Linear(2, 2)})
    assert undecayed(net) == undecayed(copied(net)) == {"mamba.A_log", "mamba.D"}
