"""The rule that turns what was measured of a search into its status and one sentence."""

from __future__ import annotations

import math

from lmsearch.search.trust.detectors import ENTROPY_UNIFORM, RECOVERED_REQUIRED, Z_REQUIRED
from lmsearch.stats.digits import beside
from lmsearch.status import Status

CONTINUE = ": continue the search with search.recheck=0.25"


def verdict(entropy: float | None, z: float | None, recovered: float | None, recheck_z: float | None) -> tuple[Status, str]:
    """Return (status, one sentence). "ok" needs all four: alphas that left uniform (mean normalised entropy), derived
    directions that beat random ones by z standard errors, that recover most of what the mixture does, and that beat random
    ones as clearly in supernets that trained all directions alike. Else "indeterminate"; "unconfirmed" where only the last
    was not measured (recheck_z is None). What could not be asked is None: entropy and recovered without alphas, and z as
    well where the supernet holds no other directions any more."""
    if not all(math.isfinite(value) for value in (entropy, z, recovered, recheck_z) if value is not None):
        return Status.INDETERMINATE, "held-out losses are not finite; a lower optim.lr or precision=fp32 may help"
    if entropy is not None and entropy > ENTROPY_UNIFORM:
        told = f"normalised entropy {beside(entropy, ENTROPY_UNIFORM, 3)} > {ENTROPY_UNIFORM}"
        return Status.INDETERMINATE, f"the alphas stayed near uniform ({told})"
    if z is not None and z < Z_REQUIRED:
        return (
            Status.INDETERMINATE,
            f"the derived directions do not beat random ones on held-out data (z = {beside(z, Z_REQUIRED)} < {Z_REQUIRED:g})",
        )
    if recovered is not None and recovered < RECOVERED_REQUIRED:
        share = f"{beside(recovered, RECOVERED_REQUIRED, 0, '%')} < {RECOVERED_REQUIRED:.0%}"
        return Status.INDETERMINATE, f"the derived directions alone recover too little of what the mixture does ({share})"
    if z is None:
        inside = "the search dropped all other directions"
    else:
        inside = f"the derived directions beat random ones on held-out data (z = {beside(z, Z_REQUIRED)})"
    inside += "" if recovered is None else f", recover {beside(recovered, RECOVERED_REQUIRED, 0, '%')} of the mixture"
    if recheck_z is None:
        unchecked = "whether they do so where all directions are trained alike was not checked"
        return Status.UNCONFIRMED, f"{inside}; {unchecked}{CONTINUE}"
    if recheck_z < Z_REQUIRED:
        return (
            Status.INDETERMINATE,
            "the derived directions do not beat random ones where all directions are trained alike "
            f"(z = {beside(recheck_z, Z_REQUIRED)} < {Z_REQUIRED:g})",
        )
    whose = "the derived ones " if z is None else ""
    return (
        Status.OK,
        f"{inside}, and {whose}beat them where all directions are trained alike (z = {beside(recheck_z, Z_REQUIRED)})",
    )
