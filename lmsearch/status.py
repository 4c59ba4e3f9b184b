"""The words of a verdict, as they stand in genotype.json and audits, and of what has become of a run."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """How sure a search is of its choice."""

    OK = "ok"  # every test passed, the recheck too
    UNCONFIRMED = "unconfirmed"  # every test passed, but there was no recheck
    INDETERMINATE = "indeterminate"  # a test failed, or what it needs was not finite
    NOT_TESTED = "not tested"  # nothing was held against random choices
    DIVERGED = "diverged"  # of a control of an audit: its training did


PASSED = (Status.OK, Status.UNCONFIRMED)  # no test failed


class RunStatus(StrEnum):
    """What has become of a run."""

    RUNNING = "running"  # a process writes into it
    FINISHED = "finished"
    STOPPED = "stopped"  # killed or interrupted: the same command continues it
    PRUNED = "pruned"  # ended by its sweep, since other trials did better
    FAILED = "failed"  # ended by an error


class Level(StrEnum):
    """What one check says."""

    OK = "ok"
    WARNING = "warning"
