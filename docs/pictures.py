"""The drawings of the docs, as SVG: scan orders, branch, supernet, derivation, recheck, and the argument for search=fair."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rc_context

from experiments.records import read_records
from lmsearch.figures.canvas import BEST_COLOUR, COLOURS, OTHER_COLOUR, new_figure
from lmsearch.figures.choices import choices_figure
from lmsearch.figures.compared import scatter_figure
from lmsearch.figures.orders import draw_path, layers_figure, orders_figure
from lmsearch.genotype import load_genotype
from lmsearch.scan.directions import index_table, label
from lmsearch.scanbench.table import load

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOCS = Path(__file__).resolve().parent
STUDY = DOCS.parent / "experiments" / "e3_scanbench" / "results.jsonl.gz"
EIGHT = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w7", "w7_flip")
FAMILIES = (
    "h",
    "v",
    "w3",
    "w2x5",
    "cw3",
    "snake",
    "snake_v",
    "antisnake",
    "antisnake_v",
    "diag",
    "antidiag",
    "zigzag",
    "hilbert",
    "morton",
    "spiral",
    "atrous2",
    "random0",
)
SMALL = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w4", "w4_flip")
EXAMPLE = load_genotype(DOCS / "pictures" / "example.json")


def pictures(*names: str) -> dict[str, str]:
    """Return drawings by the names of their files; without names all."""
    return {name: svg_of(draw()) for name, draw in DRAWINGS.items() if name in names or not names}


def svg_of(figure: Figure) -> str:
    """Return a figure as SVG, the same bytes every time, coordinates to a tenth of a point."""
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "lmsearch", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    lines = re.sub(r"(\.\d)\d+(?=[ \"\n])", r"\1", buffer.getvalue()).splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


def orders_of(names: Sequence[str], grid: tuple[int, int]) -> dict[str, list[int]]:
    """Return the scan orders of directions on a grid by name."""
    return {name: index_table((name,), grid)[0].tolist() for name in names}


def eight() -> Figure:
    """The eight directions of LocalMamba on 14 x 14 tokens."""
    return orders_figure(orders_of(EIGHT, (14, 14)), (14, 14))


def families() -> Figure:
    """A direction of every family, on a grid that is no square."""
    return orders_figure(orders_of(FAMILIES, (6, 9)), (6, 9), columns=5)


def scan_order() -> Figure:
    """Two scan orders of one grid, and the sequences of tokens that they make."""
    figure = new_figure(7.6, 3.2)
    panels = figure.subplots(2, 2, width_ratios=(1, 4.4))
    for (left, right), (name, order) in zip(panels, orders_of(("h", "w2"), (4, 4)).items(), strict=True):
        numbered(left, order)
        strip(right, order)
        right.set_title(f"{name}: the sequence that the layer reads", fontsize=9, loc="left")
    return figure


def numbered(panel: Axes, order: Sequence[int]) -> None:
    """Draw the path of an order over 4 x 4 tokens with their numbers."""
    panel.set_axis_off()
    draw_path(panel, order, (4, 4))
    for token in range(16):
        panel.text(token % 4, token // 4 - 0.22, str(token), fontsize=7, ha="center", va="bottom", color="#333333")


def strip(panel: Axes, order: Sequence[int]) -> None:
    """Draw the tokens side by side in the order in which they are read."""
    panel.set(xlim=(-0.6, len(order) - 0.4), ylim=(-0.9, 0.9), aspect="equal")
    panel.set_axis_off()
    for time, token in enumerate(order):
        panel.text(
            time, 0, str(token), fontsize=8, ha="center", va="center", bbox={"boxstyle": "square,pad=0.35", "fc": "#eef2f6"}
        )


def branch() -> Figure:
    """A mixer with three branches: each reads the tokens along one direction, and their outputs are weighted and summed."""
    figure = new_figure(8.2, 4.2)
    axes = figure.subplots(3, 3, width_ratios=(1, 2.4, 1.5))
    for number, (row, (name, order)) in enumerate(zip(axes, orders_of(("h", "v_flip", "w2"), (4, 4)).items(), strict=True)):
        for panel in row:
            panel.set_axis_off()
        numbered(row[0], order)
        row[0].set_title(name, fontsize=9)
        box(row[1], "put in order, selective scan, put back")
        box(row[2], f"× weight {number + 1}")
    figure.suptitle("one mixer, three branches; its output is their weighted sum", fontsize=10)
    return figure


def box(panel: Axes, text: str) -> None:
    """Draw a text in a frame, with an arrow to it."""
    panel.set(xlim=(0, 1), ylim=(0, 1))
    style = {"boxstyle": "round,pad=0.6", "fc": "#eef2f6", "ec": OTHER_COLOUR}
    panel.annotate(
        text, (0.0, 0.5), xytext=(0.56, 0.5), fontsize=9, ha="center", va="center", bbox=style,
        arrowprops={"arrowstyle": "<-", "color": OTHER_COLOUR},
    )  # fmt: skip


def supernet() -> Figure:
    """Every candidate of every layer of the example, on a small grid."""
    layers = {layer.name: orders_of(SMALL, (4, 8)) for layer in EXAMPLE.layers[:2]}
    figure = layers_figure(layers, dict.fromkeys(layers, (4, 8)), title="supernet: every layer runs every candidate")
    figure.set_size_inches(9.0, 2.2)
    return figure


def derivation() -> Figure:
    """What the example search kept, with the worth of every candidate."""
    candidates = list(EXAMPLE.layers[0].scores)
    figure = choices_figure(
        [[layer.scores[d] for d in candidates] for layer in EXAMPLE.layers],
        [["kept" if d in layer.directions else "" for d in candidates] for layer in EXAMPLE.layers],
        layers=[layer.name for layer in EXAMPLE.layers], candidates=[label(d) for d in candidates],
        label="held-out loss saved", vmin=None, title="derivation: four directions per layer stay",
    )  # fmt: skip
    return figure


def recheck() -> Figure:
    """A choice against random ones, in the supernet that made it and in the two of the recheck; a sketch, no measurement."""
    rng = np.random.default_rng(3)
    figure = new_figure(7.2, 2.9)
    axes = figure.subplots()
    for place, (mean, mine) in enumerate(((0.5, 0.33), (0.56, 0.4), (0.58, 0.44))):
        random = mean + 0.06 * rng.standard_normal(24)
        axes.plot(random, place + 0.16 * rng.uniform(-1, 1, 24), "o", color=OTHER_COLOUR, markersize=4, alpha=0.8)
        axes.plot([mine], [place], "D", color=BEST_COLOUR, markersize=8)
    axes.set_yticks(range(3), ["the search's supernet", "fresh supernet 1", "fresh supernet 2"])
    axes.set(xlabel="held-out loss (lower is better)", ylim=(2.6, -0.6), xticks=[])
    axes.plot([], [], "D", color=BEST_COLOUR, label="the choice")
    axes.plot([], [], "o", color=OTHER_COLOUR, label="random choices")
    axes.legend(frameon=False, fontsize=9, loc="lower right", ncols=2, bbox_to_anchor=(1.0, 1.0))
    axes.set_title("a sketch", fontsize=9, loc="left", color=COLOURS[6])
    return figure


def argument() -> Figure:
    """What two kinds of supernet say of 64 architectures, against what these reach when they are trained from scratch."""
    table = load("graded").space("2 layers, top 1")
    truth = table.val.mean(1).tolist()
    records = [r for r in read_records(STUDY) if r.get("words", [""])[0] == "2layers-top1"]
    panels = {}
    for title, part, score in (
        ("alphas of softmax", "scores_graded", "alpha"),
        ("masked, search=fair", "strict_graded", "masked_strict"),
    ):
        found = np.array([record[score] for record in records if record["part"] == part])
        panels[title] = (found.mean(0).tolist(), truth)
    return scatter_figure(panels, labels=("what the supernet says", "score after training from scratch"))


DRAWINGS = {
    "eight.svg": eight, "families.svg": families, "scan_order.svg": scan_order, "branch.svg": branch, "supernet.svg": supernet,
    "derivation.svg": derivation, "recheck.svg": recheck, "argument.svg": argument,
}  # fmt: skip
