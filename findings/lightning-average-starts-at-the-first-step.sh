#!/usr/bin/env bash
# EMAWeightAveraging(update_starting_at_epoch=5) of Lightning averages from the first step on, and from epoch 5 a second time at each end.
#
# The option asks for an average without the first, bad weights. It is looked at only at the ends of epochs, where it adds an update; those
# after each step are held back by update_starting_at_step alone, which is left open. So the average holds what it should leave out, as if
# the option were not there, and the last weights of each later epoch count double. That comes after the validation: what is saved
# and kept at the end is not what was validated. Count the steps of an epoch, and give update_starting_at_step; until then each validation
# is one of the untrained network, 0 below, for there is no average yet.
#
# Seen with Lightning 2.6.6, torch 2.13.0, Python 3.11; the weight is 1, 2, 3, ... after each step, four steps in each of three epochs,
# decay=0.5; the average that each epoch validates, and the last one:
# option                        validated             at the end
# none                          3.125  7.008  11.000  11.000
# update_starting_at_epoch=1    3.125  7.008  11.031  11.516
# update_starting_at_step=4     0.000  7.125  11.008  11.008
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 fsspec==2026.9.0 pyyaml==6.0.3 tqdm==4.70.1 lightning-utilities==0.15.3 packaging==26.2
venv/bin/pip install -q --no-deps lightning==2.6.6 pytorch-lightning==2.6.6 torchmetrics==1.9.0
venv/bin/python -W ignore - <<'PY'
import logging

logging.disable(logging.CRITICAL)

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging


class Counts(lightning.LightningModule):
    """A weight that each step of SGD makes larger by one."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.validated = []

    def training_step(self, batch, index):
        return -self.weight

    def validation_step(self, batch, index):
        self.validated.append(round(self.weight.item(), 3))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def averages(**options):
    net = Counts()
    lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        callbacks=[EMAWeightAveraging(decay=0.5, **options)],
    ).fit(net, torch.utils.data.DataLoader(range(4)), torch.utils.data.DataLoader(range(1)))
    name = next((f"{key}={value}" for key, value in options.items()), "none")
    print(f"{name:29} {'  '.join(f'{number:.3f}' for number in net.validated):21} {net.weight.item():.3f}")
    return net.validated, round(net.weight.item(), 3)


print("option                        validated             at the end")
always, _ = averages()
late, last = averages(update_starting_at_epoch=1)
meant, _ = averages(update_starting_at_step=4)
assert late[:2] == always[:2] and meant[1] > always[1], "the average starts later now"
assert last > late[2], "what was validated is what is kept now"
assert meant[0] == 0, "the first epoch validates trained weights now"
PY
