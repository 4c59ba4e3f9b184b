"""A quick audit: does order matter on these data at all? Brief trainings of fixed, shuffled and random orders, no search.

`Order`s that keep equally many directions are compared with each other; the shuffles are the same in every layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from lmsearch.audit.ledger import Row
from lmsearch.audit.setting import SAFETY, Setting, step_s
from lmsearch.data import Source, build_loaders
from lmsearch.data.few import few
from lmsearch.data.info import Stream
from lmsearch.engine.objectives import balance
from lmsearch.engine.randomness import key
from lmsearch.engine.side_by_side import Job
from lmsearch.engine.unfinished import Unfinished
from lmsearch.errors import ConfigError
from lmsearch.search.discrete.architectures import Architecture
from lmsearch.search.discrete.strategies import History, Tried, draw_new

QUICK_MINUTES = 2.0  # that are planned for, unless trainings as long as the controls need more
MENUS = ((3, 8), (3, 6), (3, 4))  # seeds, and sets of directions that are trained with each
WANTED_STEPS, LEAST_STEPS = 200, 30  # of one training
ROUNDING = 1e-6  # of a step, that the time for it may come out short of it
NEARLY = 0.95  # of the steps, from which on all images count more than the rest of the steps
VAL_IMAGES = 1000
BATCH = 32  # images of a step, at most: more steps tell more than larger ones
LARGE_BATCH = 128  # from here on the learning rate of a batch is taken for that of this one: a brief training needs it
SHUFFLE = "random0"  # the scan order of the shuffled single one; sets take random0, random1, ...
RASTER, SHUFFLED, SHUFFLED_SET, HAND_MADE = "raster", "shuffle", "shuffles", "hand-made"
PLANTED, ORDERLESS = "planted task", "orderless task"  # begin the keys of the controls
ORDER = "order "  # begins those of the orders
LOSS, BALANCED = "loss", "balanced_loss"  # in a row: the mean over validation samples, and with all classes alike
CONTROL_SEEDS = 2
Alike = tuple[frozenset[str], ...]  # the directions of every layer


@dataclass(frozen=True)
class Order:
    """A choice of directions for every layer, with a name.

    `single` marks the two orders of one direction per layer, which are compared with each other; all others are sets of as many
    directions as the search keeps. `shuffled` marks random orders of tokens.
    """

    name: str
    architecture: Architecture
    single: bool
    shuffled: bool = False


@dataclass(frozen=True)
class Control:
    """A small task on the grid of the first layer: on `planted` one direction does all the work, on `orderless` none does."""

    planted: Setting
    orderless: Setting
    direction: str


@dataclass(frozen=True)
class Pace:
    """Seconds of a training step of a net with one direction per layer, with a whole set, and of the control."""

    single_s: float
    set_s: float
    control_s: float


@dataclass(frozen=True)
class QuickPlan:
    """So many seeds and sets, trained for `epochs` passes over `images` images, which are so many `steps` of a training."""

    seeds: int
    sets: int
    epochs: int
    images: int
    steps: int


def brief(setting: Setting) -> Setting:
    """Return the setting with batches for brief trainings; the learning rate goes with the square root of their size.

    Up to LARGE_BATCH; larger batches are those of long trainings.
    """
    recipe = setting.recipe
    if recipe.batch_size <= BATCH:
        return setting
    lr = recipe.lr * (BATCH / min(recipe.batch_size, LARGE_BATCH)) ** 0.5
    return replace(setting, recipe=replace(recipe, batch_size=BATCH, lr=lr))


def orders_of(setting: Setting, literature: Mapping[str, Architecture]) -> list[Order]:
    """Return all orders: raster and a shuffle, one direction each, then sets, the first of which matter most.

    Sets of the literature that are among them already, or keep other numbers of directions than the search would, are left out,
    and so are random ones that are among all of these: a small space has fewer. Those of the literature that arms= names stand
    before the random ones, all others among them.
    """
    keep = setting.keep
    single = [
        Order(RASTER, (("h",),) * len(keep), single=True),
        Order(SHUFFLED, ((SHUFFLE,),) * len(keep), single=True, shuffled=True),
    ]
    shuffles = tuple(tuple(f"random{number}" for number in range(kept)) for kept in keep)
    sets = [Order(HAND_MADE, setting.hand_made, single=False), Order(SHUFFLED_SET, shuffles, single=False, shuffled=True)]
    fitting = [Order(name, own, single=False) for name, own in literature.items() if [len(layer) for layer in own] == [*keep]]
    known = {alike(order.architecture) for order in (*single, *sets)}
    fitting = [order for order in fitting if alike(order.architecture) not in known]
    known |= {alike(order.architecture) for order in fitting}
    drawn = [Order(f"random {number}", own, single=False) for number, own in draws(setting, MENUS[0][1], known).items()]
    pairs = [order for number in range(MENUS[0][1]) for order in (*drawn[number : number + 1], *fitting[number : number + 1])]
    return single + sets + (fitting + drawn if setting.arms else pairs)


def alike(architecture: Architecture) -> Alike:
    """Return what is equal for architectures that keep the same directions, in whatever order they are listed."""
    return tuple(map(frozenset, architecture))


def draws(setting: Setting, number: int, known: Set[Alike]) -> dict[int, Architecture]:
    """Return different random architectures that are not `known`, as many as there are, `number` at most.

    Each has the number of its draw, which does not depend on what is known: a name is one architecture in every version.
    """
    rng, space = np.random.default_rng(key(setting.seed, "quick audit")), setting.space
    drawn: list[Architecture] = []
    new: dict[int, Architecture] = {}
    while len(new) < number and len(drawn) < space.size:
        drawn.append(draw_new(History(space, [Tried(a, 0.0) for a in drawn], set(drawn)), rng))
        if alike(drawn[-1]) not in known:
            new[len(drawn) - 1] = drawn[-1]
    return new


def taken(orders: Sequence[Order], plan: QuickPlan) -> list[Order]:
    """Return the orders that a plan trains."""
    return [order for order in orders if order.single] + [order for order in orders if not order.single][: plan.sets]


def measure_pace(setting: Setting, control: Control, orders: Sequence[Order]) -> Pace:
    """Time a few training steps of each kind of net."""
    loader = build_loaders(setting.source, batch_size=setting.recipe.batch_size, seed=setting.seed).train
    small = build_loaders(control.planted.source, batch_size=control.planted.recipe.batch_size, seed=setting.seed).train

    def timed(single: bool) -> float:
        first = next(order for order in orders if order.single is single)
        return step_s(setting, replace(setting.derived_spec, directions=first.architecture), loader)

    return Pace(timed(True), timed(False), step_s(control.planted, control.planted.derived_spec, small))


def quick_plan(setting: Setting, control: Control, pace: Pace, *, orders: int, minutes: float, at_once: int = 1) -> QuickPlan:
    """Return a plan of about QUICK_MINUTES, or of as much as trainings as long as the controls need, but of `minutes` at most.

    `orders`: how many sets there are. More sets are taken as long as trainings have WANTED_STEPS. Raises ConfigError where not
    even the briefest trainings fit into the minutes.
    """
    most_steps, enough = steps_of(setting), steps_that_decide(setting, control)
    minutes_for = partial(minutes_of, setting, control, pace, orders=orders, at_once=at_once)
    within, steps = min(minutes, max(QUICK_MINUTES, minutes_for(MENUS[-1], enough))), 0
    for chosen in MENUS:
        none = minutes_for(chosen, 0)
        steps = math.floor((within - none) / (minutes_for(chosen, 1) - none) + ROUNDING)
        if steps >= max(WANTED_STEPS, enough):
            break
    if steps < LEAST_STEPS:
        need = f"about {minutes_for(MENUS[-1], LEAST_STEPS):.1f} are needed"
        if most_steps >= control_steps(control):
            need += f", {minutes_for(MENUS[-1], enough):.1f} for an answer"
        raise ConfigError(
            f"minutes={minutes:g} are too few for a quick audit: {need}; smaller images, a smaller model or workers= take less"
        )
    epochs, images = cut(setting, min(steps, most_steps), least=control_steps(control))
    return as_trained(setting, QuickPlan(chosen[0], min(chosen[1], orders), epochs, images, 0))


def steps_that_decide(setting: Setting, control: Control) -> int:
    """Return how many steps trainings need for an answer: as many as the controls have, if the recipe has so many."""
    most_steps = steps_of(setting)
    enough = max(LEAST_STEPS, min(control_steps(control), most_steps))
    if isinstance(setting.source.train, Stream):  # whose passes are whole ones
        whole = most_steps // setting.recipe.epochs
        enough = -(-enough // whole) * whole
    return enough


def minutes_of(
    setting: Setting, control: Control, pace: Pace, menu: tuple[int, int], steps: int, *, orders: int, at_once: int
) -> float:
    """Return the minutes that a plan of so many seeds and sets (`menu`), and steps of each training, is to be given."""
    seeds, sets = menu
    return planned_s(setting, control, pace, seeds=seeds, sets=min(sets, orders), steps=steps) / SAFETY / 60 / at_once


def cut(setting: Setting, steps: int, *, least: int) -> tuple[int, int]:
    """Return epochs and images of trainings of about so many steps; of a stream of fresh data the passes stay as they are."""
    batch, train = setting.recipe.batch_size, setting.source.train
    size = train.epoch_size(batch)
    whole = max(1, size // batch)
    if isinstance(train, Stream):
        return max(1, steps // whole), size
    epochs, of_each = passes(steps, whole, least=least)
    return epochs, size if of_each == whole else of_each * batch


def passes(steps: int, whole: int, *, least: int) -> tuple[int, int]:
    """Return epochs, two or more, and the steps of each, `whole` at most, that are together just about so many `steps`.

    They are fewer rather than more, but for `least`, below which they stay only where `steps` are.
    """
    most = max(1, min(whole, steps // 2))
    fewer, more = steps // most, steps // most + 1
    epochs, of_each = fewer, most
    if fewer * most < NEARLY * steps:
        epochs, of_each = max((fewer, most), (more, steps // more), key=math.prod)
    if epochs * of_each < least <= steps:
        epochs = fewer if fewer * whole >= least else more
        of_each = -(-least // epochs)
    return epochs, of_each


def as_trained(setting: Setting, plan: QuickPlan) -> QuickPlan:
    """Return a plan with the steps that its trainings have, whole batches alone: plans of before tell more."""
    batch, train = setting.recipe.batch_size, setting.source.train
    size = train.epoch_size(batch)
    images = size if isinstance(train, Stream) else min(plan.images, size)
    return replace(plan, steps=plan.epochs * max(1, images // batch))


def planned_s(setting: Setting, control: Control, pace: Pace, *, seeds: int, sets: int, steps: int) -> float:
    """Return the seconds that controls and trainings of so many steps take, one after the other."""
    batch = setting.recipe.batch_size
    seen = min(VAL_IMAGES, setting.source.val.epoch_size(batch)) / batch / 3  # a forward pass takes a third of a step
    trainings_s = seeds * (2 * pace.single_s + sets * pace.set_s) * (steps + seen)
    return 4 * CONTROL_SEEDS * control_steps(control) * pace.control_s + trainings_s


def control_steps(control: Control) -> int:
    """Return the training steps of a control."""
    return steps_of(control.planted)


def steps_of(setting: Setting) -> int:
    """Return the training steps of the whole recipe."""
    batch = setting.recipe.batch_size
    return setting.recipe.epochs * max(1, setting.source.train.epoch_size(batch) // batch)


def jobs_of(
    setting: Setting, control: Control, orders: Sequence[Order], plan: QuickPlan, *, within: Unfinished | None = None
) -> Mapping[str, Job]:
    """Return all trainings by key: the same order with other seeds first, then the controls, then the other orders.

    A training that is stopped is kept `within` that.
    """
    few_images = replace(setting, source=part_of(setting, plan))
    seeds = range(setting.seed, setting.seed + plan.seeds)
    floor, *others = sorted(taken(orders, plan), key=lambda order: order.name != HAND_MADE)
    jobs: dict[str, Job] = {}

    def add(key: str, task: Setting, architecture: Architecture, epochs: int, seed: int) -> None:
        jobs[key] = partial(scored, task.part(key, within), architecture, epochs, seed)

    for seed in seeds:
        add(named(floor, seed), few_images, floor.architecture, plan.epochs, seed)
    for begin, task in ((PLANTED, control.planted), (ORDERLESS, control.orderless)):
        for name, direction in ((control.direction, control.direction), (SHUFFLED, SHUFFLE)):
            for seed in range(setting.seed, setting.seed + CONTROL_SEEDS):
                add(f"{begin}: {name} s{seed}", task, ((direction,),), task.recipe.epochs, seed)
    for order in others:
        for seed in seeds:
            add(named(order, seed), few_images, order.architecture, plan.epochs, seed)
    return jobs


def part_of(setting: Setting, plan: QuickPlan) -> Source:
    """Return the part of the data that a plan trains and validates on."""
    return few(setting.source, train=plan.images, val=VAL_IMAGES)


def named(order: Order, seed: int) -> str:
    """Return the key of one training."""
    return f"{ORDER}{order.name} s{seed}"


def scored(setting: Setting, architecture: Architecture, epochs: int, seed: int) -> Row:
    """Return loss and score on the validation samples of one brief training, and the balanced loss where it is balanced."""
    found, scores = setting.alone(epochs=epochs, seed=seed).evaluated(architecture)
    row = {"loss": found.loss, "score": found.score, "seed": seed}
    if balanced(setting):
        known = None if scores is None else scores.losses * balance(scores.true_classes)
        row[BALANCED] = math.inf if known is None else known.mean().item()
    return row


def balanced(setting: Setting) -> bool:
    """Tell whether all classes count alike in training: the losses that are learned there are no plain means over samples."""
    weighted = setting.recipe.class_weights == "balanced" or setting.source.sampler == "balanced"
    return setting.source.info.targets.classes and weighted
