"""The recipes of docs/clusters.md: what SLURM and submitit start is stopped, queued again, and ends as if nothing had been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from slurm_here import missing, slurm
from test_docs import DOCS, blocks
from test_torchrun import choices

from lmsearch.cli import main
from lmsearch.testing.faults import children_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]
SEARCH = ["search", "data=planted", "data.grid=4", "data.num_train=192", "model.depth=1", "model.embed_dim=8", "model.d_state=2"]
SEARCH += ["batch_size=32", "epochs=40", "search.recheck=0", "threads=1"]
PATIENCE_S = 300
LASTS = "trap 'exit 1' USR1\nfor each in $(seq 3000); do sleep 0.1; done\n"  # a command that ends when it is asked to


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    assert main([*SEARCH, f"run_dir={folder}"]) == 0
    return folder


@dataclass(frozen=True)
class Cluster:
    """SLURM, the environment of its commands, and a folder to start them in."""

    environment: dict[str, str]
    folder: Path

    def call(self, *words: str) -> str:
        """Return what one of its commands prints."""
        done = subprocess.run(words, env=self.environment, cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def send_off(self, torchrun: str) -> str:
        """Send off the script of the page, with `torchrun` in place of that program; return the number of the job."""
        write_program(self.folder / "torchrun", torchrun)
        (self.folder / "slurm.sh").write_text(block_with("#SBATCH"))
        other = ["--parsable", "--gres=gpu:2", "--cpus-per-task=1", "--output=log"]
        return self.call("sbatch", *other, "slurm.sh", *SEARCH, "device=cpu", "run_dir=run")

    def state(self, job: str) -> str:
        """Return what a job does, or nothing where it is gone."""
        return self.call("squeue", "-h", "-o", "%T", "--states=all", f"--jobs={job}")

    def log(self) -> str:
        """Return what the script has printed."""
        return (self.folder / "log").read_text()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """SLURM on this machine; its jobs run in a folder that is on their path."""
    if (reason := missing()) is not None:
        pytest.skip(reason)
    for name in ("slurm", "jobs"):
        (tmp_path / name).mkdir()
    with slurm(tmp_path / "slurm") as environment:
        path = f"{tmp_path / 'jobs'}:{environment['PATH']}"
        yield Cluster(environment | {"PATH": path, "OMP_NUM_THREADS": "1"}, tmp_path / "jobs")


def block_with(text: str) -> str:
    """Return the block of the page that holds a text."""
    (found,) = [block.text for block in blocks(DOCS / "clusters.md") if text in block.text]
    return found


def write_program(path: Path, does: str) -> None:
    """Write a program of the shell."""
    path.write_text(f"#!/usr/bin/env bash\n{does}\n")
    path.chmod(0o755)


def until(there: Callable[[], bool], told: Callable[[], str]) -> None:
    """Wait for something to be so; tell more where it never is."""
    end = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < end, told()
        time.sleep(0.05)


def epochs_in(run_dir: Path) -> int:
    """Return how many epochs of a run are done."""
    lines = run_dir / "metrics.jsonl"
    return len(lines.read_text().splitlines()) if lines.exists() else 0


def test_a_job_of_slurm_whose_time_is_up_is_queued_again_and_ends_as_the_whole_search(cluster: Cluster, whole: Path) -> None:
    job = cluster.send_off(f'exec {sys.executable} -m torch.distributed.run "$@"')
    run = cluster.folder / "run"
    until(lambda: epochs_in(run) > 1, cluster.log)
    cluster.call("scancel", "--batch", "--signal=USR1", job)
    until(lambda: cluster.state(job) == "PENDING", cluster.log)
    assert "stopped by SIGUSR1" in cluster.log() and not (run / "genotype.json").exists()
    until(lambda: cluster.state(job) == "COMPLETED", cluster.log)
    assert choices(run) == choices(whole) and epochs_in(run) == epochs_in(whole)


def test_a_job_of_slurm_that_is_cancelled_stays_so(cluster: Cluster) -> None:
    job = cluster.send_off(f"touch begun; {LASTS}")
    until((cluster.folder / "begun").exists, lambda: cluster.state(job))
    cluster.call("scancel", job)
    until(lambda: cluster.state(job) == "CANCELLED", cluster.log)
    time.sleep(1)
    assert cluster.state(job) == "CANCELLED"


@pytest.mark.parametrize(("code", "asked"), [(0, ""), (2, ""), (75, "requeue 7\n")])
def test_the_script_asks_for_another_turn_where_the_command_was_saved(code: int, asked: str, tmp_path: Path) -> None:
    write_program(tmp_path / "srun", f"echo $SRUN_CPUS_PER_TASK > cpus; exit {code}")
    write_program(tmp_path / "scontrol", 'echo "$@" >> asked')
    (tmp_path / "asked").touch()
    (tmp_path / "slurm.sh").write_text(block_with("#SBATCH"))
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "64"}
    assert subprocess.run(["bash", "slurm.sh"], cwd=tmp_path, env=environment).returncode == code
    assert (tmp_path / "asked").read_text() == asked and (tmp_path / "cpus").read_text() == "64\n"


def command_of(run_dir: Path) -> Any:
    """Return the search as the script of the page hands it to submitit."""
    names: dict[str, Any] = {"__name__": "submit"}
    exec(compile(block_with("class Command"), "submit.py", "exec"), names)  # noqa: S102 - that is the test
    return names["Command"](sys.executable, "-m", "lmsearch", *SEARCH, f"run_dir={run_dir}")


def check_requeued(job: Any, run: Path, whole: Path) -> None:
    """Check that a job of submitit was saved, had two turns and left what the whole search left."""
    told = f"{job.stdout()}{job.stderr()}"
    assert told.count("Requeued job") == 1 and "stopped by SIGTERM" in told
    assert (run / "genotype.json").read_bytes() == (whole / "genotype.json").read_bytes()


def test_a_job_of_submitit_on_this_machine_ends_as_the_whole_search(tmp_path: Path, whole: Path) -> None:
    submitit = pytest.importorskip("submitit", reason="needs submitit (the extra `ops`)")
    executor, run = submitit.LocalExecutor(tmp_path / "jobs"), tmp_path / "run"
    executor.update_parameters(timeout_min=2 * PATIENCE_S // 60)
    job = executor.submit(command_of(run))
    until(lambda: epochs_in(run) > 1, job.stderr)
    (task,) = children_of(int(job.job_id))
    os.kill(task, signal.SIGUSR2)  # as SLURM does; a signal to the job would end what starts the task again
    assert job.result() is None
    check_requeued(job, run, whole)


def test_a_job_of_submitit_in_slurm_ends_as_the_whole_search(
    cluster: Cluster, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitit = pytest.importorskip("submitit", reason="needs submitit (the extra `ops`)")
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    executor, run = submitit.SlurmExecutor(cluster.folder / "submitit"), cluster.folder / "run"
    executor.update_parameters(time=2 * PATIENCE_S // 60)
    job = executor.submit(command_of(run))
    until(lambda: epochs_in(run) > 1, lambda: cluster.state(job.job_id))
    cluster.call("scancel", "--signal=USR2", job.job_id)
    until(job.paths.result_pickle.exists, lambda: str(job.stderr()))
    check_requeued(job, run, whole)
