"""A run folder has one writer, RunDir; whatever else of the package writes files does so elsewhere, and is named here."""

from __future__ import annotations

import ast
import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from lmsearch.engine.best import Best
from lmsearch.engine.checkpoint import ModelSpec, save_checkpoint, save_model
from lmsearch.engine.distributed import World
from lmsearch.engine.lock import LOCK, holding
from lmsearch.engine.log import RunLog
from lmsearch.engine.objectives import METRICS, Scores
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import InUseError
from lmsearch.figures.canvas import new_figure

PACKAGE = Path(__file__).resolve().parent.parent / "lmsearch"
HOMES = {
    "engine/run_dir.py": "the folder of a run",
    "engine/lock.py": "its lock",
    "engine/processes.py": "nowhere: what all but the first process print",
    "streams.py": "nowhere: what is printed when nobody reads it any more",
    "files.py": "how a file is written whole",
    "engine/torch_file.py": "how tensors are",
    "trials/journal.py": "journals of trials, which several processes append to",
    "trials/storage.py": "their locks",
    "genotype.py": "lmsearch.save_genotype, for users",
    "report/predictions.py": "out= of predict",
    "tasks/parts/predict_files.py": "out= of predict, a folder",
    "tasks/predict.py": "sheet= of predict",
    "tasks/complexity.py": "out= of complexity",
    "tasks/convert.py": "out= of convert",
    "tasks/shapes.py": "out= of shapes",
    "tasks/show.py": "out= of show",
    "tasks/export.py": "out= of export",
    "scanbench/table.py": "the tables of experiments",
    "kernels/build.py": "the compiled kernels",
    "kernels/self_test.py": "what compiled kernels were found to do",
    "testing/faults.py": "the runs that it disturbs, and the bits that it flips",
    "testing/recorded.py": "the steps of a command",
    "bench/memory.py": "the peak memory of this process, reset",
}
OURS = {
    "replacing", "write_bytes", "write_text", "write_json", "write_csv", "write_figure", "write_image", "write_all",
    "append_line", "keep_copy", "open_to_append", "make_folder", "remove", "remove_leftovers", "save_torch", "save_genotype",
}  # fmt: skip
METHODS = {
    "mkdir", "touch", "unlink", "rmdir", "write_text", "write_bytes", "rename", "symlink_to", "hardlink_to", "savefig",
    "SummaryWriter", "save_file", "rmtree", "makedirs", "copyfile", "copytree", "to_csv",
}  # fmt: skip
FUNCTIONS = {"os.open", "os.replace", "os.remove", "torch.save", "np.save", "np.savez", "json.dump", "pickle.dump", "shutil.move"}


def writes(source: str) -> Iterator[str]:
    """Yield the calls of a source that write, delete or create files, or folders."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        name, method = called.rpartition(".")[2], isinstance(node.func, ast.Attribute)
        known = called in FUNCTIONS or name in METHODS or (name in OURS and not method)
        if known or (name == "open" and called != "Image.open" and opens_to_write(node, method)):
            yield f"{node.lineno}: {called}"


def opens_to_write(call: ast.Call, method: bool) -> bool:
    """Tell whether a call of open, or of a path's or file's, may write: its mode says so, or is not written there."""
    given = [*call.args[0 if method else 1 :], *(k.value for k in call.keywords if k.arg == "mode")][:1]
    modes = [mode.value if isinstance(mode, ast.Constant) else "+" for mode in given]
    return any(isinstance(mode, str) and set(mode) & set("wax+") for mode in modes)


def test_no_other_file_of_the_package_writes() -> None:
    files = {path.relative_to(PACKAGE).as_posix(): [*writes(path.read_text(encoding="utf-8"))] for path in PACKAGE.rglob("*.py")}
    assert {file: found for file, found in files.items() if found and file not in HOMES} == {}
    assert {file for file in HOMES if not files[file]} == set(), "no longer written there"


@pytest.mark.parametrize(
    "source",
    [
        "write_json(run_dir / 'x.json', {})",
        "(run_dir / 'x').write_text('')",
        "open('x', 'w')",
        "path.open('ab')",
        "path.open(mode='r+b')",
        "open(path, how)",
        "torch.save(state, path)",
        "figure.savefig(path)",
        "folder.mkdir(parents=True)",
        "SummaryWriter(folder)",
        "save_genotype(genotype, run_dir / 'genotype.json')",
        "shutil.rmtree(folder)",
    ],
)
def test_what_writes_is_found(source: str) -> None:
    assert len([*writes(source)]) == 1


@pytest.mark.parametrize(
    "source", ["open(path)", "path.open('rb')", "Image.open(path, formats=known)", "run_dir.write_json('x.json', {})"]
)
def test_what_reads_or_writes_by_run_dir_is_not(source: str) -> None:
    assert [*writes(source)] == []


def other(path: Path) -> RunDir:
    """Return the folder as the second of two processes has it."""
    return RunDir(path, World(1, 2, exchange=lambda tensor: [tensor, tensor]))


def fill(run_dir: RunDir) -> None:
    """Write with all that RunDir has, and with what runs write by it."""
    with run_dir.owned():
        run_dir.write("a.txt", "é\n")
        run_dir.write("b.bin", b"\x00")
        run_dir.write_json("c.json", {"x": float("nan")})
        run_dir.write_csv("d.csv", [["x", "y"], [1, "a,b"]])
        run_dir.write_figure("e.png", lambda: new_figure(1, 1))
        run_dir.write_torch("f.pt", {"x": torch.ones(2)})
        run_dir.append_line("g.jsonl", "1")
        run_dir.append_line("g.jsonl", "2")
        with run_dir.output("h.txt") as file:
            print("printed", file=file)
        run_dir.inside("s0").make()
        run_dir.inside("s0").write("i.txt", "")
        spec = ModelSpec("x", (("h",),))
        save_checkpoint(run_dir, {"model": {"w": torch.ones(2)}})
        save_model(run_dir, spec, {"w": torch.ones(2)})
        Best(run_dir, spec, METRICS["accuracy"]).offer(torch.nn.Linear(1, 1), Scores(torch.ones(1), torch.ones(1)), epoch=0)
        with RunLog(run_dir) as log:
            log.write(0, {"loss": 1.0}, layers={"layers.0": {"h": 1.0}})


@pytest.mark.usefixtures("drawing")
def test_the_main_process_writes_whole_files_of_these_names(tmp_path: Path) -> None:
    fill(RunDir(tmp_path / "run"))
    names = {
        path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*") if "tfevents" not in path.name
    }
    assert names == {
        LOCK, "a.txt", "b.bin", "c.json", "d.csv", "e.png", "f.pt", "g.jsonl", "h.txt", "s0", "s0/i.txt", "checkpoint.pt",
        "model.safetensors", "best.safetensors", "model.json", "metrics.jsonl", "results.csv", "tb",
    }  # fmt: skip
    texts = {name: (tmp_path / "run" / name).read_text() for name in ("a.txt", "c.json", "g.jsonl", "h.txt", "metrics.jsonl")}
    assert texts["a.txt"] == "é\n" and texts["c.json"] == '{\n "x": null\n}\n' and texts["g.jsonl"] == "1\n2\n"
    assert texts["h.txt"] == "printed\n" and texts["metrics.jsonl"].count("\n") == 1
    assert list(csv.reader((tmp_path / "run" / "d.csv").read_text().splitlines())) == [["x", "y"], ["1", "a,b"]]


@pytest.mark.usefixtures("drawing")
def test_other_processes_write_nothing_and_read_what_is_there(tmp_path: Path) -> None:
    fill(RunDir(tmp_path / "run"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    mine = other(tmp_path / "run")
    with holding(tmp_path / "run"):  # which the main process has
        fill(mine)
        mine.remove("a.txt")
        mine.inside("s0").clear()
    fill(other(tmp_path / "elsewhere"))
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before and not (tmp_path / "elsewhere").exists()
    assert (mine / "a.txt").read_text() == "é\n"


def test_the_main_process_deletes(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.write("a.txt", "")
    run_dir.inside("s0").make()
    run_dir.remove("a.txt")
    run_dir.remove("a.txt")
    run_dir.inside("s0").clear()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("enter", [RunDir.owned, RunDir.locked])
def test_two_main_processes_do_not_write_at_once(tmp_path: Path, enter: Callable) -> None:
    with holding(tmp_path), pytest.raises(InUseError), enter(RunDir(tmp_path)):
        raise AssertionError
    with enter(RunDir(tmp_path)), pytest.raises(InUseError), holding(tmp_path):
        raise AssertionError
