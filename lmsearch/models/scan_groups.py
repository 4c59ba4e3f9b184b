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

from lmsearch.models.any_grid import cropped_to, is_open, padded_to
from lmsearch.models.class_token import insert_token, split_token
from lmsearch.models.tracing import GraphInputs, constant_while_tracing, graph_input
from lmsearch.scan.directions import index_table, parse_direction
from lmsearch.scan.grids import Grid, whole_windows

PADDINGS = ("none", "zeros")


@dataclass(frozen=True, eq=False)
class ScanGroup:
    """Branches (their positions in the mixer) that scan one padded grid, along these directions."""

    branches: tuple[int, ...]
    directions: tuple[str, ...]
    grid: Grid
    padded: Grid
    cls_index: int | None

    @property
    def table(self) -> np.ndarray:
        """The order table (K, P)."""
        return order_table(self.directions, self.padded, self.cls_index)

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing is padded; of an open grid, whether nothing ever is."""
        return self.padded is self.grid if is_open(self.grid) else self.padded == self.grid

    def pad(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, P, D): zero tokens at the bottom and right; the class token keeps its row."""
        if self.is_whole:
            return x
        x, cls = self._split(x, dim=1)
        if is_open(self.grid):
            x = padded_to(x, self.grid, self.padded)
        else:
            more = [above - side for above, side in zip(self.padded, self.grid, strict=True)]  # after the last token of each axis
            x = F.pad(x.unflatten(1, self.grid), (0, 0, *(amount for side in reversed(more) for amount in (0, side)))).flatten(
                1, -2
            )
        return x if cls is None or self.cls_index is None else insert_token(x, cls, self.cls_index)

    def crop(self, y: Tensor) -> Tensor:
        """(B, K, P, D) -> (B, K, L, D): drop the padding."""
        if self.is_whole:
            return y
        y, cls = self._split(y, dim=2)
        if is_open(self.grid):
            y = cropped_to(y, self.grid, self.padded)
        else:
            y = y.unflatten(2, self.padded)[:, :, *(slice(side) for side in self.grid)].flatten(2, -2)
        return y if cls is None or self.cls_index is None else insert_token(y, cls, self.cls_index, dim=2)

    def _split(self, x: Tensor, *, dim: int) -> tuple[Tensor, Tensor | None]:
        return (x, None) if self.cls_index is None else split_token(x, self.cls_index, dim=dim)


def order_table(directions: tuple[str, ...], padded: Grid, cls_index: int | None) -> np.ndarray:
    """Return the orders of `directions` on a padded grid, with a class token where there is one: (K, P)."""
    table = index_table(directions, padded)
    return table if cls_index is None else with_class_token(table, cls_index)


@graph_input
def order_tensor(directions: tuple[str, ...], padded: Grid, cls_index: int | None, device: torch.device) -> Tensor:
    """Return the order table as an int32 tensor (K, P) on `device`."""
    return torch.tensor(order_table(directions, padded, cls_index), device=device)


@graph_input
def row_tensor(rows: tuple[int, ...], device: torch.device) -> Tensor:
    """Return rows of stacked (K, ...) parameters as an index on `device`."""
    return torch.tensor(rows, device=device)


def row_index(inputs: GraphInputs, rows: tuple[int, ...], device: torch.device) -> slice | Tensor:
    """The rows of stacked (K, ...) parameters as `take` wants them: a slice, which copies nothing, where they are contiguous."""
    if rows == tuple(range(rows[0], rows[0] + len(rows))):
        return slice(rows[0], rows[0] + len(rows))
    return row_tensor(inputs, rows, device)


def take(stacked: Tensor, rows: slice | Tensor) -> Tensor:
    """Rows of a parameter (K, ...); index_select has a cheaper backward pass than indexing with a list."""
    return stacked[rows] if isinstance(rows, slice) else stacked.index_select(0, rows)


def with_class_token(table: np.ndarray, index: int) -> np.ndarray:
    """Put a class token that is stored at row `index` at time `index` of every order: (K, P) -> (K, P + 1)."""
    shifted = table + (table >= index)
    return np.insert(shifted, index, index, axis=1).astype(np.int32)


@constant_while_tracing
@lru_cache(maxsize=1024)
def by_padded_grid(directions: tuple[str, ...], grid: Grid, padding: str) -> tuple[tuple[tuple[int, ...], Grid], ...]:
    """Return the branches that share a padded grid, and that grid."""
    members: dict[Grid, list[int]] = {}
    for k, name in enumerate(directions):
        padded = parse_direction(name).padded_grid(grid) if padding == "zeros" else grid
        members.setdefault(padded, []).append(k)
    return tuple((tuple(branches), padded) for padded, branches in members.items())


def by_window(directions: tuple[str, ...], grid: Grid, padding: str) -> tuple[tuple[tuple[int, ...], Grid], ...]:
    """Return the branches whose windows fill up an open grid alike, and the grid that they make."""
    members: dict[tuple[int, int] | None, list[int]] = {}
    for k, name in enumerate(directions):
        members.setdefault(parse_direction(name).window if padding == "zeros" else None, []).append(k)
    found = members.items()
    return tuple((tuple(branches), grid if window is None else whole_windows(grid, window)) for window, branches in found)


def scan_groups(directions: tuple[str, ...], grid: Grid, padding: str, cls_index: int | None) -> tuple[ScanGroup, ...]:
    """Group `directions` by the grid that they scan; `padding` is "none" or "zeros".

    On an open grid those with windows of one size are a group.
    """
    found = by_window(directions, grid, padding) if is_open(grid) else by_padded_grid(directions, grid, padding)
    return tuple(
        [ScanGroup(branches, tuple([directions[k] for k in branches]), grid, padded, cls_index) for branches, padded in found]
    )


def collect(outputs: Sequence[Tensor], groups: Sequence[ScanGroup]) -> Tensor:
    """Put the groups' outputs (B, Kg, L, D) back into one tensor (B, K, L, D) in the order of the branches."""
    if len(groups) == 1:
        return outputs[0]
    branches = [branch for group in groups for branch in group.branches]
    return torch.cat(list(outputs), dim=1)[:, [branches.index(branch) for branch in sorted(branches)]]
