"""E7: the paper's ablations on small networks of both families, on real images.

FASHION_MNIST=/folder python -m experiments.e7_ablations.run [--only TEXT] [--shard 0/2] [--limit-minutes 30] [--summary]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.e6_real.run import PLANS, ROOT, source_of, span, words_of
from experiments.records import Record
from experiments.runs import LIGHT, UNCHECKED, search
from experiments.study import Row, Study, main, one_thread
from lmsearch.config import compose_settings
from lmsearch.engine.randomness import key
from lmsearch.figures.audit import audit_figure
from lmsearch.files import write_figure
from lmsearch.search.discrete.evaluators import StandAlone
from lmsearch.search_space import load_search_space
from lmsearch.settings.tasks import Retrain
from lmsearch.tasks.parts.build import build_precision, build_recipe, model_spec

HERE = Path(__file__).resolve().parent
PLAN, SEEDS, KEEP = PLANS["main"], range(5), 4
CANDIDATES = load_search_space("localmamba8").candidates
HAND = ("h", "h_flip", "w2", "w2_flip")
FAMILIES = {
    "local_vim_nano": ("model.depth=3",),
    "local_vmamba_nano": ("model.depths=[2,1]",),
}
DEPTH = 3  # mixers of either


@dataclass(frozen=True)
class Level:
    """One level of a factor: what every layer scans, and words beside it. `how`: "given", "random" or "searched" directions."""

    directions: tuple[str, ...]
    words: tuple[str, ...] = ()
    how: str = "given"
    families: tuple[str, ...] = tuple(FAMILIES)


VIM = ("local_vim_nano",)
FACTORS: Mapping[str, Mapping[str, Level]] = {
    "windows": {
        "none": Level(("h", "h_flip", "v", "v_flip")), "2": Level(HAND), "4": Level(("h", "h_flip", "w4", "w4_flip")),
        "7": Level(("h", "h_flip", "w7", "w7_flip")), "2 and 7 alone": Level(("w2", "w2_flip", "w7", "w7_flip")),
    },
    "attention": {kind: Level(HAND, (f"model.attention={kind}",)) for kind in ("none", "channel", "spatial_channel")},
    "kept": {str(number): Level(CANDIDATES[:number]) for number in range(1, len(CANDIDATES) + 1)},
    "choice": {"hand-made": Level(HAND), "random": Level((), how="random"), "searched": Level((), how="searched")},
    "position": {
        "rotary": Level(HAND, families=VIM),
        "absolute alone": Level(HAND, ("model.use_rope=false",), families=VIM),
        "class token": Level(HAND, ("model.use_rope=false", "model.middle_cls_token=true"), families=VIM),
    },
}  # fmt: skip


def rows() -> list[Row]:
    """Return every level of every factor, with every family and seed."""
    return [
        Row(factor, (name, family, f"seed{seed}"), {"level": name, "family": family, "seed": seed})
        for factor, levels in FACTORS.items()
        for name, level in levels.items()
        for family in level.families
        for seed in SEEDS
    ]


def work(row: Row) -> Record:
    """Train one level and measure it on the test set."""
    level, family, seed = FACTORS[row.part][row.facts["level"]], row.facts["family"], row.facts["seed"]
    words = (*level_words(family), *level.words)
    chosen = directions(level, words, seed)
    settings = compose_settings(Retrain, ["genotype=none", *words, f"seed={seed}"])
    source = source_of(tuple(word for word in words_of(PLAN) if word.startswith("data")), PLAN.val)
    spec = model_spec(settings, source.info, chosen, merge="sum")
    trainer = StandAlone(spec, source, build_recipe(settings), build_precision(settings), seed, backend=settings.backend)
    val, test = trainer.val_and_test(chosen)
    return {"chosen": chosen, "val": val.score, "test": test.score, "cost": val.cost}


def level_words(family: str) -> tuple[str, ...]:
    """Return the words of a network of a family."""
    shared = [word for word in words_of(PLAN) if not word.startswith("model.depth")]
    return (f"model={family}", *FAMILIES[family], *shared)


def directions(level: Level, words: Sequence[str], seed: int) -> tuple[tuple[str, ...], ...]:
    """Return the directions of every layer: those given, drawn by the seed, or searched."""
    if level.how == "searched":
        asked = [*words, f"seed={seed}", "search_space=localmamba8", f"keep={KEEP}", "search=fair", LIGHT, UNCHECKED]
        return tuple(map(tuple, search(asked)["chosen"]))
    if level.how == "random":
        rng = np.random.default_rng(key(seed, "ablation"))
        return tuple(tuple(sorted(rng.choice(CANDIDATES, KEEP, replace=False), key=CANDIDATES.index)) for _ in range(DEPTH))
    return (level.directions,) * DEPTH


def summarise(records: list[Record]) -> Record:
    """Return, by factor and family, every level's test accuracy and its difference to the first level."""
    return {
        f"{factor}: {family}": table
        for factor, levels in FACTORS.items()
        for family in FAMILIES
        if (table := table_of([r for r in records if (r["part"], r["family"]) == (factor, family)], list(levels)))
    }


def table_of(records: Sequence[Record], levels: Sequence[str]) -> Record:
    """Return the levels that have two seeds or more."""
    found = {level: {r["seed"]: r["test"] for r in records if r["level"] == level} for level in levels}
    told: Record = {}
    for level, tests in found.items():
        both = sorted(tests.keys() & found[levels[0]].keys())
        if len(both) > 1:
            minus = [tests[seed] - found[levels[0]][seed] for seed in both]
            told[level] = {"test": span(list(tests.values())), f"minus {levels[0]}": span(minus), "seeds": len(tests)}
    return told


def draw(summary: Record, path: Path) -> None:
    """Draw the levels of every factor that are there."""
    spans = {f"{where}: {level}": found["test"] for where, levels in summary.items() for level, found in levels.items()}
    if spans:
        arms = {name: dict(zip(("mean", "low", "high"), values, strict=True)) for name, values in spans.items()}
        labels = ("test accuracy", "test accuracy, 95 % interval")
        write_figure(path, audit_figure([[v["mean"]] for v in arms.values()], arms, labels=labels, title="ablations"))


if __name__ == "__main__":
    if not ROOT:
        raise SystemExit("set FASHION_MNIST to the folder of the four idx files")
    one_thread()
    main(Study(HERE, rows(), work, summarise, draw))
