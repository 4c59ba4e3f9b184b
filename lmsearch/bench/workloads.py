"""What is measured above the scan: one supernet mixer and one training step, ours and in other arrangements.

A subject is a name: "lmsearch" (the backend that "auto" picks), "reference backend", or "released, <scan>".
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmsearch.bench.gate import Worst, as_float64, results, worst
from lmsearch.bench.released import ReleasedMixer, available_scans
from lmsearch.data.batch import Batch
from lmsearch.engine.optim import adamw
from lmsearch.engine.train import StepHook
from lmsearch.models import create_model
from lmsearch.models.local_vim import LocalVimBlock, LocalVimMixer
from lmsearch.models.mixer import MixerOptions

OURS, REFERENCE, RELEASED = "lmsearch", "reference backend", "released, "
WIDE_WINDOWS = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w7", "w7_flip")  # of 14x14 tokens
NARROW_WINDOWS = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w4", "w4_flip")  # of 8x8 tokens
LR = 1e-4  # of a measured step


@dataclass(frozen=True)
class LayerShape:
    """Sizes of a K=8 LocalVim supernet mixer: batch, model width, side of the token grid."""

    batch: int
    d_model: int
    side: int

    @property
    def directions(self) -> tuple[str, ...]:
        """The eight candidates, with windows that divide the grid."""
        return WIDE_WINDOWS if self.side % 7 == 0 else NARROW_WINDOWS

    def __str__(self) -> str:
        return f"K8, d_model {self.d_model}, {self.side}x{self.side} tokens, batch {self.batch}"


@dataclass(frozen=True)
class SupernetShape:
    """Sizes of a LocalVim supernet with eight candidates in every layer: batch, width, depth, side of the token grid."""

    batch: int
    embed_dim: int
    depth: int
    side: int

    def __str__(self) -> str:
        return f"K8, embed {self.embed_dim}, depth {self.depth}, {self.side}x{self.side} tokens, batch {self.batch}"


def subjects(device: str) -> list[str]:
    """Return the arrangements of a mixer that can run on `device`, ours first."""
    return [OURS, REFERENCE, *(RELEASED + scan for scan in available_scans(device))]


def with_backend(mixer: LocalVimMixer, backend: str) -> LocalVimMixer:
    """Return a copy of `mixer` that runs on `backend`."""
    twin = copy.deepcopy(mixer)
    twin.options = replace(mixer.options, backend=backend)
    return twin


def arranged(mixer: LocalVimMixer, subject: str) -> nn.Module:
    """Return a module of the same function and weights as `mixer`, computed the way of `subject`."""
    if subject == OURS:
        return mixer
    if subject == REFERENCE:
        return with_backend(mixer, "reference")
    return ReleasedMixer(mixer, subject.removeprefix(RELEASED))


def layer(shape: LayerShape, *, seed: int, device: str) -> tuple[LocalVimMixer, Tensor]:
    """Return our supernet mixer (merge "weighted", channel attention) and its random input (B, L, d_model), a leaf."""
    torch.manual_seed(seed)
    mixer = LocalVimMixer(shape.d_model, shape.directions, MixerOptions(merge="weighted")).to(device)
    x = torch.randn(shape.batch, shape.side**2, shape.d_model).to(device).requires_grad_()
    return mixer, x


def layer_call(module: nn.Module, x: Tensor, side: int) -> Callable[[], Tensor]:
    """Return the forward pass of a mixer on a square grid."""
    return lambda: module(x, (side, side))


def check_layers(shape: LayerShape, *, seed: int, device: str) -> dict[str, Worst]:
    """Compare every subject with our mixer in float64 on the reference backend, to TOLERANCE; return the worst errors."""
    mixer, x = layer(shape, seed=seed, device=device)
    exact = with_backend(mixer, "reference").double()
    x64 = as_float64({"x": x})["x"]
    want = results(layer_call(exact, x64, shape.side), {"x": x64, **dict(exact.named_parameters())})
    errors = {}
    for subject in subjects(device):
        module = arranged(mixer, subject)
        own = module.mixer if isinstance(module, ReleasedMixer) else module
        got = results(layer_call(module, x, shape.side), {"x": x, **dict(own.named_parameters())})
        errors[subject] = worst(f"{subject} at {shape}", got, want)
    return errors


def supernet(shape: SupernetShape, directions: Sequence[str], *, seed: int, device: str) -> nn.Module:
    """Return a LocalVim supernet with `directions` as the candidates of every layer."""
    torch.manual_seed(seed)
    return create_model(
        "local_vim",
        directions=list(directions),
        merge="weighted",
        img_size=2 * shape.side,
        patch_size=2,
        num_classes=10,
        embed_dim=shape.embed_dim,
        depth=shape.depth,
        window_padding="none",
    ).to(device)


def step_of(model: nn.Module, shape: SupernetShape, *, device: str, hook: StepHook | None = None) -> Callable[[], Tensor]:
    """Return one training step (forward, backward, AdamW) of a supernet on one random batch; it returns the loss.

    `hook` acts inside the step as in a search; the steps are numbered from 0.
    """
    optimizer = adamw(model.named_parameters(), lr=LR, weight_decay=0.05, betas=(0.9, 0.999))
    images = torch.randn(shape.batch, 3, 2 * shape.side, 2 * shape.side).to(device)
    labels = torch.randint(10, (shape.batch,)).to(device)
    batch = Batch(images, labels, torch.arange(shape.batch))
    numbers, passes, scaler = count(), 1, torch.amp.GradScaler(device, enabled=False)

    def step() -> Tensor:
        nonlocal passes
        if hook is not None:
            hook.before_step(batch, epoch=0, step=next(numbers), lr=LR)
            passes = hook.passes_of_step()
        optimizer.zero_grad()
        for number in range(passes):
            if hook is not None:
                hook.begin_pass(number)
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
        if hook is not None:
            hook.after_backward(scaler)
        optimizer.step()
        return loss.detach()

    return step


def training_step(shape: SupernetShape, subject: str, *, seed: int, device: str) -> Callable[[], Tensor]:
    """Return the training step of a supernet with eight candidates whose mixers are arranged as `subject`."""
    model = supernet(shape, NARROW_WINDOWS, seed=seed, device=device)
    for block in [module for module in model.modules() if isinstance(module, LocalVimBlock)]:
        block.add_module("mixer", arranged(block.mixer, subject))
    return step_of(model, shape, device=device)
