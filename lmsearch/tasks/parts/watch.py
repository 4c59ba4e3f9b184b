"""What a search tells about its health while it trains: scalars for metrics.jsonl and TensorBoard, once per epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lmsearch.data.batch import Batch
from lmsearch.data.info import Loader
from lmsearch.data.order import weight_of
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.log import read_metrics
from lmsearch.engine.objectives import Scores
from lmsearch.engine.train import evaluate
from lmsearch.search.architects.gradients import Losses, batch_losses, branch_cosines, largest_eigenvalue
from lmsearch.search.derivation.choice import choose, quota_of
from lmsearch.search.session import SearchSession
from lmsearch.search.supernet.network import masked, running
from lmsearch.search.trust.detectors import COSINE_LEAST, Finding, memorising, normalised_entropy, sharpness

MEASUREMENTS = 4  # of gap, curvature and gradients in a run, unless search.health_every says otherwise
COSINE_SAMPLES, CURVATURE_SAMPLES = 32, 16  # few, since curvature takes 6 and cosines 2 backward passes


def epoch_findings(session: SearchSession, *, epoch: int, every: int | None, held: Scores) -> dict[str, float]:
    """Return entropies and margin of this epoch and, every few epochs, the gap, curvature, agreement of gradients and the loss
    on a training batch.

    `every` is search.health_every, `held` holds the scores of what the search trains on the held-out samples. Nothing in the
    supernet is changed.
    """
    due = is_due(every, epoch, session.recipe.epochs)
    if not session.learns:  # no alphas to measure
        return memorisation_findings(session, epoch=epoch) if due else {}
    supernet, scores = session.supernet, session.probabilities_after(epoch)
    choices = choose(scores, quota_of(session.quota, scores))
    found = {f"health/entropy/{layer}": normalised_entropy(p) for layer, p in scores.items()}
    margins = [c.margin for c in choices if c.margin is not None]
    if margins:
        found["health/margin"] = min(margins)
    if due:
        with running(supernet, masked(supernet, {c.name: c.directions for c in choices})):
            derived = evaluate(supernet, session.loaders.holdout, session.objective, session.precision)
        found["health/gap"] = derived.loss - held.loss
        few = first_samples(first_batch(session.loaders.alphas, epoch=0), CURVATURE_SAMPLES, world=session.world)
        found["health/sharpness"] = largest_eigenvalue(
            supernet,
            lambda: batch_losses(supernet, few, session.objective, session.precision),
            seed=session.seed,
            world=session.world,
        )
        found |= memorisation_findings(session, epoch=epoch)
    return found


def is_due(every: int | None, epoch: int, epochs: int) -> bool:
    """Tell whether the costly part is measured after this epoch: every so many, a few times in a run (None) or never (0)."""
    if every == 0:
        return False
    if every is not None:
        return (epoch + 1) % every == 0
    return (epoch + 1) * MEASUREMENTS // epochs > epoch * MEASUREMENTS // epochs


def memorisation_findings(session: SearchSession, *, epoch: int) -> dict[str, float]:
    """Return the cosines of the branches' gradients, and the loss on the training batch that they are taken on.

    That batch is one that the weights have just learned from: augmented, but neither mixed nor with smoothed labels, as the
    loss is that training reports. The held-out batch is the same every time.
    """
    train, holdout = first_batch(session.loaders.weights, epoch=epoch), first_batch(session.loaders.alphas, epoch=0)
    supernet = session.supernet

    def losses_on(batch: Batch) -> Losses:
        few = first_samples(batch, COSINE_SAMPLES, world=session.world)
        return lambda: batch_losses(supernet, few, session.objective, session.precision)

    cosines = branch_cosines(supernet, losses_on(train), losses_on(holdout), world=session.world)
    train_loss = torch.tensor(session.scores_on([train]).loss, dtype=torch.float64)
    session.world.mean_([train_loss])  # of equal parts of the batch
    found = {"health/train_loss": train_loss.item()}
    found |= {f"health/cosine/{layer}": float(np.mean(list(c.values()))) for layer, c in cosines.items() if c}
    every = [value for layer in cosines.values() for value in layer.values()]
    if every:
        found["health/cosine"] = float(np.mean(every))
        found["health/cosine_low"] = float(np.mean([value < COSINE_LEAST for value in every]))
    return found


def first_samples(batch: Batch, number: int, *, world: World = SINGLE) -> Batch:
    """Return this process's part of the first samples of the batch that the processes share: so many in all of them together.

    A process that holds none of them takes one of its own, which counts nothing.
    """
    if batch.places is None:
        return batch.take(torch.arange(min(number, len(batch.inputs))))
    own = (batch.places < number).nonzero().flatten() if batch.weight > 0 else torch.empty(0, dtype=torch.int64)
    size = int(world.total(torch.tensor(len(own))))
    few = batch.take(own if len(own) else torch.tensor([0]))
    return few._replace(weight=weight_of(len(own), size, world))


def first_batch(loader: Loader, *, epoch: int) -> Batch:
    """Return the first batch of an epoch."""
    loader.set_epoch(epoch)
    return next(iter(loader))


def history_findings(run_dir: Path) -> Sequence[Finding]:
    """Return what the epochs of a search, as its metrics.jsonl has them, say about sharpness and memorisation."""
    lines = read_metrics(run_dir)
    curvatures = [line["health/sharpness"] for line in lines if "health/sharpness" in line]
    found = [sharpness(curvatures)] if curvatures else []
    needed = {"health/cosine", "health/cosine_low", "health/train_loss", "holdout_loss"}
    last = next((line for line in reversed(lines) if needed <= line.keys()), None)
    if last is not None:
        losses = last["health/train_loss"], last["holdout_loss"]
        found.append(memorising(last["health/cosine"], last["health/cosine_low"], *losses))
    return found
