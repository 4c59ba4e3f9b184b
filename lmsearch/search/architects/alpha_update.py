"""How alphas move along their gradient: Adam on the logits, or the exponentiated-gradient step on the probabilities.

Alphas have an optimizer of their own, with a weight decay of their own (0 unless asked for).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from lmsearch.errors import ConfigError, did_you_mean
from lmsearch.search.supernet.network import arch_parameters

LEAST_PROBABILITY = 1e-3  # below it the step is taken as if the probability were this large
UPDATES = ("adam", "exponentiated_gradient")


class ExponentiatedGradient(torch.optim.Optimizer):
    """p <- p * exp(-lr * dL/dp), normalised (GAEA, arXiv 2004.07802), for p = softmax(alphas).

    In logits: alpha <- alpha - lr * dL/dp with dL/dp = dL/dalpha / p up to a constant that softmax does not see. Weight decay
    pulls alphas to 0, as in AdamW.
    """

    def __init__(self, params: Sequence[nn.Parameter], *, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override] # its overloads
        """Take one step of every alpha that has a gradient, after `closure`, whose value is returned."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for alpha in group["params"]:
                if alpha.grad is None:
                    continue
                alpha.mul_(1 - group["lr"] * group["weight_decay"])
                p = torch.softmax(alpha, dim=0).clamp_min(LEAST_PROBABILITY)
                alpha.sub_(group["lr"] * alpha.grad / p)
        return loss


def alpha_optimizer(
    module: nn.Module, *, lr: float, betas: Sequence[float], weight_decay: float, update: str = "adam"
) -> torch.optim.Optimizer:
    """Return the optimizer of the alphas alone; `betas` concern "adam" only."""
    alphas = arch_parameters(module)
    if update == "adam":
        beta1, beta2 = betas
        return torch.optim.AdamW(alphas, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay)
    if update == "exponentiated_gradient":
        return ExponentiatedGradient(alphas, lr=lr, weight_decay=weight_decay)
    raise ConfigError(f"search.update={update!r} is not accepted{did_you_mean(update, UPDATES)}")
