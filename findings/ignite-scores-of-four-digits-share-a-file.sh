#!/usr/bin/env bash
# Two networks whose scores agree in four digits have one file in Ignite, which with n_saved=2 ends up with the worse one, as the best.
#
# Checkpoint names files by the score with four digits behind the point, as in its examples: model_accuracy=0.9500.pt. 0.95004 and 0.95001 are
# one name, so the later network, kept as the second best, is written over the best one; there is one file, and last_checkpoint calls it the
# best. Accuracies over 100,000 images, and losses below 0.0001, whose files are all model_loss=-0.0000.pt, are such scores. Give the names
# the number of the epoch as well: global_step_transform. n_saved=1 keeps the right one, for only what is better is written then.
#
# Seen with PyTorch-Ignite 0.5.5, torch 2.13.0, Python 3.11; scores of epochs 0, 1 and 2, and the epochs that the files hold:
# scores                     n_saved  with epochs  files  best
# 0.95    0.95004 0.95001    2        no           2      2
# -0.00003 -0.00001 -0.00002 2        no           2      2
# 0.95    0.95004 0.95001    2        yes          1 2    1
# 0.95    0.95004 0.95001    1        no           1      1
# 0.95    0.97    0.96       2        no           1 2    1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 packaging==26.2
venv/bin/pip install -q --no-deps pytorch-ignite==0.5.5
venv/bin/python -W ignore - <<'PY'
import pathlib

import torch
from ignite.engine import Engine
from ignite.handlers import Checkpoint, DiskSaver
from torch import nn


def kept(folder, scores, count, epochs):
    """Return the epochs whose weights lie in the files, and the one of what is called the best."""
    net, engine = nn.Linear(1, 1, bias=False), Engine(lambda engine, batch: None)
    checkpoint = Checkpoint(
        {"model": net},
        DiskSaver(folder),
        n_saved=count,
        score_name="score",
        score_function=lambda engine: engine.state.metrics["score"],
        global_step_transform=(lambda engine, event: engine.state.epoch) if epochs else None,
    )
    for epoch, score in enumerate(scores):
        net.weight.data.fill_(epoch)
        engine.state.epoch, engine.state.metrics = epoch, {"score": score}
        checkpoint(engine)
    held = {path.name: int(torch.load(path)["weight"].item()) for path in pathlib.Path(folder).iterdir()}
    return sorted(held.values()), held[pathlib.Path(checkpoint.last_checkpoint).name]


CLOSE, SMALL = (0.95, 0.95004, 0.95001), (-0.00003, -0.00001, -0.00002)
CASES = (
    (CLOSE, 2, False, [2], 2),
    (SMALL, 2, False, [2], 2),
    (CLOSE, 2, True, [1, 2], 1),
    (CLOSE, 1, False, [1], 1),
    ((0.95, 0.97, 0.96), 2, False, [1, 2], 1),
)
print("scores                     n_saved  with epochs  files  best")
for number, (scores, count, epochs, files, best) in enumerate(CASES):
    held, called = kept(f"run{number}", scores, count, epochs)
    told = " ".join(f"{f'{score:.5f}'.rstrip('0'):7}" for score in scores).rstrip()
    print(f"{told:26} {count:<8} {'yes' if epochs else 'no':12} {' '.join(map(str, held)):6} {called}")
    assert held == files and called == best, "files are named or kept otherwise now"
PY
