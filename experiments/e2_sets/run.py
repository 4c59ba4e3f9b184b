"""E2: does the search find sets of directions, the order of layers, and a teacher's directions, or something equally good?

python -m experiments.e2_sets.run [--only TEXT] [--shard 0/2] [--limit-minutes 30] [--summary]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path

import numpy as np

from experiments.runs import LIGHT, UNCHECKED, epochs_for, quiet, search, train_alone
from experiments.study import EIGHT, Record, Row, Study, main
from lmsearch.figures.canvas import new_figure
from lmsearch.files import write_figure
from lmsearch.stats.intervals import wilson

HERE = Path(__file__).resolve().parent
STEPS = 300
INSTANCES = range(10)
RANDOM = 10  # genotypes per instance
HOLDOUT = {"halving": 0.5}  # of finite training sets, by part; the others' is 0.2
SEARCHES = {  # part: what is searched with
    "fair": ("search=fair",),
    "softmax": ("search=darts",),
    "sampled": ("search=sampled",),
    "halving": ("search=fair", "search.derivation=halving", f"search.holdout={HOLDOUT['halving']}"),  # the default since
}
LONGER = {  # part: preset, times the steps and kinds; added when SEARCHES had missed in these kinds
    "fair, twice as long": ("fair", 2, ("four groups", "chain")),
    "sampled, at the cost of softmax": ("sampled", 1.5, ("two groups", "four groups")),
}
PERCENTILE = 0.10  # of 10 random genotypes one is better at most ...
REQUIRED = 0.80  # ... in at least this share of the instances


@dataclass(frozen=True)
class Kind:
    """One kind of instance: what is planted, `layers` lists of `keep` directions, and the words that set it up."""

    layers: int
    keep: int
    words: tuple[str, ...]
    samples: int | None = None


KINDS = {
    "two groups": Kind(1, 2, ("data.task=decayed_sum",)),
    "four groups": Kind(1, 4, ("data.task=decayed_sum",)),
    "chain": Kind(2, 1, ("data.task=chained", "model.depth=2")),
    "teacher": Kind(2, 2, ("data.task=teacher", "model.depth=2", "data.num_train=2048"), samples=2048),
}


def draw_layers(kind: Kind, *address: int) -> list[list[str]]:
    """Draw the directions of every layer evenly; a chain of two equal directions would have no order, so it is drawn again."""
    rng = np.random.default_rng([2, *address])
    while True:
        picks = [np.sort(rng.choice(len(EIGHT), size=kind.keep, replace=False)) for _ in range(kind.layers)]
        layers = [[EIGHT[i] for i in pick] for pick in picks]
        if kind is not KINDS["chain"] or layers[0] != layers[1]:
            return layers


def instance_words(name: str, instance: int) -> tuple[str, ...]:
    """Data and model of one instance."""
    kind = KINDS[name]
    layers = draw_layers(kind, list(KINDS).index(name), instance)
    if name == "teacher":
        directions = "[" + ",".join("[" + ",".join(layer) + "]" for layer in layers) + "]"
    else:
        directions = "[" + ",".join(d for layer in layers for d in layer) + "]"
    return ("data=planted", *kind.words, f"data.directions={directions}", f"data.set_seed={instance}", f"seed={instance}")


def search_epochs(kind: Kind, holdout: float) -> int:
    """Return the epochs of a search of STEPS steps, in which what is held out of a finite training set does not train."""
    return epochs_for(STEPS, samples=None if kind.samples is None else round(kind.samples * (1 - holdout)))


def rows() -> list[Row]:
    """Per instance the searches and RANDOM genotypes, all retrained; the instances of all kinds in turn."""
    found = []
    for instance in INSTANCES:
        for name, kind in KINDS.items():
            truth = draw_layers(kind, list(KINDS).index(name), instance)
            facts: Record = {"kind": name, "instance": instance, "planted": truth}
            words = instance_words(name, instance)
            for part, more in SEARCHES.items():
                epochs = search_epochs(kind, HOLDOUT.get(part, 0.2))
                found.append(Row(part, (*words, *more, LIGHT, f"epochs={epochs}", f"keep={kind.keep}"), facts))
            for part, (preset, times, kinds) in LONGER.items():
                if name in kinds:
                    epochs = search_epochs(kind, HOLDOUT.get(preset, 0.2))
                    told = (*words, *SEARCHES[preset], LIGHT, f"epochs={round(times * epochs)}", f"keep={kind.keep}")
                    found.append(Row(part, told, facts))
            found.append(Row("planted", (*words, f"epochs={epochs_for(STEPS, samples=kind.samples)}"), facts))
            for number in range(RANDOM):
                drawn = draw_layers(kind, 1000 + list(KINDS).index(name), instance, number)
                mine = (*words, f"epochs={epochs_for(STEPS, samples=kind.samples)}", f"random={number}")
                found.append(Row("random", mine, facts | {"directions": drawn}))
    return found


def work(row: Row) -> Record:
    """Search and retrain what was found, or retrain the planted or a random genotype."""
    kind = KINDS[row.facts["kind"]]
    if row.part == "random":
        return {"test_mse": train_alone(row.words[:-1], row.facts["directions"])}
    if row.part == "planted":
        return {"test_mse": train_alone(row.words, row.facts["planted"])}
    found = search((*row.words, UNCHECKED))
    words = (*(w for w in row.words[:-3] if not w.startswith("search")), f"epochs={epochs_for(STEPS, samples=kind.samples)}")
    return found | {"test_mse": train_alone(words, found["chosen"])}


def jaccard(a: Sequence[str], b: Sequence[str]) -> float:
    """Shared over all."""
    return len(set(a) & set(b)) / len(set(a) | set(b))


def expected_jaccard(keep: int, of: int = len(EIGHT)) -> float:
    """Mean Jaccard of a fixed set of `keep` with a random one."""
    ways = [comb(keep, shared) * comb(of - keep, keep - shared) for shared in range(keep + 1)]
    return sum(w * shared / (2 * keep - shared) for shared, w in enumerate(ways)) / comb(of, keep)


def summarise(records: list[Record]) -> Record:
    """Per kind: Jaccard against chance, and where the retrained net stands among retrained random genotypes."""
    kinds: Record = {}
    chance = (1 + RANDOM * PERCENTILE) / (1 + RANDOM)  # of 11 alike, the share that at most one of the others is ahead of
    for name, part in ((name, part) for name in KINDS for part in (*SEARCHES, *LONGER)):
        instances = [judged for i in INSTANCES if (judged := judge(records, name, i, part)) is not None]
        if not instances:
            continue
        kind = KINDS[name]
        good, planted = (sum(i[key] <= PERCENTILE for i in instances) for key in ("percentile", "planted_percentile"))
        interval = wilson(good / len(instances), len(instances))
        kinds.setdefault(part, {})[name] = {
            "instances": instances,
            "jaccard": float(np.mean([i["jaccard"] for i in instances])),
            "jaccard_by_chance": expected_jaccard(kind.keep),
            "good": good,
            "planted_good": planted,
            "good_interval": [interval.low, interval.high],
            "met": good >= REQUIRED * len(instances),
        }
        print(
            f"{part}, {name}: Jaccard {kinds[part][name]['jaccard']:.2f} (chance {expected_jaccard(kind.keep):.2f}), "
            f"at or below percentile {PERCENTILE:.0%} in {good} of {len(instances)} "
            f"(chance {chance:.0%}, wanted {REQUIRED:.0%}; what was planted in {planted})"
        )
    fixed: Record = {"steps": STEPS, "percentile": PERCENTILE, "required": REQUIRED, "good_by_chance": round(chance, 4)}
    return fixed | {"searches": kinds}


def judge(records: list[Record], name: str, instance: int, part: str) -> Record | None:
    """Compare what one kind of search found with the instance's random genotypes; None where some of its rows are missing."""
    mine = [r for r in records if r["kind"] == name and r["instance"] == instance]
    searched, planted = ([r for r in mine if r["part"] == one] for one in (part, "planted"))
    random = np.array([r["test_mse"] for r in mine if r["part"] == "random"])
    if not searched or not planted or len(random) < RANDOM:
        return None
    found, best = searched[0], min(random.min(), planted[0]["test_mse"])
    return {
        "instance": instance,
        "planted": found["planted"],
        "chosen": found["chosen"],
        "jaccard": float(np.mean([jaccard(a, b) for a, b in zip(found["planted"], found["chosen"], strict=True)])),
        "percentile": float((random < found["test_mse"]).mean()),  # share of random genotypes that are better
        "test_mse": found["test_mse"],
        "planted_mse": planted[0]["test_mse"],
        "planted_percentile": float((random < planted[0]["test_mse"]).mean()),
        "random_mse": sorted(random.tolist()),
        "regret": found["test_mse"] - best,
    }


def draw(summary: Record, path: Path) -> None:
    """Test errors of the random genotypes, the derived ones and the planted one, per instance."""
    figure = new_figure(11, 3.4)
    for axes, (name, found) in zip(figure.subplots(1, len(KINDS)), summary["searches"]["fair"].items(), strict=False):
        others = summary["searches"].get("softmax", {}).get(name, {"instances": []})
        softmax = {i["instance"]: i["test_mse"] for i in others["instances"]}
        for place, instance in enumerate(found["instances"]):
            random = instance["random_mse"]
            axes.plot([place] * len(random), random, "_", color="0.6", label="random" if place == 0 else None)
            axes.plot(place, instance["planted_mse"], "kx", label="planted" if place == 0 else None)
            axes.plot(place, instance["test_mse"], "o", color="C1", mfc="none", label="fair" if place == 0 else None)
            if instance["instance"] in softmax:
                mse = softmax[instance["instance"]]
                axes.plot(place, mse, "s", color="C0", mfc="none", label="softmax" if place == 0 else None)
        axes.set_title(name)
        axes.set_xlabel("instance")
        axes.set_ylabel("test mse, retrained")
    figure.axes[0].legend()
    write_figure(path, figure)


if __name__ == "__main__":
    quiet()
    main(Study(HERE, rows(), work, summarise, draw))
