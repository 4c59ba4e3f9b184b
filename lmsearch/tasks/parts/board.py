"""What TensorBoard shows of a finished run beside its curves: hyperparameters with the result, choice, health and pictures."""

from __future__ import annotations

import json
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from lmsearch.data import Batch, DataInfo, EvalLoader
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.train import Precision
from lmsearch.errors import FileError
from lmsearch.figures.sheet import Cell, contact_sheet
from lmsearch.genotype import Genotype
from lmsearch.reading import read_json
from lmsearch.run_identity import identity_of
from lmsearch.scan.directions import label
from lmsearch.tasks.parts.pictures import image_of
from lmsearch.words import as_text, dotted

EVENTS = "tb"
PICTURES = ("genotype.png", "confusion.png", "val_batch.png")
PARTS = ("test_", "val_", "holdout_")  # how the names of results begin
EXAMPLES = 16


def fill_board(
    run_dir: RunDir,
    content: Mapping[str, Any],
    metrics: Mapping[str, Any],
    *,
    step: int,
    genotype: Genotype | None = None,
    examples: Image.Image | None = None,
) -> None:
    """Write what a run of this configuration ended with into its TensorBoard events, at `step`."""
    events = run_dir.events(EVENTS, purge_step=step)
    if events is None:
        return
    from torch.utils.tensorboard.summary import hparams  # slow to import, and here by now

    results = plain_numbers(metrics)
    for part in hparams(plain_values(content), {f"result/{name}": value for name, value in results.items()}):
        events._get_file_writer().add_summary(part)  # add_hparams would begin another run in a folder of its own
    for name, value in results.items():
        events.add_scalar(f"result/{name}", value, step)
    if genotype is not None:
        events.add_text("genotype", choices_text(genotype), step)
        events.add_text("health", health_text(genotype.health), step)
    pictures = {name: Image.open(run_dir / name) for name in PICTURES if (run_dir / name).is_file()}
    for name, picture in (({} if examples is None else {"predictions": examples}) | pictures).items():
        events.add_image(name.removesuffix(".png"), np.asarray(picture.convert("RGB")), step, dataformats="HWC")
    events.close()


def results_in(run_dir: RunDir) -> dict[str, Any]:
    """Return what metrics.json of a run holds, nothing in a process that writes none."""
    path = run_dir / "metrics.json"
    if not run_dir.world.main:
        return {}
    found: dict[str, Any] = read_json(path, error=FileError)
    return found


def plain_values(content: Mapping[str, Any]) -> dict[str, int | float | str]:
    """Return what makes a run the one it is, by dotted key, as TensorBoard takes it: no None, true and lists as text."""
    values = dict(dotted(identity_of(content)))
    plain = {name: type(value) in (int, float, str) for name, value in values.items()}  # true would be shown as 1
    return {name: value if plain[name] else as_text(value) for name, value in values.items()}


def plain_numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the results that are numbers, as Python's own: TensorBoard refuses None, and numbers of NumPy."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if name.startswith(PARTS) and isinstance(value, numbers.Real) and not isinstance(value, bool)
    }


def choices_text(genotype: Genotype) -> str:
    """Return a genotype as a table in Markdown."""
    rows = ["| layer | kept directions | margin |", "|---|---|---|"]
    for number, layer in enumerate(genotype.layers):
        margin = "" if layer.margin is None else f"{layer.margin:.4f}"
        rows.append(f"| {layer.name or number} | {', '.join(map(label, layer.directions))} | {margin} |")
    return "\n".join(rows)


def health_text(health: Mapping[str, Any]) -> str:
    """Return how sure a search is, and its checks, in Markdown."""
    rows = [f"**{health.get('status', 'not tested')}** {health.get('reason', '')}", ""]
    if findings := health.get("findings", []):
        rows += ["| check | measured | level | meaning | advice |", "|---|---|---|---|---|"]
        rows += [f"| {f['name']} | {json.dumps(f['value'])} | {f['level']} | {f['meaning']} | {f['advice']} |" for f in findings]
    return "\n".join(rows)


@torch.no_grad()
def example_predictions(model: nn.Module, info: DataInfo, loader: EvalLoader, precision: Precision) -> Image.Image | None:
    """Draw images of a set, evenly spaced, with their class and the network's answer below each; None where none can be read.

    The process that calls it draws them all.
    """
    places = np.unique(np.linspace(0, loader.num_samples - 1, EXAMPLES).round().astype(int))
    if not (parts := list(loader.alone().at(places))):
        return None
    batch = precision.to_device(Batch.joined(parts))
    model.eval()
    with precision.autocast():
        answers = model(batch.inputs).float().softmax(1).max(1)
    truth = batch.targets.tolist() if isinstance(batch.targets, torch.Tensor) else []
    found = zip(batch.inputs, truth, answers.values.tolist(), answers.indices.tolist(), strict=True)
    names, cells = info.class_names, []
    for image, true, share, answer in found:
        sign = "=" if true == answer else "≠"
        cells.append(Cell(image_of(image, info), (names[true], f"{sign} {names[answer]} {share:.2f}")))
    return contact_sheet(cells)
