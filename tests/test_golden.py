"""Short searches and trainings against their golden records: every step's loss and weights, and the bytes of the genotype.

Where this machine rounds as the one that wrote the records (or says so: `machine.json`), everything must be equal; with the
same PyTorch but other rounding, losses must be close and choices equal; another PyTorch may draw other random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import golden_records
import pytest
from golden_records import FAST, FOLDER, MACHINE, RUNS, read

CLOSE = 1e-3  # relative difference of losses after some 20 steps, where sums are rounded otherwise


SLOW = [name for name in RUNS if name not in FAST]
NAMES = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


@pytest.fixture(scope="module")
def makes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[str]], Path]:
    """Return what gives a folder with such records of this code on this machine."""

    @cache
    def made(names: Sequence[str]) -> Path:
        folder = tmp_path_factory.mktemp("golden")
        golden_records.make(folder, names)
        return folder

    return made


@pytest.fixture
def now(name: str, makes: Callable[[Sequence[str]], Path]) -> Path:
    """Return a folder that holds the record of this name, with others that are made together."""
    return makes(FAST if name in FAST else tuple(SLOW))


@pytest.mark.parametrize("name", NAMES)
def test_every_step_and_the_result_are_those_of_the_record(name: str, now: Path) -> None:
    recorded, here = read(FOLDER, MACHINE), read(now, MACHINE)
    if recorded != here:
        pytest.skip(f"bytes are not compared: the records are of {recorded}, this machine is {here}")
    before, after = read(FOLDER, name), read(now, name)
    changed = [step["step"] for step, then in zip(after["steps"], before["steps"], strict=True) if step != then]
    assert not changed, f"{name}: step {changed[0]} is {after['steps'][changed[0]]}, was {before['steps'][changed[0]]}"
    assert (now / f"{name}.json").read_bytes() == (FOLDER / f"{name}.json").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_losses_and_choices_are_those_of_the_record_however_the_machine_rounds(name: str, now: Path) -> None:
    recorded, here = read(FOLDER, MACHINE)["torch"], read(now, MACHINE)["torch"]
    if recorded != here:
        pytest.skip(f"the records are of PyTorch {recorded}, this is {here}, which may draw other random numbers")
    before, after = read(FOLDER, name), read(now, name)
    assert [step["loss"] for step in after["steps"]] == pytest.approx([step["loss"] for step in before["steps"]], rel=CLOSE)
    for then, layer in zip(before["result"].get("layers", []), after["result"].get("layers", []), strict=True):
        assert layer["directions"] == then["directions"]


def test_every_record_is_of_a_run_that_is_made() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {*RUNS, MACHINE}
    assert all(read(FOLDER, name)["words"] == words for name, words in RUNS.items())
