"""What layers keep: which directions searches choose, against chance, by depth and family. Nothing is trained.

python -m experiments.what_layers_keep.run  # seconds; reads the published lists and the records of the studies that are there
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from experiments.differences import draw_differences
from experiments.records import Record
from experiments.what_layers_keep import sources
from experiments.what_layers_keep.counting import KINDS, Layer, level_p, line, neighbours, over_units, raster, shares, trend
from lmsearch import scanbench
from lmsearch.files import write_json
from lmsearch.stats.ranking import holm

HERE = Path(__file__).resolve().parent
SEED = 20264  # of the permutations
ARMS = ("fair", "softmax", "random", "hand-made")


def of_list(layers: Sequence[Layer]) -> Record:
    """Return what one published list keeps. It is one search: intervals are over its layers and say nothing of other searches."""
    apart = [layer for layer in layers if not layer.same]  # where all candidates differ
    told: Record = {"layers": len(layers), "layers_with_equal_candidates": len(layers) - len(apart), "kinds": {}}
    for name, count in KINDS.items():
        values = shares(layers, count)
        change, p = trend(shares(apart, count), seed=SEED)
        thirds = [round(float(part.mean()), 4) for part in np.array_split(values, 3)]
        told["kinds"][name] = {
            "kept": sum(count(layer.orders(layer.kept)) for layer in layers),
            "of": sum(len(layer.kept) for layer in layers),
            "minus_chance": over_units(values),
            "p": level_p(layers, count),
            "minus_chance_by_third": thirds,
            "change_over_depth": [round(v, 4) for v in (change.mean, change.low, change.high)],
            "change_p": round(p, 5),
        }
    seen, any_two, p = neighbours(apart, seed=SEED)
    return told | {"shared_with_next": round(seen, 4), "shared_by_any_two": round(any_two, 4), "neighbours_p": round(p, 5)}


def of_runs(runs: Sequence[Sequence[Layer]]) -> Record:
    """Return what several searches keep; intervals are over searches."""
    every = [layer for run in runs for layer in run]
    return {
        "searches": len(runs),
        "kinds": {
            name: {
                "kept": sum(count(layer.orders(layer.kept)) for layer in every),
                "of": sum(len(layer.kept) for layer in every),
                "minus_chance": over_units([float(shares(run, count).mean()) for run in runs]),
                "p": level_p(every, count),
            }
            for name, count in KINDS.items()
        },
    }


def of_dealt(arm: str) -> Record:
    """Return how many of an arm's directions are among the four that help most, by layer: by chance half."""
    found = list(sources.dealt(arm))
    every = [[(layer, best) for layer in run] for best, run in found]
    right = np.array([[sum(d in best for d in layer.kept) / len(layer.kept) for layer, best in run] for run in every])
    return {
        "instances": len(found),
        "minus_chance": over_units(right.mean(axis=1) - 0.5),
        "minus_chance_by_layer": [over_units(right[:, n] - 0.5) for n in range(right.shape[1])],
    }


def pays(counts: Sequence[int], scores: Sequence[float]) -> Record:
    """Return by how much a score changes with one more raster direction, and a two-sided permutation p-value."""
    more, p = line(np.array(counts, dtype=float), np.array(scores), seed=SEED)
    told = [round(v, 5) for v in (more.mean, more.low, more.high)]
    return {"architectures": len(scores), "per_raster_direction": told, "p": round(p, 5)}


def of_tables() -> Record:
    """Return whether raster directions pay where every architecture was trained on real images."""
    found = {}
    for task in [name for name in ("digits", "fashion") if name in scanbench.table_names()]:
        whole = scanbench.load(task)
        for space in scanbench.SPACES:
            table = whole.space(space)
            if table.architectures:
                counts = [sum(raster(layer) for layer in architecture) for architecture in table.architectures]
                found[f"{task}: {space}"] = pays(counts, table.val.mean(axis=1).tolist()) | {
                    "architectures_differ": table.warranted
                }
    tried = sources.validated()
    means = {seed: float(np.mean([val for own, _, val in tried if own == seed])) for seed, _, _ in tried}
    if len(tried) > 5:
        counts = [sum(raster(layer.kept) for layer in run) for _, run, _ in tried]
        found["Fashion-MNIST: tried in E6, minus the mean of the seed"] = pays(
            counts, [val - means[seed] for seed, _, val in tried]
        )
    return found


def corrected(lists: Record) -> Record:
    """Return Holm's p-values over every test of the published lists together."""
    p = {f"{name}: {kind}": found["p"] for name, own in lists.items() for kind, found in own["kinds"].items()}
    p |= {f"{name}: {kind}, over depth": v["change_p"] for name, own in lists.items() for kind, v in own["kinds"].items()}
    p |= {f"{name}: neighbours": own["neighbours_p"] for name, own in lists.items()}
    return {name: float(f"{value:.3g}") for name, value in sorted(holm(p).items(), key=lambda item: item[1])}


def summarise() -> Record:
    """Return all that the page says in numbers."""
    lists = {name: of_list(layers) for name, layers in sources.published().items()}
    gathered: tuple[Callable[[], dict[str, list]], ...] = (sources.digits, sources.fashion, sources.controls)
    runs = {name: of_runs(own) for source in gathered for name, own in source().items() if len(own) > 1}
    return {
        "published": lists,
        "published_p_holm": corrected(lists),
        "runs": runs,
        "planted_strengths": {arm: of_dealt(arm) for arm in ARMS},
        "do_raster_directions_pay": of_tables(),
    }


def draw(summary: Record, path: Path) -> None:
    """Draw, for every kind, its share minus chance in lists and runs."""
    found = summary["published"] | summary["runs"]
    groups = {
        kind: {name: own["kinds"][kind]["minus_chance"] for name, own in found.items()} for kind in KINDS if kind != "both ways"
    }
    label = "share of kept minus chance; intervals over layers (lists) or searches"
    draw_differences(groups, path, label=label, title="What layers keep")


if __name__ == "__main__":
    told = summarise()
    write_json(HERE / "results.json", told)
    draw(told, HERE / "results.png")
