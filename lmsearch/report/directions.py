"""The chosen directions of every layer, as a table on screen and as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lmsearch.files import write_figure
from lmsearch.genotype import Genotype
from lmsearch.scan.directions import label


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


def save_choices_figure(genotype: Genotype, path: Path, *, scores: str, vmin: float | None = 0.0) -> None:
    """Write a PNG: layers by candidates, `scores` as colour from `vmin` (None: their least), kept directions marked.

    Needs a genotype with scores.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    candidates = list(dict.fromkeys(d for layer in genotype.layers for d in layer.scores))
    depth = len(genotype.layers)
    figure, axes = plt.subplots(figsize=(1.6 + 0.75 * len(candidates), 1.4 + 0.42 * depth), layout="constrained")
    values = [[layer.scores.get(d, float("nan")) for d in candidates] for layer in genotype.layers]
    image = axes.imshow(values, cmap="viridis", vmin=vmin, aspect="auto")
    stability, seeds = genotype.health.get("stability", {}), genotype.health.get("seeds", 0)
    for row, layer in enumerate(genotype.layers):
        votes = stability.get(layer.name, {}).get("votes", {})
        for column, name in enumerate(candidates):
            kept = name in layer.directions
            if kept or votes.get(name):
                axes.text(
                    column,
                    row,
                    cell_label(kept, votes.get(name), seeds),
                    ha="center",
                    va="center",
                    color="white",
                    fontsize=8,
                    fontweight="bold",
                    bbox={"boxstyle": "round,pad=0.15", "facecolor": "black", "alpha": 0.5, "linewidth": 0},
                )
    axes.set_xticks(range(len(candidates)), list(map(label, candidates)), rotation=30, ha="right")
    axes.set_yticks(range(depth), [row_label(layer.name or str(n), stability) for n, layer in enumerate(genotype.layers)])
    axes.set_xlabel("scan direction")
    status = genotype.health.get("status")
    axes.set_title("directions per layer" + (f" (search status: {status})" if status else ""), fontsize=10)
    figure.colorbar(image, label=scores)
    write_figure(path, figure)
    plt.close(figure)


def cell_label(kept: bool, votes: int | None, seeds: int) -> str:
    """Return the text of one cell: whether the direction is kept and, for a consensus, by how many seeds."""
    return " ".join(["kept"] * kept + ([] if votes is None else [f"{votes}/{seeds}"]))


def row_label(layer: str, stability: Mapping[str, Mapping[str, float]]) -> str:
    """Return a layer's name and, for a consensus of seeds, how far two seeds' sets overlap beside what chance gives."""
    if layer not in stability:
        return layer
    return f"{layer}\noverlap {stability[layer]['jaccard']:.2f} (chance {stability[layer]['chance']:.2f})"
