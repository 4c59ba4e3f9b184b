"""Run directories: one folder per run, claimed by its configuration, so that the same command continues it."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from lmsearch.context import tell
from lmsearch.data import Source
from lmsearch.engine.checkpoint import CHECKPOINT, MODEL
from lmsearch.engine.distributed import SINGLE, World
from lmsearch.engine.log import EndedEarly, environment
from lmsearch.engine.nonfinite import FILE as NONFINITE
from lmsearch.engine.processes import ProcessLost
from lmsearch.engine.run_dir import FAILURE, RunDir
from lmsearch.engine.state import older_states
from lmsearch.engine.unfinished import FOLDER as UNFINISHED
from lmsearch.errors import ConfigError, FileError, GenotypeError, short
from lmsearch.genotype import FILE, Genotype, load_genotype
from lmsearch.reading import read_text, read_yaml
from lmsearch.report.page.folder import CONFIG, FURTHER
from lmsearch.run_identity import differences, run_digest, taken_further
from lmsearch.scan.directions import former_names
from lmsearch.search.supernet.kept import FILE as MASKED
from lmsearch.settings.groups import Settings
from lmsearch.settings.shared import Claiming, Output, Training
from lmsearch.tasks.parts.cost import counting_cost
from lmsearch.tasks.parts.restarts import note_start, starts_over
from lmsearch.tasks.parts.samples import FILE as MANIFEST
from lmsearch.tasks.parts.samples import note_samples
from lmsearch.words import first_of

BEGUN_WITH = "init_from.json"  # of a retraining: which weights it started from, where these were still being trained
MARKER = "run_id.txt"  # in the folder of a run that its configuration has claimed
WORK = (CHECKPOINT, "trials.journal", "parts.jsonl", MODEL)  # what a run cannot lose without losing work
RESULTS = (  # gone with it
    "metrics.jsonl", "metrics.json", "results.csv", "best.safetensors", "model.json", "confusion.json",
    "confusion.png", "comparison.json", "curves.png", "val_batch.png", "cost.json", "about.json", "example.png", "report.html",
    "report.md", "report.json", "card.png", "precision_recall.png", BEGUN_WITH, MANIFEST, NONFINITE, MASKED, FAILURE,
    FURTHER,
)  # fmt: skip
FOREIGN = (MODEL, CONFIG, *(name for name in RESULTS if name != MANIFEST))  # no run's own where none has claimed a folder
RUN = re.compile(r"[a-z]+ [0-9a-f]+")  # how the first line of a marker begins
PART = re.compile(r"\w[\w.-]*")  # the name of a folder inside
SHOWN = 4  # differing keys in a message


@dataclass(frozen=True)
class Claim:
    """What a marker says: the run that a folder holds, and the folders inside that hold its seeds or arms."""

    run: str = ""  # task, digest of its configuration, digest of what its files held
    parts: tuple[str, ...] = ()

    @classmethod
    def read(cls, run_dir: Path) -> Claim:
        """Return the claim on a folder; one without a marker has none. Raises ConfigError where the marker is damaged."""
        marker = run_dir / MARKER
        lines = read_text(marker, where=str(marker), error=ConfigError).splitlines() if marker.exists() else []
        if lines and not RUN.match(lines[0]):
            raise ConfigError(f"{marker}: {short(lines[0])} names no run, so the file is damaged; overwrite=true starts over")
        if outside := [name for name in lines[1:] if not PART.fullmatch(name)]:
            raise ConfigError(f"{marker}: {short(outside[0])} is no folder inside, so it is damaged; overwrite=true starts over")
        return cls(lines[0], tuple(lines[1:])) if lines else cls()

    def write(self, run_dir: RunDir) -> None:
        """Write the marker."""
        run_dir.write(MARKER, "\n".join((self.run, *self.parts)) + "\n")

    @property
    def task(self) -> str:
        """The task of the run, "" for none."""
        return self.run.partition(" ")[0]

    def folders(self, run_dir: RunDir) -> list[RunDir]:
        """Return the folder and those of the parts."""
        return [run_dir, *map(run_dir.inside, self.parts)]


def claim_on(run_dir: Path, *, overwrite: bool) -> Claim:
    """Return the claim on a folder; a damaged marker counts as none where the run is to `overwrite` what is there."""
    try:
        return Claim.read(run_dir)
    except ConfigError:
        if not overwrite:
            raise
        return Claim()


@contextmanager
def open_run_dir(
    settings: Output,
    task: str,
    *,
    data: str | None = None,
    model: str | None = None,
    seed: int | None = None,
    world: World = SINGLE,
) -> Iterator[RunDir]:
    """Create the output folder of a task, and give it to the block, which alone writes into it.

    Raises InUseError where another process does.
    """
    run_dir = RunDir(folder_of(settings, task, data=data, model=model, seed=seed), world)
    with run_dir.owned():
        yield run_dir


def folder_of(
    settings: Settings, task: str, *, data: str | None = None, model: str | None = None, seed: int | None = None
) -> Path:
    """Return run_dir, by default runs/<task>-<data>-<model>-s<seed>, with what is not given from the configuration, or left out.

    A search over several seeds, which is no longer search with the first of them, has "-seeds" added.
    """
    if given := settings.get("run_dir"):
        return Path(given)
    data = data or settings.get("data.name")
    model = model or settings.get("model.name")
    seed = settings.get("seed") if seed is None else seed
    several = "seeds" if task == "search" and settings.get("seeds") > 1 else None
    parts = [task, data, model, None if seed is None else f"s{seed}", several]
    return Path("runs") / "-".join(str(part).replace("/", "-") for part in parts if part is not None)


@contextmanager
def claim_run_dir(
    settings: Training,
    task: str,
    content: object,
    *,
    source: Source,
    parts: Sequence[str] = (),
    genotype: Genotype | None = None,
    world: World = SINGLE,
) -> Iterator[RunDir]:
    """Give the folder of a training run, with config.yaml and environment.json in it, to the block, which alone writes there.

    A run is what its configuration and `content` (JSON values: the directions that its files named, the weights that it
    starts from) say, but for how many seeds or trials it has: with more of them it goes on, on the same samples of `source`.
    `parts` names the folders inside that hold its seeds or arms, `genotype` is what it writes to genotype.json (a search cannot
    know yet).

    Raises ConfigError where something would be lost or samples are others, unless overwrite=true, which starts the run over
    (once in a job that is started again by itself), and InUseError where another process writes there.
    """
    inside = hashlib.sha256(json.dumps(former_names(content), sort_keys=True).encode()).hexdigest()
    mine = Claim(f"{task} {run_digest(settings.content)} {inside}", tuple(parts))
    alike = [
        mine.run,
        *(settings.get(f"optim.{name}") for name in ("on_nonfinite", "nonfinite_steps")),
    ]  # not of a run's identity
    world.assert_same(hashlib.sha256(json.dumps(alike).encode()).hexdigest(), what="the configuration")
    refuse_both(settings)
    with open_run_dir(settings, task, world=world) as run_dir:
        overwrite = starts_over(run_dir, mine.run, asked=settings.overwrite)
        before = claim_on(run_dir.path, overwrite=overwrite)
        unclaimed = tuple(name for name in mine.parts if name not in before.parts and not (run_dir / name / MARKER).exists())
        held = replace(before, parts=before.parts + unclaimed)  # what is there would be taken for this run's
        if overwrite:
            start_over(run_dir, held)
        else:
            refuse_loss(settings, run_dir.path, held, mine, genotype)
            check_resume(settings, run_dir.path, held)
        elsewhere = before.run == mine.run and not overwrite and settings.get("search.storage") is not None
        note_samples(run_dir, source, begun=elsewhere or bool(work_in(run_dir.path, held)))
        mine.write(run_dir)
        if overwrite:
            note_start(run_dir, mine.run)
        elif before.run == mine.run:
            note_further(run_dir, settings)
        write_config(run_dir, settings)
        run_dir.write_json("environment.json", environment(settings.seed))
        with telling_failure(run_dir), counting_cost(run_dir):
            yield run_dir
            run_dir.remove(FURTHER)


@contextmanager
def telling_failure(run_dir: RunDir) -> Iterator[None]:
    """Leave the traceback of an error that ends the block in the run's folder; an interrupt is none, nor that others did better.

    Of several processes the one that fails writes it; those that lose it do so only where nothing tells why it is gone.
    """
    run_dir.remove(FAILURE)
    run_dir.remove(NONFINITE)  # of steps that are told of again, where they still count
    run_dir.world.wait()  # nobody reads what the main process starts over, or writes what it removes
    try:
        yield
    except EndedEarly:
        raise
    except Exception as error:
        if not isinstance(error, ProcessLost) or not (run_dir / FAILURE).exists():
            with suppress(FileError):  # a full disk, of which the error itself may tell
                run_dir.write_failure(traceback.format_exc())
        raise


def refuse_loss(settings: Claiming, run_dir: Path, before: Claim, mine: Claim, genotype: Genotype | None) -> None:
    """Raise ConfigError where a run would write over the work or the genotype.json of another one, or its own of more seeds."""
    result = run_dir / FILE
    if before.run == mine.run:
        if more := [name for name in before.parts if name not in mine.parts and (run_dir / name).exists()]:
            raise ConfigError(f"{run_dir} holds more seeds already ({', '.join(more)}); choose another run_dir= for fewer")
        return
    searched = before.task == "search" and result.exists()  # else put there for other tasks to read
    elsewhere = before.task in ("sweep", "evaluate")  # trials may be in a database; what is measured is not kept in work
    work = [path for path in work_in(run_dir, before) if before.run or path != run_dir / MODEL]
    if work or searched or elsewhere:
        foreign = before.task not in ("", mine.task)
        how = f" (of lmsearch {before.task})" if foreign else how_it_differs(settings, run_dir, task=mine.task)
        raise ConfigError(f"{run_dir} holds another run{how}; {ways_on(run_dir, before, mine)}")
    refuse_foreign(run_dir)
    copied = before.task == "retrain"  # by a retraining that never saved an epoch
    writes = mine.task == "search" or (genotype is not None and not holds(result, genotype))
    if writes and result.exists() and not copied:
        raise ConfigError(f"{result} would be lost; choose another run_dir=, or overwrite=true to replace it")


def refuse_foreign(run_dir: Path, names: Sequence[str] = FOREIGN, *, but: str = ", or overwrite=true to replace it") -> None:
    """Raise ConfigError where a folder that no run has claimed holds files that a run would write over; `but`: another way."""
    there = [run_dir / name for name in names if (run_dir / name).exists()]  # looked for first, since a claim comes before them
    if there and not Claim.read(run_dir).run:
        raise ConfigError(f"{there[0]} would be lost; choose another run_dir={but}")


def is_configured(run_dir: Path, *keys: str) -> bool:
    """Tell whether the config.yaml of a folder holds these keys, as that of an audit or an older evaluation, which claim none."""
    return configured(run_dir).keys() >= {"run_dir", *keys}


def configured(run_dir: Path) -> dict[str, Any]:
    """Return what the config.yaml of a folder holds; nothing where it is not there, or is none."""
    config = run_dir / CONFIG
    try:
        content = read_yaml(config, error=ConfigError)
    except ConfigError:
        return {}
    return content if isinstance(content, dict) else {}


def refuse_both(settings: Claiming) -> None:
    """Raise ConfigError where one key says that a run goes on, and another that it starts over."""
    if settings.overwrite and settings.get("resume") == "must":
        raise ConfigError("resume=must goes on with a run, overwrite=true starts it over; give one of them")


def check_resume(settings: Settings, run_dir: Path, held: Claim) -> None:
    """Raise ConfigError where resume= refuses to go on with what the folder holds of this run, or to begin one."""
    resume = settings.get("resume")
    work = first_of([path.name for path in work_in(run_dir, held)], SHOWN, between=", ")
    if resume == "never" and work:
        raise ConfigError(f"resume=never, but {run_dir} holds work ({work}); choose another run_dir=, or resume=auto to go on")
    if resume == "must" and not work:
        raise ConfigError(f"resume=must, but {run_dir} holds nothing to go on with; resume=auto begins a run there")


def work_in(run_dir: Path, held: Claim) -> list[Path]:
    """Return the files of a folder, and of its parts, that a run cannot lose without losing work."""
    folders = [folder.path for folder in held.folders(RunDir(run_dir))]
    listed = [folder / name for folder in folders for name in WORK]
    parts = (path for folder in folders for path in (folder / UNFINISHED).rglob("*.pt"))
    return [*filter(Path.exists, listed), *(folder / name for folder in folders for _, name in older_states(folder)), *parts]


def note_further(run_dir: RunDir, settings: Settings, *keys: str) -> None:
    """Write down, before write_config does, where the run of a folder is given more than before, of `keys` too.

    Who writes its results removes it.
    """
    if more := taken_further(configured(run_dir.path), settings.content, also=keys):
        run_dir.write(FURTHER, "; ".join(more) + "\n")


def write_config(run_dir: RunDir, settings: Settings) -> None:
    """Write config.yaml: every key with its value."""
    run_dir.write("config.yaml", config_text(settings.content))


def config_text(content: Mapping[str, Any]) -> str:
    """Return a configuration as YAML."""
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)


def how_it_differs(settings: Claiming, run_dir: Path, *, task: str = "") -> str:
    """Return " (epochs=40 there, 60 here)": how the run that a folder holds differs from this one; "" where that is not known."""
    if not (there := configured(run_dir)):
        return ""
    found = differences(there, settings.content)
    seeds = there.get("seeds", 1), settings.get("seeds")
    if not found and task == "search" and seeds[0] != seeds[1] and 1 in seeds:
        return f" (seeds={seeds[0]} there, {seeds[1]} here: a search over several seeds is another run)"
    if not found:
        return " (the same configuration, but its files hold something else now)"
    return f" ({first_of(found, SHOWN, between='; ')})"


def ways_on(run_dir: Path, before: Claim, mine: Claim) -> str:
    """Return what to type where a folder holds another run."""
    trained = before.task == mine.task == "retrain" and any((run_dir / name).exists() for name in (CHECKPOINT, MODEL))
    further = f", with init_from={run_dir} to train on from its weights" if trained else ""
    return f"choose another run_dir={further}, or overwrite=true to start over in it"


def start_over(run_dir: RunDir, before: Claim) -> None:
    """Delete the work and the results of the run that a folder holds.

    Raises InUseError where another process goes on with it, FileError where one cannot be deleted.
    """
    with ExitStack() as locks:
        for folder in before.folders(run_dir)[1:]:
            if folder.path.is_dir():
                locks.enter_context(folder.locked())
        for folder in before.folders(run_dir):
            states = (name for _, name in older_states(folder.path))
            again = (path.name for ending in (".pt", f"-{NONFINITE}") for path in folder.path.glob(f"recheck*{ending}"))
            for name in (*WORK, *RESULTS, *states, *again):
                folder.remove(name)
            folder.inside(UNFINISHED).clear()
            if before.task == "search":
                folder.remove(FILE)


def holds(path: Path, genotype: Genotype) -> bool:
    """Tell whether a genotype.json is there and holds just this genotype."""
    try:
        return load_genotype(path) == genotype
    except GenotypeError:
        return False


def tell_next(key: str, run_dir: RunDir | str, *tasks: str) -> None:
    """Print the commands that take a run directory or a file on, as a shell takes them."""
    word = shlex.quote(f"{key}={run_dir}")
    tell(f"next: {', or '.join(f'lmsearch {task} {word}' for task in tasks)}")
