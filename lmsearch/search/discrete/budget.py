"""What a search may spend, in one unit for every method.

A branch-scan step is one training step of one branch of one layer at the recipe's batch size: a step that runs b branches in
total over its layers costs b. A forward pass alone costs a third of it.
"""

from __future__ import annotations

from dataclasses import dataclass

EVALUATION_SHARE = 1 / 3  # a training step is one forward and about two forwards' worth of backward


def training_cost(steps: int, branches_per_step: float) -> float:
    """Return the branch-scan steps of `steps` training steps that run `branches_per_step` branches over all layers."""
    return float(steps * branches_per_step)


def evaluation_cost(num_samples: int, *, batch_size: int, branches: float) -> float:
    """Return the branch-scan steps of evaluating `num_samples` samples with `branches` branches over all layers."""
    return num_samples / batch_size * branches * EVALUATION_SHARE


@dataclass
class Budget:
    """Counts branch-scan steps up to `total` (None: without end)."""

    total: float | None = None
    spent: float = 0.0

    def charge(self, cost: float) -> None:
        """Count `cost` branch-scan steps."""
        self.spent += cost

    def allows(self, cost: float) -> bool:
        """Tell whether `cost` branch-scan steps more would still be within the budget."""
        return self.total is None or self.spent + cost <= self.total
