"""The sequential test: its error rates by simulation, and parts of the samples that are all of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lmsearch.stats.sequential import FEWEST, LEVEL, all_known, answer, looks

SHARES = (0.125, 0.25, 0.5, 1.0)
PATHS = 20_000


def simulated(expected_z: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (says yes, the whole test says yes, share of samples) of PATHS tests whose z has this mean after all samples."""
    rng = np.random.default_rng(seed)
    steps = np.diff((0.0, *SHARES))
    paths = np.cumsum(expected_z * steps + np.sqrt(steps) * rng.standard_normal((PATHS, len(SHARES))), axis=1)
    yes, used = np.zeros(PATHS, bool), np.zeros(PATHS)
    for number, path in enumerate(paths):
        for share, b in zip(SHARES, path, strict=True):
            said = answer(b / math.sqrt(share), share)
            if said is not None:
                yes[number], used[number] = said, share
                break
    return yes, paths[:, -1] >= LEVEL, used


@pytest.mark.parametrize(("expected_z", "samples"), [(0.0, 0.6), (1.0, 0.8), (3.0, 1.0), (5.0, 0.92), (8.0, 0.62), (15.0, 0.3)])
def test_errors_are_those_of_the_test_that_takes_all_samples_for_fewer_of_them(expected_z: float, samples: float) -> None:
    yes, whole, used = simulated(expected_z, seed=int(expected_z))
    assert (yes & ~whole).mean() <= 0.002, "a yes that the whole test would not give"
    assert (whole & ~yes).mean() <= 0.008, "a yes that is missed"
    assert used.mean() <= samples


def test_a_mean_of_zero_passes_as_rarely_as_three_standard_errors_say() -> None:
    rates = [simulated(0.0, seed)[0].mean() for seed in range(3)]
    assert np.mean(rates) <= 0.0025  # 0.00135 of a normal z; 60,000 tests


def test_the_last_look_is_the_whole_test_and_a_z_that_is_no_number_decides_nothing_before() -> None:
    assert answer(2.999, 1.0) is False and answer(3.0, 1.0) is True
    assert answer(math.nan, 0.5) is None and answer(math.nan, 1.0) is False
    assert answer(3.0, 0.5) is None and answer(4.3, 0.5) is True and answer(-2.0, 0.5) is False


def test_one_no_is_enough_and_a_yes_needs_all() -> None:
    assert all_known([True, True]) and all_known([None, False])
    assert not all_known([True, None])


@pytest.mark.parametrize("number", [1, 2, 63, 64, 127, 128, 500, 513, 6000])
def test_parts_are_disjoint_and_all_of_the_samples(number: int) -> None:
    parts = looks(number, seed=3)
    assert sorted(np.concatenate(parts).tolist()) == list(range(number))
    assert len(parts) == 1 or len(parts[0]) >= FEWEST
    assert len(parts) == (4 if number >= 512 else 3 if number >= 256 else 2 if number >= 128 else 1)
    assert all(np.array_equal(a, b) for a, b in zip(parts, looks(number, seed=3), strict=True))
