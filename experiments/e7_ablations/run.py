"""E7: the paper's ablations on small networks of both families, on real images.

FASHION_MNIST=/folder python -m experiments.e7_ablations.run [--shard 0/2] [--limit-minutes 30] [--summary]
A row is a training; several factors may refer to it. README.md fixes the plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.differences import draw_differences, paired, span
from experiments.e6_real import plan as fixed
from experiments.e6_real.plan import DEFAULT, KEEP, SPACE, SUPERNETS, Plan, alone, words_of
from experiments.e6_real.run import scores
from experiments.records import Record
from experiments.runs import LIGHT, UNCHECKED, search_or_none
from experiments.study import Row, Study, main, one_thread
from lmsearch.engine.randomness import key
from lmsearch.literature import coincidences
from lmsearch.scan.directions import duplicates
from lmsearch.scan.grids import Grid
from lmsearch.search.discrete.architectures import Architecture

HERE = Path(__file__).resolve().parent
PLAN, SEEDS = Plan(seeds=tuple(range(5)), official=True), range(5)
VIM, VMAMBA = "local_vim_nano", "local_vmamba_nano"
FAMILIES: Mapping[str, tuple[str, ...]] = {VIM: ("model.depth=3",), VMAMBA: ("model.depths=[2,1]",)}
GRIDS: Mapping[str, tuple[Grid, ...]] = {VIM: ((14, 14),) * 3, VMAMBA: ((14, 14), (14, 14), (7, 7))}  # of the three layers
HAND = "h+h_flip+w2+w2_flip"
SEARCHED, FIRST = "searched", "first"  # `first 3`: of an order that the seed draws, layer by layer


@dataclass(frozen=True)
class Training:
    """What a row trains: `directions` of every layer, given or how they are found, and words beside them."""

    directions: str
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.directions.replace(" ", "-"), *self.words))


@dataclass(frozen=True)
class Level:
    """One level of a factor: a training, and the level that it is compared with ("" for none)."""

    training: Training
    against: str = ""


def level(directions: str, *words: str, against: str = "") -> Level:
    """Return a level."""
    return Level(Training(directions, words), against)


ABSOLUTE = "model.use_rope=false"
FACTORS: Mapping[str, Mapping[str, Level]] = {
    "windows": {
        "none": level("h+h_flip+v+v_flip"),
        "2": level(HAND, against="none"),
        "4": level("h+h_flip+w4+w4_flip", against="none"),
        "7": level("h+h_flip+w7+w7_flip", against="none"),
        "2 and 7 alone": level("w2+w2_flip+w7+w7_flip", against="none"),
    },
    "attention": {
        "none": level(HAND, "model.attention=none"),
        "channel": level(HAND, "model.attention=channel", against="none"),
        "spatial and channel": level(HAND, against="none"),
    },
    "kept": {str(n): level(f"{FIRST} {n}", against="4" if n != KEEP else "") for n in (4, 1, 2, 3, 6, 8)},
    "choice": {
        "random": level(f"{FIRST} {KEEP}"),
        "hand-made": level(HAND, against="random"),
        "searched": level(SEARCHED, against="random"),
        "searched, against hand-made": level(SEARCHED, against="hand-made"),
    },
    "position": {
        "absolute alone": level(HAND, ABSOLUTE),
        "rotary beside it": level(HAND, against="absolute alone"),
        "class token": level(HAND, ABSOLUTE, "model.middle_cls_token=true", against="absolute alone"),
    },
}
ONLY_VIM = ("position",)


def families_of(factor: str) -> tuple[str, ...]:
    """Return the families that have a factor."""
    return (VIM,) if factor in ONLY_VIM else tuple(FAMILIES)


def rows() -> list[Row]:
    """Return every training once, with every family that needs it; seeds outermost."""
    wanted = dict.fromkeys(
        (f, each.training) for name, own in FACTORS.items() for f in families_of(name) for each in own.values()
    )
    return [
        Row(
            "train",
            (family, str(training), f"seed{seed}", PLAN.digest()),
            {"family": family, "training": str(training), "seed": seed},
        )
        for seed in SEEDS
        for family, training in wanted
    ]


TRAININGS = {str(each.training): each.training for own in FACTORS.values() for each in own.values()}


def work(row: Row) -> Record:
    """Search where that is asked for, train once, and measure on the validation and test set."""
    family, training, seed = row.facts["family"], TRAININGS[row.facts["training"]], row.facts["seed"]
    words = (*level_words(family, seed), *training.words)
    found = searched(family, training.words, seed) if training.directions == SEARCHED else {}
    given = found["chosen"] if found else directions(family, training, seed)
    chosen = None if given is None else tuple(map(tuple, given))
    trainer = alone(PLAN, words, key("ablation", seed))
    told = scores(trainer, chosen, {"val": trainer.source.val, "test": trainer.source.test})
    same = coincidences(chosen, GRIDS[family], padding="none") if chosen else ""
    return {"chosen": chosen, "same": same} | told | ({"search": found} if found else {})


def level_words(family: str, seed: int, *, epochs: int = 0) -> tuple[str, ...]:
    """Return the words of a network of a family."""
    shared = [word for word in words_of(PLAN, seed, epochs=epochs) if not word.startswith("model.depth")]
    return (f"model={family}", *FAMILIES[family], *shared)


def searched(family: str, words: Sequence[str], seed: int) -> Record:
    """Return what the default search finds, trained as long as in E6; nothing is chosen where it diverges."""
    asked = [*level_words(family, seed, epochs=PLAN.supernet_epochs(DEFAULT)), *words, f"seed={seed}", "search_space=localmamba8"]
    return search_or_none([*asked, f"keep={KEEP}", *SUPERNETS[DEFAULT].words, LIGHT, UNCHECKED])


def directions(family: str, training: Training, seed: int) -> Architecture:
    """Return the directions of every layer: those given, or drawn by the seed from those that differ on the layer's grid."""
    how, _, number = training.directions.partition(" ")
    if how != FIRST:
        return (tuple(how.split("+")),) * len(GRIDS[family])
    drawn = []
    for layer, grid in enumerate(GRIDS[family]):
        own = [name for name in SPACE.candidates if name not in duplicates(SPACE.candidates, grid)]
        order = np.random.default_rng(key("ablation", seed, layer)).permutation(len(own))
        drawn.append(tuple(own[place] for place in sorted(order[: int(number)].tolist())))
    return tuple(drawn)


def summarise(records: list[Record]) -> Record:
    """Return, by factor and family, every level's test accuracy and its difference to the level it is compared with."""
    return {
        f"{factor}, {family.removesuffix('_nano')}": table
        for factor, levels in FACTORS.items()
        for family in families_of(factor)
        if (table := table_of([r for r in records if r["family"] == family], levels))
    }


def table_of(records: Sequence[Record], levels: Mapping[str, Level]) -> Record:
    """Return the levels that have two seeds or more; differences are paired by seed."""
    tests: dict[str, dict[int, float]] = {}
    same: dict[str, set[str]] = {}
    for r in records:
        tests.setdefault(r["training"], {})[r["seed"]] = r["test"]
        same.setdefault(r["training"], set()).update({r["same"]} - {""})
    told: Record = {}
    for name, each in levels.items():
        own = tests.get(str(each.training), {})
        if len(own) < 2:
            continue
        told[name] = {"seeds": len(own), "test": span(list(own.values()))}
        if each.against and len(minus := paired(own, tests.get(str(levels[each.against].training), {}))) > 1:
            told[name][f"minus {each.against}"] = span(minus)
        if told_alike := sorted(same[str(each.training)]):
            told[name]["same"] = told_alike
    return told


def draw(summary: Record, path: Path) -> None:
    """Draw the differences of every level to the one it is compared with."""
    groups = {
        where: {
            f"{name.partition(',')[0]} {what}": values
            for name, found in levels.items()
            for what, values in found.items()
            if what.startswith("minus")
        }
        for where, levels in summary.items()
    }
    draw_differences(groups, path, label="difference of test accuracies, 95 % interval over seeds", title="E7: ablations")


if __name__ == "__main__":
    fixed.need_images()
    one_thread()
    main(Study(HERE, rows(), work, summarise, draw))
