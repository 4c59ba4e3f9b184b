"""Result files are whole, whatever happens while they are written, and every failure is one clear line."""

from __future__ import annotations

import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lmsearch.engine.checkpoint import ModelSpec, save_checkpoint, save_model
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import FileError
from lmsearch.files import (
    append_line,
    open_to_append,
    remove,
    remove_leftovers,
    replacing,
    write_bytes,
    write_json,
    write_text,
)
from lmsearch.reading import read_json_lines

MOST = 30_000  # bytes of a file


@pytest.fixture
def full() -> Iterator[None]:
    """Let every write beyond MOST bytes fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["checkpoint.pt", "model.safetensors", "config.yaml"])
def test_a_full_disk_leaves_the_old_file_and_one_line(name: str, tmp_path: Path, full: None) -> None:
    (tmp_path / name).write_bytes(b"old")
    weights = {"w": torch.zeros(50_000), "b": torch.zeros(10)}
    with pytest.raises(FileError) as raised:
        if name == "checkpoint.pt":
            save_checkpoint(RunDir(tmp_path), {"model": weights}, file=name)
        elif name == "model.safetensors":
            save_model(RunDir(tmp_path), ModelSpec("x", (("h",),)), weights)
        else:
            write_text(tmp_path / name, "x" * 40_000)
    line = str(raised.value)
    assert line.startswith(f"{tmp_path / name} cannot be written (File too large): ") and "\n" not in line
    assert " to write, " in line and line.endswith(" free")
    assert (tmp_path / name).read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_a_line_that_does_not_fit_is_one_line(tmp_path: Path, full: None) -> None:
    with (tmp_path / "metrics.jsonl").open("ab", buffering=0) as file:
        append_line(file, '{"epoch": 0}')
        with pytest.raises(FileError, match="metrics.jsonl cannot be written .* 40001 bytes to write"):
            append_line(file, "x" * 40_000)
    assert read_json_lines(tmp_path / "metrics.jsonl") == [{"epoch": 0}], "what was cut off is not there"


def test_a_write_that_is_cut_off_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old\n")
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"half of the n")
        raise KeyboardInterrupt
    assert path.read_text() == "old\n" and list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_caller_is_not_taken_for_one_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save_checkpoint(RunDir(tmp_path), {"model": (x for x in ())})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="a.json cannot be written .No such file or directory."):
        write_json(tmp_path / "none" / "a.json", {})


def test_links_stay_links_and_devices_are_written_to(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "new"
    write_bytes("/dev/null", b"gone")
    assert not Path("/dev/null").is_file()
    with pytest.raises(FileError, match="/dev/full cannot be written"):
        write_bytes("/dev/full", b"never")


def test_new_files_have_the_rights_that_the_user_asks_for(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_killed_writer_leaves_the_old_file_and_what_it_left_is_cleared(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    code = (
        "import os, signal, sys; from lmsearch.files import replacing\n"
        "with replacing(sys.argv[1]) as file:\n    file.write(b'half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.txt")], check=False)
    assert ran.returncode == -signal.SIGKILL and len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1.0, float("nan")], "a": float("inf")})
    assert (tmp_path / "a.json").read_text().split() == ["{", '"a":', "null,", '"b":', "[", "1.0,", "null", "]", "}"]


@pytest.mark.parametrize(
    "damaged",
    [
        b'{"epoch": 1',
        b"\xff\xfe",
        b"[1]",
        b"\0" * 20,
        b"[" * 100_000,
        b'{"a": 1e999}',
        b'{"a": 1, "a": 2}',
        b'{"a": ' + b"9" * 200,
    ],
    ids=range(8),
)
def test_a_damaged_line_is_named(damaged: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with path.open("ab", buffering=0) as file:
        append_line(file, '{"epoch": 0}')
        file.write(damaged + b'\n{"epoch": 2}\n')
    with pytest.raises(FileError, match="metrics.jsonl: line 2 is damaged"):
        read_json_lines(path)


def test_a_line_that_was_cut_off_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('{"epoch": 0}\n{"epo')
    assert read_json_lines(tmp_path / "a") == [{"epoch": 0}]
    assert read_json_lines(tmp_path / "b") == []


def test_lines_hold_what_json_writes_for_numbers_that_are_not_finite(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('{"val": -Infinity, "b": NaN}\n')
    (line,) = read_json_lines(tmp_path / "a")
    assert line["val"] == -math.inf and math.isnan(line["b"])


def test_a_folder_in_the_place_of_a_file_is_one_line(tmp_path: Path) -> None:
    for use, what in ((read_json_lines, "cannot be read"), (open_to_append, "cannot be written"), (remove, "it is a folder")):
        with pytest.raises(FileError, match=what):
            use(tmp_path)


def test_a_checkpoint_is_read_back_as_it_was(tmp_path: Path) -> None:
    save_checkpoint(RunDir(tmp_path), {"model": {"w": torch.arange(5)}, "epoch": 3})
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["epoch"] == 3 and torch.equal(state["model"]["w"], torch.arange(5))
