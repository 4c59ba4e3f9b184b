"""What E6 fixes before its rows: sizes, seeds, the words that trainings share, the data, and the rows. README.md says why."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from hashlib import sha256

from experiments.study import Row
from lmsearch.config import compose_settings
from lmsearch.data import Source
from lmsearch.data.few import Few
from lmsearch.data.splitting import stratified_split
from lmsearch.engine.randomness import key
from lmsearch.literature import ARMS
from lmsearch.search.discrete.architectures import Architecture
from lmsearch.search.discrete.budget import evaluation_cost, training_cost
from lmsearch.search.discrete.evaluators import StandAlone
from lmsearch.search_space import load_search_space
from lmsearch.settings.tasks import Retrain
from lmsearch.tasks.parts.build import build_data, build_precision, build_recipe, model_spec

ROOT = os.environ.get("FASHION_MNIST", "")
SPACE, KEEP, DEPTH, BATCH, HOLDOUT = load_search_space("localmamba8"), 4, 3, 32, 0.2
OURS, BEST, BRED = "fair", "best of the literature", "bred"
SEARCHES = ("random", "evolution")
LITERATURE = tuple(name for name, arm in ARMS.items() if arm.layers("local_vim", DEPTH) is not None)
EPOCHS = 8  # of `main`; the pilot decides (README.md)
RUNS = 3  # trainings that count, of a choice
SHORT, PILOT_RANDOM = (8, 12), 6  # epochs that the pilot compares, and its random architectures
CHOICES = 8 + 4 * DEPTH * KEEP * (len(SPACE.candidates) - KEEP)  # that climbing measures: its starts, and four rounds of swaps
PILOT_ARMS = ("raster", "cross", "localmamba_hand")


@dataclass(frozen=True)
class Searched:
    """A search with a supernet: its derivation, the share of the images that it holds out, and words beside those of all."""

    derivation: str
    samples: int  # held-out images that a choice is measured on, on average, about
    holdout: float = HOLDOUT
    added: bool = False  # True: planned after the first rows of `main` (README.md)

    @property
    def words(self) -> tuple[str, ...]:
        """What tells the search from others."""
        return ("search=fair", f"search.derivation={self.derivation}", f"search.holdout={self.holdout}")


SUPERNETS: Mapping[str, Searched] = {
    OURS: Searched("climb", 128),
    "halving": Searched("halving", 254, added=True),
    "halving, half held out": Searched("halving", 424, 0.5, added=True),
}
DEFAULT = "halving, half held out"  # what search=fair is now, on so few images
ATTEMPTS = tuple(name for name, how in SUPERNETS.items() if how.added)


def need_images() -> None:
    """End with one line where the environment does not name the folder of the images."""
    if not ROOT:
        raise SystemExit("set FASHION_MNIST to the folder of the four idx files")


@dataclass(frozen=True)
class Plan:
    """Sizes of a plan. Only with `official` are the official test images its last word; else other training images are."""

    seeds: tuple[int, ...]
    official: bool = False
    epochs: int = EPOCHS
    images: int = 2400
    evaluations: int = 4
    model: tuple[str, ...] = (f"model.depth={DEPTH}", "model.patch_size=2")
    val_fraction: float = 0.025  # of 60,000 training images

    @property
    def alone_cost(self) -> float:
        """What training and validating one network that keeps KEEP directions costs, in branch-scan steps."""
        branches = DEPTH * KEEP
        trained = training_cost(self.epochs * (self.images // BATCH), branches)
        return trained + evaluation_cost(round(60_000 * self.val_fraction), batch_size=BATCH, branches=branches)

    def supernet_steps(self, arm: str = OURS) -> int:
        """Steps of a supernet's epoch, in which the images that are held out do not train."""
        return max(1, (self.images - int(self.images * SUPERNETS[arm].holdout)) // BATCH)

    def supernet_epochs(self, arm: str = OURS) -> int:
        """As many as the cost of `evaluations` networks leaves, once the derivation is paid."""
        deriving = evaluation_cost(CHOICES * SUPERNETS[arm].samples, batch_size=BATCH, branches=KEEP * DEPTH)
        left = self.evaluations * self.alone_cost - deriving
        return max(2, int(left / training_cost(self.supernet_steps(arm), len(SPACE.candidates) * DEPTH)))

    def digest(self) -> str:
        """Return what tells rows of this plan from those of another: sizes and words, not the seeds."""
        told = asdict(replace(self, seeds=())) | {"runs": RUNS, "supernet_epochs": self.supernet_epochs()}
        words = [word for word in words_of(self, 0) if not word.startswith("data.root=")]
        return sha256(json.dumps([told, words], sort_keys=True).encode()).hexdigest()[:8]


PLANS = {
    "pilot": Plan(seeds=(100,), epochs=min(SHORT)),
    "main": Plan(seeds=tuple(range(10)), official=True),
}


def rows() -> list[Row]:
    """Return the rows of every plan, seeds outermost; what a row needs comes before it."""
    found = [*pilot_rows(), *(row for seed in PLANS["main"].seeds for row in main_rows(seed))]
    return found + [made("main", "transfer", arm, seed) for seed in PLANS["main"].seeds for arm in (OURS, "random", *LITERATURE)]


def made(plan: str, kind: str, arm: str, seed: int, *words: str, **facts: object) -> Row:
    """Return a row; its key holds the digest of its plan."""
    told = {"plan": plan, "kind": kind, "arm": arm, "seed": seed} | facts
    return Row(f"{plan} {kind}", (arm, *words, f"seed{seed}", PLANS[plan].digest()), told, group=f"{plan} {seed}")


def pilot_rows() -> list[Row]:
    """Do the nets learn, in 8 or in 12 epochs; and, for whoever asks for it, do architectures differ by more than noise."""
    (seed,) = PLANS["pilot"].seeds
    found = [made("pilot", "baselines", "baselines", seed)]
    found += [short("learn", arm, epochs, 0) for epochs in SHORT for arm in PILOT_ARMS]
    arms = (*PILOT_ARMS, *(f"random{n}" for n in range(PILOT_RANDOM)))
    return found + [short("spread", arm, PLANS["main"].epochs, run) for run in range(RUNS) for arm in arms]


def short(kind: str, arm: str, epochs: int, run: int) -> Row:
    """Return a row that trains one network of the pilot."""
    return made("pilot", kind, arm, PLANS["pilot"].seeds[0], f"epochs{epochs}", f"run{run}", epochs=epochs, run=run)


def main_rows(seed: int) -> list[Row]:
    """Baselines, searches and validation scores of a seed, then the trainings that count."""
    found = [made("main", "baselines", "baselines", seed), made("main", "search", OURS, seed)]
    found += [made("main", "try", name, seed) for name in tries("main")]
    found += [made("main", "validate", arm, seed) for arm in LITERATURE]
    found += [made("main", "retrain", arm, seed) for arm in (OURS, *SEARCHES, *LITERATURE)]
    return found + [row for arm in ATTEMPTS for row in attempt_rows(arm, seed)]


def attempt_rows(arm: str, seed: int) -> list[Row]:
    """An attempt's search and the trainings that count, beside what random search and the literature have of the same seed."""
    return [made("main", kind, arm, seed, *SUPERNETS[arm].words) for kind in ("search", "retrain")]


def tries(plan: str) -> tuple[str, ...]:
    """Return the names of the networks that random search trains, by number, and of the last one of evolution."""
    return (*map(str, range(PLANS[plan].evaluations)), BRED)


def words_of(plan: Plan, seed: int, *, images: int = 0, epochs: int = 0) -> tuple[str, ...]:
    """Return the words that all trainings of a seed share; `seed` draws the images that train and validate."""
    share = plan.val_fraction if plan.official else 2 * plan.val_fraction
    data = ("data=idx", f"data.root={ROOT}", f"data.split_seed={seed}", f"data.val_fraction={share}")
    recipe = ("optim=retrain_digits", "optim.lr=0.008", "optim.warmup_epochs=1", "optim.label_smoothing=0.05")
    sizes = (f"data.num_train={images or plan.images}", f"epochs={epochs or plan.epochs}", f"batch_size={BATCH}")
    return (*data, *sizes, *plan.model, *recipe, "optim.on_nonfinite=skip", "device=cpu")


@lru_cache(maxsize=2)
def source_of(words: tuple[str, ...], official: bool) -> Source:
    """Return the data; unless `official`, half of the validation images, every class alike, is the test set."""
    whole = build_data(compose_settings(Retrain, ["genotype=none", *words]).data)
    if official:
        return whole
    assert whole.val.labels is not None
    val, test = stratified_split(whole.val.labels, 0.5, "held")
    return replace(whole, val=Few(whole.val, val), test=Few(whole.val, test))


def alone(plan: Plan, words: tuple[str, ...], seed: int, depth: int = DEPTH) -> StandAlone:
    """Return what trains an architecture with these words; `seed` draws weights and batches."""
    settings = compose_settings(Retrain, ["genotype=none", *words, f"seed={seed}"])
    source = source_of(tuple(word for word in words if word.startswith("data")), plan.official)
    spec = model_spec(settings, source.info, (("h",),) * depth, merge="sum")
    return StandAlone(spec, source, build_recipe(settings), build_precision(settings), seed, backend=settings.backend)


def literature(arm: str) -> Architecture:
    """Return the directions of an arm of the literature."""
    return ARMS[arm].layers("local_vim", DEPTH) or ()


def seeds_of(row: Row) -> list[int]:
    """Return the seeds of the trainings that count: the same for every arm of one seed, others for another seed."""
    return [key("retrain", row.facts["seed"], number) for number in range(RUNS)]
