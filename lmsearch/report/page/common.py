"""The parts that the pages of all kinds of runs have: learning curves, cost, and how to run it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from lmsearch.report.page.blocks import Cell, Command, Listing, Panel, Panels, Section, Table, Terms, Text, section
from lmsearch.report.page.draw import chart
from lmsearch.report.page.folder import Run
from lmsearch.report.page.network import Network
from lmsearch.settings.groups import groups_of, keys_anywhere
from lmsearch.settings.tasks import TASKS
from lmsearch.status import RunStatus

GIB, MIB = 2**30, 2**20
LONG = 1000  # counts from which a unit is shortened
OF_ONE_RUN = ("run_dir", "overwrite", "resume", "strict")  # keys that another run is not to have from it
CURVES = (("train_", "k0"), ("holdout_", "k1"), ("val_", "k1"))  # lines of a chart: prefix of the key, style


def next_command(verb: str, **values: object) -> str:
    """Return a command as a shell takes it; keys whose value is not known (None) are left out."""
    return shlex.join(["lmsearch", verb, *(f"{key}={value}" for key, value in values.items() if value is not None)])


def changed_command(command: str, **values: object) -> str:
    """Return a command with other values of some keys; those that it lacks stand at its end."""
    words = [word for word in shlex.split(command) if word.partition("=")[0] not in values]
    return shlex.join([*words, *(f"{key}={value}" for key, value in values.items())])


def other_command(run: Run, task: str, **values: object) -> str:
    """Return the command of another run on what a run is about: its data, model and all that `task` can be told of it.

    Its folder and exit code are left out. `values` replace or are added, as in `changed_command`.
    """
    if not run.command:
        return next_command(task, data=run.get("data.name"), model=run.get("model.name"), **values)
    kind = TASKS[task]
    taken = ({name for name, _ in keys_anywhere(kind)} | groups_of(kind).keys()) - set(OF_ONE_RUN)
    words = [word for word in shlex.split(run.command)[2:] if word.partition("=")[0] in taken]
    return changed_command(shlex.join(["lmsearch", task, *words]), **values)


def duration(seconds: float) -> str:
    """Return a time in its largest two units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def amount(value: float) -> str:
    """Return a count with a unit of thousands."""
    for unit, name in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.0f}"


def curves(history: Sequence[Mapping[str, Any]]) -> Panels | None:
    """Return charts of loss and score over the epochs, of training and of held-out or validation samples."""
    if len(history) < 2:
        return None
    last = history[-1]
    names = [key.removeprefix("train_") for key in last if key.startswith("train_")]
    panels = []
    for name in names:
        keys = [prefix + name for prefix, _ in CURVES if prefix + name in last]
        lines = {key: [float(line.get(key, "nan")) for line in history] for key in keys}
        values = [v for line in lines.values() for v in line if v == v]
        if not values:
            continue
        low, high = min(values), max(values)
        styles = {key: style for prefix, style in CURVES if (key := prefix + name) in lines}
        ends = ", ".join(f"{key} {line[-1]:.4f}" for key, line in lines.items())
        alt = f"{name} over {len(history)} epochs, from {low:.3g} to {high:.3g}; in the end {ends}"
        panels.append(Panel(chart(lines, styles, alt=alt, low=low, high=high), alt, f"{name}: {low:.3g} to {high:.3g}"))
    styles_told = (("k0", "training"), ("k1", "held-out or validation samples"))
    return Panels(f"Over {len(history)} epochs.", (("", tuple(panels)),), styles_told, wide=True) if panels else None


def cost_section(run: Run, network: Network | None, *more: tuple[str, str]) -> Section | None:
    """Return what the run took, and what the derived network costs."""
    rows: list[tuple[Cell, ...]] = list(more)
    if network is not None:
        rows += [
            ("parameters of the network", f"{network.parameters:,}"),
            ("MACs per image", amount(network.macs)),
            ("FLOPs per image", amount(network.flops)),
            ("memory that training keeps per image", f"{network.activation_bytes / MIB:.3g} MiB"),
        ]
    if run.cost:
        sittings = run.cost.get("sittings", 1)
        times = "" if sittings == 1 else f" in {sittings} sittings"
        rows.append(("time of this command", f"{duration(float(run.cost.get('seconds', 0)))}{times}"))
        rows.append(("peak memory of the main process", f"{float(run.cost.get('peak_memory_bytes', 0)) / GIB:.2f} GiB"))
    table = Table("Counted as lmsearch complexity does; measured values are of this machine.", ("what", "value"), tuple(rows))
    lacking = [] if network else ["The run does not tell its network, so parameters and FLOPs are not known."]
    lacking += [] if run.cost or more else ["Time and memory were not recorded; version 0.1.0 did not."]
    return section("cost", "What it cost", table if rows else None, *map(Text, lacking))


def reproduce_section(run: Run) -> Section | None:
    """Return the command, the configuration, versions and the machine."""
    threads = run.environment.get("threads")
    same = f" and threads={threads}" if threads else ""
    said = Text(f"The same command with the same versions{same} gives the same numbers on the same machine.")
    command = Command(run.command, "The command, with every key that differs from its default.") if run.command else None
    written = yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True)
    config = Listing("The whole configuration (config.yaml)", written) if run.config else None
    return section("reproduce", "How to reproduce it", command, said, _versions(run), _machine(run), config)


def _versions(run: Run) -> Table | None:
    """Return the versions of all packages that count."""
    known = {name: run.environment.get(name) for name in ("lmsearch", "commit", "python")} | run.environment.get("versions", {})
    rows = tuple((name, str(value)) for name, value in known.items() if value is not None)
    return Table("Versions", ("package", "version"), rows) if rows else None


def _machine(run: Run) -> Table | None:
    """Return the machine."""
    known: dict[str, Any] = {"architecture": run.environment.get("machine"), **run.cost.get("hardware", {})}
    known |= {"CUDA of PyTorch": run.environment.get("cuda"), "threads": run.environment.get("threads")}
    cache = known.pop("last_level_cache_bytes", None)
    known |= {"last level cache": None if cache is None else f"{cache / MIB:.0f} MiB"}
    rows = tuple((name.replace("_", " "), _told(value)) for name, value in known.items() if value not in (None, [], ""))
    return Table("Hardware", ("part", "value"), rows) if rows else None


def _told(value: Any) -> str:
    """Return a value of the machine in words."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def words_section(pairs: Sequence[tuple[str, str]]) -> Section | None:
    """Return what the words of the page mean."""
    return section("words", "What the words mean", Terms(tuple(pairs)))


def facts_of(run: Run) -> tuple[tuple[str, str], ...]:
    """Return what was run, in a few words."""
    space = run.get("search_space")
    rows = {
        "data": run.get("data.name"),
        "model": run.get("model.name"),
        "layers": len(run.genotype.layers) if run.genotype else None,
        "search space": run.genotype.search_space if run.genotype and run.genotype.search_space else space,
        "epochs": run.get("epochs"),
        "seed": run.get("seed"),
        "seeds": run.get("seeds") if run.get("seeds") != 1 else None,
        "lmsearch": run.environment.get("lmsearch"),
    }
    known = {name: value for name, value in rows.items() if value is not None}
    return tuple((name, value if isinstance(value, str) else json.dumps(value)) for name, value in known.items())


def unfinished(run: Run) -> tuple[str, str]:
    """Return verdict and meaning of a run without a result."""
    planned, done = run.get("epochs"), run.history[-1]["epoch"] + 1 if run.history else 0
    trained, trainings = run.trainings
    in_trials = run.get("search.trials") is not None or run.get("search.budget_steps") is not None  # of which epochs are a part
    counted = isinstance(planned, int) and run.task in ("search", "retrain") and not run.parts and not in_trials
    progress = f"{done} of {planned} epochs are done" if counted else "no result yet"
    progress = f"{trained} of {trainings} trainings are done" if trainings else progress
    if run.writer:
        between = f"{run.writer} writes into its folder. What is shown is a state in between."
        return f"This run is still going on: {progress}.", between[0].upper() + between[1:]
    if run.state is RunStatus.PRUNED:
        return (
            f"This run did not end: {progress}.",
            f"Its sweep ended it, since other trials did better: {run.trial.get('note')}.",
        )
    return (
        f"This run did not end: {progress}.",
        "It was interrupted or killed. The same command goes on where its last checkpoint was written.",
    )
