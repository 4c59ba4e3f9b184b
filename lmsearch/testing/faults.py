"""Disturb a training command at random moments, let it go on, and compare what it leaves with the undisturbed run.

    python -m lmsearch.testing.faults kills=20 search data=planted data.grid=8 save_every_s=1

All words but its own are those of the command, which must end by itself and is given its run_dir. Its own words:

    kills=10        disturbances in all
    mode=kill       kill (at a random moment), term (SIGTERM, which it answers by saving), save (killed while a file is written),
                    loader (a process that reads images is killed), full (no file may grow beyond a size), flip (a bit of
                    checkpoint.pt, while nothing runs)
    processes=1     start it by torchrun in so many; `kill` then kills one of them, and torchrun starts all again
    seed=0          of the moments
    out=faults      folder for the runs, which must not be there yet

Where the command gives no moment for it, such as no process that reads images, it says so and ends. It tells how many steps each
disturbance has cost, and how that compares with save_every_s, where the trainings run in the process of the command.
Exit code 0: all runs left the same, to the bit. 1: one did not. 2: it could not be tried. Linux only.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmsearch.engine.unfinished import FOLDER
from lmsearch.errors import ConfigError, did_you_mean
from lmsearch.files import LEFTOVER
from lmsearch.testing.fingerprint import PARTS_FILE, fingerprint_of
from lmsearch.testing.lost import lost_steps, pace_of
from lmsearch.testing.recorded import steps_in

MODES = ("kill", "term", "save", "loader", "full", "flip")
OWN = {"kills": "10", "mode": "kill", "processes": "1", "seed": "0", "out": "faults"}
LOOK_S = 0.002
LOST = 4  # restarts that torchrun may need for one kill
SMALL = 2048  # bytes, of the full disk
MISSES = 3  # runs in a row that were not disturbed, after which no more are tried
SETTLE_S = 1.0  # in which processes notice that another is gone, and before torchrun's new ones train


@dataclass
class Run:
    """One training in a folder, disturbed so often, and how its commands ended."""

    folder: Path
    moments: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)  # steps recorded by each of the moments
    same: bool | None = None

    @property
    def steps_file(self) -> Path:
        """The file that holds the steps of its commands."""
        return self.folder.with_name(f"{self.folder.name}.steps")

    @property
    def log_file(self) -> Path:
        """The file that holds what its commands print."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def note(self, moment: str) -> None:
        """Remember a disturbance, and how many steps were done by then."""
        self.moments.append(moment)
        self.done.append(len(steps_in(self.steps_file)))

    def lost(self) -> list[int]:
        """Return how many steps each disturbance has cost."""
        return lost_steps(steps_in(self.steps_file), self.done)

    def told(self) -> str:
        """Return what happened and came of it, as a line."""
        costs = [f", {lost} steps lost" if self.steps_file.exists() else "" for lost in self.lost()]
        moments = "; ".join(f"{moment}{cost}" for moment, cost in zip(self.moments, costs, strict=True))
        return f"{self.folder.name}: {moments or 'nothing'}: {'the same' if self.same else 'OTHER'}"


@dataclass(frozen=True)
class Harness:
    """Starts the command, disturbs it and compares; `words` are those of the command."""

    words: Sequence[str]
    kills: int
    mode: str
    processes: int
    out: Path
    draw: random.Random

    def main(self) -> int:
        """Do all runs, print a table, and return the exit code."""
        whole = Run(self.out / "whole")
        began = time.monotonic()
        self.finish(whole)
        took = time.monotonic() - began
        if whole.codes[-1] != 0:
            raise ConfigError(f"the undisturbed command ends with code {whole.codes[-1]}; see {whole.log_file}")
        print(f"undisturbed: {took:.1f} s", flush=True)
        wanted, runs, left, missed = fingerprint_of(whole.folder), list[Run](), self.kills, 0
        while left > 0:
            run = Run(self.out / f"disturbed-{len(runs)}")
            runs.append(run)
            plan_alike(whole.folder, run.folder)
            done = self.disturb(run, most=left, took=took / 2**missed)
            left, missed = left - done, 0 if done else missed + 1
            if missed == MISSES:
                raise ConfigError(
                    f"mode={self.mode}: the command ended {missed} times without a moment for it; see {run.log_file}"
                )
            run.same = run.codes[-1] == 0 and fingerprint_of(run.folder) == wanted
            print(run.told(), flush=True)
        good = sum(bool(run.same) for run in runs)
        print(f"{self.kills} disturbances ({self.mode}) in {len(runs)} runs; {good} of {len(runs)} left the same")
        if pace := pace_of(whole.folder, steps_in(whole.steps_file), processes=self.processes):
            print(pace.told([lost for run in runs for lost in run.lost()]))
        return 0 if good == len(runs) else 1

    def disturb(self, run: Run, *, most: int, took: float) -> int:
        """Run the command until it is done, disturbed at most so often; return how often."""
        done = 0
        while done < most:
            process = self.start(run)
            hit = ACTIONS[self.mode](self, run, process, self.draw.uniform(0.0, took))
            if hit:
                if self.processes > 1:
                    time.sleep(SETTLE_S)
                else:
                    process.wait()
                run.note(hit)
                done += 1
            run.codes.append(process.wait())
            if not hit or run.codes[-1] == 0:
                return done  # the command is done: it was faster, or torchrun or its own care has brought it to its end
        self.finish(run)
        return done

    def trainings(self, process: subprocess.Popen[bytes]) -> list[int]:
        """Return the processes that train: the command's own or, under torchrun, those that it started."""
        return children_of(process.pid) if self.processes > 1 else [process.pid]

    def readers(self, process: subprocess.Popen[bytes]) -> list[int]:
        """Return the processes that read images for those that train."""
        return [reader for training in self.trainings(process) for reader in children_of(training)]

    def finish(self, run: Run) -> None:
        """Run the command to its end."""
        run.codes.append(self.start(run).wait())

    def start(self, run: Run, **options: Any) -> subprocess.Popen[bytes]:
        """Start the command in the folder of a run."""
        command = [sys.executable, "-m"]
        if self.processes > 1:
            command += [
                "torch.distributed.run",
                "--nproc-per-node",
                str(self.processes),
                "--max-restarts",
                str(LOST),
                "--standalone",
            ]
            command += ["-m"]
        run.folder.parent.mkdir(parents=True, exist_ok=True)
        steps = os.devnull if self.mode == "full" else str(run.steps_file)  # a file more would be full first
        command += ["lmsearch.testing.recorded", steps, *self.words, f"run_dir={run.folder}"]
        with open(run.log_file, "ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, **options)


def plan_alike(whole: Path, folder: Path) -> None:
    """Begin the run of an audit in a folder with the plan of the undisturbed one, which goes by the speed that it measured."""
    if (rows := whole / PARTS_FILE).is_file():
        folder.mkdir(parents=True)
        (folder / PARTS_FILE).write_text("".join(rows.read_text().splitlines(keepends=True)[:2]))  # whose it is, and the plan


def wait_for(process: subprocess.Popen[bytes], seconds: float, ready: Callable[[], bool]) -> bool:
    """Wait so long and then until something is ready; tell whether the process still runs."""
    until = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() >= until and ready():
            return True
        time.sleep(LOOK_S)
    return False


def kill(harness: Harness, run: Run, process: subprocess.Popen[bytes], after: float) -> str:
    """Kill the process or, of several, one of them."""
    if not wait_for(process, after, lambda: True):
        return ""
    victims = harness.trainings(process)
    if not victims:
        return ""
    os.kill(harness.draw.choice(victims), signal.SIGKILL)
    return f"killed after {after:.1f} s"


def term(harness: Harness, run: Run, process: subprocess.Popen[bytes], after: float) -> str:
    """Ask the process to end."""
    if not wait_for(process, after, lambda: True):
        return ""
    process.terminate()
    return f"asked to end after {after:.1f} s"


def kill_in_save(harness: Harness, run: Run, process: subprocess.Popen[bytes], after: float) -> str:
    """Kill the process while it writes a file."""
    if not wait_for(process, after, lambda: any(writing_in(run.folder))):
        return ""
    for pid in harness.trainings(process):
        os.kill(pid, signal.SIGKILL)
    return f"killed in a save after {after:.1f} s"


def kill_loader(harness: Harness, run: Run, process: subprocess.Popen[bytes], after: float) -> str:
    """Kill one of the processes that read images."""
    if not wait_for(process, after, lambda: bool(harness.readers(process))):
        return ""
    for victim in harness.readers(process)[:1]:
        os.kill(victim, signal.SIGKILL)
    return f"a loader killed after {after:.1f} s"


def fill(harness: Harness, run: Run, process: subprocess.Popen[bytes], after: float) -> str:
    """Let the process write no file beyond a small size from some moment on, as on a full disk."""
    if not wait_for(process, after, lambda: True):
        return ""
    for pid in harness.trainings(process):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (SMALL, SMALL))
    return f"full after {after:.1f} s"


def flip(harness: Harness, run: Run, process: subprocess.Popen[bytes], after: float) -> str:
    """Kill the process, or let torchrun end its own, and flip a bit of the state that it has saved."""
    end = kill if harness.processes == 1 else term
    if not (hit := end(harness, run, process, after)):
        return ""
    process.wait()
    if not (states := sorted([*run.folder.rglob("checkpoint.pt"), *(run.folder / FOLDER).rglob("*.pt")])):
        return f"{hit}, nothing to flip"
    state = harness.draw.choice(states)
    content = bytearray(state.read_bytes())
    content[harness.draw.randrange(len(content))] ^= 1 << harness.draw.randrange(8)
    state.write_bytes(content)
    return f"{hit}, a bit of {state.relative_to(run.folder)} flipped"


ACTIONS = dict(zip(MODES, (kill, term, kill_in_save, kill_loader, fill, flip), strict=True))


def writing_in(folder: Path) -> Iterator[Path]:
    """Yield the files that are being written in a folder."""
    return (path for path in folder.rglob("*") if LEFTOVER.fullmatch(path.name)) if folder.is_dir() else iter(())


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has just ended
        return []


def harness_of(words: Sequence[str]) -> Harness:
    """Read the words of the command line; raise ConfigError for wrong ones."""
    given, command = dict(OWN), []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in OWN:
            given[key] = value
        else:
            command.append(word)
    for key in ("kills", "processes", "seed"):
        if not given[key].isdigit():
            raise ConfigError(f"{key}={given[key]} is not a whole number")
    if given["mode"] not in MODES:
        raise ConfigError(f"mode={given['mode']!r} is not accepted{did_you_mean(given['mode'], MODES)}")
    if not command:
        raise ConfigError("no command is given; for example: kills=5 search data=planted data.grid=8")
    if any(word.startswith("run_dir=") for word in command):
        raise ConfigError("run_dir= is given by the harness; out= names the folder of its runs")
    out = Path(given["out"])
    if out.exists():
        raise ConfigError(f"out={out} is there already; name another folder")
    draw = random.Random(int(given["seed"]))
    return Harness(command, int(given["kills"]), given["mode"], max(int(given["processes"]), 1), out, draw)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        return harness_of(sys.argv[1:] if words is None else words).main()
    except ConfigError as error:
        print(f"faults: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
