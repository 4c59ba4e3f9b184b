"""What the audit has done: one JSON line per finished part, so that the same command goes on where it was stopped."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from lmsearch.audit.rows import fault_of
from lmsearch.engine.digest import digest_of
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.unfinished import Unfinished
from lmsearch.errors import ConfigError
from lmsearch.reading import damaged_line, read_json_lines

log = logging.getLogger(__name__)
Row = dict[str, Any]
PARTS = "parts.jsonl"


class OutOfTime(Exception):
    """No part may start any more."""


class Ledger:
    """Rows of parts.jsonl by key. `limit_s` is what all parts together may take, those of earlier calls included.

    Where parts are done `at_once`, that many seconds of them pass in each second. `unfinished` keeps the parts that were stopped,
    saved every `every_s` seconds, until their rows are there.
    """

    def __init__(
        self,
        run_dir: RunDir,
        *,
        identity: str,
        limit_s: float,
        differs: str = "",
        at_once: int = 1,
        every_s: float | None = None,
    ) -> None:
        """Open the rows of this audit; raise ConfigError where the file belongs to another one, which `differs` so.

        Raises FileError where the file cannot be read or a line is damaged.
        """
        self.run_dir, self.limit_s, self.at_once, self.total = run_dir, limit_s * at_once, at_once, 0
        self.identity = identity
        self.rows: dict[str, Row] = {}
        self.unfinished = Unfinished.of(run_dir, digest_of(identity), every_s=every_s)
        self.earlier_s: dict[str, float] = {}  # that parts took before they were stopped
        read = read_json_lines(run_dir / PARTS)
        if read and read[0].get("identity") != identity:
            if len(read) > 1:
                raise ConfigError(
                    f"{run_dir} holds another audit{differs}; choose another run_dir=, or overwrite=true to start over in it"
                )
            read = []  # one that never began
        if len(read) <= 1:
            self.unfinished.remove()  # of a plan that is gone
        run_dir.write(PARTS, "".join(json.dumps(row) + "\n" for row in read or [{"identity": identity}]))
        for number, row in enumerate(read[1:], start=2):
            if (fault := fault_of(row)) is not None:
                raise damaged_line(f"{run_dir / PARTS}: line {number}", fault)
        self.rows = {row["key"]: row for row in read[1:]}
        for key in self.rows:  # one whose process was killed between row and states
            self.unfinished.inside(key).remove()

    @property
    def spent_s(self) -> float:
        """Seconds that the finished parts took."""
        return sum(row["took_s"] for row in self.rows.values())

    @property
    def time_is_up(self) -> bool:
        """Whether no part may start any more."""
        return self.spent_s >= self.limit_s

    def once(self, key: str, work: Callable[[], Row], *, must: bool = False) -> Row:
        """Return the row `key`, doing its work only if no earlier call did.

        Raises OutOfTime where the time is up, unless the part is a `must`.
        """
        if key in self.rows:
            return self.rows[key]
        if self.time_is_up and not must:
            raise OutOfTime(key)
        self.begin(key)
        began = time.perf_counter()
        row = work()
        return self.record(key, row, time.perf_counter() - began)

    def forget(self, keys: Iterable[str]) -> None:
        """Drop finished parts, and all that was begun, so that they may be done otherwise."""
        dropped = set(keys)
        self.unfinished.remove()
        self.rows = {key: row for key, row in self.rows.items() if key not in dropped}
        lines = [{"identity": self.identity}, *self.rows.values()]
        self.run_dir.write(PARTS, "".join(json.dumps(line) + "\n" for line in lines))

    def startable(self, parts: Mapping[str, Callable[[], Row]]) -> Iterator[tuple[str, Callable[[], Row]]]:
        """Yield the parts that are not done as long as there is time."""
        for key, work in parts.items():
            if key not in self.rows:
                if self.time_is_up:
                    return
                self.begin(key)
                yield key, work

    def begin(self, key: str) -> None:
        """Note what a part has taken already."""
        self.earlier_s[key] = self.unfinished.inside(key).seconds()

    def record(self, key: str, found: Row, took_s: float) -> Row:
        """Keep the row of a part that took so long since it was begun or gone on with, and say so; its states can go."""
        row: Row = {"key": key} | found | {"took_s": round(took_s + self.earlier_s.pop(key, 0.0), 2)}
        self.run_dir.append_line(PARTS, json.dumps(row))
        self.unfinished.inside(key).remove()
        self.rows[key] = json.loads(json.dumps(row))
        left = max(0.0, self.limit_s - self.spent_s) / self.at_once
        of = f"/{self.total}" if self.total else ""
        log.info("audit  part %d%s  %s (%.0f s)  at most %.0f s left", len(self.rows), of, key, row["took_s"], left)
        return self.rows[key]
