"""Which branches of a mixer can be scanned in one call, on which (padded) tokens and in which order.

Without padding every branch scans the same tokens, so there is one group. LocalMamba's zero padding extends the grid
to whole windows: branches are grouped by padded grid, and kernels still see permutations only.
Shapes: L tokens of the grid, P >= L tokens of the padded grid, each plus one where a class token takes part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lmsearch.models.layers import insert_token
from lmsearch.scan.directions import index_table, parse_direction
from lmsearch.scan.grids import Grid

PADDINGS = ("none", "zeros")


@dataclass(frozen=True, eq=False)
class ScanGroup:
    """Branches (their positions in the mixer) that scan one padded grid, with their order table (K, P)."""

    branches: tuple[int, ...]
    grid: Grid
    padded: Grid
    cls_index: int | None
    table: np.ndarray

    def order(self, device: torch.device) -> Tensor:
        """The order table as an int32 tensor (K, P) on `device`."""
        return _order_tensor(self, torch.device(device))

    def pad(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, P, D): zero tokens at the bottom and right; the class token keeps its row."""
        if self.padded == self.grid:
            return x
        x, cls = self._split(x, dim=1)
        x = x.unflatten(1, self.grid)
        more = [above - side for above, side in zip(self.padded, self.grid, strict=True)]  # after the last token of each axis
        x = F.pad(x, (0, 0, *(amount for side in reversed(more) for amount in (0, side)))).flatten(1, -2)
        return x if cls is None or self.cls_index is None else insert_token(x, cls, self.cls_index)

    def crop(self, y: Tensor) -> Tensor:
        """(B, K, P, D) -> (B, K, L, D): drop the padding."""
        if self.padded == self.grid:
            return y
        y, cls = self._split(y, dim=2)
        y = y.unflatten(2, self.padded)[:, :, *(slice(side) for side in self.grid)].flatten(2, -2)
        if cls is None:
            return y
        return torch.cat([y[:, :, : self.cls_index], cls, y[:, :, self.cls_index :]], dim=2)

    def _split(self, x: Tensor, *, dim: int) -> tuple[Tensor, Tensor | None]:
        if self.cls_index is None:
            return x, None
        before, cls, after = x.tensor_split((self.cls_index, self.cls_index + 1), dim=dim)
        return torch.cat([before, after], dim=dim), cls


@lru_cache(maxsize=1024)
def _order_tensor(group: ScanGroup, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # what is kept must also serve a later training step
        return torch.tensor(group.table, device=device)


@lru_cache(maxsize=1024)
def row_index(rows: tuple[int, ...], device: torch.device) -> slice | Tensor:
    """The rows of stacked (K, ...) parameters as `take` wants them: a slice, which copies nothing, where they are contiguous."""
    if rows == tuple(range(rows[0], rows[0] + len(rows))):
        return slice(rows[0], rows[0] + len(rows))
    with torch.inference_mode(False):  # as above
        return torch.tensor(rows, device=device)


def take(stacked: Tensor, rows: slice | Tensor) -> Tensor:
    """Rows of a parameter (K, ...); index_select has a cheaper backward pass than indexing with a list."""
    return stacked[rows] if isinstance(rows, slice) else stacked.index_select(0, rows)


def with_class_token(table: np.ndarray, index: int) -> np.ndarray:
    """Put a class token that is stored at row `index` at time `index` of every order: (K, P) -> (K, P + 1)."""
    shifted = table + (table >= index)
    return np.insert(shifted, index, index, axis=1).astype(np.int32)


@lru_cache(maxsize=1024)
def scan_groups(directions: tuple[str, ...], grid: Grid, padding: str, cls_index: int | None) -> tuple[ScanGroup, ...]:
    """Group `directions` by the grid that they scan; `padding` is "none" or "zeros"."""
    members: dict[Grid, list[int]] = {}
    for k, name in enumerate(directions):
        padded = parse_direction(name).padded_grid(grid) if padding == "zeros" else grid
        members.setdefault(padded, []).append(k)
    groups = []
    for padded, branches in members.items():
        table = index_table(tuple(directions[k] for k in branches), padded)
        if cls_index is not None:
            table = with_class_token(table, cls_index)
        groups.append(ScanGroup(tuple(branches), grid, padded, cls_index, table))
    return tuple(groups)


def collect(outputs: Sequence[Tensor], groups: Sequence[ScanGroup]) -> Tensor:
    """Put the groups' outputs (B, Kg, L, D) back into one tensor (B, K, L, D) in the order of the branches."""
    if len(groups) == 1:
        return outputs[0]
    position = np.argsort(np.concatenate([g.branches for g in groups]))
    return torch.cat(list(outputs), dim=1)[:, position.tolist()]
