"""Layer and RMS norms that take the residual along, with the signatures of mamba-ssm, in plain PyTorch.

Shapes: x (..., C), weight and bias (C,). The sum of x and residual is normed and, with `prenorm`, returned as well; both
are computed in at least float32. Two files of mamba-ssm hold them: layer_norm.py (from 2.0 on, and in Vim), served here
as of 2.3.2, and layernorm.py (until 1.2.2), whose arguments are fewer and come in another order.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmsearch.errors import KernelError
from lmsearch.kernels.checks import check_floats, check_shape


def _summed(x, residual, x1, dropout_p: float, rowscale: Tensor | None) -> Tensor:
    """Return what is normed: x times rowscale, after dropout, and the others added to it, in at least float32."""
    compute = torch.promote_types(x.dtype, torch.float32)
    total = x.to(compute)
    if rowscale is not None:
        if x1 is not None:
            raise KernelError("lmsearch.compat: rowscale and x1 exclude each other")
        if rowscale.numel() != x[..., 0].numel():
            raise KernelError(f"rowscale has shape {tuple(rowscale.shape)}; expected a number per row of x {tuple(x.shape)}")
        total = total * rowscale.to(compute).reshape(x.shape[:-1]).unsqueeze(-1)
    total = F.dropout(total, dropout_p) if dropout_p > 0 else total
    for other in (x1, residual):
        if other is not None:
            more = other.to(compute)
            total = total + (F.dropout(more, dropout_p) if other is x1 and dropout_p > 0 else more)
    return total


def _normed(total: Tensor, weight: Tensor, bias: Tensor | None, eps: float, *, rms: bool) -> Tensor:
    weight, bias = weight.to(total.dtype), None if bias is None else bias.to(total.dtype)
    if not rms:
        return F.layer_norm(total, weight.shape, weight, bias, eps)
    y = F.rms_norm(total, weight.shape, weight, eps)
    return y if bias is None else y + bias


def layer_norm_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None = None,
    x1: Tensor | None = None,
    weight1: Tensor | None = None,
    bias1: Tensor | None = None,
    eps: float = 1e-6,
    dropout_p: float = 0.0,
    rowscale: Tensor | None = None,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    is_rms_norm: bool = False,
    return_dropout_mask: bool = False,
) -> Tensor | tuple[Tensor, ...]:
    """The norm of x + x1 + residual, in x.dtype; with `weight1` a second one of the same sum, with `prenorm` the sum too.

    The sum has the dtype of `residual`; without one float32 where `residual_in_fp32` and x.dtype where not. x is scaled by
    `rowscale` (one number per row) and dropped out with probability `dropout_p` before anything is added; the random
    numbers are PyTorch's, not the original's. Raises KernelError for `return_dropout_mask`, which is not served, and for
    shapes that do not fit.
    """
    if return_dropout_mask:
        raise KernelError("lmsearch.compat: return_dropout_mask is not served; expected False")
    for name, t in (("weight", weight), ("bias", bias), ("weight1", weight1), ("bias1", bias1)):
        if t is not None:
            check_shape(name, t, (x.shape[-1],), "(C,)")
    for name, t in (("residual", residual), ("x1", x1)):
        if t is not None:
            check_shape(name, t, tuple(x.shape), "(..., C)")
    tensors = {"x": x, "weight": weight, "bias": bias, "residual": residual, "x1": x1, "weight1": weight1, "bias1": bias1}
    check_floats(x.device, tensors)
    total = _summed(x, residual, x1, dropout_p, rowscale)
    affine = [(weight, bias)] if weight1 is None else [(weight, bias), (weight1, bias1)]
    out = tuple(_normed(total, w, b, eps, rms=is_rms_norm).to(x.dtype) for w, b in affine)
    if prenorm:
        alone = torch.float32 if residual_in_fp32 else x.dtype
        out += (total.to(alone if residual is None else residual.dtype),)
    return out if len(out) > 1 else out[0]


def rms_norm_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None = None,
    x1: Tensor | None = None,
    weight1: Tensor | None = None,
    bias1: Tensor | None = None,
    eps: float = 1e-6,
    dropout_p: float = 0.0,
    rowscale: Tensor | None = None,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    return_dropout_mask: bool = False,
) -> Tensor | tuple[Tensor, ...]:
    """`layer_norm_fn` with the root mean square in the place of mean and variance."""
    return layer_norm_fn(
        x, weight, bias, residual, x1, weight1, bias1, eps, dropout_p, rowscale, prenorm, residual_in_fp32, True,
        return_dropout_mask,
    )  # fmt: skip


class RMSNorm(nn.Module):
    """The RMS norm as a module: weight (hidden_size,), no bias, and in training dropout of x before the residual."""

    def __init__(self, hidden_size: int, eps: float = 1e-5, dropout_p: float = 0.0, device=None, dtype=None) -> None:
        super().__init__()
        self.eps = eps
        self.drop = nn.Dropout(dropout_p) if dropout_p > 0 else None
        self.weight = nn.Parameter(torch.empty(hidden_size, device=device, dtype=dtype))
        self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the weight to ones."""
        nn.init.ones_(self.weight)

    def forward(
        self, x: Tensor, residual: Tensor | None = None, prenorm: bool = False, residual_in_fp32: bool = False
    ) -> Tensor | tuple[Tensor, ...]:
        """x (..., C) and residual as `rms_norm_fn` takes them."""
        dropout_p = self.drop.p if self.drop is not None and self.training else 0.0
        return rms_norm_fn(
            x, self.weight, None, residual=residual, eps=self.eps, dropout_p=dropout_p, prenorm=prenorm,
            residual_in_fp32=residual_in_fp32,
        )  # fmt: skip


def old_layer_norm_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None = None,
    eps: float = 1e-6,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    is_rms_norm: bool = False,
) -> Tensor | tuple[Tensor, ...]:
    """`layer_norm_fn` of mamba-ssm 1.2.2 (mamba_ssm/ops/triton/layernorm.py)."""
    return layer_norm_fn(
        x, weight, bias, residual, eps=eps, prenorm=prenorm, residual_in_fp32=residual_in_fp32, is_rms_norm=is_rms_norm
    )


def old_rms_norm_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None = None,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    eps: float = 1e-6,
) -> Tensor | tuple[Tensor, ...]:
    """`rms_norm_fn` of mamba-ssm 1.2.2, where eps comes last."""
    return old_layer_norm_fn(x, weight, bias, residual, eps, prenorm, residual_in_fp32, True)


class OldRMSNorm(RMSNorm):
    """`RMSNorm` of mamba-ssm 1.2.2, without dropout."""

    def __init__(self, hidden_size: int, eps: float = 1e-5, device=None, dtype=None) -> None:
        super().__init__(hidden_size, eps, 0.0, device, dtype)
