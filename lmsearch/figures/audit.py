"""The figure of an audit: what random architectures score, and how the arms of the race did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmsearch.audit.ledger import Row
from lmsearch.audit.verdict import trainings
from lmsearch.files import write_figure


def save_audit_figure(rows: Sequence[Row], measured: Mapping[str, Any], path: Path, *, metric: str, tested_on: str) -> None:
    """Write a PNG with two panels: validation scores of random architectures per seed, and scores of the arms, on
    what `tested_on` names."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    found = trainings(rows, prefixes=("random", "second seed"))
    ordered = sorted(found.values(), key=lambda r: -sum(x["val"] for x in r) / len(r))
    for x, trained in enumerate(ordered):
        left.plot([x] * len(trained), [row["val"] for row in trained], "o-", color="black", markersize=4, linewidth=0.8)
    left.set_xlabel("random architectures, best first; dots: seeds")
    left.set_ylabel(f"validation {metric}")
    if raced := measured["race"]:
        for x, values in enumerate(raced["test"].values()):
            error = [[values["mean"] - values["low"]], [values["high"] - values["mean"]]]
            right.errorbar(x, values["mean"], yerr=error, fmt="o", color="black", capsize=3)
        right.set_xticks(range(len(raced["test"])), [name.replace(" ", "\n") for name in raced["test"]])
        right.set_xlim(-0.5, len(raced["test"]) - 0.5)
        right.set_ylabel(f"{tested_on} {metric}, 95 % interval over {raced['rounds']} rounds")
    else:
        right.text(0.5, 0.5, "race not complete", ha="center", transform=right.transAxes)
    figure.suptitle(f"search warranted: {measured['verdict']['answer']}", fontsize=10)
    write_figure(path, figure)
    plt.close(figure)
