"""The Mamba block as a module, of mamba-ssm and of Vim, for training and inference over whole sequences.

Shapes: B batch, L tokens, D = expand * d_model inner channels, N states, R rank of delta, W taps. The names of the
parameters are the original's, so that its checkpoints load. Source: mamba_ssm/modules/mamba_simple.py of mamba-ssm 2.3.2,
and of the 1.1.1 that Vim (hustvl/Vim) brings along for `bimamba_type` and after it; `bimamba` is of OpenGVLab/VideoMamba's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lmsearch.compat.inner import low_rank_scan
from lmsearch.errors import KernelError, did_you_mean
from lmsearch.kernels import directional_conv
from lmsearch.kernels.orders import time_orders
from lmsearch.kernels.reference import whole_delta

KINDS = ("none", "v1", "v2")  # one scan; two with own A; two with own A, convolution, projections and D
DT_INITS = ("random", "constant")


class Mamba(nn.Module):
    """(B, L, d_model) -> (B, L, d_model): in_proj, causal convolution, selective scan, gate, out_proj.

    `bimamba_type` adds a scan backwards in time, and `bimamba=True` stands for v2; `if_divide_out` takes the mean of both
    instead of the sum (v2 only); `init_layer_scale` scales the output by a learned gamma. `use_fast_path` and `layer_idx`
    change no value. Generating token by token is not served: `inference_params` other than None raises KernelError, as do
    `step` and `allocate_inference_cache`.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | str = "auto",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init: str = "random",
        dt_scale: float = 1.0,
        dt_init_floor: float = 1e-4,
        conv_bias: bool = True,
        bias: bool = False,
        use_fast_path: bool = True,
        layer_idx: int | None = None,
        device=None,
        dtype=None,
        bimamba_type: str = "none",
        if_divide_out: bool = False,
        init_layer_scale: float | None = None,
        bimamba: bool | None = None,
    ) -> None:
        super().__init__()
        bimamba_type = {None: bimamba_type, True: "v2", False: "none"}[bimamba]
        if bimamba_type not in KINDS:
            raise KernelError(f"lmsearch.compat: Mamba is not served with bimamba_type={bimamba_type!r}; accepted: {KINDS}")
        if dt_init not in DT_INITS:
            raise KernelError(f"dt_init={dt_init!r}{did_you_mean(str(dt_init), DT_INITS)}")
        at = {"device": device, "dtype": dtype}
        self.d_model, self.d_state, self.d_conv, self.expand = d_model, d_state, d_conv, expand
        self.d_inner = int(expand * d_model)
        self.dt_rank = math.ceil(d_model / 16) if dt_rank == "auto" else int(dt_rank)
        self.use_fast_path, self.layer_idx = use_fast_path, layer_idx
        self.bimamba_type, self.if_divide_out, self.init_layer_scale = bimamba_type, if_divide_out, init_layer_scale
        self.activation, self.act = "silu", nn.SiLU()
        if init_layer_scale is not None:
            self.gamma = nn.Parameter(init_layer_scale * torch.ones(d_model))
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=bias, **at)
        self.conv1d = self._conv(conv_bias, at)
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False, **at)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner, bias=True, **at)
        self._start_dt(dt_min, dt_max, dt_init, dt_scale, dt_init_floor, at)
        self.A_log, self.D = self._a_log(device), self._ones(device)
        if bimamba_type != "none":
            self.A_b_log = self._a_log(device)
        if bimamba_type == "v2":
            self.conv1d_b = self._conv(conv_bias, at)
            self.x_proj_b = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False, **at)
            self.dt_proj_b = nn.Linear(self.dt_rank, self.d_inner, bias=True, **at)
            self.D_b = self._ones(device)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=bias, **at)

    def _conv(self, bias: bool, at: dict) -> nn.Conv1d:
        d, taps = self.d_inner, self.d_conv
        return nn.Conv1d(d, d, taps, groups=d, padding=taps - 1, bias=bias, **at)

    def _a_log(self, device) -> nn.Parameter:
        """A = -1, ..., -N in every channel, as a logarithm, in float32 (S4D-Real, arXiv 2206.11893)."""
        states = torch.arange(1, self.d_state + 1, dtype=torch.float32, device=device)
        return _undecayed(states.log().repeat(self.d_inner, 1))

    def _ones(self, device) -> nn.Parameter:
        return _undecayed(torch.ones(self.d_inner, device=device))

    def _start_dt(self, least: float, most: float, kind: str, scale: float, floor: float, at: dict) -> None:
        """Start dt_proj: step sizes log-uniform from `least` to `most` behind the softplus, weights within the rank's scale."""
        bound = scale * self.dt_rank**-0.5
        with torch.no_grad():
            if kind == "constant":
                self.dt_proj.weight.fill_(bound)
            else:
                self.dt_proj.weight.uniform_(-bound, bound)
            steps = torch.rand(self.d_inner, **at) * (math.log(most) - math.log(least)) + math.log(least)
            steps = steps.exp().clamp(min=floor)
            self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # the inverse of the softplus
        self.dt_proj.bias._no_reinit = True  # type: ignore[attr-defined] # read by the initialisers of such networks

    def forward(self, hidden_states: Tensor, inference_params: object = None) -> Tensor:
        """hidden_states (B, L, d_model) -> (B, L, d_model)."""
        if inference_params is not None:
            raise KernelError("lmsearch.compat: Mamba is not served with inference_params; expected None")
        x, z = self.in_proj(hidden_states).chunk(2, dim=-1)  # each (B, L, D)
        length, two = x.shape[1], self.bimamba_type != "none"
        orders = time_orders(length, x.device, backwards=int(two))
        convs, x_projs, dt_projs, skips = self._weights()
        bias = None if self.conv1d.bias is None else torch.stack([c.bias for c in convs])  # type: ignore[misc]
        u = directional_conv(x, torch.stack([c.weight[:, 0] for c in convs]), bias, orders[: len(convs)])
        projected = whole_delta(u, torch.stack([p.weight for p in x_projs]))  # (B, K, L, R + 2 N)
        logs: list[Tensor] = [self.A_log, self.A_b_log] if two else [self.A_log]
        K = len(logs)
        y = low_rank_scan(
            u if len(convs) == K else u[:, 0],
            z,
            projected.expand(-1, K, -1, -1),
            torch.stack([p.weight for p in dt_projs]).expand(K, -1, -1),
            -torch.exp(_wide(torch.stack(logs))),
            _wide(torch.stack(skips)).expand(K, -1),
            _wide(torch.stack([p.bias for p in dt_projs])).expand(K, -1),
            orders,
            True,
        )
        divided = self.bimamba_type == "v2" and self.if_divide_out
        out = self.out_proj(y.mean(1) if divided else y.sum(1))
        return out if self.init_layer_scale is None else out * self.gamma

    def _weights(self) -> tuple[list[nn.Conv1d], list[nn.Linear], list[nn.Linear], list[Tensor]]:
        """Return convolutions, x_projs, dt_projs and D: one each, or a second for the scan backwards in time."""
        if self.bimamba_type == "v2":
            linears = ([self.x_proj, self.x_proj_b], [self.dt_proj, self.dt_proj_b])
            return [self.conv1d, self.conv1d_b], *linears, [self.D, self.D_b]
        return [self.conv1d], [self.x_proj], [self.dt_proj], [self.D]

    def step(self, *args: object, **kwargs: object) -> None:
        """Raise KernelError: generating token by token is not served."""
        raise KernelError("lmsearch.compat: Mamba.step is not served; Mamba runs over whole sequences")

    def allocate_inference_cache(self, *args: object, **kwargs: object) -> None:
        """Raise KernelError, as `step`."""
        raise KernelError("lmsearch.compat: Mamba.allocate_inference_cache is not served; Mamba runs over whole sequences")


def _wide(t: Tensor) -> Tensor:
    return t.to(torch.promote_types(t.dtype, torch.float32))


def _undecayed(t: Tensor) -> nn.Parameter:
    parameter = nn.Parameter(t)
    parameter._no_weight_decay = True  # type: ignore[attr-defined] # read by the optimizers of such networks
    return parameter
