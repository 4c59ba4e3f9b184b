"""Held-out losses of choices, kept while a derivation or a verdict runs, so that a search that is stopped there goes on there."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from lmsearch.data.order import Ranks
from lmsearch.engine.checkpoint import fingerprint, load_checkpoint, save_checkpoint
from lmsearch.engine.digest import digest_of
from lmsearch.engine.objectives import Scores
from lmsearch.engine.processes import ProcessLost
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import CheckpointError
from lmsearch.interrupts import held_signals

FILE = "masked.pt"
log = logging.getLogger(__name__)


@dataclass
class KeptScores:
    """Scores of choices by a digest of supernet, samples and choices, each measured once.

    They are written every `every_s` seconds (None: only where a signal ends the run), and belong to the run of this digest.
    """

    run_dir: RunDir
    run: str
    every_s: float | None
    known: dict[str, list[Scores]] = field(default_factory=dict)
    written: float = field(default_factory=time.monotonic)
    supernets: WeakKeyDictionary[nn.Module, str] = field(default_factory=WeakKeyDictionary)

    def once(self, module: nn.Module, samples: str, choices: object, measure: Callable[[], list[Scores]]) -> list[Scores]:
        """Return what `measure` gives for these choices, told as plain values, on these samples; it is asked only once."""
        if module not in self.supernets:
            self.supernets[module] = fingerprint(module.state_dict())
        key = digest_of([self.supernets[module], samples, choices])
        if key not in self.known:
            self.known[key] = measure()
            if self.every_s is not None and time.monotonic() - self.written >= self.every_s:
                self.write()
        return self.known[key]

    def write(self) -> None:
        """Write what is known."""
        losses = {key: [_plain(scores) for scores in found] for key, found in self.known.items()}
        save_checkpoint(self.run_dir, {"digest": self.run, "losses": losses}, file=FILE)
        self.written = time.monotonic()

    def read(self) -> None:
        """Take over what the same run has written; what a process cannot read is told of, and all measure it again."""
        known = self._stored()
        if len(set(self.run_dir.world.gather_each((digest_of(sorted(known)),)))) > 1:
            log.warning("%s is not the same to all processes; its choices are evaluated again", self.run_dir / FILE)
            known = {}
        self.known = known

    def _stored(self) -> dict[str, list[Scores]]:
        """Return what the same run has written, as far as this process can read it."""
        path = self.run_dir / FILE
        if not path.is_file():
            return {}
        try:
            state = load_checkpoint(path)
            if state.get("digest") == self.run:
                return {key: [Scores(**one) for one in found] for key, found in state["losses"].items()}
        except (CheckpointError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s cannot be read (%s); its choices are evaluated again", path, error)
        return {}


@contextmanager
def keeping_scores(run_dir: RunDir, run: str, *, every_s: float | None) -> Iterator[KeptScores]:
    """Give the block the scores that are known; they are written where a signal, or the loss of another process, ends it, and
    deleted where it is done. Signals to several processes wait for what these do together: who ended alone would be waited for.
    """
    kept = KeptScores(run_dir, run, every_s)
    kept.read()
    run_dir.world.wait()  # until all have read: the main process may delete it without having met them again
    try:
        with held_signals() if run_dir.world.size > 1 else nullcontext():
            yield kept
    except (KeyboardInterrupt, ProcessLost):
        if kept.known:
            kept.write()
        raise
    run_dir.remove(FILE)


@contextmanager
def ending_together(world: Ranks) -> Iterator[None]:
    """Hold signals while processes measure something together; where one of them was asked to stop, all end after the block.

    Else the main process might wait for one that is gone until it is killed, with what it knows unwritten.
    """
    if world.size == 1:
        yield
        return
    with held_signals() as stop:
        yield
        if world.any(stop.asked):
            stop.end()


def _plain(scores: Scores) -> dict[str, Tensor]:
    """Return the tensors that choices go by."""
    tensors: Sequence[tuple[str, Tensor | None]] = [
        ("losses", scores.losses),
        ("scores", scores.scores),
        ("classes", scores.classes),
    ]
    return {name: tensor for name, tensor in tensors if tensor is not None}
