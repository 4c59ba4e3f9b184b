"""The scan patterns: each function maps the coordinates of a grid to sort keys, and sorting by them gives the order.

Shapes: i, j are the row and column of every token, each (H, W); keys are (H, W) arrays, most significant first.
A pattern that is a path rather than a sort gives one key: the time at which the path visits each token.
Those that are arithmetic on i and j alone take PyTorch's integer tensors as well: lmsearch/scan/directions.py names them.
Adjacent steps: `snake`, `snake_v`, `antisnake`, `antisnake_v`, `hilbert` and `spiral` move to a neighbouring token (one step in
one axis) at every step, on every grid. The others jump.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Keys = tuple[np.ndarray, ...]
Vector = tuple[int, int]  # (rows, columns)
LONGEST_SIDE = 2**30  # no grid has as many rows or columns


def raster(i: np.ndarray, j: np.ndarray) -> Keys:
    """Row by row."""
    return i, j


def column(i: np.ndarray, j: np.ndarray) -> Keys:
    """Column by column."""
    return j, i


def windows(i: np.ndarray, j: np.ndarray, a: int, b: int) -> Keys:
    """Windows of a rows by b columns in raster order, raster inside each; windows at the edge are partial."""
    a, b = min(a, LONGEST_SIDE), min(b, LONGEST_SIDE)  # one window holds the whole grid: its size no longer matters
    return i // a, j // b, i % a, j % b


def column_windows(i: np.ndarray, j: np.ndarray, a: int, b: int) -> Keys:
    """Windows of a rows by b columns, column by column, and columns first inside each."""
    down, across, within_row, within_column = windows(i, j, a, b)
    return across, down, within_column, within_row


def snake(i: np.ndarray, j: np.ndarray) -> Keys:
    """Row by row, even rows left to right and odd rows right to left."""
    return i, j * (1 - 2 * (i % 2))


def column_snake(i: np.ndarray, j: np.ndarray) -> Keys:
    """Column by column, even columns downwards and odd columns upwards."""
    return snake(j, i)


def antisnake(i: np.ndarray, j: np.ndarray) -> Keys:
    """`snake` from the top right corner: even rows right to left and odd rows left to right."""
    return i, j * (2 * (i % 2) - 1)


def column_antisnake(i: np.ndarray, j: np.ndarray) -> Keys:
    """`snake_v` from the bottom left corner: even columns upwards and odd columns downwards."""
    return antisnake(j, i)


def diagonals(i: np.ndarray, j: np.ndarray) -> Keys:
    """The lines i + j = constant from the top left corner, each downwards."""
    return i + j, i


def antidiagonals(i: np.ndarray, j: np.ndarray) -> Keys:
    """The lines i - j = constant from the top right corner, each downwards."""
    return i - j, i


def zigzag(i: np.ndarray, j: np.ndarray) -> Keys:
    """JPEG's zigzag: the lines i + j = constant, odd ones downwards and even ones upwards."""
    return i + j, i * (2 * ((i + j) % 2) - 1)


def morton(i: np.ndarray, j: np.ndarray) -> Keys:
    """Morton's Z: by the interleaved bits of row and column, the row's first; on other grids its tokens in that order."""
    return (2 * _spread(i) + _spread(j),)


def _spread(number: np.ndarray) -> np.ndarray:
    """Return whole numbers below 2^31 with a zero bit before each of their bits."""
    for shift, mask in (
        (16, 0x0000FFFF0000FFFF),
        (8, 0x00FF00FF00FF00FF),
        (4, 0x0F0F0F0F0F0F0F0F),
        (2, 0x3333333333333333),
        (1, 0x5555555555555555),
    ):
        number = (number | number * 2**shift) & mask
    return number


def spiral(i: np.ndarray, j: np.ndarray) -> Keys:
    """Inward and clockwise from the top left corner."""
    height, width = i.shape
    ring = _lesser(_lesser(i, height - 1 - i), _lesser(j, width - 1 - j))
    top = i == ring
    right = (j == width - 1 - ring) & ~top
    bottom = (i == height - 1 - ring) & ~top & ~right
    left = ~(top | right | bottom)
    return ring, right + 2 * bottom + 3 * left, j * top + i * right - j * bottom - i * left


def _lesser(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the lesser of whole numbers."""
    lesser: np.ndarray = (a + b - abs(a - b)) // 2
    return lesser


def atrous(i: np.ndarray, j: np.ndarray, p: int) -> Keys:
    """Every p-th token of every p-th row, then the same one token further, and so on (p * p dilated grids)."""
    p = min(p, LONGEST_SIDE)
    return i % p, j % p, i // p, j // p


def shuffled(i: np.ndarray, j: np.ndarray, seed: int) -> Keys:
    """A random order, the same for the same seed and grid: the control that no structure should beat."""
    return (np.random.RandomState(seed).permutation(i.size).reshape(i.shape),)  # a stream that NumPy keeps as it is


def hilbert(i: np.ndarray, j: np.ndarray) -> Keys:
    """Hilbert's curve, generalised to any rectangle; on squares of 2^n tokens it is Hilbert's own.

    Every step is to a neighbour on every grid: all cuts leave pieces whose ends differ by the right parity. Where the
    longer side is odd and the shorter one even, no such path ends at the far corner of the longer side, and the curve
    ends along the shorter one instead.
    """
    height, width = i.shape
    sides = ((0, width), (height, 0)) if width >= height else ((height, 0), (0, width))
    rank = np.empty((height, width), dtype=np.int64)
    for time, cell in enumerate(_curve((0, 0), *sides)):
        rank[cell] = time
    return (rank,)


def _curve(start: Vector, along: Vector, across: Vector) -> Iterator[Vector]:
    """Visit the rectangle that the vectors `along` and `across` span from the cell `start`, ending at the far end of
    `along` beside `start`'s edge.

    Such a path exists unless `along` is odd and `across` even. An even cut of `across` (or of `along` where it is much
    the longer) gives pieces for which it exists too.
    """
    length, breadth = abs(sum(along)), abs(sum(across))
    if breadth == 1 or length == 1:
        yield from _line(start, along if breadth == 1 else across)
    elif length % 2 and breadth % 2 == 0:
        head = max(0, (length - breadth) // 2 * 2)
        if head:
            yield from _curve(start, _part(along, 0, head), across)
        yield from _curve(_moved(start, _part(along, 0, head)), across, _part(along, head, length))
    elif 2 * length > 3 * breadth:
        cut = _even(length // 2)
        yield from _curve(start, _part(along, 0, cut), across)
        yield from _curve(_moved(start, _part(along, 0, cut)), _part(along, cut, length), across)
    else:
        half, cut = length // 2, _even(breadth // 2) if breadth > 2 else 1
        up, far = _part(across, 0, cut), _part(along, 0, length - 1)
        yield from _curve(start, up, _part(along, 0, half))
        yield from _curve(_moved(start, up), along, _part(across, cut, breadth))
        top = _moved(_moved(start, far), _part(across, 0, cut - 1))
        yield from _curve(top, _reversed(up), _reversed(_part(along, half, length)))


def _line(start: Vector, along: Vector) -> Iterator[Vector]:
    """Visit the cells of a straight line."""
    for step in range(abs(sum(along))):
        yield _moved(start, _part(along, 0, step))


def _part(vector: Vector, first: int, last: int) -> Vector:
    """Return the piece of an axis-parallel vector from step `first` to step `last`."""
    down, across = (((side > 0) - (side < 0)) * (last - first) for side in vector)
    return down, across


def _moved(cell: Vector, by: Vector) -> Vector:
    return cell[0] + by[0], cell[1] + by[1]


def _reversed(vector: Vector) -> Vector:
    return -vector[0], -vector[1]


def _even(number: int) -> int:
    """Return the number itself, or the next larger one where it is odd."""
    return number + number % 2
