"""A recheck that ends after its first supernet: how rarely that loses what two would have shown."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from plain_masking import PlainMasking

from lmsearch import create_model
from lmsearch.engine.objectives import Scores
from lmsearch.genotype import LayerChoice
from lmsearch.search.supernet.masking import Look
from lmsearch.search.supernet.network import named_mixers
from lmsearch.search.trust.health import check_health
from lmsearch.search.trust.recheck import HOPELESS, enough, first_advantage, fresh_advantage

CHOICES, SAMPLES, SEARCHES = 16, 8, 1500


def losses_of(advantage: float, luck: float, draw: torch.Generator) -> torch.Tensor:
    """Return losses (2, 1 + CHOICES, SAMPLES) of two supernets: worths of deviation 1, luck of training, little noise."""
    worth = torch.randn(1, 1 + CHOICES, 1, generator=draw, dtype=torch.float64)
    worth[:, 0] = advantage
    trained = worth + luck * torch.randn(2, 1 + CHOICES, 1, generator=draw, dtype=torch.float64)
    return 0.05 * torch.randn(2, 1 + CHOICES, SAMPLES, generator=draw, dtype=torch.float64) - trained


@pytest.mark.parametrize("luck", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("advantage", [0.0, 1.0, 2.0, 4.0])
def test_ending_early_misses_hardly_anything(advantage: float, luck: float) -> None:
    draw, missed, ended = torch.Generator().manual_seed(int(10 * luck + advantage)), 0, 0
    for _ in range(SEARCHES):
        losses = losses_of(advantage, luck, draw)
        hopeless = first_advantage(losses[0])[1] < HOPELESS
        ended += hopeless
        missed += hopeless and fresh_advantage(losses[:, 0], losses[:, 1:])[1] >= 3
    assert missed / SEARCHES <= 0.004  # 0.1 % expected at most
    assert ended / SEARCHES > 0.5 or advantage > 0


def test_samples_are_added_only_while_they_help_and_the_second_supernet_takes_as_many() -> None:
    draw = torch.Generator().manual_seed(0)
    worth = torch.randn(1 + CHOICES, 1, generator=draw, dtype=torch.float64)
    noise = torch.randn(1 + CHOICES, 512, generator=draw, dtype=torch.float64)
    noise[0] -= 0.2  # some hope
    shares = (0.125, 0.25, 0.5, 1.0)
    cut = [int(512 * share) for share in shares]
    clear = [Look(share, (worth + 0.1 * noise)[:, :n]) for share, n in zip(shares, cut, strict=True)]
    blurred = [Look(share, (0 * worth + noise)[:, :n]) for share, n in zip(shares, cut, strict=True)]
    assert enough(clear, None).shape[1] == 64 and enough(blurred, None).shape[1] == 512
    assert enough(blurred, 128).shape[1] == 128


def noisy_looks(losses: torch.Tensor) -> list[Look]:
    """Return the looks at an eighth, a quarter, half and all of losses (choices, samples)."""
    shares = (0.125, 0.25, 0.5, 1.0)
    return [Look(share, losses[:, : int(share * losses.shape[1])]) for share in shares]


def test_a_supernet_that_leaves_no_hope_is_looked_at_only_until_that_is_known() -> None:
    losses = torch.randn(1 + CHOICES, 512, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    losses[0] += 0.4
    assert enough(noisy_looks(losses), None).shape[1] == 64
    losses[0] -= 0.8
    assert enough(noisy_looks(losses), None).shape[1] == 512


@pytest.mark.parametrize(("advantage", "noise"), [(0.0, 8.0), (2.0, 8.0), (4.0, 16.0)])
def test_ending_the_looks_early_misses_hardly_anything(advantage: float, noise: float) -> None:
    draw, missed, ended, searches = torch.Generator().manual_seed(3), 0, 0, 200
    for _ in range(searches):
        trained = torch.randn(1, 1 + CHOICES, 1, generator=draw) + 0.3 * torch.randn(2, 1 + CHOICES, 1, generator=draw)
        trained[:, 0] += advantage
        losses = (noise * torch.randn(2, 1 + CHOICES, 256, generator=draw) - trained).double()
        early = enough(noisy_looks(losses[0]), None)
        cut = early.shape[1] < 256 and first_advantage(early)[1] < HOPELESS
        ended += cut
        missed += cut and fresh_advantage(losses[:, 0], losses[:, 1:])[1] >= 3
    assert missed <= 1 and (ended / searches > 0.25 or advantage > 0)


def test_a_recheck_without_hope_asks_for_no_second_supernet_and_says_so() -> None:
    """Held-out loss is high exactly where h runs, which the search's own supernet liked best."""
    model = create_model("local_vim_nano", directions=["h", "v", "w2", "w4"], merge="weighted", depth=1)
    asked: list[int] = []
    losses = 0.01 * torch.randn(64, generator=torch.Generator().manual_seed(1))
    runs: dict[str, tuple[int, ...]] = {}
    (mixer,) = named_mixers(model).values()
    forward = mixer.forward

    def spy(*args: object, **kwargs: object) -> torch.Tensor:
        runs["active"] = kwargs.get("active", range(4))
        return forward(*args, **kwargs)

    mixer.forward = spy

    def fresh() -> Iterator[torch.nn.Module]:
        for number in range(2):
            asked.append(number)
            yield model

    @PlainMasking
    def evaluate(module: torch.nn.Module) -> Scores:
        module(torch.zeros(1, 1, 8, 8))
        liked = bool(asked) != (0 in runs["active"])  # h is liked before the recheck, not in it
        found = losses + 0.1 * sum(runs["active"]) + (0 if liked else 1)
        return Scores(found, found)

    choices = [LayerChoice(("h",), "layers.0", {"h": 0.7, "v": 0.1, "w2": 0.1, "w4": 0.1}, 0.6)]
    health = check_health(model, choices, evaluate, seed=0, fresh=fresh(), alphas=None)
    assert asked == [0] and health.status == "indeterminate" and health.recheck_z < HOPELESS
    assert "ended after the first of its supernets" in health.reason
