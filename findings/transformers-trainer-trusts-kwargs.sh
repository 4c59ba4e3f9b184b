#!/usr/bin/env bash
# A network trains with a multiple of its gradient because its forward method ends in **kwargs.
#
# Where batches are accumulated, Transformers' Trainer divides each loss by their number, unless the network has done so. Whether it has
# is read from the signature of forward: with **kwargs it is taken to use num_items_in_batch. A forward that ends in **kwargs only
# to be lenient, and returns a mean, is thus trained on the sum: gradients, their norm and the logged loss are as many times too
# large as batches are accumulated. `accepts_loss_kwargs = False` on the class says that the loss is a mean.
#
# Seen with Transformers 5.24.0, Accelerate 1.15.0, PyTorch 2.13.0, Python 3.11; 4 batches accumulated, SGD at 0.1:
# forward(self, x, labels)            logged loss 1.000  step of the weight 0.200
# forward(self, x, labels, **kwargs)  logged loss 4.000  step of the weight 0.800
# accepts_loss_kwargs = False         logged loss 1.000  step of the weight 0.200
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 transformers==5.24.0 accelerate==1.15.0
HF_HUB_OFFLINE=1 venv/bin/python -W ignore - <<'PY'
import torch
from torch import nn
from transformers import Trainer, TrainingArguments


class Plain(nn.Module):
    """A weight w that is to become 1: the loss of a batch is the mean of (w x - label) ** 2."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))

    def forward(self, x, labels):
        return {"loss": (self.w * x - labels).square().mean()}


class Lenient(Plain):
    def forward(self, x, labels, **kwargs):
        return super().forward(x, labels)


class Told(Lenient):
    accepts_loss_kwargs = False


def trained(kind):
    """The logged loss and the weight after one step of four accumulated batches of two."""
    model = kind()
    arguments = TrainingArguments(
        output_dir="out", max_steps=1, per_device_train_batch_size=2, gradient_accumulation_steps=4, optim="sgd", learning_rate=0.1,
        max_grad_norm=0.0, lr_scheduler_type="constant", report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True, use_cpu=True,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=[{"x": torch.tensor(1.0), "labels": torch.tensor(1.0)}] * 8)
    trainer.log = lambda logs, *rest: trainer.state.log_history.append(logs)
    trainer.train()
    return next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry), model.w.item()


CASES = (("forward(self, x, labels)", Plain, 1), ("forward(self, x, labels, **kwargs)", Lenient, 4), ("accepts_loss_kwargs = False", Told, 1))
for label, kind, times in CASES:
    loss, step = trained(kind)
    print(f"{label:35} logged loss {float(loss):.3f}  step of the weight {step:.3f}")
    assert abs(step - 0.2 * times) < 1e-4, "losses are divided otherwise now"
PY
