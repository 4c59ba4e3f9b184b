"""Both families by name: counts, shapes, sizes that do not divide, heads, errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from lmsearch import DirectionalMixer, LocalVimMixer, LocalVMambaMixer, MixerOptions, create_model, model_names
from lmsearch.errors import DirectionError, ModelError
from lmsearch.models import model_depth
from lmsearch.models.layers import resize_positions, rope_tables

PUBLISHED = {
    "local_vim_tiny": 7_994_152, "local_vim_small": 27_783_784, "local_vim_tiny_middle_cls_token": 7_994_536,
    "local_vmamba_tiny": 25_527_160, "local_vmamba_small": 49_748_536, "local_vim_tiny_search": 5_473_288,
    "local_vmamba_small_search": 9_148_512,
}  # fmt: skip
SMALL_VIM = {"embed_dim": 16, "depth": 2, "patch_size": 4, "img_size": 32, "num_classes": 5}
SMALL_VMAMBA = {"dims": (8, 16, 32), "depths": (1, 1, 1), "img_size": 32, "num_classes": 5}
SMALL = {
    "vim": ("local_vim", SMALL_VIM), "vim_cls": ("local_vim", SMALL_VIM | {"use_rope": False, "middle_cls_token": True}),
    "vim_conv": ("local_vim", SMALL_VIM | {"stem": "conv"}), "vim_layer": ("local_vim", SMALL_VIM | {"norm": "layer"}),
    "vmamba": ("local_vmamba", SMALL_VMAMBA),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_agree_with_the_published_models(name: str) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in create_model(name).parameters()) == PUBLISHED[name]


@pytest.mark.parametrize("name", ["local_vim_nano", "local_vmamba_nano"])
@pytest.mark.parametrize("size", [(8, 8), (9, 5)])
def test_nano_models_train_at_any_size(name: str, size: tuple[int, int]) -> None:
    model = create_model(name)
    model(torch.randn(2, 1, *size)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(("name", "first"), [("local_vim_nano", "layers.0"), ("local_vmamba_nano", "stages.0.blocks.0")])
def test_weights_drawn_by_fan_in_keep_the_size_of_signals_in_narrow_networks(name: str, first: str) -> None:
    torch.manual_seed(0)
    for init, least, most in (("default", 0.05, 0.2), ("fan_in", 0.8, 1.2)):
        linear = create_model(name, init=init).get_submodule(f"{first}.mixer.in_proj")
        out = linear(torch.randn(500, linear.in_features))
        assert least < out.square().mean().sqrt() < most


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("merge", ["sum", "weighted"])
@pytest.mark.parametrize("padding", ["none", "zeros"])
@pytest.mark.parametrize("size", [(32, 32), (30, 45)])
def test_every_structure_takes_square_and_other_images(kind: str, merge: str, padding: str, size: tuple[int, int]) -> None:
    name, options = SMALL[kind]
    model = create_model(name, directions=["h", "v_flip", "w2", "w7"], merge=merge, window_padding=padding, **options)
    logits = model(torch.randn(2, 3, *size))
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", SMALL)
def test_features_and_head_compose_to_the_forward(kind: str) -> None:
    name, options = SMALL[kind]
    model = create_model(name, **options).eval()
    x = torch.randn(2, 3, 32, 32)
    features = model.forward_features(x)
    assert torch.equal(model.forward_head(features), model(x))
    assert model.forward_head(features, pre_logits=True).shape == (2, model.num_features)


@pytest.mark.parametrize("kind", ["vim", "vmamba"])
def test_without_pooling_there_is_one_output_per_token(kind: str) -> None:
    name, options = SMALL[kind]
    model = create_model(name, global_pool="", **options)
    tokens = 64 if kind == "vim" else 4
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, tokens, 5)


@pytest.mark.parametrize("kind", ["vim", "vmamba"])
def test_the_classifier_can_be_replaced_and_removed(kind: str) -> None:
    name, options = SMALL[kind]
    model = create_model(name, **options)
    model.reset_classifier(3)
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 3)
    model.reset_classifier(0)
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, model.num_features)
    for pool in ("token", "max"):
        with pytest.raises(ModelError, match=rf"^global_pool='{pool}' is not accepted; accepted: 'avg', ''"):
            model.reset_classifier(5, global_pool=pool)
    assert (model.num_classes, model.global_pool) == (0, "avg")


def kept_bytes(run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, int]:
    """Return a result, and the bytes of the tensors that autograd keeps for its backward pass, each counted once."""
    kept: dict[tuple[int, int], int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr(), tensor.storage_offset()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        return run(), sum(kept.values())


@pytest.mark.parametrize("merge", ["sum", "weighted"])
@pytest.mark.parametrize("kind", SMALL)
def test_recomputing_activations_changes_no_gradient_and_keeps_less(kind: str, merge: str) -> None:
    name, options = SMALL[kind]
    torch.manual_seed(0)
    model = create_model(name, drop_path_rate=0.0, merge=merge, **options).train()
    x, found = torch.randn(2, 3, 32, 32), []
    for recomputed in (False, True):
        model.set_grad_checkpointing(recomputed)
        loss, kept = kept_bytes(lambda: model(x).square().sum())
        found.append((loss, kept, torch.autograd.grad(loss, list(model.parameters()))))
    (plain, plenty, gradients), (again, few, others) = found
    assert torch.equal(plain, again) and all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))
    assert few < 0.5 * plenty


@pytest.mark.parametrize("wrong", ["5", -1, True, 2.0, None])
def test_a_classifier_of_what_is_no_number_of_classes_is_refused_and_the_head_stays(wrong: object) -> None:
    model = create_model("local_vim_nano", depth=1, embed_dim=8)
    head = model.head
    with pytest.raises(ModelError, match=r"^num_classes=.* is not accepted; expected a whole number from 0 on$"):
        model.reset_classifier(wrong, global_pool="")
    assert model.head is head and (model.num_classes, model.global_pool) == (10, "avg")


def test_numbers_of_numpy_and_pytorch_are_taken_as_pythons() -> None:
    given = {"embed_dim": np.int64(16), "depth": torch.tensor(2), "img_size": np.array([6, 8]), "drop_path_rate": np.float32(0.5)}
    model = create_model("local_vim_nano", use_rope=np.bool_(True), **given)
    assert (model.num_features, len(model.mixers()), model.grid) == (16, 2, (6, 8))
    assert model_depth("local_vmamba", depths=np.array([2, 1])) == 3
    model.reset_classifier(np.int64(3))
    model.freeze(np.int64(1))
    assert type(model.num_classes) is type(model.frozen_levels) is int
    with pytest.raises(ModelError, match=r"^frozen_stages='1' is not accepted; the model has 2 levels$"):
        model.freeze("1")
    options = MixerOptions(d_state=np.int64(4))
    assert options == MixerOptions(d_state=4) and type(options.d_state) is int
    for wrong in ({"d_state": "4"}, {"expand": 1.5}, {"partial_channels": True}):
        with pytest.raises(ModelError, match="expected a whole number from 1 on"):
            MixerOptions(**wrong)


@pytest.mark.parametrize("backend", ["native"])
@pytest.mark.parametrize("kind", ["vim", "vmamba"])
def test_backends_agree_on_a_whole_model(kind: str, backend: str) -> None:
    name, options = SMALL[kind]
    results = []
    for chosen in ("reference", backend):
        torch.manual_seed(0)
        model = create_model(name, directions=["h", "v", "w2", "w7_flip"], merge="weighted", backend=chosen, **options)
        x = torch.randn(3, 3, 32, 40, generator=torch.Generator().manual_seed(1))
        y = model.eval()(x)
        results.append((y, torch.autograd.grad(y.square().sum(), list(model.parameters()))))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-4, atol=1e-6)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert (a - b).abs().max() <= 1e-4 * a.abs().max() + 1e-7


def test_grids_of_the_layers_follow_padding_and_merging() -> None:
    assert create_model("local_vim_nano").layer_grids((8, 9)) == [(8, 9)] * 3
    assert create_model("local_vim", **SMALL_VIM).layer_grids((30, 45)) == [(8, 12)] * 2
    assert create_model("local_vmamba", **SMALL_VMAMBA).layer_grids((30, 45)) == [(7, 11), (4, 6), (2, 3)]


@pytest.mark.parametrize("mixer", [LocalVimMixer, LocalVMambaMixer])
def test_a_mixer_says_which_tokens_its_grid_needs(mixer: type[DirectionalMixer]) -> None:
    net, x = mixer(8, ["h", "v"], MixerOptions()), torch.zeros(1, 15, 8)
    assert net(x, (3, 5)).shape == net(x, np.array([3, 5])).shape == x.shape
    with pytest.raises(ModelError, match="^x has 15 tokens; expected the 12 of a grid of 3x4$"):
        net(x, (3, 4))
    with pytest.raises(ModelError, match="^x has 15 tokens; expected the 15 of a grid of 3x5 and a class token$"):
        net(x, (3, 5), cls_index=7)


def test_positions_resize_and_keep_the_class_token() -> None:
    table = torch.arange(17.0).view(1, 17, 1).expand(1, 17, 3)
    resized = resize_positions(table, (4, 4), (2, 6), cls_index=8)
    assert resized.shape == (1, 13, 3)
    assert torch.equal(resized[0, 6], table[0, 8]), "the class token sits in the middle of the new grid"
    assert resize_positions(table, (4, 4), (4, 4), cls_index=8) is table


def test_rope_of_a_larger_grid_spans_the_same_angles() -> None:
    like = torch.zeros(1, dtype=torch.float64)
    small, large = (rope_tables(8, (side, side), like=like)[0] for side in (7, 14))
    assert torch.allclose(small.view(7, 7, 8), large.view(14, 14, 8)[::2, ::2])


@pytest.mark.parametrize(
    ("name", "options", "needle"),
    [
        ("local_vim_tinny", {}, "local_vim_tiny"),
        ("local_vim", {"embed": 3}, "embed_dim"),
        ("local_vim", {"merge": "mean"}, "sum, weighted"),
        ("local_vim", {"attention": "se"}, "spatial_channel"),
        ("local_vim", {"window_padding": "same"}, "zeros"),
        ("local_vim", {"init": "xavier"}, "released"),
        ("local_vim", {"stem": "resnet"}, "conv"),
        ("local_vim", {"norm": "batch"}, "rms"),
        ("local_vim", {"global_pool": "max"}, "avg"),
        ("local_vim", {"middle_cls_token": True}, "use_rope"),
        ("local_vim", {"embed_dim": 18}, "multiple of 4"),
        ("local_vmamba", {"dims": (8, 24), "depths": (1, 1)}, "double"),
        ("local_vim", {"directions": [["h"]] * 3}, "20"),
        ("local_vim", {"directions": "h"}, "list"),
        ("local_vim", {"directions": [[]] * 20}, "at least one"),
    ],
)
def test_wrong_options_are_named_with_what_is_accepted(name: str, options: dict, needle: str) -> None:
    with pytest.raises(ModelError, match=needle):
        create_model(name, **options)


def test_an_unknown_direction_is_named() -> None:
    with pytest.raises(DirectionError, match="w3x"):
        create_model("local_vim", directions=["h", "w3x"])


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in model_names() if "nano" not in n])
@pytest.mark.parametrize("size", [(224, 224), (160, 288)])
def test_published_models_train_at_224_and_at_a_size_that_is_not_square(name: str, size: tuple[int, int]) -> None:
    model = create_model(name)
    logits = model(torch.randn(1, 3, *size))
    assert logits.shape == (1, 1000)
    logits.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
