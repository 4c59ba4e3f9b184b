"""TensorBoard: what a run writes for it, and the command that shows it."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, chromium

from lmsearch.cli import main
from lmsearch.figures.tiles import EMPTY, HIGH, LOW, tiles
from lmsearch.genotype import Genotype, LayerChoice
from lmsearch.tasks.parts.board import choices_text, health_text, plain_numbers, plain_values

DEEP_TEXT = """(function text(node) {
  if (!node || ['STYLE', 'SCRIPT'].includes(node.nodeName)) return '';
  let found = node.nodeType === 3 ? node.data + ' ' : '';
  if (node.shadowRoot) found += text(node.shadowRoot);
  for (const child of node.childNodes) found += text(child);
  return found;
})(document.documentElement)"""
IMAGES = """(function count(node) {
  if (!node) return 0;
  let found = node.nodeName === 'IMG' && node.naturalWidth > 0 ? 1 : 0;
  if (node.shadowRoot) found += count(node.shadowRoot);
  for (const child of node.childNodes) found += count(child);
  return found;
})(document.documentElement)"""


def test_a_folder_without_events_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["board", f"run_dir={tmp_path}"]) == 2
    assert "holds no TensorBoard events; lmsearch search and retrain write them to" in capsys.readouterr().err
    assert main(["board", f"run_dir={tmp_path / 'none'}"]) == 2
    assert "is no folder; expected a run, or a folder of runs" in capsys.readouterr().err


def test_hyperparameters_are_of_types_that_tensorboard_takes() -> None:
    content = {"seed": 1, "keep": None, "run_dir": "x", "optim": {"lr": 0.1, "betas": [0.9, 0.999], "nesterov": True}}
    assert plain_values(content) == {
        "seed": 1, "keep": "null", "optim.lr": 0.1, "optim.betas": "[0.9,0.999]", "optim.nesterov": "true"
    }  # fmt: skip
    results = {"test_accuracy": np.float32(0.5), "val_loss": 1, "test_class_accuracy": {"a": 1.0}, "val_x": None, "epochs": 3}
    assert plain_numbers(results) == {"test_accuracy": 0.5, "val_loss": 1.0}


def test_choice_and_health_are_tables() -> None:
    genotype = Genotype((LayerChoice(("h", "v"), "layers.0", margin=0.125), LayerChoice(("w2",))))
    assert choices_text(genotype).splitlines()[2:] == ["| layers.0 | h, v | 0.1250 |", "| 1 | w2 |  |"]
    finding = {"name": "advantage", "value": 0.5, "level": "ok", "meaning": "m", "advice": "a"}
    text = health_text({"status": "ok", "reason": "r", "findings": [finding]})
    assert text.startswith("**ok** r") and text.endswith("| advantage | 0.5 | ok | m | a |")


def test_a_map_of_tiles_is_dark_where_values_are_large() -> None:
    image = np.asarray(tiles({"layers.0": {"h": 1.0, "v": 2.0}, "layers.1": {"h": float("nan"), "v": 1.5}}))
    found = {tuple(colour) for colour in image.reshape(-1, 3).tolist()}
    assert {LOW, HIGH, EMPTY, (153, 120, 188)} <= found


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of a TensorBoard, started by the command, over a search and a retraining."""
    folder = tmp_path_factory.mktemp("runs")
    small = ["epochs=2", "optim.warmup_epochs=0", "batch_size=256"]
    words = ["model.depth=1", "model.embed_dim=8", "search.recheck=0", f"run_dir={folder / 'search'}"]
    assert main(["search", *small, *words]) == 0
    assert main(["retrain", f"genotype={folder / 'search'}", *small, "baseline_limit=0", f"run_dir={folder / 'retrain'}"]) == 0
    command = [sys.executable, "-m", "lmsearch", "board", f"run_dir={folder}", "port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield next(word for word in process.stdout.readline().split() if word.startswith("http"))
        process.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a headless Chromium."""
    with chromium() as one:
        yield one


def shown(browser: Browser, url: str, *words: str) -> str:
    """Return the text of a page when all of the words stand on it."""
    browser.call("Page.navigate", url=url)
    ends = time.monotonic() + 60
    text = ""
    while time.monotonic() < ends and not all(word in text for word in words):
        text = browser.evaluate(DEEP_TEXT)
    assert all(word in text for word in words), text[:2000]
    return text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tab", "words"),
    [
        ("scalars", ("directions", "health", "result", "train_loss")),
        ("images", ("worth", "genotype", "predictions", "confusion")),
        ("text", ("kept directions", "held-out", "layers.0")),
        ("hparams", ("optim.lr", "data.name", "digits", "result/test_accuracy")),
        ("histograms", ("layers", "search/tb", "retrain/tb")),
    ],
)
def test_tensorboard_shows(tab: str, words: tuple[str, ...], address: str, browser: Browser) -> None:
    with urllib.request.urlopen(address) as page:
        assert page.status == 200
    browser.call("Page.navigate", url="about:blank")
    shown(browser, f"{address}#{tab}", *words)
    if tab == "images":
        ends = time.monotonic() + 60
        while browser.evaluate(IMAGES) < 1 and time.monotonic() < ends:
            pass
        assert browser.evaluate(IMAGES) >= 1
