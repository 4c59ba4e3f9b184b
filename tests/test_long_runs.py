"""Runs of many steps and many stops: no file is left behind, and memory stays where it is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from interruptions import signalled

from lmsearch.cli import main
from lmsearch.engine.log import observing
from lmsearch.interrupts import SAVED

STOPS = 200
EPOCHS, STEPS = 20, 100
PAGE_MIB = 1 / 1024  # per kB of /proc


def resident_mib() -> float:
    """Return the memory that this process holds now."""
    found = re.search(r"^VmRSS:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * PAGE_MIB


def names_in(folder: Path) -> set[str]:
    """Return the names of the files of a run, with numbers of states and of TensorBoard's events left out."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {re.sub(r"\d+-\d+\.pt$", "N.pt", name) for name in names if not name.startswith("tb/")}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_run_that_is_stopped_at_every_step_leaves_no_files_and_no_memory_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cross.json").write_text('[["h"]]')
    words = ["retrain", f"genotype={tmp_path / 'cross.json'}", "model.depth=1", "model.embed_dim=8", "model.patch_size=4"]
    words += [
        "batch_size=256",
        f"epochs={STOPS // 4 + 1}",
        "optim.warmup_epochs=0",
        "baseline_limit=0",
        f"run_dir={tmp_path / 'run'}",
    ]
    seen, held = [], []
    for _ in range(STOPS):
        with signalled(15, after=1):
            assert main(words) == SAVED
        seen.append(names_in(tmp_path / "run"))
        held.append(resident_mib())
    quarter = STOPS // 4
    slope = (held[-1] - held[quarter]) / (STOPS - quarter)
    with capsys.disabled():
        print(f" {STOPS} stops: {held[0]:.1f} to {held[-1]:.1f} MiB, {slope:.3f} MiB a stop after the first quarter")
    assert slope < 0.1
    assert seen[-1] == seen[10], "as many files after the tenth stop as after the last"
    assert len([*(tmp_path / "run").glob("checkpoint*.pt")]) == 2
    assert main(words) == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_long_search_holds_no_more_memory_at_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["search", "data=planted", "data.grid=4", f"data.steps_per_epoch={STEPS}", "batch_size=8", f"epochs={EPOCHS}"]
    words += ["model.depth=1", "model.embed_dim=8", "model.d_state=2", "search.recheck=0", "search.health_every=5"]
    held: list[float] = []
    with observing(lambda epoch, values: held.append(resident_mib())):
        assert main([*words, f"run_dir={tmp_path / 'run'}"]) == 0
    steps = EPOCHS * STEPS
    slope = (held[-1] - held[EPOCHS // 4]) / (steps * 3 / 4) * 1000
    with capsys.disabled():
        print(f" {steps} steps: {held[0]:.1f} to {held[-1]:.1f} MiB, {slope:.2f} MiB per 1,000 steps after the first quarter")
    assert slope < 4.0
