"""What the search's own supernet tells of the derived directions: on as many held-out samples as the answer needs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from lmsearch.search.supernet.masking import Look
from lmsearch.search.trust.detectors import RECOVERED_REQUIRED, Z_REQUIRED
from lmsearch.stats.sequential import all_known, answer, clear


@dataclass(frozen=True)
class Inside:
    """Advantage over random choices and what it is in standard errors; gap to the mixture, where there is one."""

    advantage: float
    z: float
    gap: float | None
    samples: int


def look_inside(looks: Iterable[Look], *, mixed: bool) -> Inside:
    """Look until it is known whether the derived directions beat random ones and, `mixed`, recover enough of the mixture.

    The losses (choices, n) of a look are those of the derived directions, of random ones and, `mixed`, of the mixture, last.
    """
    for look in looks:
        derived, drawn = look.losses[0], (look.losses[1:-1] if mixed else look.losses[1:])
        paired = drawn.mean(0) - derived  # (n,)
        z = in_standard_errors(paired)
        known = [answer(z, look.share, level=Z_REQUIRED)]
        gap = None
        if mixed:
            gaps = derived - look.losses[-1]
            gap = gaps.mean().item()
            known.append(recovers(paired, gaps, look.share))
        if all_known(known):
            break
    return Inside(paired.mean().item(), z, gap, len(paired))


def recovers(paired: Tensor, gaps: Tensor, share: float) -> bool | None:
    """Tell whether advantage / (advantage + gap) is RECOVERED_REQUIRED or more; None where more samples must tell.

    paired, gaps (n,): advantage and gap of each sample. Asked of the sign of a mean, clear by as much as the advantage must be.
    """
    excess = in_standard_errors((1 - RECOVERED_REQUIRED) * paired - RECOVERED_REQUIRED * gaps)
    if share >= 1 or not math.isfinite(excess):
        return None
    return excess > 0 if abs(excess) >= clear(share, level=Z_REQUIRED) else None


def in_standard_errors(values: Tensor) -> float:
    """Return the mean of values (n,) over its standard error; 0 for a single value, which tells nothing."""
    if len(values) < 2:
        return 0.0
    return values.mean().item() / max(values.std().item() / math.sqrt(len(values)), 1e-12)
