"""The command line: help, flags, exit codes, one line per mistake. The tasks themselves are tested elsewhere."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from lmsearch import __version__
from lmsearch.cli import TASKS, main
from lmsearch.config_presets import task_keys
from lmsearch.errors import DataError
from lmsearch.paths import data_dir


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[DictConfig]:
    """Put a recorder in the place of the search task; return the configurations that it was run with."""
    calls: list[DictConfig] = []
    module = types.ModuleType("recorder")
    module.run = calls.append
    monkeypatch.setitem(sys.modules, "recorder", module)
    monkeypatch.setitem(TASKS, "search", ("recorder", "record"))
    return calls


def test_help_lists_every_task_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, (_, summary) in TASKS.items():
        assert [line.split() for line in lines].count([name, *summary.split()]) == 1


def test_no_task_prints_the_overview_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: lmsearch <task>" in capsys.readouterr().out


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lmsearch {__version__}\n"


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_its_module_and_its_configuration(task: str) -> None:
    assert importlib.util.find_spec(TASKS[task][0]) is not None
    assert (data_dir("conf") / f"{task}.yaml").is_file()


@pytest.mark.parametrize("task", TASKS)
def test_task_help_explains_every_key(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([task, "--help"]) == 0
    text = capsys.readouterr().out
    for name in task_keys(task, data_dir("conf")):
        assert f"  {name}=" in text


def test_task_help_lists_the_choices_and_the_keys_of_a_chosen_preset(capsys: pytest.CaptureFixture[str]) -> None:
    main(["search", "data=planted", "--help"])
    text = capsys.readouterr().out
    assert "dense, digits, idx, imagefolder, planted" in text
    assert "data.direction=h" in text and "${" not in text


def test_cfg_prints_the_resolved_configuration_without_running(ran: list[DictConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "seed=3", "run_dir=a b=c", "--cfg"]) == 0
    cfg = OmegaConf.create(capsys.readouterr().out)
    assert (cfg.seed, cfg.run_dir, ran) == (3, "a b=c", [])


def test_a_task_gets_its_configuration_and_its_exit_code_is_returned(
    ran: list[DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["search", "seed=3"]) == 0
    assert ran[0].seed == 3
    monkeypatch.setattr(sys.modules["recorder"], "run", lambda cfg: 3)
    assert main(["search"]) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serach"], "'serach' is not a task; did you mean search"),
        (["search", "seed=abc"], "seed='abc' is not an integer"),
        (["search", "model=local_vim_tinny"], "model='local_vim_tinny' is not a choice; did you mean local_vim_tiny"),
        (["search", "image.png"], "'image.png' is not of the form key=value"),
        (["search", "--config"], "unknown option '--config'; accepted: --help"),
        (["retrain"], "lmsearch retrain needs genotype=...; see lmsearch retrain --help"),
        (["search", "data=imagefolder"], "lmsearch search needs data.root=...; see lmsearch search data=imagefolder --help"),
        (
            ["search", "data.root=mine"],
            "unknown key 'data.root' with these presets; it is a key of data=ade20k, data=coco, data=dense, data=idx,"
            " data=imagefolder",
        ),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"lmsearch: error: {message}") and err.count("\n") == 1


def test_a_folder_given_as_data_is_told_how_to_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", f"data={tmp_path}"]) == 2
    assert f"images of your own: data=imagefolder data.root={tmp_path}" in capsys.readouterr().err


def test_a_users_error_inside_a_task_is_one_line(
    ran: list[DictConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(cfg: DictConfig) -> None:
        raise DataError("no images in x")

    monkeypatch.setattr(sys.modules["recorder"], "run", fail)
    assert main(["search"]) == 2
    assert capsys.readouterr().err == "lmsearch: error: no images in x\n"


def test_a_bug_keeps_its_traceback(ran: list[DictConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["recorder"], "run", lambda cfg: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        main(["search"])


def test_an_interrupted_task_says_how_to_continue(
    ran: list[DictConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(cfg: DictConfig) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["recorder"], "run", interrupt)
    words = {"sweep": ["task=search", "params={epochs: [1, 2]}", "metric=val_loss"], "export": ["checkpoint=a", "out=b.onnx"]}
    for task, kept in (("search", "the last checkpoint"), ("sweep", "the trials that are done"), ("export", None)):
        monkeypatch.setitem(TASKS, task, TASKS["search"])
        assert main([task, *words.get(task, [])]) == 130
        how = "" if kept is None else f", without overwrite=true, to continue from {kept}"
        assert capsys.readouterr().err == f"\nlmsearch: interrupted; give the same command again{how}\n"


def test_the_command_line_starts_without_pytorch() -> None:
    code = "import sys, lmsearch.cli; lmsearch.cli.main(['search', '--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, cwd=_root()).returncode == 0


def test_tasks_and_networks_without_values_start_without_the_compiler_of_pytorch() -> None:
    code = "import sys, lmsearch.tasks.doctor, lmsearch.tasks.complexity, lmsearch.tasks.evaluate, lmsearch.tasks.search;"
    code += "import torch; torch.set_default_device('meta'); from lmsearch.models import create_model as create;"
    code += "create('local_vim_nano', head='plain', img_size=[8, 8]), create('local_vmamba_nano');"
    code += "sys.exit('torch._dynamo' in sys.modules or 'sympy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=_root()).returncode == 0


def test_output_that_nobody_reads_any_more_is_no_error() -> None:
    words = f"{sys.executable} -m lmsearch search --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, cwd=_root())
    assert (done.returncode, done.stderr) == (141, "")


def test_python_m_lmsearch_works_in_a_checkout() -> None:
    done = subprocess.run([sys.executable, "-m", "lmsearch", "--version"], capture_output=True, text=True, cwd=_root())
    assert (done.returncode, done.stdout) == (0, f"lmsearch {__version__}\n")


def _root() -> Path:
    """Return the top folder of the checkout."""
    return Path(__file__).resolve().parent.parent


INTERRUPT = """
import os, runpy, signal, sys

wanted, sent = sys.argv[1:3]

class Interrupted:
    def find_spec(self, name, *rest):
        if name == wanted:
            os.kill(os.getpid(), getattr(signal, sent))

sys.meta_path.insert(0, Interrupted())
sys.argv[:3] = ["lmsearch"]
runpy.run_module("lmsearch", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("module", "signal", "code", "told"),
    [
        *((module, "SIGINT", 130, "interrupted") for module in ("lmsearch.interrupts", "lmsearch.cli", "hydra", "torch")),
        *(("hydra", name, 75, f"stopped by {name}; give the same command again") for name in ("SIGTERM", "SIGHUP", "SIGUSR1")),
    ],
)
def test_a_signal_while_modules_are_imported_is_one_line(module: str, signal: str, code: int, told: str) -> None:
    words = [sys.executable, "-c", INTERRUPT, module, signal, "doctor"]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr.strip()) == (code, f"lmsearch: {told}")


def test_an_interrupt_while_the_command_line_is_read_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lmsearch.tasks.parts.known.configure", interrupted)
    assert main(["search"]) == 130
    assert capsys.readouterr().err.strip() == "lmsearch: interrupted"


def test_a_full_disk_is_one_line_whoever_writes(
    ran: list[DictConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(cfg: DictConfig) -> None:
        Path("/dev/full").write_text("x")

    monkeypatch.setattr(sys.modules["recorder"], "run", full)
    assert main(["search"]) == 2
    assert "cannot be written (No space left on device)" in capsys.readouterr().err
