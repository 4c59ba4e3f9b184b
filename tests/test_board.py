"""lmsearch board: TensorBoard by one command."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmsearch.cli import main


def test_a_folder_without_events_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["board", f"run_dir={tmp_path}"]) == 2
    assert "holds no TensorBoard events; lmsearch search and retrain write them to" in capsys.readouterr().err
    assert main(["board", f"run_dir={tmp_path / 'none'}"]) == 2
    assert "is no folder; expected a run, or a folder of runs" in capsys.readouterr().err
