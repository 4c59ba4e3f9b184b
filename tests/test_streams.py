"""A command whose stderr and stdout nobody reads any more ends as it would otherwise: saved, and with the same exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from interruptions import signalled
from PIL import Image

from lmsearch.cli import main
from lmsearch.engine.checkpoint import load_checkpoint
from lmsearch.engine.progress import CountProgress
from lmsearch.interrupts import INTERRUPTED, SAVED
from lmsearch.streams import drop

SEARCH = ["search", "data=planted", "data.grid=4", "data.num_train=96", "model.depth=1", "model.embed_dim=8", "model.d_state=2"]
SEARCH += ["batch_size=32", "epochs=2", "search.recheck=0"]


def pipe_without_reader() -> int:
    """Return the end of a pipe into which nothing can be written."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@contextmanager
def nobody_reads(*names: str) -> Iterator[None]:
    """Inside the block let streams of this process end in pipes without reader, as where `2>&1 | tee` got the same Ctrl-C."""
    numbers = {"stdout": 1, "stderr": 2}
    before = {name: (getattr(sys, name), os.dup(numbers[name])) for name in names}
    for name in before:
        writer = pipe_without_reader()
        os.dup2(writer, numbers[name])
        setattr(sys, name, os.fdopen(writer, "w", buffering=1))
    try:
        yield
    finally:
        for name, (stream, descriptor) in before.items():
            dead = getattr(sys, name)
            drop(dead)
            dead.close()
            setattr(sys, name, stream)
            os.dup2(descriptor, numbers[name])
            os.close(descriptor)


@pytest.mark.parametrize(
    ("number", "code", "streams"),
    [(signal.SIGTERM, SAVED, ["stderr"]), (signal.SIGINT, INTERRUPTED, ["stdout", "stderr"])],
    ids=["a cluster", "a pipe"],
)
def test_a_run_that_is_stopped_while_nobody_reads_is_saved(number: int, code: int, streams: list[str], tmp_path: Path) -> None:
    with nobody_reads(*streams), signalled(number, after=3) as done:
        assert main([*SEARCH, f"run_dir={tmp_path}"]) == code
    assert done[-1] == (1, 0), "the step is done to its end, and no other"
    state = load_checkpoint(tmp_path)
    assert (state["epoch"], state["step"]) == (1, 1)


def test_bad_input_keeps_its_exit_code_where_nobody_reads() -> None:
    with nobody_reads("stdout", "stderr"):
        assert main(["serach"]) == 2


@pytest.mark.parametrize("code", [SAVED, INTERRUPTED])
def test_what_could_not_be_said_does_not_fail_again_when_python_ends(code: int) -> None:
    words = "import sys; from lmsearch.streams import let_go_of_output, say"
    words += f"; print('x'); say('y'); let_go_of_output(); sys.exit({code})"
    dead, buffered = pipe_without_reader(), os.environ | {"PYTHONUNBUFFERED": ""}
    try:
        assert (
            subprocess.run([sys.executable, "-c", words], stdout=dead, stderr=dead, env=buffered, check=False).returncode == code
        )
    finally:
        os.close(dead)


def test_a_closed_terminal_ends_no_progress(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = os.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with caplog.at_level("INFO"), os.fdopen(theirs, "w", buffering=1) as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with CountProgress("here", total=2, unit="images") as progress:
            os.close(ours)
            progress.advance(1)
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        with CountProgress("begun too late", total=2, unit="images") as progress:
            progress.advance(2)
        drop(terminal)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, SAVED), (signal.SIGINT, INTERRUPTED)])
def test_a_command_whose_reader_is_gone_answers_signals(number: int, code: int, tmp_path: Path) -> None:
    words = [*SEARCH, "epochs=1000", "resume=never", f"run_dir={tmp_path / 'run'}"]
    dead = pipe_without_reader()
    process = subprocess.Popen([sys.executable, "-m", "lmsearch", *words], stdout=dead, stderr=dead)
    try:
        while not (tmp_path / "run" / "checkpoint.pt").exists():
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(60) == code
    finally:
        os.close(dead)
        process.kill()
    load_checkpoint(tmp_path / "run")


@pytest.mark.slow
def test_a_signal_to_all_processes_of_a_command_is_answered_where_others_read_its_images(tmp_path: Path) -> None:
    folder, run, genotype = tmp_path / "images", tmp_path / "run", tmp_path / "h.json"
    for number in range(24):
        path = folder / ("train", "val")[number % 3 == 0] / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10 * number, 0, 0)).save(path)
    genotype.write_text(json.dumps({"schema": "lmsearch.genotype", "version": 1, "layers": [{"directions": ["h"]}]}))
    words = ["retrain", "data=imagefolder", f"data.root={folder}", "data.img_size=8", f"genotype={genotype}", f"run_dir={run}"]
    words += ["model.depth=1", "model.embed_dim=8", "model.patch_size=2", "batch_size=4", "epochs=1000", "save_every_s=0"]
    command = [sys.executable, "-m", "lmsearch", *words, "num_workers=2", "device=cpu"]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)
    try:
        while not (run / "checkpoint.pt").exists():
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGTERM)
        said = process.communicate(timeout=60)[1].decode()
        assert process.returncode == SAVED and said.count("stops after this step") == 1, said
    finally:
        process.kill()
    load_checkpoint(run)
