"""Run folders have one writer at a time; whoever comes second is told so, and a dead owner holds nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lmsearch.cli import main
from lmsearch.engine.lock import LOCK, holding, owner_of
from lmsearch.errors import InUseError
from lmsearch.genotype import Genotype, LayerChoice, save_genotype

MODEL = ["model.depth=1", "model.embed_dim=8", "model.patch_size=2", "epochs=1", "optim.warmup_epochs=0", "batch_size=256"]
HOLD = "import sys, time; from pathlib import Path; from lmsearch.engine.lock import holding\n"
HOLD += "with holding(Path(sys.argv[1])):\n    "
SLEEP = "print('held', flush=True); time.sleep(600)"
FORK = "import os\n    child = os.fork()\n    if not child: print(os.getpid(), flush=True)\n    time.sleep(600)"


@contextmanager
def owner(folder: Path, then: str = SLEEP) -> Iterator[tuple[subprocess.Popen, str]]:
    """Another process that holds the lock of a folder, and the line that it prints."""
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen([sys.executable, "-c", HOLD + then, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_folder_has_one_owner_and_is_free_again_afterwards(tmp_path: Path) -> None:
    with holding(tmp_path):
        with pytest.raises(InUseError, match=f"{tmp_path} is in use by process {os.getpid()} on "), holding(tmp_path):
            pass
    with holding(tmp_path):
        pass
    assert (tmp_path / LOCK).read_text() == ""


def test_several_share_and_none_of_them_owns(tmp_path: Path) -> None:
    with holding(tmp_path, shared=True), holding(tmp_path, shared=True):
        with pytest.raises(InUseError), holding(tmp_path):
            pass


@pytest.mark.parametrize("writable", [True, False])
def test_a_reader_is_told_who_writes_where_locks_ask_for_files_opened_to_write(
    writable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, open_file = fcntl.flock, os.open

    def of_nfs(handle: int, how: int) -> None:
        if how & fcntl.LOCK_EX and fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(handle, how)

    def of_another_user(path: Path, flags: int, *mode: int) -> int:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return open_file(path, flags, *mode)

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", of_nfs)
        with holding(tmp_path):
            if not writable:
                patched.setattr(os, "open", of_another_user)
            told = owner_of(tmp_path)
        assert told is not None and told.startswith(f"process {os.getpid()} on ") and owner_of(tmp_path) is None


@pytest.mark.parametrize("shared", [False, True])
def test_a_reader_is_told_who_writes_and_changes_nothing(tmp_path: Path, shared: bool) -> None:
    assert owner_of(tmp_path) is None and owner_of(tmp_path / "nowhere") is None and not list(tmp_path.iterdir())
    with holding(tmp_path, shared=shared):
        told = owner_of(tmp_path)
        assert told is not None and told.startswith(f"process {os.getpid()} on ")
    assert owner_of(tmp_path) is None


def test_an_owner_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    with owner(tmp_path) as (process, _):
        with pytest.raises(InUseError, match=f"process {process.pid} on "), holding(tmp_path):
            pass
        process.kill()
        process.wait()
        with holding(tmp_path):
            pass


def test_a_forked_worker_does_not_keep_the_lock_of_its_dead_parent(tmp_path: Path) -> None:
    with owner(tmp_path, FORK) as (process, child):
        process.kill()
        process.wait()
        try:
            os.kill(int(child), 0)  # it lives
            with holding(tmp_path):
                pass
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_a_forked_child_does_not_take_the_lock_away(tmp_path: Path) -> None:
    with holding(tmp_path):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(InUseError), holding(tmp_path):
            pass


def test_a_file_system_without_locks_is_said_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(handle: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("lmsearch.engine.lock.fcntl.flock", flock)
    with holding(tmp_path):
        assert "this file system has no locks" in caplog.text


def test_tasks_that_write_refuse_a_folder_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_genotype(Genotype((LayerChoice(("h",), "layers.0", {"h": 0.6, "v": 0.4}),), keep=1), tmp_path / "mine.json")
    run, genotype = f"run_dir={tmp_path / 'run'}", f"genotype={tmp_path / 'mine.json'}"
    trained = ["retrain", *MODEL, genotype, f"run_dir={tmp_path / 'trained'}"]
    assert main(trained) == 0
    commands = [
        ["retrain", *MODEL, genotype, run],
        ["compare", *MODEL, genotype, run],
        ["search", *MODEL, run],
        ["search", *MODEL, "seeds=2", run],
        ["search", *MODEL, "search=random", run],
        ["audit", *MODEL, run],
        ["bench", "what=[growth]", run],
        ["derive", f"genotypes=[{tmp_path / 'mine.json'},{tmp_path / 'mine.json'}]", "keep=1", run],
        ["evaluate", f"checkpoint={tmp_path / 'trained'}", run],
        ["sweep", "task=retrain", "params={optim.lr: log(1e-4,1e-1)}", f"overrides=[{genotype}]", "metric=test_accuracy", run],
    ]
    with owner(tmp_path / "run") as (process, _):
        for command in commands:
            code = main(command)
            said = capsys.readouterr().err.strip().splitlines()[-1]
            assert code == 2 and f"{tmp_path / 'run'} is in use by process {process.pid} on " in said, (command[0], said)
        assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]


def test_reading_a_run_needs_no_lock(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('[["h"]]')
    assert main(["retrain", *MODEL, f"genotype={tmp_path / 'mine.json'}", f"run_dir={tmp_path / 'run'}"]) == 0
    with holding(tmp_path / "run"):
        words = [f"checkpoint={tmp_path / 'run'}", f"run_dir={tmp_path / 'evaluated'}"]
        assert main(["evaluate", *words]) == 0


def test_an_arm_in_use_is_neither_written_to_nor_cleared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.json").write_text('[["h"]]')
    words = ["compare", *MODEL, "hand_made=[v]", "baseline_limit=0", f"genotype={tmp_path / 'mine.json'}"]
    words.append(f"run_dir={tmp_path / 'run'}")
    assert main(words) == 0
    arm = tmp_path / "run" / "searched-s0"
    with holding(arm):
        for more in ([], ["overwrite=true"]):
            assert main([*words, *more]) == 2
            assert f"{arm} is in use" in capsys.readouterr().err
        assert (arm / "checkpoint.pt").exists()
    assert main(words) == 0


@pytest.mark.slow
def test_of_two_equal_commands_one_runs_and_the_other_says_so(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('[["h"]]')
    command = [sys.executable, "-m", "lmsearch", "retrain", *MODEL, "epochs=10", f"genotype={tmp_path / 'mine.json'}"]
    for number in range(10):
        words = [*command, f"run_dir={tmp_path / f'run{number}'}"]
        both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        said = [process.communicate()[1] for process in both]
        assert sorted(process.returncode for process in both) == [0, 2], said
        loser = next(n for n, process in enumerate(both) if process.returncode == 2)
        assert f"run{number} is in use by process {both[1 - loser].pid} on " in said[loser]
        assert "Traceback" not in "".join(said)
