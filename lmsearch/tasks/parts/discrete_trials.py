"""The trials of a discrete search, one by one or side by side: ask for an architecture, evaluate it, tell what it is worth."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from lmsearch.engine.objectives import Metric
from lmsearch.engine.side_by_side import Workers
from lmsearch.engine.unfinished import Unfinished
from lmsearch.scan.directions import label
from lmsearch.search.discrete.architectures import Architecture
from lmsearch.search.discrete.budget import Budget
from lmsearch.search.discrete.evaluators import Evaluation
from lmsearch.search.discrete.trials import DiscreteSearch, best_of
from lmsearch.trials.storage import DIED, INTERRUPTED

log = logging.getLogger(__name__)
Evaluator = Callable[[Architecture], Evaluation]


def explore(
    search: DiscreteSearch,
    evaluator: Evaluator,
    budget: Budget,
    *,
    price: float,
    trials: int | None,
    metric: Metric,
    workers: Workers | None = None,
    unfinished: Unfinished | None = None,
) -> None:
    """Ask, evaluate, tell, until trials, budget or space are used up; `price` is what the dearest evaluation costs.

    Several `workers` evaluate at a time what is proposed whatever the others score, so the trials are those of one worker. What
    `unfinished` keeps of a trial goes when it is told.
    """
    at_once, history = 1 if workers is None else workers.number, search.history()
    while not history.exhausted and (trials is None or len(history.tried) < trials) and budget.allows(price):
        left = history.space.size - len(history.taken)
        most = min(at_once, search.strategy.ahead(history), left, left if trials is None else trials - len(history.tried))
        asked = [search.ask()]
        while len(asked) < most and budget.allows((len(asked) + 1) * price):
            asked.append(search.ask())
        for architecture, result in evaluated(search, evaluator, asked, workers):
            budget.charge(result.cost)
            tell(search, architecture, result, budget, trials=trials, metric=metric)
            if unfinished is not None:
                unfinished.inside(architecture).remove()
        history = search.history()


def evaluated(
    search: DiscreteSearch, evaluator: Evaluator, asked: Sequence[Architecture], workers: Workers | None
) -> list[tuple[Architecture, Evaluation]]:
    """Return the architectures with their results, in order.

    Where one fails, the trials of those that were evaluated are told, and the others go back in the queue.
    """
    done: dict[str, Evaluation] = {}
    jobs = {"/".join("+".join(map(label, layer)) for layer in one): partial(evaluator, one) for one in asked}
    try:
        with ExitStack() as stack:
            for architecture in asked:
                stack.enter_context(search.evaluating(architecture))
            if workers is None or len(jobs) == 1:
                done = {name: job() for name, job in jobs.items()}
            else:
                workers.each(jobs.items(), lambda name, value, took_s: done.update({name: value}))
    except BaseException as error:  # an interruption too: the trial goes back in the queue
        cause = f"{DIED}: {type(error).__name__}" if isinstance(error, Exception) else INTERRUPTED
        for name, architecture in zip(jobs, asked, strict=True):
            if name in done:
                search.tell(architecture, done[name])
            else:
                search.give_back(architecture, reason=cause)
        raise
    return [(architecture, done[name]) for name, architecture in zip(jobs, asked, strict=True)]


def tell(
    search: DiscreteSearch, architecture: Architecture, result: Evaluation, budget: Budget, *, trials: int | None, metric: Metric
) -> None:
    """Store a result and say what it is worth."""
    if not search.tell(architecture, result):
        log.warning("a trial was given to another process, since no heartbeat of this one was seen for long")
        return
    log.info(
        "trial %d%s  %s %.4f  best %.4f  %.0f%s branch-scan steps spent",
        len(search.history().tried),
        "" if trials is None else f"/{trials}",
        metric,
        metric.signed(result.score),
        metric.signed(best_of(search.trials()).evaluation.score),
        budget.spent,
        "" if budget.total is None else f" of {budget.total:g}",
    )
