"""The configuration of lmsearch report."""

from __future__ import annotations

from dataclasses import dataclass

from lmsearch.settings.fields import PathName, PathNames, again, key
from lmsearch.settings.groups import Settings
from lmsearch.settings.shared import Claiming, Output


@dataclass(frozen=True, kw_only=True)
class Report(Settings):
    """lmsearch report."""

    run_dir: PathName | None = again(
        Output,
        "run_dir",
        help="folder of a search, derivation, retraining, comparison, audit or sweep",
        null="runs= names several",
    )
    runs: PathNames | None = key("in place of run_dir: folders to show side by side, such as [a,b]")
    out: PathName | None = key("folder for the page, such as of a run that only others may write to", null="run_dir itself")
    overwrite: bool = again(Claiming, "overwrite", help="true: replace files that out= holds under the names of a page")
