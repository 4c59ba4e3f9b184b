"""Intervals and pictures."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lmsearch.engine.objectives import Scores
from lmsearch.genotype import Genotype, LayerChoice
from lmsearch.report.arms import Arm, by_chance, verdict_of
from lmsearch.report.directions import cell_label, genotype_figure, print_choices, row_label
from lmsearch.report.findings import print_findings
from lmsearch.search_space import load_search_space
from lmsearch.stats.intervals import Interval, over_both, over_samples, over_seeds, paired_shares, squared_error, wilson


def test_wilson_matches_the_textbook_value() -> None:
    interval = wilson(0.9, 100)
    assert (interval.low, interval.high) == (pytest.approx(0.8256, abs=2e-4), pytest.approx(0.9448, abs=2e-4))


def test_wilson_of_a_perfect_score_still_has_width() -> None:
    assert wilson(1.0, 50).low < 0.95


def test_paired_differences_that_are_all_zero_hold_zero() -> None:
    assert over_samples(np.zeros(20)).holds_zero


def test_one_sample_tells_of_no_spread() -> None:
    for classes in (None, np.array([0])):
        assert (over_samples(np.array([0.1]), classes).low, squared_error(np.array([0.1]), classes)) == (-math.inf, math.inf)
        assert over_both(np.array([[0.1], [0.3]]), [0.1, 0.3], classes) == over_seeds([0.1, 0.3])
    wide, luck = over_both(np.array([[1.0], [0.0]]), [1.0, 0.0], single=wilson(0.5, 1)), over_seeds([1.0, 0.0])
    assert wide.high - 0.5 == pytest.approx(math.hypot(luck.high - 0.5, wilson(0.5, 1).high - 0.5))


def test_the_interval_over_seeds_is_students() -> None:
    interval = over_seeds([0.9, 0.92, 0.94])
    assert interval.mean == pytest.approx(0.92)
    assert interval.high - interval.mean == pytest.approx(4.3027 * 0.02 / 3**0.5, rel=1e-3)


@pytest.mark.parametrize(("gained", "lost", "n"), [(2, 0, 2), (3, 0, 3), (3, 0, 10), (4, 0, 359), (0, 4, 359), (0, 0, 20)])
def test_a_few_samples_that_differ_do_not_exclude_zero(gained: int, lost: int, n: int) -> None:
    found = paired_shares(gained, lost, n)
    assert (
        found.holds_zero
        and found.low < found.high
        and found.low <= found.mean <= found.high
        and found.mean == (gained - lost) / n
    )


def test_intervals_of_paired_shares_cover_what_they_say() -> None:
    rng = np.random.default_rng(0)
    for n, (gain, loss) in itertools.product((10, 50, 400), ((0.15, 0.15), (0.03, 0.03), (0.2, 0.05))):
        drawn = (paired_shares(*rng.multinomial(n, (gain, loss, 1 - gain - loss))[:2].tolist(), n) for _ in range(1000))
        assert np.mean([found.low <= gain - loss <= found.high for found in drawn]) > 0.93


def test_the_errors_of_seeds_and_samples_add_up_and_what_samples_do_to_one_seed_counts_once() -> None:
    samples = np.array([0.0, 1.0, 2.0, 5.0])
    alike = over_both(np.stack([samples] * 3), [2.0] * 3)
    assert (alike.low, alike.high) == pytest.approx((over_samples(samples).low, over_samples(samples).high))
    apart = over_both(samples + np.array([[-0.3], [0.1], [0.2]]), [1.7, 2.1, 2.2])
    luck = over_seeds([1.7, 2.1, 2.2])
    assert apart.high - 2 == pytest.approx(math.hypot(luck.high - luck.mean, over_samples(samples).high - 2))
    opposed = np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.1]])  # no sample is hard for both
    assert over_both(opposed, [0.5, 0.525]).high - 0.5125 == pytest.approx(12.7062 * 0.0125, rel=1e-4)


def test_an_interval_over_seeds_and_samples_covers_what_it_says() -> None:
    rng, held, wider = np.random.default_rng(0), 0, 0
    for _ in range(200):
        gaps = rng.normal(size=40) + rng.normal(size=(20, 1)) * 0.7 + 0.5 * rng.normal(size=(20, 40))  # the two errors are alike
        found, parts = over_both(gaps, gaps.mean(1).tolist()), (over_samples(gaps.mean(0)), over_seeds(gaps.mean(1)))
        held += found.low <= 0 <= found.high
        wider += any(part.low <= 0 <= part.high for part in parts)
    assert 0.92 < held / 200 < 0.98 and wider / 200 < 0.91


def test_one_training_each_is_not_told_as_better() -> None:
    scores = [Scores(torch.zeros(100), (torch.arange(100) < right).float()) for right in (90, 60, 90)]
    arms = [Arm(name, [], [own]) for name, own in zip(("searched", "random", "hand-made"), scores, strict=True)]
    told = verdict_of(arms)
    assert (
        told.startswith("in these trainings the searched genotype is ahead of random (+0.3000, 95 % [+0.2")
        and "better" not in told
    )
    assert told.endswith("other seeds may reverse this: seeds=5 tells")
    assert verdict_of(arms[1:]).startswith("in these trainings the arm random is behind hand-made")
    assert verdict_of(arms[::2]).endswith("seeds=5 tells") and "better" not in verdict_of(arms[::2])
    assert by_chance(arms) == "" and by_chance([*arms, arms[0]]).endswith("more than one in 20 excludes zero by chance alone")
    assert "each: about one in 20" in by_chance([Arm("random", [], scores)] * 4)


def test_no_interval_of_an_accuracy_leaves_0_to_1() -> None:
    scores = [Scores(torch.zeros(100), (torch.arange(100) < right).float()) for right in (97, 100)]
    arm, other = Arm("searched", [], scores), Arm("random", [], scores[::-1])
    assert over_seeds([0.97, 1.0]).high > 1.1
    assert (arm.interval().mean, arm.interval().high) == (pytest.approx(0.985), 1.0) and 0 <= arm.interval().low < 0.9
    assert -1 <= arm.minus(other).low < arm.minus(other).high <= 1
    for right in (0, 1, 99, 100):
        assert 0 <= wilson(right / 100, 100).low <= wilson(right / 100, 100).high <= 1


def test_a_difference_in_the_last_bits_is_within_noise() -> None:
    tiny = 0.1 + 0.2 - 0.3
    assert Interval(tiny, tiny, tiny).holds_zero and Interval(-tiny, -tiny, -tiny).holds_zero
    assert Interval(0.1, 0.05, 0.15).above_zero and Interval(-0.1, -0.15, -0.05).below_zero
    assert Interval(math.nan, math.nan, math.nan).holds_zero


def test_the_mean_of_right_answers_is_exact() -> None:
    assert Scores(torch.zeros(3), torch.tensor([1.0, 1.0, 0.0])).score == 2 / 3


def test_a_genotype_is_printed_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = tuple(LayerChoice(("h", "w2"), f"layers.{i}", {"h": 0.4, "v": 0.2, "w2": 0.4}, 0.2) for i in range(2))
    genotype = Genotype(layers, health={"status": "ok"})
    print_choices(genotype, scores="probability")
    assert "layers.1" in capsys.readouterr().out
    genotype_figure(genotype, scores="probability").savefig(tmp_path / "g.png")
    assert (tmp_path / "g.png").read_bytes()[:4] == b"\x89PNG"


def test_a_genotype_over_many_candidates_is_drawn(tmp_path: Path) -> None:
    candidates = load_search_space("extended16").candidates
    layer = LayerChoice(candidates[:4], "layers.0", dict.fromkeys(candidates, 1 / 16), 0.0)
    genotype_figure(Genotype((layer,)), scores="probability").savefig(tmp_path / "g.png")
    assert (tmp_path / "g.png").read_bytes()[:4] == b"\x89PNG"


def test_a_consensus_shows_overlap_beside_chance_and_is_drawn_with_its_votes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = LayerChoice(("h",), "layers.0", {"h": 0.4, "v": 0.6}, 0.2)
    stability = {"layers.0": {"jaccard": 0.75, "chance": 0.25, "votes": {"h": 3, "v": 2}}}
    genotype = Genotype((layer,), health={"status": "ok", "seeds": 5, "stability": stability})
    print_choices(genotype, scores="probability")
    assert "0.75 (0.25)" in capsys.readouterr().out
    assert row_label("layers.0", stability) == "layers.0\noverlap 0.75 (chance 0.25)"
    assert cell_label(True, 3, 5) == "kept 3/5" and cell_label(False, 2, 5) == "2/5" and cell_label(True, None, 0) == "kept"
    genotype_figure(genotype, scores="probability").savefig(tmp_path / "g.png")
    assert (tmp_path / "g.png").read_bytes()[:4] == b"\x89PNG"


def test_warnings_come_first_and_with_what_to_try(capsys: pytest.CaptureFixture[str]) -> None:
    fine = {"name": "calm", "value": [0.123456, 2], "level": "ok", "meaning": "nothing", "advice": ""}
    poor = {"name": "storm", "value": {"h": 3, "v": 0}, "level": "warning", "meaning": "trouble", "advice": "an umbrella"}
    print_findings([fine, poor])
    out = capsys.readouterr().out
    assert out.index("storm") < out.index("calm")
    assert "-> an umbrella" in out and "0.123 2" in out and "h 3" in out and "v 0" not in out


def test_a_search_without_findings_prints_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_findings([])
    assert capsys.readouterr().out == ""
