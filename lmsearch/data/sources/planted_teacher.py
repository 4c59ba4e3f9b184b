"""Teacher and student: a frozen random network with a known genotype gives every token's targets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from lmsearch.data.keyed import address_key, hashed_normals
from lmsearch.data.sources.planted_designs import Drawn, Noise
from lmsearch.data.sources.planted_tasks import Address
from lmsearch.models import DirectionalMixer, create_model
from lmsearch.models.local_vim import LocalVimBlock
from lmsearch.scan.grids import Grid, num_tokens

CALIBRATION = 64  # images that set the scales of the teacher's layers and outputs
LAYER_GAIN = 2.0  # root mean square of a layer's output over that of what it is added to: the scans must matter


@dataclass(frozen=True)
class Teacher:
    """Targets are the outputs of a frozen LocalVim with `directions` per layer, standardised; images are white noise.

    Its weights follow from `weights_seed`. They are drawn large enough that the outputs depend on the scans: inputs of a
    Linear keep their size, D = 0, and every layer is scaled to LAYER_GAIN times what it is added to. All in float64, so
    that the float32 targets of a sample do not depend on the rest of the batch.
    """

    directions: tuple[tuple[str, ...], ...]
    grid: Grid
    weights_seed: int
    noise: Noise = Noise()
    in_chans: int = 2
    num_outputs: int = 2

    def draw(self, indices: np.ndarray, address: Address, *, training: bool) -> Drawn:
        """See Design."""
        images, length = self._images(indices, address), num_tokens(self.grid)
        network, mean, std = self._standardised
        outputs = run(network, images, self.grid)  # (B, L, O)
        targets = ((outputs - mean) / std).float().numpy()
        if training and self.noise.targets:
            noise = hashed_normals(indices, length * self.num_outputs, "noise", *address)
            targets = targets + np.float32(self.noise.targets) * noise.reshape(targets.shape)
        self.noise.on_inputs(images, indices, address)
        return images, targets

    def _images(self, indices: np.ndarray, address: Address) -> np.ndarray:
        """Return white noise (B, C, L)."""
        length = num_tokens(self.grid)
        return hashed_normals(indices, self.in_chans * length, "values", *address).reshape(-1, self.in_chans, length)

    @cached_property
    def _standardised(self) -> tuple[nn.Module, Tensor, Tensor]:
        """The network, and mean and standard deviation (O,) of its outputs."""
        images = self._images(np.arange(CALIBRATION), ("teacher",))
        network = build_network(self)
        calibrate(network, images, self.grid)
        outputs = run(network, images, self.grid).flatten(0, 1)
        return network, outputs.mean(0), outputs.std(0)


def build_network(teacher: Teacher, *, embed_dim: int = 16, d_state: int = 8) -> nn.Module:
    """Return the teacher's network in float64 with random weights; the caller's random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(address_key("teacher", teacher.weights_seed) % 2**63)
        network = create_model(
            "local_vim",
            directions=teacher.directions,
            img_size=teacher.grid,
            patch_size=1,
            in_chans=teacher.in_chans,
            num_classes=teacher.num_outputs,
            embed_dim=embed_dim,
            depth=len(teacher.directions),
            d_state=d_state,
            drop_path_rate=0.0,
            attention="none",
            window_padding="none",
            use_rope=False,
            rope_residual=False,
            global_pool="",
            backend="reference",
        )
        for module in network.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if isinstance(module, DirectionalMixer):
                nn.init.normal_(module.x_proj_weight, std=module.d_inner**-0.5)
                nn.init.zeros_(module.D)
    return network.double().eval().requires_grad_(False)


def calibrate(network: nn.Module, images: np.ndarray, grid: Grid) -> None:
    """Scale each layer's out_proj, first to last, so that its output is LAYER_GAIN times its residual in root mean square."""
    for layer in (module for module in network.modules() if isinstance(module, LocalVimBlock)):
        seen: list[float] = []
        handle = layer.register_forward_hook(
            lambda _, args, out, seen=seen: seen.append((out[1].square().mean() / out[0].square().mean()).sqrt().item())
        )
        run(network, images, grid)
        handle.remove()
        layer.mixer.out_proj.weight.mul_(LAYER_GAIN * seen[0])


@torch.no_grad()
def run(network: nn.Module, images: np.ndarray, grid: Grid) -> Tensor:
    """Outputs (B, L, O) for images (B, C, L), float64."""
    outputs: Tensor = network(torch.from_numpy(images).double().unflatten(-1, grid))
    return outputs
