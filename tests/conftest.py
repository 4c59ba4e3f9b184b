"""What every test gets: the top folder, and threads that sleep when idle, as under the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmsearch.cli import tune_process

tune_process()  # before any test imports PyTorch

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def root() -> Path:
    """Return the top folder of the checkout."""
    return ROOT
