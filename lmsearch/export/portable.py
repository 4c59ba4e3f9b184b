"""The scan and the convolution in plain operators, as exported files hold them: PyTorch's own `scan`, one per group of orders.

Shapes: B batch, K directions, L tokens, D channels, N states, W taps; raster order.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from lmsearch.errors import KernelError


class Portable:
    """Operators that any runtime has, in place of a backend (lmsearch.kernels.ops.Operators).

    It scans by PyTorch's `scan`, which becomes one Scan node of ONNX whatever the number of tokens.
    """

    def recurrence(self, dt: Tensor, du: Tensor, B: Tensor, C: Tensor, A: Tensor) -> Tensor:
        """y_t = C_t . h_t of h_t = exp(dt_t A) h_{t-1} + du_t B_t along L: dt, du and y (B, K, L, D), A (K, D, N)."""
        from torch._higher_order_ops.scan import scan  # imports the compiler

        def step(h: Tensor, now: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
            dt_t, du_t, B_t, C_t = now  # (B, K, D or N)
            h = torch.exp(dt_t.unsqueeze(-1) * A) * h + du_t.unsqueeze(-1) * B_t.unsqueeze(-2)  # (B, K, D, N)
            return h, (h * C_t.unsqueeze(-2)).sum(-1)

        start = dt.new_zeros(dt.shape[0], *A.shape)
        _, y = scan(step, start, (dt, du, B, C), dim=2)
        found: Tensor = y
        return found

    def directional_scan(
        self,
        x: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        order: Tensor,
        *,
        z: Tensor | None = None,
        delta_bias: Tensor | None = None,
        delta_softplus: bool = False,
        reset: Tensor | None = None,
    ) -> Tensor:
        """Return y (B, K, L, D); arguments as in `lmsearch.kernels.directional_scan`, but no resets."""
        if reset is not None:
            raise KernelError("an exported scan has no resets; leave reset out")
        u = x if x.dim() == 4 else x.unsqueeze(1)  # (B, K or 1, L, D)
        dt = delta if delta_bias is None else delta + delta_bias[:, None, :]
        dt = F.softplus(dt) if delta_softplus else dt
        sizes = (A.shape[1], A.shape[1], A.shape[2], A.shape[2])
        forth, back = constant(_rows, order), constant(_rows_back, order)
        steps = moved(torch.cat([dt, dt * u, B, C], dim=-1), forth)  # one move for all of them
        dt, du, B, C = steps.split(sizes, dim=-1)
        y = moved(self.recurrence(dt, du, B, C, A), back)  # (B, K, L, D)
        y = y if D is None else y + D[:, None, :] * u
        return y if z is None else y * F.silu(z).unsqueeze(1)

    def directional_conv(self, x: Tensor, weight: Tensor, bias: Tensor | None, order: Tensor) -> Tensor:
        """Return silu of the causal depthwise convolution of x (B, L, D) along each order: (B, K, L, D)."""
        (directions, channels, taps), length = weight.shape, order.shape[1]
        forth, back = constant(Tensor.flatten, order), constant(_rows_back, order)
        visits = x.index_select(1, forth).unflatten(1, order.shape)  # (B, K, L, D)
        flat = F.pad(visits.transpose(2, 3).flatten(1, 2), (taps - 1, 0))  # (B, K * D, W - 1 + L)
        flat_bias = None if bias is None else bias.flatten()
        y = F.conv1d(flat, weight.flatten(0, 1).unsqueeze(1), flat_bias, groups=directions * channels)
        return F.silu(moved(y.view(-1, directions, channels, length).transpose(2, 3), back))


def constant(make: Callable[[Tensor], Tensor], order: Tensor) -> Tensor:
    """Return make(order), as a constant of the graph where the order is known while that is made."""
    if type(order) is Tensor:
        with _disable_current_modes():
            return make(order.long())
    return make(order)


def _rows(order: Tensor) -> Tensor:
    """Return the rows (K * L,) of tokens (B, K, L, D) in the order of the visit."""
    directions, length = order.shape
    return (order + length * torch.arange(directions, device=order.device)[:, None]).flatten()


def _rows_back(order: Tensor) -> Tensor:
    """Return the rows (K * L,) that lead back."""
    return _rows(order.argsort(dim=1))


def moved(t: Tensor, rows: Tensor) -> Tensor:
    """Return t (B, K, L, ...) with its tokens taken by `rows` (K * L,)."""
    return t.flatten(1, 2).index_select(1, rows).view(t.shape)
