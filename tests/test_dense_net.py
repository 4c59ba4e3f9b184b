"""Dense networks: maps of images of any size, the plain head, and all that training and search ask of a network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lmsearch import create_model
from lmsearch.data import Batch
from lmsearch.engine.optim import decay_groups, undecayed
from lmsearch.engine.randomness import by_sample
from lmsearch.errors import ModelError
from lmsearch.models import DirectionalMixer, Network
from lmsearch.models.complexity import complexity
from lmsearch.models.dense import HEADS, DenseNet, HeadKind
from lmsearch.models.dense.pyramid import Level, Pyramid, resized
from lmsearch.models.layers import rope_tables
from lmsearch.models.step_memory import step_bytes
from lmsearch.search.supernet.network import arch_parameters, masked, named_mixers, running, weight_parameters

VIM = {"embed_dim": 16, "depth": 3, "patch_size": 4}
KINDS = {
    "vim": ("local_vim", VIM),
    "vim_cls": ("local_vim", VIM | {"use_rope": False, "middle_cls_token": True}),
    "vmamba": ("local_vmamba", {"dims": (8, 16, 32), "depths": (1, 2, 1)}),
}
THREE = ["h", "v_flip", "w2"]
SIZES = [(16, 16), (14, 23), (3, 5)]


def build(kind: str, **options) -> DenseNet:
    torch.manual_seed(0)
    name, own = KINDS[kind]
    fixed = {"directions": THREE, "head": "plain", "num_classes": 5, "img_size": 32, "backend": "reference"}
    return create_model(name, **fixed | own | options)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_at_the_size_of_any_image(kind: str) -> None:
    net = build(kind).eval()
    for size in SIZES:
        assert net(torch.randn(2, 3, *size)).shape == (2, 5, *size)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_padded_to_whole_patches_and_cut_back(kind: str) -> None:
    net, x = build(kind).eval(), torch.randn(1, 3, 14, 21)
    assert torch.equal(net(F.pad(x, (0, 3, 0, 2)))[..., :14, :21], net(x))
    assert net.layer_grids((30, 45)) == net.layer_grids((32, 48))


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_learns_from_pixels(kind: str) -> None:
    net = build(kind, drop_path_rate=0.2, merge="weighted").train()
    F.cross_entropy(net(torch.randn(2, 3, 14, 18)), torch.randint(5, (2, 14, 18))).backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None]


def test_it_is_a_network_whose_backbone_keeps_its_names() -> None:
    net, classifier = build("vim"), create_model("local_vim", directions=THREE, img_size=32, num_classes=5, **VIM)
    assert isinstance(net, Network) and len(net.mixers()) == 3 and net.num_classes == 5 and net.grid == (8, 8)
    own = {name.removeprefix("backbone.") for name in net.state_dict() if name.startswith("backbone.")}
    assert own == {name for name in classifier.state_dict() if not name.startswith("head.")}
    assert undecayed(net) == {f"backbone.{name}" for name in undecayed(classifier)}
    net.set_grad_checkpointing()
    assert all(mixer.grad_checkpointing for mixer in net.mixers())


@pytest.mark.parametrize("kind", ["vim", "vmamba"])
def test_a_supernet_under_a_head_runs_the_branches_of_a_choice(kind: str) -> None:
    net, x = build(kind, merge="weighted").eval(), torch.randn(1, 3, 16, 20)
    mixers = named_mixers(net)
    assert list(mixers) == [name.removesuffix(".mixer") for name, m in net.named_modules() if isinstance(m, DirectionalMixer)]
    assert len(arch_parameters(net)) == len(net.mixers()) == len(mixers)
    with running(net, masked(net, dict.fromkeys(mixers, ["v_flip"]))):
        chosen = net(x)
    assert not torch.equal(net(x), chosen)
    with torch.no_grad():
        for mixer in mixers.values():
            mixer.supernet_alphas.copy_(torch.tensor([-torch.inf, 0.0, -torch.inf]))
    torch.testing.assert_close(net(x), chosen)


@pytest.mark.parametrize("kind", ["vim", "vmamba"])
def test_drop_path_of_a_sample_does_not_depend_on_its_batch(kind: str) -> None:
    net, x = build(kind, drop_path_rate=0.6).train(), torch.randn(4, 3, 12, 12)

    def trained(places: list[int]) -> Tensor:
        numbers = torch.tensor(places)
        with by_sample(Batch(x[places], numbers, numbers), seed=0, epoch=1), torch.no_grad():
            return net(x[places])

    whole = trained([0, 1, 2, 3])
    torch.testing.assert_close(trained([3, 1]), whole[[3, 1]])
    assert not torch.allclose(whole, net.eval()(x))


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_stages_keep_their_weights_and_drop_no_paths_but_their_alphas_learn(kind: str) -> None:
    net = build(kind, frozen_stages=2, merge="weighted", drop_path_rate=0.2).train()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    groups = decay_groups(net.named_parameters(), 0.1)
    optimizer = torch.optim.SGD(groups, lr=0.1)
    net(torch.randn(4, 3, 12, 12)).square().mean().backward()
    optimizer.step()
    levels = tuple(f"backbone.{told['module']}." for told in net.backbone.feature_info[:2])
    frozen = ("backbone.patch_embed.", "backbone.pos_embed", "backbone.cls_token", *levels)
    still = {name for name, p in net.named_parameters() if torch.equal(p, before[name])}
    assert still == {name for name in before if name.startswith(frozen) and not name.endswith(".alphas")}
    assert still.isdisjoint(name for name, _ in weight_parameters(net))
    assert not any(part.training for level in levels for part in net.get_submodule(level[:-1]).modules())
    assert net.head.training and net.backbone.get_submodule(net.backbone.feature_info[2]["module"]).training
    assert all(not part.training for part in net.eval().modules())


@pytest.mark.parametrize("kind", KINDS)
def test_levels_that_are_no_longer_frozen_learn_again_but_not_what_was_frozen_before(kind: str) -> None:
    net = build(kind, head=None, drop_path_rate=0.2).train()
    level = [f"{told['module']}." for told in net.feature_info]
    own = next(name for name, _ in net.named_parameters() if name.startswith(level[1]))
    net.get_parameter(own).requires_grad_(False)
    for levels in (3, 3, 1, 2, 0):
        net.freeze(levels)
        kept = ("patch_embed.", "pos_embed", "cls_token", *level[:levels]) if levels else ()
        fixed = {name: not parameter.requires_grad for name, parameter in net.named_parameters()}
        assert fixed == {name: name.startswith(kept) or name == own for name in fixed}
        assert [net.get_submodule(name[:-1]).training for name in level] == [place >= levels for place in range(3)]


@pytest.mark.parametrize("options", [{}, {"head": None, "features_only": True}])
def test_positions_and_class_token_of_a_backbone_stay_undecayed_under_their_names(options: dict) -> None:
    net = build("vim_cls", **options)
    assert {"backbone.pos_embed", "backbone.cls_token", "backbone.layers.0.mixer.D"} <= net.no_weight_decay() == undecayed(net)
    assert net.no_weight_decay() <= {name for name, _ in net.named_parameters()}


def test_levels_are_chosen_by_out_indices() -> None:
    assert build("vim").out_indices == [2] and build("vmamba").out_indices == [0, 1, 2]
    net = build("vim", out_indices=[0, -1])
    assert net.out_indices == [0, 2] and len(net.maps(torch.randn(1, 3, 32, 32))) == 2
    assert build("vmamba", out_indices=[1, 2]).maps(torch.randn(1, 3, 32, 32))[0].shape == (1, 16, 4, 4)


@pytest.mark.parametrize(
    ("options", "needle"),
    [
        ({"head": "plian"}, "head='plian' is not accepted; did you mean plain"),
        ({"head": 3}, "head=3 is not accepted"),
        ({"out_indices": [3]}, "3 levels; accepted: -3 to 2"),
        ({"out_indices": 2}, "out_indices=2 is not accepted; expected a list"),
        ({"out_indices": []}, "empty"),
        ({"out_indices": [2, 1]}, "in their order"),
        ({"out_indices": [0, 1]}, "leaves out the last level, 2; layers after 1 would have no part"),
        ({"frozen_stages": 4}, "frozen_stages=4 is not accepted; the model has 3 levels"),
        ({"frozen_stages": -1}, "frozen_stages=-1"),
        ({"num_classes": 0}, "num_classes of at least 1"),
        ({"global_pool": "avg"}, "global_pool='avg' has no meaning with head=plain"),
        ({"head": None, "out_indices": [2]}, r"out_indices=\[2\] needs a dense head"),
        ({"head": None, "frozen_stages": 1}, "frozen_stages=1 needs a dense head"),
    ],
)
def test_options_of_a_head_that_cannot_be_are_named(options: dict, needle: str) -> None:
    with pytest.raises(ModelError, match=needle):
        build("vim", **options)


def test_a_pyramid_of_one_stride_has_maps_of_doubling_strides() -> None:
    for patch, strides in (
        (16, [4, 8, 16, 32]),
        (14, [7, 14, 28, 56]),
        (8, [4, 8, 16, 32]),
        (2, [2, 4, 8, 16]),
        (1, [1, 2, 4, 8]),
    ):
        pyramid = Pyramid([Level(8, patch)], 4)
        assert [level.stride for level in pyramid.levels] == strides
        maps = pyramid([torch.randn(1, 8, 3, 5)])
        assert [m.shape[1] for m in maps] == [level.channels for level in pyramid.levels]
        sides = [tuple(-(-side * patch // stride) for side in (3, 5)) for stride in strides]
        assert [tuple(m.shape[2:]) for m in maps] == sides
    four = Pyramid([Level(8, 16)] * 4, 4)
    inputs = [torch.randn(1, 8, 2, 2) for _ in range(4)]
    changed = [four([*inputs[:2], torch.zeros(1, 8, 2, 2), inputs[3]]), four(inputs)]
    assert [torch.equal(a, b) for a, b in zip(*changed, strict=True)] == [True, True, False, True]


def test_a_pyramid_of_stages_keeps_them_and_pools_the_last_for_the_rest() -> None:
    pyramid = Pyramid([Level(8, 4), Level(16, 8)], 4)
    assert pyramid.levels == (Level(8, 4), Level(16, 8), Level(16, 16), Level(16, 32))
    assert [tuple(m.shape[2:]) for m in pyramid([torch.randn(1, 8, 9, 10), torch.randn(1, 16, 5, 5)])] == [
        (9, 10), (5, 5), (3, 3), (2, 2),
    ]  # fmt: skip


@pytest.mark.parametrize("size", [(24, 40), (5, 8), (3, 3)])
def test_resizing_is_that_of_interpolate(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    expected = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(resized(x, size), expected)
    slope = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad(y, x, slope)[0] for y in (resized(x, size), expected))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["vim", "vmamba"])
def test_what_a_head_costs_is_counted(kind: str) -> None:
    with torch.device("meta"):
        net = build(kind, out_indices=[2])
    report, backbone = complexity(net, (30, 45)), complexity(net.backbone, (32, 48))
    assert report.parameters == sum(p.numel() for p in net.parameters())
    assert [layer.name for layer in report.layers] == [
        n.removesuffix(".mixer") for n, m in net.named_modules() if m in net.mixers()
    ]
    with torch.device("meta"):
        maps = [torch.empty(1, channels, *grid) for channels, grid in net.map_shapes((32, 48))]
    with FlopCounterMode(display=False) as counter:
        net.head(net.neck(maps), maps[0].shape[-2:], (1, 1))  # resizing, which is not counted, left out
    assert report.rest.flops - backbone.rest.flops == counter.get_total_flops()
    assert step_bytes(net, (30, 45), 2) > step_bytes(net.backbone, (32, 48), 2)


def test_a_head_whose_work_depends_on_the_image_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HEADS, "odd", HeadKind("odd", (), HEADS["plain"].build, levels=None))
    with pytest.raises(ModelError, match="head=odd cannot be counted"):
        complexity(build("vim", head="odd"))


@pytest.mark.parametrize("kind", KINDS)
def test_features_only_gives_maps_and_tells_of_them_in_the_names_of_timm(kind: str) -> None:
    net, classifier = build(kind, head=None, features_only=True, out_indices=[0, -1]).eval(), build(kind, head=None).eval()
    info = net.feature_info
    assert info.out_indices == (0, 2) and len(info) == 3 and info[1]["index"] == 1
    x = torch.randn(1, 3, 14, 21)
    maps = net(x)
    assert [m.shape[1] for m in maps] == info.channels() and info.get_dicts(["num_chs"])[1] == {"num_chs": info.channels()[1]}
    assert [tuple(m.shape[2:]) for m in maps] == [tuple(-(-side // r) for side in (16, 24)) for r in info.reduction()]
    assert all(isinstance(net.backbone.get_submodule(name), torch.nn.Module) for name in info.module_name())
    net.backbone.load_state_dict(classifier.state_dict(), strict=False)
    same = classifier.forward_intermediates(F.pad(x, (0, 3, 0, 2)), [0, 2], intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(net(x), same, strict=True))


def test_features_only_runs_no_level_after_the_last_map_and_can_be_frozen() -> None:
    net, ran = build("vim", head=None, features_only=True, out_indices=[0], frozen_stages=1), []
    net.backbone.layers[1].register_forward_hook(lambda *_: ran.append(1))
    assert len(net(torch.randn(1, 3, 8, 8))) == 1 and not ran
    assert not any(p.requires_grad for p in net.backbone.layers[0].parameters())
    assert net.layer_of("backbone.layers.1.norm.weight") == 2 and net.layer_grids((30, 45)) == net.layer_grids((32, 48))
    with pytest.raises(ModelError, match="features_only=True leaves the head out"):
        build("vim", features_only=True)


def test_angles_that_are_kept_from_another_device_do_not_meet_the_next() -> None:
    with torch.device("meta"):
        rope_tables(12, (5, 7), like=torch.empty(1))
    cos, sin = rope_tables(12, (5, 7), like=torch.empty(1))
    assert torch.allclose(cos.square() + sin.square(), torch.ones(35, 12))
