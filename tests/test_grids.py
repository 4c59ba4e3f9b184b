"""Grids of any number of axes."""

from __future__ import annotations

import pytest
import torch

from lmsearch.models.scan_groups import ScanGroup
from lmsearch.scan.grids import grid_text, halved, middle, num_tokens


@pytest.mark.parametrize(
    ("grid", "tokens", "text", "half"),
    [((7,), 7, "7", (4,)), ((4, 6), 24, "4x6", (2, 3)), ((2, 3, 5), 30, "2x3x5", (1, 2, 3))],
)
def test_what_holds_for_grids_of_any_dimension(grid: tuple[int, ...], tokens: int, text: str, half: tuple[int, ...]) -> None:
    assert (num_tokens(grid), middle(grid), grid_text(grid), halved(grid)) == (tokens, tokens // 2, text, half)


@pytest.mark.parametrize(("grid", "padded"), [((3,), (4,)), ((2, 3), (4, 4)), ((2, 3, 2), (2, 4, 5))])
@pytest.mark.parametrize("cls", [False, True])
def test_padding_appends_zeros_on_every_axis_and_cropping_takes_them_away(
    grid: tuple[int, ...], padded: tuple[int, ...], cls: bool
) -> None:
    tokens, index = num_tokens(grid) + cls, middle(grid) if cls else None
    group = ScanGroup((0,), ("h",), grid, padded, index)
    x = torch.arange(1.0, 2 * tokens + 1).view(1, tokens, 2)
    wide = group.pad(x)
    assert wide.shape == (1, num_tokens(padded) + cls, 2) and int((wide[..., 0] != 0).sum()) == tokens
    assert torch.equal(group.crop(wide[:, None])[:, 0], x)
    if not cls:
        image = wide.view(1, *padded, 2)
        assert torch.equal(image[(slice(None), *map(slice, grid))].flatten(1, -2), x)
