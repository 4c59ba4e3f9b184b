"""Masked evaluation: exactly the numbers of one pass per choice, and no layer or branch run twice on the same input."""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from plain_masking import PlainMasking
from torch import Tensor, nn

from lmsearch.data import Batch, PlainLoader
from lmsearch.engine.objectives import classification
from lmsearch.engine.train import Precision, evaluate
from lmsearch.models import create_model
from lmsearch.models.mixer import DirectionalMixer
from lmsearch.search.supernet.masking import Choice, OnBatches, losses_of
from lmsearch.search.supernet.network import Branches, masked, named_mixers, remaining

EIGHT = ["h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w4", "w4_flip"]
CPU = Precision(torch.device("cpu"), "fp32")
OBJECTIVE = classification()
FAMILIES = {
    "local_vim_nano": {"depth": 3, "embed_dim": 16},
    "local_vim_nano with a class token": {
        "depth": 2,
        "embed_dim": 16,
        "middle_cls_token": True,
        "global_pool": "token",
        "use_rope": False,
    },
    "local_vim_nano, channel attention": {"depth": 2, "embed_dim": 16, "attention": "channel"},
    "local_vim_nano, some channels": {"depth": 2, "embed_dim": 16, "partial_channels": 2},
    "local_vim_nano, zero padding": {"depth": 2, "embed_dim": 16, "window_padding": "zeros"},
    "local_vmamba_nano": {},
}


def supernet(name: str, backend: str = "reference") -> nn.Module:
    torch.manual_seed(0)
    options = FAMILIES[name]
    module = create_model(name.split(",")[0].split()[0], directions=EIGHT, merge="weighted", backend=backend, **options)
    with torch.no_grad():
        for mixer in named_mixers(module).values():
            mixer.out_proj.weight *= 20  # what the branches do shows in the losses
    return module.eval()


def batches() -> list[Batch]:
    draw = torch.Generator().manual_seed(1)
    pairs = [(torch.randn(n, 1, 8, 8, generator=draw), torch.randint(10, (n,), generator=draw)) for n in (5, 3)]
    return [Batch(inputs, targets, torch.arange(len(targets))) for inputs, targets in pairs]


def held_out() -> OnBatches:
    return OnBatches(batches(), OBJECTIVE, CPU)


def plain() -> PlainMasking:
    return PlainMasking(partial(evaluate, loader=batches(), objective=OBJECTIVE, precision=CPU))


def choices_of(module: nn.Module) -> list[Choice]:
    """Random choices, swaps in one layer, mixtures of many branches, a repeated choice and the supernet as it is."""
    rng, layers = np.random.default_rng(0), list(named_mixers(module))

    def draw() -> dict[str, tuple[str, ...]]:
        return {layer: tuple(EIGHT[i] for i in sorted(rng.choice(8, size=3, replace=False))) for layer in layers}

    start = draw()
    ways = [masked(module, way) for way in (start, draw(), draw(), start)]
    ways += [masked(module, {**start, layers[-1]: (first, "w4_flip")}) for first in EIGHT[:4]]
    weights = dict(zip(EIGHT, np.linspace(0.05, 0.2, 8).tolist(), strict=True))
    whole = {layer: remaining(module, layer, EIGHT, weights) for layer in layers}
    return [*ways, whole, {**whole, layers[0]: remaining(module, layers[0], EIGHT[2:], weights)}, {}]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_choice_gets_the_scores_of_a_pass_of_its_own(name: str) -> None:
    module = supernet(name)
    ways = choices_of(module)
    together, alone = held_out().each(module, ways), plain().each(module, ways)
    for mine, its in zip(together, alone, strict=True):
        assert torch.equal(mine.losses, its.losses) and torch.equal(mine.scores, its.scores)
        assert mine.sums is None  # counts of 1,000 classes take 8 MB for each choice
    assert len({scores.loss for scores in together}) > len(ways) // 2  # on small grids some choices are the same


@pytest.mark.parametrize("name", ["local_vim_nano", "local_vmamba_nano"])
def test_the_native_kernels_agree_with_a_pass_of_its_own(name: str) -> None:
    module = supernet(name, backend="native")
    ways = choices_of(module)
    for mine, its in zip(losses_of(module, held_out(), ways), losses_of(module, plain(), ways), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-6)


def test_common_layers_run_once_and_so_does_each_branch_of_the_layer_where_choices_part(monkeypatch) -> None:
    module, ran = supernet("local_vim_nano"), Counter()
    name_of = {mixer: layer for layer, mixer in named_mixers(module).items()}
    attended = DirectionalMixer.attended

    def counted(self, o):
        ran[name_of[self]] += o.shape[1]
        return attended(self, o)

    monkeypatch.setattr(DirectionalMixer, "attended", counted)
    same = {"layers.0": ("h", "v"), "layers.2": ("h", "w2")}
    ways = [masked(module, {**same, "layers.1": ("h", other)}) for other in EIGHT[1:]]
    OnBatches(batches()[:1], OBJECTIVE, CPU).each(module, ways)
    assert ran == {"layers.0": 2, "layers.1": 8, "layers.2": 2 * 7}


def test_what_is_left_beside_a_direction_that_had_all_of_the_probability_keeps_its_weights() -> None:
    module = supernet("local_vim_nano")
    scores = {"h": 1.0, "h_flip": 2e-300, "v": 6e-300}
    left = remaining(module, "layers.0", ("h_flip", "v"), scores)
    torch.testing.assert_close(left.weights, torch.tensor([0.25, 0.75]))


def test_looks_add_up_to_one_pass_and_leave_out_parts_of_which_nothing_can_be_read() -> None:
    module = supernet("local_vim_nano")
    ways, whole = choices_of(module), PlainLoader([(batch.inputs, batch.targets) for batch in batches()], what="val")
    places = [np.array([1, 4, 6]), np.array([], dtype=int), np.array([0, 2, 3, 5, 7])]
    looks = [*OnBatches(whole, OBJECTIVE, CPU, [whole.at(part) for part in places]).looks(module, ways)]
    assert [look.share for look in looks] == [3 / 8, 1.0] and looks[0].losses.shape == (len(ways), 3)
    expected = torch.stack(losses_of(module, held_out(), ways))
    torch.testing.assert_close(looks[-1].losses, expected[:, np.concatenate(places)], rtol=1e-6, atol=1e-6)


def test_the_choices_may_come_in_any_order() -> None:
    module = supernet("local_vmamba_nano")
    ways = choices_of(module)
    forth, back = held_out().each(module, ways), held_out().each(module, ways[::-1])[::-1]
    assert all(torch.equal(a.losses, b.losses) for a, b in zip(forth, back, strict=True))
    assert held_out().each(module, []) == []


def test_a_network_that_writes_into_what_a_mixer_gave_or_took_gets_the_same_scores() -> None:
    class Own(nn.Module):
        """A user's network: one mixer, called twice, around which tensors are changed in place."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = create_model("local_vim_nano", directions=EIGHT, merge="weighted", depth=1, embed_dim=16)
            self.head = nn.Linear(16, 10)

        def forward(self, images: Tensor) -> Tensor:
            x = images.flatten(1).unflatten(1, (4, 16)).clone()
            mixer = self.inner.layers[0].mixer
            y = mixer(x, (2, 2))
            x += 1.0
            y *= 2.0
            return self.head(mixer(x, (2, 2)).add_(y).mean(1))

    torch.manual_seed(0)
    module = Own().eval()
    layer = next(iter(named_mixers(module)))
    ways = [{layer: Branches(active, torch.full((2,), 0.5))} for active in ((0, 1), (0, 2), (0, 1))]
    for mine, its in zip(held_out().each(module, ways), plain().each(module, ways), strict=True):
        assert torch.equal(mine.losses, its.losses)
