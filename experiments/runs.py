"""The two things that studies do, in this process and without leaving files: search, and train a network from scratch."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import lru_cache
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from lmsearch.cli import main
from lmsearch.config import compose_settings
from lmsearch.data import Source
from lmsearch.engine.finite import TrainingDiverged
from lmsearch.engine.run_dir import FAILURE, failure_line
from lmsearch.search.discrete.evaluators import StandAlone
from lmsearch.settings.tasks import Retrain
from lmsearch.tasks.parts.build import build_data, build_precision, build_recipe, model_spec

LIGHT = "search.health_every=0"  # the verdict at the end needs no measurements on the way
FAIR = {"search.derivation": "climb", "search.holdout": "0.2"}  # of search=fair when rows that say nothing else were run
UNCHECKED = "search.recheck=0"  # for rows whose choice counts and whose verdict does not; it changes no choice


def search(words: Sequence[str]) -> dict:
    """Run `lmsearch search` with these words; return directions, margins and probabilities per layer, derivation and verdict.

    Raises TrainingDiverged where the supernet does.
    """
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()) as said:
        code = main(["search", *words, *former_words(words), f"run_dir={folder}"])
        if code:
            error, _, what = why_it_failed(Path(folder)).partition(": ")
            if error.endswith(f".{TrainingDiverged.__name__}"):
                raise TrainingDiverged(what)
            raise SystemExit(f"lmsearch search {' '.join(words)} ended with exit code {code}: {said.getvalue()[-500:]}")
        genotype = json.loads((Path(folder) / "genotype.json").read_text())
    health = genotype["health"]
    return {
        "chosen": [layer["directions"] for layer in genotype["layers"]],
        "margins": [layer["margin"] for layer in genotype["layers"]],
        "scores": [{d: round(p, 4) for d, p in layer["scores"].items()} for layer in genotype["layers"]],
        "derivation": genotype["derivation"],
        "status": health["status"],
        "reason": health["reason"],
    }


def former_words(words: Sequence[str]) -> list[str]:
    """Return what a row's words leave to the defaults of search=fair, as these were when the first rows were run."""
    given = {name: value for name, _, value in (word.partition("=") for word in words)}
    if given.get("search", "fair") != "fair":
        return []
    return [f"{name}={value}" for name, value in FAIR.items() if name not in given]


def why_it_failed(folder: Path) -> str:
    """Return the class and the text of the error that ended a run, "" where it left none."""
    file = folder / FAILURE
    return failure_line(file.read_text()) if file.exists() else ""


def search_or_none(words: Sequence[str]) -> dict:
    """Return what `search` does; of a search that diverges, that it did and chose nothing."""
    try:
        return search(words)
    except TrainingDiverged as error:
        return {"chosen": None, "diverged": True, "reason": str(error)}


@lru_cache(maxsize=2)
def source_of(words: tuple[str, ...]) -> Source:
    """Return the data that the words describe; drawing a teacher's samples takes longer than training on them."""
    return build_data(compose_settings(Retrain, ["genotype=none", *words]).data)


def train_alone(words: Sequence[str], directions: Sequence[Sequence[str]]) -> float:
    """Train the network with these directions per layer as `lmsearch retrain` would; return its mean squared test error."""
    settings = compose_settings(Retrain, ["genotype=none", *words])
    data_words = tuple(word for word in words if word.startswith(("data=", "data.")))
    source, precision = source_of(data_words), build_precision(settings)
    architecture = tuple(tuple(layer) for layer in directions)
    spec = model_spec(settings, source.info, architecture, merge="sum")
    on_test = replace(source, val=source.test)  # of a study whose result is this error; nothing is chosen by it
    alone = StandAlone(spec, on_test, build_recipe(settings), precision, settings.seed, backend=settings.backend)
    return alone(architecture).loss


def quiet() -> None:
    """Leave out what the package logs in every run: the studies print one line per row."""
    logging.getLogger("lmsearch").setLevel(logging.WARNING)


def epochs_for(steps: int, *, samples: int | None, batch_size: int = 32, fresh: int = 30) -> int:
    """Return the epochs that make about `steps` steps: of `fresh` steps each, or of what `samples` samples give."""
    per_epoch = fresh if samples is None else samples // batch_size
    return max(1, round(steps / per_epoch))
