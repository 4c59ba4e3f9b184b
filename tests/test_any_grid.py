"""What graphs compute for grids that they do not know equals what is looked up or computed otherwise for grids that are known."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lmsearch.models import layers
from lmsearch.models.any_grid import computed_order, cropped_to, cubic_weights, padded_to, pooling_weights
from lmsearch.models.class_token import insert_token, rows_with, split_token, take_token
from lmsearch.models.scan_groups import ScanGroup, order_table
from lmsearch.scan.directions import PATTERNS, index_table, parse_direction

CPU = torch.device("cpu")
GRIDS = ((1, 1), (4, 7), (6, 5), (3, 3))
NAMES = ["h", "v", "w2", "w3x9", "cw2", "snake", "snake_v", "antisnake", "antisnake_v", "diag", "antidiag", "zigzag", "morton",
         "spiral", "atrous3"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_an_order_that_a_graph_computes_is_that_of_the_table(name: str) -> None:
    assert parse_direction(name).arithmetic
    for grid in GRIDS:
        found = computed_order((name, f"{name}_flip"), grid, CPU)
        assert torch.equal(found, torch.tensor(index_table((name, f"{name}_flip"), grid)).long())


def test_every_order_with_a_formula_is_compared() -> None:
    assert {parse_direction(name).keys.func for name in NAMES} == {p.keys for p in PATTERNS if p.arithmetic}  # type: ignore[attr-defined]


@pytest.mark.parametrize("grid", GRIDS)
def test_a_class_token_comes_at_its_time_of_a_computed_order(grid: tuple[int, int]) -> None:
    names, index = ("w2_flip", "spiral"), grid[0] * grid[1] // 2
    assert torch.equal(computed_order(names, grid, CPU, index), torch.tensor(order_table(names, grid, index)).long())


def test_rows_put_a_token_in_where_slices_do() -> None:
    x, token = torch.randn(2, 5, 3), torch.randn(1, 1, 3)
    for index in range(6):
        put = insert_token(x, token, index)
        assert torch.equal(torch.cat([x, token.expand(2, -1, -1)], dim=1).index_select(1, rows_with(5, index, CPU)), put)
        rest, taken = split_token(put, index, dim=1)
        assert torch.equal(rest, x) and torch.equal(taken, token.expand(2, -1, -1))
        assert torch.equal(take_token(put, index, dim=1), taken)


@pytest.mark.parametrize(("grid", "padded"), [((4, 5), (6, 6)), ((3, 6), (3, 6)), ((1, 2), (7, 7))])
def test_computed_rows_pad_and_crop_as_a_known_grid_does(grid: tuple[int, int], padded: tuple[int, int]) -> None:
    group, x = ScanGroup((0,), ("h",), grid, padded, None), torch.randn(2, grid[0] * grid[1], 3)
    assert torch.equal(padded_to(x, grid, padded), group.pad(x))
    y = torch.randn(2, 4, padded[0] * padded[1], 3)
    assert torch.equal(cropped_to(y, grid, padded), group.crop(y))


@pytest.mark.parametrize(("old", "new"), [((4, 4), (4, 4)), ((4, 4), (7, 9)), ((7, 5), (3, 2)), ((14, 14), (1, 28))])
def test_matrices_resize_as_antialiased_bicubic_interpolation(old: tuple[int, int], new: tuple[int, int]) -> None:
    image = torch.randn(1, 3, *old)
    rows, columns = (cubic_weights(before, side, like=image) for before, side in zip(old, new, strict=True))
    wanted = F.interpolate(image, size=new, mode="bicubic", align_corners=False, antialias=True)
    torch.testing.assert_close(rows @ image @ columns.mT, wanted, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("old", [1, 2, 5, 7, 12])
def test_matrices_pool_as_adaptive_pooling_does(old: int) -> None:
    image = torch.randn(2, 3, old, old + 3)
    for new in (1, 2, 3, 6):
        rows, columns = (pooling_weights(side, new, like=image) for side in image.shape[-2:])
        torch.testing.assert_close(rows @ image @ columns.mT, F.adaptive_avg_pool2d(image, new))


@pytest.mark.parametrize("grid", [(2, 3), (14, 14), (5, 40)])
def test_rotary_tables_that_a_graph_computes_are_those_of_the_grid(grid: tuple[int, int]) -> None:
    found = layers._open_rope_tables(16, grid, 14, CPU, torch.float32)
    wanted = layers.rope_tables(16, grid, like=torch.empty(1))
    for computed, known in zip(found, wanted, strict=True):
        torch.testing.assert_close(computed, known, rtol=0, atol=3e-6)
