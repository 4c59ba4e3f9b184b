"""What a process has seen of the heartbeats of others, timed by its own clock: machines need not have the same time."""

from __future__ import annotations

import time


class Watch:
    """Heartbeats of running trials by number, and since when they have not changed."""

    def __init__(self) -> None:
        self.seen: dict[int, tuple[object, float]] = {}
        self.moved: set[int] = set()  # the trials of which a beat was seen to follow another

    def unchanged_s(self, number: int, beat: object) -> float:
        """Return for how many seconds this beat of a trial is known, 0 for one that was not seen before."""
        now = time.monotonic()
        known, since = self.seen.get(number, (None, now))
        if known != beat:
            if number in self.seen:
                self.moved.add(number)
            self.seen[number], since = (beat, now), now
        return now - since
