"""The chosen directions of every layer, as a table on screen and as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from lmsearch.figures.choices import choices_figure
from lmsearch.genotype import Genotype
from lmsearch.scan.directions import label

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def print_choices(genotype: Genotype, *, scores: str) -> None:
    """Print one row per layer: directions kept with their `scores`, and the margin to the best one dropped."""
    table = Table(title="chosen scan directions")
    table.add_column("layer")
    table.add_column(f"directions ({scores})", overflow="fold")
    table.add_column("margin", justify="right")
    stability = genotype.health.get("stability", {})
    if stability:
        table.add_column("overlap of seeds (chance)", justify="right")
    for number, layer in enumerate(genotype.layers):
        kept = "  ".join(f"{label(d)} {layer.scores[d]:.3f}" if layer.scores else label(d) for d in layer.directions)
        row = [layer.name or str(number), kept, "-" if layer.margin is None else f"{layer.margin:.4f}"]
        if layer.name in stability:
            row.append(f"{stability[layer.name]['jaccard']:.2f} ({stability[layer.name]['chance']:.2f})")
        table.add_row(*row)
    Console().print(table)


def genotype_figure(genotype: Genotype, *, scores: str, vmin: float | None = 0.0) -> Figure:
    """Return the figure of a genotype with scores: layers by candidates, `scores` as colour, kept directions marked.

    Colours begin at `vmin`; None: at the least score.
    """
    layers, candidates = genotype.layers, list(dict.fromkeys(d for layer in genotype.layers for d in layer.scores))
    stability, seeds = genotype.health.get("stability", {}), genotype.health.get("seeds", 0)
    votes = [stability.get(layer.name, {}).get("votes", {}) for layer in layers]
    status = genotype.health.get("status")
    return choices_figure(
        [[layer.scores.get(d, float("nan")) for d in candidates] for layer in layers],
        [[cell_label(d in a.directions, v.get(d), seeds) for d in candidates] for a, v in zip(layers, votes, strict=True)],
        layers=[row_label(layer.name or str(n), stability) for n, layer in enumerate(layers)],
        candidates=[label(d) for d in candidates],
        label=scores,
        vmin=vmin,
        title="directions per layer" + (f" (search status: {status})" if status else ""),
    )


def cell_label(kept: bool, votes: int | None, seeds: int) -> str:
    """Return the text of one cell: whether the direction is kept and, for a consensus, by how many seeds."""
    return " ".join(["kept"] * kept + ([] if votes is None else [f"{votes}/{seeds}"]))


def row_label(layer: str, stability: Mapping[str, Mapping[str, float]]) -> str:
    """Return a layer's name and, for a consensus of seeds, how far two seeds' sets overlap beside what chance gives."""
    if layer not in stability:
        return layer
    return f"{layer}\noverlap {stability[layer]['jaccard']:.2f} (chance {stability[layer]['chance']:.2f})"
