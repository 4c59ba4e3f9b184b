"""The weights that did best on the validation set, kept beside the final ones; never chosen by the test set."""

from __future__ import annotations

import logging
from typing import Any

from torch import nn

from lmsearch.engine.checkpoint import ModelSpec, read_weights, save_model
from lmsearch.engine.objectives import Metric, Scores
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import CheckpointError

FILE = "best.safetensors"
log = logging.getLogger(__name__)


class Best:
    """The best epoch so far by `metric`, ties by the loss; its weights are in best.safetensors.

    A part of the training state: a run that was interrupted goes on with the best that it had. Where these weights are lost or
    damaged it says so, and goes on as it would have; there are none then until an epoch is better.
    """

    def __init__(self, run_dir: RunDir, spec: ModelSpec, metric: Metric) -> None:
        self.run_dir, self.spec, self.metric = run_dir, spec, metric
        self.epoch: int | None = None  # as numbered in metrics.jsonl
        self.value = self.loss = 0.0

    def offer(self, model: nn.Module, scores: Scores, *, epoch: int) -> None:
        """Keep the weights of `model` where its validation scores are better than all before."""
        score = (self.metric.signed(scores.score), -scores.loss)
        if self.epoch is None or score > (self.metric.signed(self.value), -self.loss):
            save_model(self.run_dir, self.spec, model.state_dict(), file=FILE)
            self.epoch, self.value, self.loss = epoch, scores.score, scores.loss

    def to_dict(self) -> dict[str, Any]:
        """Return what metrics.json says; nothing where a run was begun before bests were kept."""
        return {} if self.epoch is None else {"best_epoch": self.epoch, f"best_val_{self.metric}": self.value}

    def state_dict(self) -> dict[str, Any]:
        """Return what goes on with the run."""
        return {"epoch": self.epoch, "value": self.value, "loss": self.loss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; weights that it tells of and that cannot be read are removed."""
        self.epoch, self.value, self.loss = state["epoch"], state["value"], state["loss"]
        if self.epoch is not None:
            try:
                read_weights(self.run_dir / FILE)
            except CheckpointError as error:
                told = f"the weights of epoch {self.epoch + 1}, the best so far, are lost, and the run goes on without them"
                log.warning("%s; %s", error, told)
                self.run_dir.remove(FILE)
