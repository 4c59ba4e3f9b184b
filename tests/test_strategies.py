"""Properties that every strategy of discrete search must have, and spaces of architectures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import optuna
import pytest

from lmsearch.engine.objectives import METRICS
from lmsearch.errors import ConfigError, SearchSpaceError, StorageError
from lmsearch.search.discrete.architectures import Architecture, ArchitectureSpace
from lmsearch.search.discrete.budget import Budget
from lmsearch.search.discrete.evaluators import Evaluation
from lmsearch.search.discrete.strategies import History, Tried, in_order
from lmsearch.search.discrete.trials import (
    METHODS,
    DiscreteSearch,
    best_of,
    build_strategy,
    candidate_means,
    pareto_front,
)
from lmsearch.tasks.parts.discrete_trials import explore
from lmsearch.trials import storage
from lmsearch.trials.storage import WORKER, open_storage

optuna.logging.set_verbosity(optuna.logging.WARNING)
NAMES = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w4", "w4_flip")
UNEVEN = ArchitectureSpace.of([NAMES, NAMES[:5], NAMES[:3]], [2, 3, 3])  # layers of their own; the last has no choice
VARYING = ArchitectureSpace.of([NAMES[:4], NAMES[:3]], [3, 2], fewest=1)
WIDE = ArchitectureSpace.of([NAMES] * 3, [3] * 3)  # 175 616 architectures


def worth(architecture: Architecture, seed: int = 0) -> float:
    """A toy: every direction of every layer has a worth of its own, and pairs in one layer interact."""
    rng = np.random.default_rng(seed)
    alone, pairs = rng.normal(size=(4, 8)), 0.3 * rng.normal(size=(4, 8, 8))
    total = 0.0
    for layer, names in enumerate(architecture):
        kept = [NAMES.index(n) for n in names]
        total += alone[layer, kept].sum() + pairs[layer][np.ix_(kept, kept)].sum()
    return float(total)


def start(method: str, space: ArchitectureSpace, *, seed: int = 0, path: Path | None = None) -> DiscreteSearch:
    strategy = build_strategy(method, population=6, tournament=3)
    second = (lambda a: float(sum(map(len, a)))) if method == "nsga2" else None
    storage = None if path is None else open_storage(path)
    return DiscreteSearch(storage, "toy", space, strategy, seed=seed, second=second)


def advance(search: DiscreteSearch, count: int, *, landscape: int = 0) -> list[Architecture]:
    asked = []
    for _ in range(count):
        asked.append(search.ask())
        search.tell(asked[-1], Evaluation(worth(asked[-1], landscape), 0.0, 1.0))
    return asked


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("space", [UNEVEN, VARYING], ids=["uneven", "varying"])
def test_a_strategy_stays_in_the_space_and_never_repeats_itself(method: str, space: ArchitectureSpace) -> None:
    count = min(space.size, 40)
    asked = advance(start(method, space), count)
    assert all(architecture in space for architecture in asked)
    assert len(set(asked)) == count


@pytest.mark.parametrize("method", METHODS)
def test_a_strategy_goes_through_a_whole_small_space(method: str) -> None:
    small = ArchitectureSpace.of([NAMES[:4], NAMES[:3]], [2, 1])
    search = start(method, small)
    assert set(advance(search, small.size)) == set(in_order(small, small.architecture([0, 0])))
    assert search.history().exhausted


@pytest.mark.parametrize("method", METHODS)
def test_a_strategy_proposes_the_same_after_a_kill_as_without_one(method: str, tmp_path: Path) -> None:
    whole = advance(start(method, WIDE), 16)
    path = tmp_path / "trials.journal"
    first = advance(start(method, WIDE, path=path), 13)
    start(method, WIDE, path=path).ask()  # killed in the middle of this trial
    _forget_owner(path)
    rest = advance(start(method, WIDE, path=path), 3)
    assert first + rest == whole


def _forget_owner(path: Path) -> None:
    """Make the running trial look as if its process had died."""
    study = optuna.load_study(study_name="toy", storage=open_storage(path))
    running = study.get_trials(states=(optuna.trial.TrialState.RUNNING,))[0]
    worker = running.user_attrs[WORKER] | {"born": "of another process with this id"}
    study._storage.set_trial_user_attr(running._trial_id, WORKER, worker)


def test_an_evaluation_is_seen_to_be_alive_while_it_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "BEAT_S", 0.01)
    search = start("random", WIDE, path=tmp_path / "trials.journal")
    beats = []

    def evaluate(architecture: Architecture) -> Evaluation:
        for _ in range(500):  # far longer than it takes, where a heart beats
            beats.append(search.study.trials[0].user_attrs["beat"])
            if beats[-1] > beats[0]:
                break
            time.sleep(0.02)
        return Evaluation(1.0, 0.0, 1.0)

    explore(search, evaluate, Budget(None), price=1.0, trials=1, metric=METRICS["accuracy"])
    assert beats[-1] > beats[0] and len(search.trials()) == 1


def test_a_trial_that_another_process_took_for_lost_is_left_to_the_queue(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "trials.journal"
    search, asked = start("random", WIDE, path=path), []

    def evaluate(architecture: Architecture) -> Evaluation:
        asked.append(architecture)
        if len(asked) == 1:
            _forget_owner(path)
            start("random", WIDE, path=path)  # recovers it
        return Evaluation(worth(architecture), 0.0, 1.0)

    budget = Budget(None)
    explore(search, evaluate, budget, price=1.0, trials=3, metric=METRICS["accuracy"])
    assert "given to another process" in caplog.text
    assert asked[0] == asked[1] and [t.architecture for t in search.trials()] == asked[1:]
    assert budget.spent == 4.0, "what the lost evaluation cost was spent"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("diverged", [False, True])
def test_what_is_asked_for_ahead_of_the_scores_is_what_would_be_asked_for_later(method: str, diverged: bool) -> None:
    one, several = start(method, UNEVEN), start(method, UNEVEN)

    def tell(search: DiscreteSearch, architecture: Architecture, number: int) -> None:
        score = -math.inf if diverged and number % 5 == 2 else worth(architecture)
        search.tell(architecture, Evaluation(score, 0.0, 1.0))

    number = 0
    while number < 20:
        wave = [several.ask() for _ in range(min(3, several.strategy.ahead(several.history())))]
        for architecture in wave:
            assert one.ask() == architecture
            tell(one, architecture, number)
            number += 1
        for place, architecture in reversed([*enumerate(wave, number - len(wave))]):
            tell(several, architecture, place)


@pytest.mark.parametrize("method", METHODS)
def test_another_seed_tries_something_else(method: str) -> None:
    assert advance(start(method, WIDE, seed=1), 3) != advance(start(method, WIDE, seed=2), 3)


@pytest.mark.parametrize("method", METHODS)
def test_a_strategy_lives_with_trials_that_diverged(method: str) -> None:
    search = start(method, WIDE)
    for _ in range(4):
        search.tell(search.ask(), Evaluation(-math.inf, math.inf, 1.0))
    asked = advance(search, 16)
    assert best_of(search.trials()).architecture in asked


@cache
def found(method: str, seed: int) -> float:
    """Return the best score of 40 trials on a landscape of its own."""
    search = start(method, WIDE, seed=seed)
    advance(search, 40, landscape=seed)
    return best_of(search.trials()).evaluation.score


@pytest.mark.parametrize("method", ["local", "evolution", "tpe"])
def test_a_strategy_finds_more_than_random_search_on_average(method: str) -> None:
    gains = [found(method, seed) - found("random", seed) for seed in range(4)]
    assert np.mean(gains) > 0.5, "the toy's scores have a standard deviation of about 3"


def test_nsga2_finds_small_and_large_architectures_on_its_front() -> None:
    search = start("nsga2", ArchitectureSpace.of([NAMES] * 2, [4, 4], fewest=1))
    advance(search, 60)
    front = pareto_front(search.trials())
    seconds, scores = [t.second for t in front], [t.evaluation.score for t in front]
    assert seconds == sorted(seconds) and scores == sorted(scores) and len(set(scores)) == len(front) >= 3
    for trial in search.trials():
        beaten = [t for t in front if t.second <= trial.second and t.evaluation.score >= trial.evaluation.score]
        assert beaten, "every trial is on the front or beaten by one of it"


def test_local_search_climbs_by_single_swaps_and_starts_anew_at_an_optimum() -> None:
    space = ArchitectureSpace.of([NAMES[:4]], [1])
    search = start("local", ArchitectureSpace.of([NAMES, NAMES], [2, 2]))
    first, second = advance(search, 2)
    assert second in set(search.space.neighbours(first))
    tried = [Tried((("h",),), 1.0), Tried((("v",),), 0.0), Tried((("h_flip",),), 0.5)]
    history = History(space, tried, {one.architecture for one in tried})
    assert build_strategy("local", population=1, tournament=1).propose(history, np.random.default_rng(0)) == (("v_flip",),)


def test_evolution_forgets_the_old() -> None:
    space = ArchitectureSpace.of([NAMES], [2])
    old = Tried((("h", "h_flip"),), 100.0)
    young = [Tried((("w4", "w4_flip"),), 1.0), Tried((("w2", "w4"),), 0.0)]
    history = History(space, [old, *young], {one.architecture for one in [old, *young]})
    child = build_strategy("evolution", population=2, tournament=2).propose(history, np.random.default_rng(3))
    assert child in set(space.neighbours(young[0].architecture))


def test_every_architecture_has_numbers_of_its_own() -> None:
    everything = list(in_order(VARYING, VARYING.architecture([3, 2])))
    assert len(set(everything)) == len(everything) == VARYING.size == 14 * 6
    assert all(VARYING.architecture(VARYING.numbers(a)) == a and a in VARYING for a in everything)


def test_neighbours_differ_by_one_move_and_stay_in_the_space() -> None:
    for space in (UNEVEN, VARYING):
        architecture = space.draw(np.random.default_rng(1))
        around = list(space.neighbours(architecture))
        assert len(set(around)) == len(around) and architecture not in around
        for other in around:
            changed = [set(a) ^ set(b) for a, b in zip(architecture, other, strict=True) if a != b]
            assert other in space and len(changed) == 1 and len(changed[0]) <= 2


def test_draws_are_uniform_over_the_space() -> None:
    space, rng = ArchitectureSpace.of([NAMES[:4]], [3], fewest=1), np.random.default_rng(0)
    counts = np.zeros(space.size)
    for _ in range(1400):
        counts[space.numbers(space.draw(rng))[0]] += 1
    assert np.abs(counts - 100).max() < 40, "14 subsets, 100 each, four standard deviations"


def test_scores_of_candidates_are_means_over_the_architectures_that_hold_them() -> None:
    search = start("random", ArchitectureSpace.of([NAMES[:3]], [2]))
    advance(search, 3)
    scores = {t.architecture[0]: t.evaluation.score for t in search.trials()}
    expected = (scores["h", "h_flip"] + scores["h", "v"]) / 2
    assert candidate_means(search.space, search.trials())[0]["h"] == pytest.approx(expected)


def test_keeping_more_than_there_is_names_layer_and_candidates() -> None:
    with pytest.raises(SearchSpaceError, match="keep=4 is not between 1 and the 3 candidates of layer 1: h, h_flip, v"):
        ArchitectureSpace.of([NAMES, NAMES[:3]], [4, 4])
    with pytest.raises(SearchSpaceError, match="search.fewest=3 is not between 1 and the 2 that layer 0 keeps"):
        ArchitectureSpace.of([NAMES], [2], fewest=3)


def test_an_unknown_strategy_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="search.method='evolutoin' is not a discrete strategy.*evolution"):
        build_strategy("evolutoin", population=1, tournament=1)


def test_a_storage_that_cannot_be_reached_is_one_clear_line(tmp_path: Path) -> None:
    for url in ("nonsense://x", f"sqlite:///{tmp_path}/no/such/folder/x.db"):
        with pytest.raises(StorageError, match="storage=.*(cannot be reached|is not a database URL)") as error:
            open_storage(url)
        assert "\n" not in str(error.value)


class LastFirst:
    """Two workers, of which the second ends first; at the group numbered `stop` the first one is cut off."""

    number = 2

    def __init__(self, stop: int = 0) -> None:
        self.left = stop

    def each(self, jobs: Iterable[tuple[str, Callable[[], Evaluation]]], keep: Callable[[str, Evaluation, float], None]) -> None:
        self.left -= 1
        for name, job in reversed(list(jobs)[1:] if self.left == 0 else list(jobs)):
            keep(name, job(), 0.0)
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("method", ["random", "evolution", "nsga2"])
def test_trials_side_by_side_keep_their_order_where_one_of_them_was_cut_off(method: str, tmp_path: Path) -> None:
    def trials(name: str, *stops: int) -> list[tuple[int, Architecture]]:
        path = tmp_path / name
        for stop in (*stops, 0):
            with suppress(KeyboardInterrupt):
                explore(
                    start(method, WIDE, path=path), lambda one: Evaluation(round(worth(one)), 0.0, 1.0), Budget(), price=1.0,
                    trials=10, metric=METRICS["accuracy"], workers=LastFirst(stop),
                )  # fmt: skip
        return [(trial.number, trial.architecture) for trial in start(method, WIDE, path=path).trials()]

    whole, cut = trials("whole"), trials("cut", 2)
    assert len(whole) == 10 and [number for number, _ in cut] == sorted(number for number, _ in cut)
    assert [architecture for _, architecture in cut] == [architecture for _, architecture in whole]
