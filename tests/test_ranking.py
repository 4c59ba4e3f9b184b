"""Rank statistics against values worked out by hand or published."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import f_oneway
from scipy.stats import wilcoxon as signed_rank

from lmsearch.stats import ranking
from lmsearch.stats.rounding import tied


def test_tau_b_corrects_for_ties() -> None:
    # 10 pairs: 8 in order, 0 reversed, 1 tied in each score -> 8 / sqrt(9 * 9)
    assert ranking.kendall([1, 2, 3, 4, 4], [1, 1, 3, 4, 5]) == pytest.approx(8 / 9)


def test_tau_of_a_reversed_order_is_minus_one() -> None:
    assert ranking.kendall([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)


def test_the_interval_of_tau_holds_tau_and_is_the_same_for_the_same_seed() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=40)
    b = a + rng.normal(size=40)
    one, two = (ranking.kendall_interval(a, b, seed=1, resamples=200) for _ in range(2))
    assert one == two and one.low < one.mean < one.high and one.mean == ranking.kendall(a, b)


def test_the_interval_is_that_of_samples_drawn_one_by_one() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(4, size=12).astype(float)  # with ties
    b = a + rng.integers(3, size=12)
    picks = np.random.default_rng(5).integers(12, size=(100, 12))
    taus = [ranking.kendall(a[p], b[p]) for p in picks]
    found = ranking.kendall_interval(a, b, seed=5, resamples=100)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(taus, [2.5, 97.5])))


def test_few_architectures_have_a_tau_and_no_interval() -> None:
    for number in (3, 4):
        found = ranking.kendall_interval(range(number), range(number), seed=0)
        assert found.mean == pytest.approx(1) and math.isnan(found.low) and math.isnan(found.high)
    assert ranking.kendall_interval(range(5), range(5), seed=0, resamples=20).low == pytest.approx(1)


def test_an_audit_knows_which_differences_it_shows() -> None:
    assert ranking.smallest_seen(8, 2, same_seeds=False) == pytest.approx(1.70, abs=0.01)
    rng, worth = np.random.default_rng(0), ranking.smallest_seen(8, 3, same_seeds=True)
    drawn = worth * rng.normal(size=(400, 8, 1)) + rng.normal(size=(400, 8, 3)) + 3 * rng.normal(size=(400, 1, 3))
    assert np.mean([ranking.architectures_differ(s, same_seeds=True) < 0.05 for s in drawn]) == pytest.approx(0.8, abs=0.05)


def test_a_constant_score_has_no_order() -> None:
    assert math.isnan(ranking.kendall_interval([1, 1, 1], [1, 2, 3], seed=0, resamples=10).mean)


@pytest.mark.parametrize(("half", "whole"), [(0.0, 0.0), (0.5, 2 / 3), (1.0, 1.0)])
def test_spearman_brown_doubles_the_length(half: float, whole: float) -> None:
    assert ranking.spearman_brown(half) == pytest.approx(whole)


def test_the_ceiling_is_one_without_noise_and_near_zero_without_differences() -> None:
    levels = np.arange(30.0)[:, None] * np.ones(4)
    noise = np.random.default_rng(0).normal(size=(200, 4))
    assert ranking.noise_ceiling(levels) == pytest.approx(1)
    assert ranking.noise_ceiling(noise) < 0.15


@pytest.mark.parametrize("seeds", [2, 3, 4, 5])
def test_the_ceiling_is_how_well_repeated_means_agree(seeds: int) -> None:
    rng, told, true = np.random.default_rng(0), [], []
    for _ in range(8):
        drawn = rng.normal(size=(1000, 1)) + rng.normal(size=(1000, 2 * seeds))
        told.append(ranking.noise_ceiling(drawn[:, :seeds]))
        true.append(ranking.kendall(drawn[:, :seeds].mean(1), drawn[:, seeds:].mean(1)))
    assert np.mean(told) == pytest.approx(np.mean(true), abs=0.03)


def test_the_ceiling_is_no_bound_of_a_score_without_noise() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=64)
    noisy = [truth[:, None] + 2 * rng.normal(size=(64, 4)) for _ in range(10)]
    perfect = np.mean([ranking.kendall(truth, scores.mean(axis=1)) for scores in noisy])
    assert np.mean([ranking.noise_ceiling(scores) for scores in noisy]) + 0.05 < perfect < 0.7


def test_the_range_counts_deviations_between_seeds() -> None:
    assert ranking.range_in_deviations(np.array([[0.0, 2.0], [10.0, 12.0]])) == pytest.approx(10 / math.sqrt(2))


def test_equal_architectures_do_not_differ_and_distant_ones_do() -> None:
    noise = np.random.default_rng(0).normal(size=(20, 4))
    for same in (False, True):
        assert ranking.architectures_differ(noise, same_seeds=same) > 0.05
        assert ranking.architectures_differ(noise + 10 * np.arange(20)[:, None], same_seeds=same) < 1e-6
    constant = np.full((3, 4), 0.7)  # whose sum is not exact
    assert ranking.architectures_differ(constant, same_seeds=True) == 1.0
    assert ranking.architectures_differ(np.tile([0.9, 0.8], (3, 1)), same_seeds=True) == 1.0, "only seeds differ"
    assert ranking.architectures_differ(constant + np.arange(3)[:, None], same_seeds=True) == 0.0


def test_the_analysis_of_variance_is_that_of_scipy_and_level_with_its_null() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(8, 3))
    assert ranking.architectures_differ(noise, same_seeds=False) == pytest.approx(f_oneway(*noise).pvalue)
    drawn = [rng.normal(size=(8, 2)) + 3 * rng.normal(size=2) for _ in range(400)]  # a seed moves all architectures
    low = np.mean([ranking.architectures_differ(scores, same_seeds=True) < 0.05 for scores in drawn])
    assert 0.02 < low < 0.09, "5 % are expected, with a standard error of 1.1"
    assert np.mean([ranking.architectures_differ(scores, same_seeds=False) < 0.05 for scores in drawn]) < 0.03, "it is careful"


def test_many_small_gains_outrank_two_large_losses() -> None:
    assert ranking.signed_rank_sum([0.1, 0.2, 0.3, 0.4, 0.5, -9, -8]) == 15 - 13
    assert ranking.signed_rank_sum([0.0, -1.0, 1.0]) == 0


def test_wilcoxon_of_six_gains_is_two_in_sixty_four() -> None:
    assert ranking.wilcoxon([1, 2, 3, 4, 5, 6]) == pytest.approx(2 / 64)
    assert ranking.wilcoxon([0, 0, 0]) == 1
    assert ranking.wilcoxon([0] * 9 + [1, 2, 3, 4, 5]) == pytest.approx(2 / 32), "ties prove nothing"
    assert ranking.wilcoxon([1, -2, 3, 4, -5, 6, 7, 9]) == pytest.approx(signed_rank([1, -2, 3, 4, -5, 6, 7, 9]).pvalue)


def test_holm_multiplies_by_the_number_of_tests_that_are_left() -> None:
    corrected = ranking.holm({"a": 0.03, "b": 0.01, "c": 0.04})
    assert corrected == pytest.approx({"b": 0.03, "a": 0.06, "c": 0.06})


def test_the_top_quartile_lists_the_best_first() -> None:
    assert ranking.top_quartile([5, 1, 9, 7, 3, 2, 8, 0, 4, 6, -1, -2]).tolist() == [2, 6, 3]


TENTHS = [0.1 + 0.2 - 0.3, 0.3 - 0.2 - 0.1, 0.7 - 0.6 - 0.1]  # all zero, but for their last bits


def test_differences_that_are_zero_but_for_their_last_bits_count_as_zero() -> None:
    assert all(TENTHS) and ranking.wilcoxon(TENTHS) == 1 and ranking.signed_rank_sum(TENTHS) == 0
    exact = [0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert ranking.wilcoxon([*TENTHS, *exact[3:]]) == ranking.wilcoxon(exact)
    assert ranking.signed_rank_sum([*TENTHS, *exact[3:]]) == ranking.signed_rank_sum(exact)


def test_differences_that_are_equal_but_for_their_last_bits_share_a_rank() -> None:
    assert 0.8 - 0.7 != 0.9 - 0.8
    assert ranking.signed_rank_sum([0.8 - 0.7, 0.8 - 0.9]) == 0
    mixed = [0.8 - 0.7, 0.8 - 0.9, 0.4 - 0.3, 0.3, 0.5]
    assert ranking.wilcoxon(mixed) == ranking.wilcoxon([1, -1, 1, 3, 5])


def test_scores_that_are_equal_but_for_their_last_bits_are_tied_in_an_order() -> None:
    scores = [0.1 + 0.2, 0.3, 0.5, 0.7]
    assert ranking.kendall(scores, [1, 2, 3, 4]) == ranking.kendall([3, 3, 5, 7], [1, 2, 3, 4])
    assert math.isnan(ranking.kendall_interval([0.1 + 0.2, 0.3, 0.3], [1, 2, 3], seed=0, resamples=10).mean)


def test_seeds_that_differ_in_the_last_bits_only_do_not_differ() -> None:
    scores = np.array([[0.1 + 0.2, 0.3], [0.3, 0.1 + 0.2], [0.3, 0.3]])
    assert ranking.range_in_deviations(scores) == 0.0 and ranking.architectures_differ(scores, same_seeds=False) == 1.0
    assert ranking.range_in_deviations(scores + 0.1 * np.arange(3)[:, None]) == math.inf


def test_values_that_rounding_parted_are_tied_and_others_keep_their_order() -> None:
    assert tied([0.00002, 0.5, 0.00001, 0.50001, 0.7, -math.inf], 1e-5).tolist() == [0.00001, 0.5, 0.00001, 0.5, 0.7, -math.inf]
    assert tied([2.0, 1.0, 1.0], 0.0).tolist() == [2.0, 1.0, 1.0]


def test_small_errors_are_not_rounded_away() -> None:
    losses = np.array([3e-9, 1e-9, 2e-9])
    assert ranking.kendall(losses, [3, 1, 2]) == 1.0
