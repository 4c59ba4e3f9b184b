"""What every test gets: one compute thread, and no leftovers in the user's cache."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def root() -> Path:
    """Return the top folder of the checkout."""
    return ROOT
