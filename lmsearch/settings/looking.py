"""The tasks that look at runs, choices and networks, or tidy up after them."""

from __future__ import annotations

from dataclasses import dataclass

from lmsearch.settings.fields import Ints, PathName, again, key
from lmsearch.settings.groups import Settings
from lmsearch.settings.model import Model
from lmsearch.settings.shared import Claiming, HandMade, Output, Spaces

SUBJECTS = {
    "direction": "the path of each of directions",
    "space": "of each candidate of search_space",
    "genotype": "the kept directions of every layer",
    "paths": "their paths",
    "run": "how run_dir went",
    "worth": "how directions moved during the search in run_dir",
    "receptive": "what a token of checkpoint's network sees",
    "attention": "what its directions attend to, in one layer",
    "saliency": "what pixels add to its answer",
    "importance": "what directions do in the supernet of a search",
    "scanbench": "all architectures of a small space, of table",
    "race": "ways to search on table",
    "arms": "the literature's sets of directions, and which fit model",
}


@dataclass(frozen=True, kw_only=True)
class Runs(Settings):
    """Where runs are."""

    runs: PathName = key("folder in which runs are looked for, or the folder of one")


@dataclass(frozen=True, kw_only=True)
class Status(Runs):
    """lmsearch status."""


@dataclass(frozen=True, kw_only=True)
class Clean(Runs):
    """lmsearch clean."""

    delete: bool = key("true: delete what is listed; false: only list it", counts=False)


@dataclass(frozen=True, kw_only=True)
class Board(Output):
    """lmsearch board."""

    run_dir: PathName | None = again(Output, "run_dir", help="a run, or a folder of runs", null="runs")
    host: str = key("name or address that TensorBoard listens on; 0.0.0.0: seen by other machines", counts=False)
    port: int = key("port that TensorBoard listens on; 0: any free one", least=0, most=65535, counts=False)


@dataclass(frozen=True, kw_only=True)
class Show(Spaces, HandMade):
    """lmsearch show."""

    model: Model | None = None
    what: str = key(words=SUBJECTS)
    out: PathName | None = key("file for the drawing, .svg or .png", null="as text on the terminal")
    overwrite: bool = again(Claiming, "overwrite", help="true: replace a file that out= names")
    directions: list[str] = key("directions to show; []: the candidates of search_space")
    genotype: PathName | None = key("genotype.json, run directory or shipped name", null="that of run_dir")
    run_dir: PathName | None = again(Output, "run_dir", help="the run to look at", null="none")
    checkpoint: PathName | None = key("model.safetensors, checkpoint.pt or run directory", null="that of run_dir")
    grid: Ints | None = key("tokens per side, or [height,width]", null="the model's, else 14")
    image: PathName | None = key("an image below paths, or to look at", null="none; saliency: the first validation one")
    layer: str = key("layer of attention and receptive, by name or number; -1: the last")
    token: Ints | None = key("[row,column] of the token that attention and receptive are of", null="the middle one")
    table: str = key("table of ScanBench")
    samples: int = key("images that receptive and importance look at", least=1)
