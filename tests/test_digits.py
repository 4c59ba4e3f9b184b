"""Numbers as text that stand on the side of a limit on which they were decided to be."""

from __future__ import annotations

import math

import pytest

from lmsearch.search.trust.detectors import near_uniform, one_candidate_everywhere
from lmsearch.search.trust.verdict import verdict
from lmsearch.stats.digits import apart, beside, correlation, p_value, span


@pytest.mark.parametrize(
    ("given", "text"),
    [((2.97, 3.0), "2.97"), ((2.999, 3.0), "2.999"), ((3.02, 3.0), "3.02"), ((3.0, 3.0), "3.0"), ((5.14, 3.0), "5.1"),
     ((0.797, 0.8, 0, "%"), "79.7%"), ((0.8, 0.8, 0, "%"), "80%"), ((0.3, 0.8, 0, "%"), "30%"),
     ((1.04e-5, 1e-5, 1, "e"), "1.04e-05"), ((0.9504, 0.95, 3), "0.9504"),
     ((0.1 + 0.2, 0.3, 3), "0.300"), ((math.inf, 2.0), "inf"), ((math.nan, 2.0), "nan")],
)  # fmt: skip
def test_a_number_is_printed_on_its_side_of_the_limit(given: tuple, text: str) -> None:
    assert beside(*given) == text


def test_p_values_differences_and_pairs_keep_what_was_decided() -> None:
    assert [p_value(p) for p in (0.0, 0.0004, 0.012, 0.04996, 0.05, 1.0)] == [
        "p < 0.001", "p < 0.001", "p = 0.012", "p = 0.04996", "p = 0.050", "p = 1.000",
    ]  # fmt: skip
    assert span(0.0123, 0.00003, 0.02) == "+0.01230 [+0.00003, +0.02000]" and span(0.1, -0.1, 0.3) == "+0.1000 [-0.1000, +0.3000]"
    assert span(0.0, 0.0, 0.0) == "+0.0000 [+0.0000, +0.0000]" and span(math.nan, math.nan, math.nan) == "+nan [+nan, +nan]"
    assert apart(2.30261, 2.30259) == ("2.30261", "2.30259") and apart(1.0, 1.0) == ("1.0000", "1.0000")
    assert correlation(1.0, None, None, number=3) == "+1.00 (no interval: 3 architectures, 5 are needed)"


def test_no_reason_of_a_search_contradicts_its_status() -> None:
    assert "z = 2.97 < 3" in verdict(0.5, 2.97, 0.9, 4.0)[1] and "z = 2.96 < 3" in verdict(0.5, 5.0, 0.9, 2.96)[1]
    assert "79.7% < 80%" in verdict(0.5, 5.0, 0.797, 4.0)[1] and "0.9504 > 0.95" in verdict(0.9504, 5.0, 0.9, 4.0)[1]
    near = near_uniform({"a": -1.0}), near_uniform({"a": 0.9504})
    assert "(at most 0.95)" in near[0].meaning and "(at most 0.95; it is 0.9504)" in near[1].meaning
    assert "has p = " in one_candidate_everywhere([("h",)], [("h", "v")]).meaning
