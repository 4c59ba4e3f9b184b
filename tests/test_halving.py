"""Derivation by halving: what may be best is measured on all held-out samples, and what is taken is better on all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import lmsearch
from lmsearch.cli import main
from lmsearch.data import build_source, search_loaders
from lmsearch.data.read_once import ReadOnce
from lmsearch.engine.objectives import Scores, objective_for
from lmsearch.engine.train import Precision
from lmsearch.errors import ConfigError, DataError
from lmsearch.models import create_model
from lmsearch.search import trained
from lmsearch.search.derivation.choice import Quota
from lmsearch.search.derivation.climb import climb, swaps, values_of
from lmsearch.search.derivation.halving import Halving, derive_halving, known_sets, share_measured
from lmsearch.search.discrete.architectures import ArchitectureSpace
from lmsearch.search.supernet.masking import Choice
from lmsearch.search.supernet.network import named_mixers
from lmsearch.search.supernet.relax import RELAXATIONS

SIX = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip")
PAIRS = list(combinations(SIX, 2))
PARTS = (2, 2, 4)


class Landscape:
    """Losses per sample that a function of a choice's directions gives; `looked` counts the samples of every choice."""

    objective = objective_for("class")
    parts: Sequence[object] = PARTS

    def __init__(self, losses: Callable[[tuple[str, ...]], np.ndarray], *, readable: Sequence[int] = (0, 1, 2)) -> None:
        self.losses, self.readable, self.looked = losses, readable, dict.fromkeys(PAIRS, 0)

    def on_part(self, number: int, module: nn.Module, choices: Sequence[Choice]) -> list[Scores]:
        if number not in self.readable:
            return []
        start = sum(PARTS[:number])
        (mixer,), found = named_mixers(module).values(), []
        for choice in choices:
            (mine,) = choice.values()
            names = tuple(mixer.directions[i] for i in mine.active)
            self.looked[names] += PARTS[number]
            losses = torch.as_tensor(self.losses(names)[start : start + PARTS[number]])
            found.append(Scores(losses, losses))
        return found


@pytest.fixture(scope="module")
def supernet() -> nn.Module:
    return create_model("local_vim_nano", directions=SIX, merge="weighted", depth=1, embed_dim=4, d_state=1, num_classes=2)


def halved(supernet: nn.Module, samples: Landscape) -> tuple[Halving, str]:
    (layer,) = named_mixers(supernet)
    return Halving(supernet, samples), layer


def test_what_suits_the_first_samples_alone_is_not_taken(supernet: nn.Module) -> None:
    """Pair 0 is best on the first part, pair 1 on all."""

    def losses(names: tuple[str, ...]) -> np.ndarray:
        here = PAIRS.index(names)
        return np.array([-9.0, -9.0, *[9.0] * 6]) if here == 0 else np.full(8, {1: 0.0}.get(here, 1.0 + here / 10))

    samples = Landscape(losses)
    losses_of, layer = halved(supernet, samples)
    assert losses_of.best([{layer: pair} for pair in PAIRS]) == {layer: PAIRS[1]}
    assert samples.looked[PAIRS[1]] == samples.looked[PAIRS[0]] == 8
    assert sum(n == 2 for n in samples.looked.values()) >= len(PAIRS) // 2 - 1, "the worse half is seen once"


def test_what_halving_left_behind_is_asked_before_the_first_is_kept(supernet: nn.Module) -> None:
    order = {
        pair: 0.5 - n / 100 for n, pair in enumerate(reversed(PAIRS[1:]))
    }  # all a little better than the first, on two samples

    def losses(names: tuple[str, ...]) -> np.ndarray:
        late = -5.0 if names == PAIRS[1] else 5.0  # PAIRS[1] looks worst of them, and is best of all
        return np.full(8, 1.0) if names == PAIRS[0] else np.array([order[names]] * 2 + [late] * 6)

    losses_of, layer = halved(supernet, Landscape(losses))
    assert losses_of.best([{layer: pair} for pair in PAIRS]) == {layer: PAIRS[1]}


@pytest.mark.parametrize("seed", range(5))
def test_halving_ends_where_no_swap_helps_as_far_as_it_looked(supernet: nn.Module, seed: int) -> None:
    noise = {pair: np.random.default_rng([seed, n]).normal(n % 4, 1.0, 8) for n, pair in enumerate(PAIRS)}
    samples = Landscape(lambda names: noise[names])
    losses_of, layer = halved(supernet, samples)
    found = climb(losses_of, {layer: SIX}, {layer: PAIRS[-1]})
    means = {pair: losses.mean() for pair, losses in noise.items()}
    assert means[found[layer]] <= means[PAIRS[-1]] and losses_of.loss(found) == pytest.approx(means[found[layer]])
    around = [swapped for *_, swapped in swaps(found, layer, SIX)]
    assert all(rise >= 0 for rise in losses_of.rises(found, around))
    values = values_of(losses_of, {layer: SIX}, found)[layer]
    assert all((value >= 0) == (name in found[layer]) for name, value in values.items() if value != 0)
    assert max(samples.looked.values()) == 8, "no sample is scored twice"


def test_the_only_other_way_is_measured_to_the_end(supernet: nn.Module) -> None:
    """The second pair is a little worse on the first part and better on all."""
    ways = {PAIRS[0]: np.full(8, 1.0), PAIRS[1]: np.array([1.1, 1.1, *[0.0] * 6])}
    losses_of, layer = halved(supernet, Landscape(lambda names: ways[names]))
    assert losses_of.best([{layer: pair} for pair in ways]) == {layer: PAIRS[1]}


def test_a_part_that_cannot_be_read_is_left_out(supernet: nn.Module) -> None:
    ways = {pair: np.full(8, float(n)) for n, pair in enumerate(PAIRS)}
    samples = Landscape(lambda names: ways[names], readable=(1, 2))
    losses_of, layer = halved(supernet, samples)
    assert losses_of.best([{layer: pair} for pair in PAIRS[::-1]]) == {layer: PAIRS[0]}
    assert samples.looked[PAIRS[0]] == 6 and losses_of.rises({layer: PAIRS[0]}, [{layer: PAIRS[5]}]) == [5.0]


def test_halving_measures_the_share_that_it_says(supernet: nn.Module) -> None:
    rng = np.random.default_rng(1)
    noise = {pair: rng.normal(size=8) for pair in PAIRS} | {PAIRS[3]: np.full(8, -50.0)}
    samples = Landscape(lambda names: noise[names])
    losses_of, layer = halved(supernet, samples)
    losses_of.best([{layer: pair} for pair in PAIRS])
    assert sum(samples.looked.values()) / (8 * len(PAIRS)) == pytest.approx(share_measured(PARTS, len(PAIRS)))
    assert share_measured((5,), 9) == 1.0


def test_sets_of_the_literature_are_starts_where_a_space_holds_them() -> None:
    def held(names: Sequence[str], keep: int) -> list[tuple[str, ...]]:
        return [layers[0] for layers in known_sets(ArchitectureSpace.of((tuple(names),) * 2, (keep,) * 2))]

    assert held(SIX, 4) == [("h", "h_flip", "v", "v_flip"), ("h", "h_flip", "w2", "w2_flip")]
    assert held(SIX[::-1], 2) == [("h_flip", "h")] and held(SIX, 1) == [("h",)] and held(("v", "w2"), 1) == []


def test_a_budget_and_samples_that_cannot_be_read_are_refused(supernet: nn.Module) -> None:
    (layer,) = named_mixers(supernet)
    scores = {layer: dict.fromkeys(SIX, 1 / 6)}
    with pytest.raises(ConfigError, match="derivation=halving keeps a number"):
        derive_halving(supernet, scores, Landscape(lambda _: np.zeros(8)), Quota(budget=2), seed=0)
    with pytest.raises(DataError, match="held-out"):
        derive_halving(supernet, scores, Landscape(lambda _: np.zeros(8), readable=()), Quota(keep=(2,)), seed=0)


def test_samples_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = search_loaders(build_source("digits"), holdout=0.3, batch_size=64, seed=0).holdout
    once, reads = ReadOnce(loader), []
    monkeypatch.setattr(type(loader), "__iter__", lambda self: iter(reads.append(1) or [object()]))
    assert list(once) == list(once) and reads == [1]
    assert (once.num_samples, len(once), once.world) == (loader.num_samples, len(loader), loader.world)


def test_a_broken_first_image_does_not_end_halving(supernet: nn.Module, tmp_path: Path) -> None:
    for number in range(12):
        file = tmp_path / "train" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 9 * number, np.uint8)).save(file)
    source = build_source("imagefolder", root=str(tmp_path), img_size=8, val_fraction=0.2, on_error="skip")
    held = search_loaders(source, holdout=0.5, batch_size=4, seed=0).holdout
    (first,) = held.at(np.array([0]))
    Path(source.train.path(int(first.indices[0]))).write_bytes(b"")
    found = trained.Trained(
        supernet, RELAXATIONS["uniform"], "halving", Quota(keep=(2,)), held, None, objective_for("class"),
        Precision(torch.device("cpu")), 0,
    )  # fmt: skip
    assert sum(len(batch.inputs) for part in found.in_parts(held.num_samples).parts for batch in part) == held.num_samples - 1


def test_a_search_halves_on_as_many_samples_as_memory_holds_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        "search", "data=planted", "data.grid=5", "data.num_train=640", "model.embed_dim=8", "model.d_state=2", "batch_size=128",
        "epochs=1", "keep=2", "search.recheck=0", "search.health_every=0",
    ]  # fmt: skip
    for name in ("one", "same"):
        assert main([*words, f"run_dir={tmp_path / name}"]) == 0
    assert (tmp_path / "one" / "genotype.json").read_bytes() == (tmp_path / "same" / "genotype.json").read_bytes()
    assert main(["derive", f"checkpoint={tmp_path / 'one'}", f"run_dir={tmp_path / 'again'}"]) == 0
    one, again = (lmsearch.load_genotype(tmp_path / name) for name in ("one", "again"))
    assert again.derivation == one.derivation and again.directions == one.directions
    monkeypatch.setattr(trained, "READ_BYTES", 1)
    assert main([*words, f"run_dir={tmp_path / 'few'}"]) == 0
    assert lmsearch.load_genotype(tmp_path / "few").derivation["samples"] == 1
    how = one.derivation
    assert how["method"] == "halving" and how["samples"] == 320, "the default holds out half of so few"
    assert how["samples"] < how["samples_looked_at"] < how["samples"] * how["choices_tried"]
