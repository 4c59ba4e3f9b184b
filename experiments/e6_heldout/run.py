"""How many held-out images does a choice need? What supernets say of choices on few and on many images, and what is true.

FASHION_MNIST=/folder python -m experiments.e6_heldout.run [--shard 0/2] [--limit-minutes 30] [--summary]
A row is a supernet; README.md fixes the plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.differences import draw_differences, paired, span
from experiments.e6_real import plan as fixed
from experiments.e6_real.plan import DEFAULT, KEEP, OURS, SUPERNETS, Plan, words_of
from experiments.e6_real.run import SPACE_OF_ALL
from experiments.records import Record
from experiments.runs import LIGHT, UNCHECKED
from experiments.scanbench_fashion import run as fashion
from experiments.study import Row, Study, main, one_thread
from lmsearch import scanbench
from lmsearch.config import compose_settings
from lmsearch.data.batch import Batch
from lmsearch.engine.randomness import key
from lmsearch.search.discrete.architectures import Architecture
from lmsearch.search.session import SearchSession
from lmsearch.search.supernet.network import masked, named_mixers
from lmsearch.settings.tasks import Search
from lmsearch.tasks.parts.build import build_data, build_precision
from lmsearch.tasks.parts.candidates import search_data
from lmsearch.tasks.parts.search_setup import search_setup
from lmsearch.tasks.search import open_session

HERE = Path(__file__).resolve().parent
SEEDS, CHOICES = range(200, 204), 60  # seeds that no other study has
ONE, THREE = "1 layer", "3 layers"
HELD = {SUPERNETS[arm].holdout: arm for arm in (OURS, DEFAULT)}  # a fifth of the images held out, and half of them
SIZES = (32, 64, 128, 240, 480, 1200)  # images that choices are compared on
ALL = "others"  # images of no search
COMPARED = (("480", "128"), ("1200", "128"), ("1200", "480"))  # whether more images tell more
MORE, HALF = "correlation with more images", "correlation with half held out minus a fifth"


@dataclass(frozen=True)
class Asked:
    """A space: the plan of its supernets, the seed that draws their images (None: the supernet's own), and directions kept."""

    plan: Plan
    images: int | None
    keep: int

    def choices(self) -> list[Architecture]:
        """Return what every supernet is asked about."""
        if self.plan.model == fashion.PLAN.model:
            return list(fashion.SMALL.architectures())
        rng = np.random.default_rng(key("held out"))
        return [SPACE_OF_ALL.draw(rng) for _ in range(CHOICES)]

    def words(self, held: float, seed: int) -> list[str]:
        """Return the words of a search: as many epochs as its arm of E6 has, half held out 21 of 37 steps, a fifth 18 of 60."""
        images, epochs = seed if self.images is None else self.images, self.plan.supernet_epochs(HELD[held])
        told = [f"seed={seed}", "search_space=localmamba8", f"keep={self.keep}", *SUPERNETS[HELD[held]].words]
        return [*words_of(self.plan, images, epochs=epochs), *told, LIGHT, UNCHECKED]


SPACES: Mapping[str, Asked] = {
    ONE: Asked(fashion.PLAN, fashion.DATA, fashion.SMALL.keep),
    THREE: Asked(Plan(seeds=tuple(SEEDS), official=True), None, KEEP),
}


def rows() -> list[Row]:
    """Return a row per seed, space and share held out, seeds outermost."""
    return [
        Row(
            "supernet",
            (space.replace(" ", "-"), f"search.holdout={held}", f"seed{seed}", asked.plan.digest()),
            {"space": space, "held": held, "seed": seed},
        )
        for seed in SEEDS
        for space, asked in SPACES.items()
        for held in HELD
    ]


def work(row: Row) -> Record:
    """Train a supernet; return mean losses of the choices in it, on parts of its held-out images and on images that validate."""
    asked, seed = SPACES[row.facts["space"]], row.facts["seed"]
    settings = compose_settings(Search, asked.words(row.facts["held"], seed))
    source, precision = build_data(settings.data), build_precision(settings)
    loaders = search_data(settings, source, precision)
    assert loaders.val is not None
    session = open_session(settings, search_setup(settings, source), loaders, source, precision)
    session.train()
    mine, others = (losses(session, batches, asked.choices()) for batches in (loaders.holdout, loaders.val))
    mine = mine[:, np.random.default_rng(key("held out", seed)).permutation(mine.shape[1])]
    told = {str(size): means(mine[:, :size]) for size in SIZES if size <= mine.shape[1]}
    return {"images": mine.shape[1], "other_images": others.shape[1], "losses": told | {ALL: means(others)}}


def losses(session: SearchSession, batches: Iterable[Batch], choices: Sequence[Architecture]) -> np.ndarray:
    """Return the loss (choices, images) of every choice inside the supernet."""
    layers = named_mixers(session.supernet)
    ways = [masked(session.supernet, dict(zip(layers, choice, strict=True))) for choice in choices]
    return np.stack([scores.losses.double().numpy() for scores in session.trained.on(batches).each(session.supernet, ways)])


def means(values: np.ndarray) -> list[float]:
    """Return the mean over images (choices,), rounded."""
    return [round(value, 6) for value in values.mean(axis=1).tolist()]


def gains(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return losses (choices,) as gains over their mean, in standard deviations of the choices: above 0 is better."""
    array = np.asarray(values)
    return (array.mean() - array) / array.std()


def truth_of(record: Record, records: Sequence[Record]) -> np.ndarray | None:
    """Return what a supernet should have said: test accuracies of trainings where a table has them, else what the supernets of
    other seeds say on images of no search; None without any."""
    if record["space"] == ONE:
        return gains(-scanbench.load(fashion.TASK).test.mean(axis=1))
    others = [r["losses"][ALL] for r in records if r["space"] == record["space"] and r["seed"] != record["seed"]]
    return gains(-np.mean([gains(each) for each in others], axis=0)) if others else None


def summarise(records: list[Record]) -> Record:
    """Return, by space, share held out and number of images, how far what a supernet says of choices is true."""
    summary: Record = {"supernets": len(records)}
    for space in SPACES:
        by_share: dict[float, dict[str, dict[int, float]]] = {}
        for held in HELD:
            own = [r for r in records if (r["space"], r["held"]) == (space, held)]
            pairs = [(r["losses"], truth) for r in own if (truth := truth_of(r, records)) is not None]
            if len(pairs) > 1:
                sizes = [size for size in (*map(str, SIZES), ALL) if all(size in told for told, _ in pairs)]
                where = f"{space}, {held:g} held out"
                summary[where] = {s: of_size([(told[s], truth) for told, truth in pairs]) for s in sizes}
                seeds = [r["seed"] for r in own]
                by_share[held] = found = {
                    s: {seed: correlation(told[s], truth) for seed, (told, truth) in zip(seeds, pairs, strict=True)}
                    for s in sizes
                }
                summary[f"{MORE}: {where}"] = {
                    f"{more} minus {fewer}": span(paired(found[more], found[fewer]))
                    for more, fewer in COMPARED
                    if more in found and fewer in found
                }
        if len(by_share) == len(HELD):
            fifth, half = (by_share[held] for held in HELD)
            summary[f"{HALF}: {space}"] = {size: span(paired(half[size], fifth[size])) for size in fifth}
    return summary


def correlation(told: Sequence[float], truth: np.ndarray) -> float:
    """Return Pearson's correlation of the gains in losses with true ones."""
    return float(np.corrcoef(gains(told), truth)[0, 1])


def of_size(pairs: Sequence[tuple[Sequence[float], np.ndarray]]) -> Record:
    """Return, over supernets, the correlation of gains with true ones, and both gains of the choice that does best."""
    found: dict[str, list[float]] = {"correlation": [], "gain of the best, as seen": [], "gain of the best, in truth": []}
    for told, truth in pairs:
        seen = gains(told)
        best = int(seen.argmax())
        values = (correlation(told, truth), seen[best], truth[best])
        for name, value in zip(found, values, strict=True):
            found[name].append(float(value))
    return {name: span(values) for name, values in found.items()}


def draw(summary: Record, path: Path) -> None:
    """Draw the correlations by the number of images."""
    groups = {
        where: {f"{size} images" if size != ALL else "1,500 others": values["correlation"] for size, values in found.items()}
        for where, found in summary.items()
        if where.startswith(tuple(SPACES))
    }
    draw_differences(
        groups,
        path,
        label="correlation with the truth, 95 % interval over supernets",
        title="What held-out images tell of a choice",
    )


if __name__ == "__main__":
    fixed.need_images()
    one_thread()
    main(Study(HERE, rows(), work, summarise, draw))
