"""The picture of a benchmark: times beside the peers', peak memory and growth, from the values of the JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lmsearch.figures.canvas import BEST_COLOUR, OTHER_COLOUR, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = Mapping[str, Any]  # what a section wrote into bench.json
Bars = dict[str, tuple[float, str]]  # length and label by name, ours first


def can_be_drawn(values: Values) -> bool:
    """Tell whether `values` holds a section that bench_figure draws."""
    return bool(bars_of(values) or curves_of(values))


def bench_figure(values: Values) -> Figure:
    """Draw the sections that `values` holds, of which one at least can be drawn."""
    panels, curves = bars_of(values), curves_of(values)
    count = len(panels) + bool(curves)
    figure = new_figure(9, 2.6 * count)
    axes = figure.subplots(count, 1, squeeze=False)[:, 0]
    for ax, (title, bars) in zip(axes, panels, strict=False):  # the last one may be for the curves
        bar_panel(ax, title, bars)
    if curves:
        growth_panel(axes[-1], curves)
    return figure


def curves_of(values: Values) -> Mapping[str, Values] | None:
    """Return how time grows along every axis of size, if that was measured."""
    curves: Mapping[str, Values] | None = values.get("growth", {}).get("axes")
    return curves


def bars_of(values: Values) -> list[tuple[str, Bars]]:
    """Return the title and the bars of every panel of bars."""
    panels = []
    if scan := values.get("scan"):
        bars = {name: (1e3 * row["seconds"]["median"], f"{row['gel_s']:.3g} Gel/s") for name, row in scan["both"].items()}
        panels.append((f"scan, forward + backward, ms\n{scan['shape']}, 1 thread", bars))
    for section, key in (("layer", "both"), ("supernet", "compared")):
        if found := values.get(section):
            bars = {name: (1e3 * row["seconds"]["median"], factor(row)) for name, row in found[key].items()}
            shape = found["compared_shape" if key == "compared" else "shape"]
            title = "supernet step, ms" if section == "supernet" else "mixer, forward + backward, ms"
            panels.append((f"{title}\n{shape}", bars))
    if found := values.get("policies"):
        bars = {name: (1e3 * row["seconds"]["median"], factor(row)) for name, row in found["step"].items()}
        panels.append((f"supernet step by policy, ms\n{found['shape']}", bars))
    if peaks := values.get("memory", {}).get("peaks"):
        bars = {name: (row["peak_bytes"] / 2**20, f"x {row['times_first']:.1f}") for name, row in peaks.items()}
        panels.append((f"peak memory of the mixer, MiB\n{values['memory']['shape']}", bars))
    return panels


def factor(row: Values) -> str:
    """Return how many times ours a row takes, in words for a bar."""
    return f"x {row['times_first']['median']:.1f}"


def bar_panel(ax: Axes, title: str, bars: Bars) -> None:
    """Draw one horizontal bar per name on a logarithmic axis, the first (ours) in its own colour."""
    values = [value for value, _ in bars.values()]
    drawn = ax.barh(list(bars), values, color=[BEST_COLOUR] + [OTHER_COLOUR] * (len(bars) - 1))
    ax.bar_label(drawn, labels=[label for _, label in bars.values()], padding=3)
    ax.set(xscale="log", xlim=(min(values) / 2, max(values) * 4))
    ax.set_title(title, loc="left", fontsize=10)
    ax.invert_yaxis()


def growth_panel(ax: Axes, curves: Mapping[str, Values]) -> None:
    """Draw time against size, both relative to the smallest size, one line per axis, beside a linear one."""
    largest = 1.0
    for axis, row in curves.items():
        first = row["sizes"][0]
        sizes = [point["size"] / first["size"] for point in row["sizes"]]
        seconds = [point["seconds"] / first["seconds"] for point in row["sizes"]]
        ax.plot(sizes, seconds, marker="o", label=f"{axis}: exponent {row['exponent']:.2f}")
        largest = max(largest, *sizes)
    ax.plot([1, largest], [1, largest], color="black", linestyle=":", label="linear")
    ax.set(xscale="log", yscale="log", xlabel="size, times the smallest", ylabel="time, times the first")
    ax.set_title("growth of our scan, forward + backward", loc="left", fontsize=10)
    ax.legend()
