"""Every detector fires on a search gone wrong in its way, and is quiet on a healthy one."""

from __future__ import annotations

import pytest

from lmsearch.errors import ModelError
from lmsearch.search.trust import detectors as d
from lmsearch.search.trust.consensus import seeds_agree

EIGHT = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w4", "w4_flip")
FLAT = dict.fromkeys(EIGHT, 0.125)


def tilted(favourite: str, by: float) -> dict[str, float]:
    """Return probabilities of eight candidates with one raised."""
    return {name: (p + by if name == favourite else p - by / 7) for name, p in FLAT.items()}


def seeds(*favourites: str, by: float) -> list[dict[str, dict[str, float]]]:
    return [{"layers.0": tilted(name, by)} for name in favourites]


CASES = {  # name: (a search gone wrong, a healthy one)
    "near uniform": (d.near_uniform({"a": 0.99, "b": 0.97}), d.near_uniform({"a": 0.99, "b": 0.4})),
    "near uniform over seeds": (
        d.near_uniform_over_seeds(seeds("h", "v", "w2", by=0.02), [1]),
        d.near_uniform_over_seeds(seeds("h", "h", "h", by=0.02), [1]),
    ),
    "no better than random": (d.beats_random(0.01, 1.0), d.beats_random(0.5, 20.0)),
    "discretisation": (
        d.discretisation_gap([0.9, 0.5, 0.1], 0.5, at_stake=1.0),
        d.discretisation_gap([0.05, 0.02, 0.01], 0.95, at_stake=1.0),
    ),
    "alphas are not usefulness": (
        d.rank_agreement({"a": -0.2, "b": 0.1}, [8, 8], 0.3),
        d.rank_agreement({"a": 0.7, "b": 0.6}, [8, 8], 0.9),
    ),
    "sharp": (d.sharpness([5.0, 1.0, 1.1, 1.2, 1.4]), d.sharpness([1.0, 1.1, 1.2, 1.25])),
    "memorising": (d.memorising(0.1, 0.9, 0.05, 0.9), d.memorising(0.8, 0.0, 0.05, 0.051)),
    "duplicates": (d.duplicate_candidates({"a": {"w4": "h"}}), d.duplicate_candidates({"a": {}})),
    "one candidate everywhere": (
        d.one_candidate_everywhere([("h",)] * 6, [EIGHT] * 6),
        d.one_candidate_everywhere([(name,) for name in EIGHT[:6]], [EIGHT] * 6),
    ),
    "seeds disagree": (seeds_agree(0.3, 0.29, 0.4), seeds_agree(0.9, 0.29, 0.0001)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_detector_fires_where_it_should_with_advice(case: str) -> None:
    found = CASES[case][0]
    assert found.level == "warning" and found.advice and found.meaning


@pytest.mark.parametrize("case", CASES)
def test_a_detector_is_quiet_on_a_healthy_search(case: str) -> None:
    found = CASES[case][1]
    assert found.level == "ok" and not found.advice


def test_a_flat_choice_that_keeps_everything_is_not_within_seed_noise() -> None:
    assert d.near_uniform_over_seeds(seeds("h", "v", by=0.01), [8]).level == "ok"


def test_curvature_that_rose_and_fell_again_is_not_a_sharp_end() -> None:
    assert d.sharpness([1.0, 9.0, 2.0, 1.5]).level == "ok"


def test_three_measurements_of_curvature_are_too_few() -> None:
    assert d.sharpness([1.0, 2.0, 4.0]).level == "ok"


def test_gradient_noise_of_a_net_that_generalises_is_not_memorising() -> None:
    assert d.memorising(0.1, 0.9, 0.05, 0.055).level == "ok"


def test_a_single_layers_tau_near_zero_is_no_warning_where_the_kept_direction_is_the_useful_one() -> None:
    assert d.rank_agreement({"a": 0.0}, [8], 1.0).level == "ok"


def test_the_discretisation_gap_names_the_number_of_directions_that_would_do() -> None:
    assert "keep=3 would be enough" in d.discretisation_gap([0.9, 0.5, 0.1], 0.5, at_stake=1.0).advice


def test_dropped_branches_are_no_candidates_of_the_histogram() -> None:
    """Two left of eight: keeping the same one in four layers is chance, at eight it would not be."""
    assert d.one_candidate_everywhere([("h",)] * 4, [("h", "v")] * 4).level == "ok"
    assert d.one_candidate_everywhere([("h",)] * 4, [EIGHT] * 4).level == "warning"


def test_the_tail_of_equal_chances_is_binomial() -> None:
    from scipy.stats import binom

    assert d.tail([0.3] * 7, 4) == pytest.approx(binom.sf(3, 7, 0.3))
    assert d.tail([0.3, 0.9], 0) == pytest.approx(1.0)


def test_a_parameter_in_both_optimizers_is_refused() -> None:
    first, second = object(), object()
    d.check_disjoint([first], [second])
    with pytest.raises(ModelError, match="both"):
        d.check_disjoint([first, second], [second])
