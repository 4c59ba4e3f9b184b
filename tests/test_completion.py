"""Completion in bash: verbs, presets, keys and words, at the places where bash splits them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from lmsearch.cli import TASKS, main
from lmsearch.completion import completion
from lmsearch.paths import data_dir

SCRIPT = completion([*TASKS], conf_dir=data_dir("conf"))


def completed(line: str) -> list[str]:
    """Return what bash offers at the end of a line."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    words = line.replace("=", " = ").split() + [""] * line.endswith((" ", "="))  # as COMP_WORDBREAKS has it
    given = " ".join(f"'{word}'" for word in words)
    code = f"{SCRIPT}\nCOMP_WORDS=({given}); COMP_CWORD={len(words) - 1}; COMP_LINE='{line}'; COMP_POINT={len(line)}\n_lmsearch"
    done = subprocess.run([bash, "-c", f'{code}\nprintf "%s\\n" "${{COMPREPLY[@]}}"'], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("lmsearch re", ["retrain", "report"]),
        ("lmsearch search see", ["seed=", "seeds="]),
        ("lmsearch search data.roo", ["data.root="]),
        ("lmsearch search seed=1 optim.warmup_e", ["optim.warmup_epochs="]),
        ("lmsearch search data=ima", ["imagefolder"]),
        ("lmsearch search device=", ["auto", "cpu", "cuda"]),
        ("lmsearch search quiet=t", ["true"]),
        ("lmsearch status ru", ["runs="]),
        ("lmsearch search nothing", []),
    ],
)
def test_bash_offers(line: str, offered: list[str]) -> None:
    assert completed(line) == offered


def test_the_command_prints_the_script_and_help_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion"]) == 0
    assert capsys.readouterr().out == SCRIPT
    assert main(["--help"]) == 0
    assert 'eval "$(lmsearch completion)"' in capsys.readouterr().out
    assert main(["completion", "seed=1"]) == 2
