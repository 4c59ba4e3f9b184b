"""Small drawings as SVG text. Colours are classes of the page's style sheet, so that light, dark and print follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from lmsearch.report.page.blocks import Dots, Span

PIECES = 6  # a path changes its colour so often, from its first token to its last
MOST_POINTS = 60  # of a line
WIDTH, HEIGHT = 180, 90  # of a chart, in its own units


def path_of(points: np.ndarray) -> str:
    """Return the SVG path through whole-numbered points (n, 2) of x and y. H and V are runs of single steps, L a jump."""
    step = np.sign(np.diff(points, axis=0)) * (np.abs(np.diff(points, axis=0)).sum(1) == 1)[:, None]
    turns = np.ones(len(points), dtype=bool)
    turns[1:-1] = (step[1:] != step[:-1]).any(1) | (step[1:] == 0).all(1)
    places = np.flatnonzero(turns)
    text = [f"M{points[0][0]} {points[0][1]}"]
    for before, place in zip(places[:-1], places[1:], strict=True):
        (x0, y0), (x, y) = points[before], points[place]
        stepwise = abs(x - x0) + abs(y - y0) == place - before  # else a jump
        text.append(f"L{x} {y}" if not stepwise else f"H{x}" if y == y0 else f"V{y}")
    return "".join(text)


def scan_path(order: Sequence[int], grid: tuple[int, int]) -> str:
    """Return the inside of an SVG whose units are tokens: the path of an order, a dot on its first and a ring on its last."""
    y, x = np.divmod(np.asarray(order), grid[1])
    points = np.stack([x, y], axis=1)  # (L, 2)
    edges = np.linspace(0, len(points) - 1, min(PIECES, max(1, len(points) - 1)) + 1).round().astype(int)
    pieces = [
        f'<path class="p{n}" d="{path_of(points[a : b + 1])}"/>'
        for n, (a, b) in enumerate(zip(edges[:-1], edges[1:], strict=True))
        if b > a
    ]
    radius = 0.016 * max(grid) + 0.1
    ends = f'<circle class="first" cx="{x[0]}" cy="{y[0]}" r="{radius:.2f}"/>'
    ends += f'<circle class="last" cx="{x[-1]}" cy="{y[-1]}" r="{radius:.2f}"/>'
    return "".join(pieces) + ends


def view_of(grid: tuple[int, int]) -> str:
    """Return the viewBox of a drawing whose units are tokens."""
    return f"-.7 -.7 {grid[1] + 0.4:g} {grid[0] + 0.4:g}"


def path_symbol(name: str, order: Sequence[int], grid: tuple[int, int]) -> str:
    """Return a symbol that `path_panel` uses by name."""
    width = 0.012 * max(grid) + 0.06
    drawn = f'<g class="scan" stroke-width="{width:.2f}">{scan_path(order, grid)}</g>'
    return f'<symbol id="{name}" viewBox="{view_of(grid)}">{drawn}</symbol>'


def image_symbol(name: str, data: str) -> str:
    """Return a symbol with an image, given as a data URI."""
    return (
        f'<symbol id="{name}" viewBox="0 0 1 1" preserveAspectRatio="none">'
        f'<image href="{data}" width="1" height="1" preserveAspectRatio="none"/></symbol>'
    )


def path_panel(name: str, grid: tuple[int, int], *, image: str | None, alt: str) -> str:
    """Return the drawing of a path, over an image where there is one."""
    under = f'<use href="#{image}" x="-.5" y="-.5" width="{grid[1]}" height="{grid[0]}" class="photo"/>' if image else ""
    box = f'x="-.7" y="-.7" width="{grid[1] + 0.4:g}" height="{grid[0] + 0.4:g}"'
    frame = f'<rect class="frame" x="-.5" y="-.5" width="{grid[1]}" height="{grid[0]}"/>'
    return (
        f'<svg class="path" role="img" aria-label="{escape(alt)}" viewBox="{view_of(grid)}">'
        f'{frame}{under}<use href="#{name}" {box}/></svg>'
    )


def thinned(values: Sequence[float], most: int = MOST_POINTS) -> list[tuple[int, float]]:
    """Return (place, value) of at most `most` of the values, evenly spaced, first and last among them; NaN is left out."""
    places = range(len(values)) if len(values) <= most else np.linspace(0, len(values) - 1, most).round().astype(int).tolist()
    return [(place, values[place]) for place in places if values[place] == values[place]]


def chart(lines: Mapping[str, Sequence[float]], classes: Mapping[str, str], *, alt: str, low: float, high: float) -> str:
    """Return a chart of lines over the places of their values, on an axis from low to high.

    `classes` names the style of each line; those that have none are drawn first, in grey.
    """
    longest = max(map(len, lines.values()), default=1)
    wide, tall = WIDTH / max(longest - 1, 1), HEIGHT / ((high - low) or 1.0)
    drawn = []
    for name in sorted(lines, key=lambda name: name in classes):
        points = [(place * wide, HEIGHT - (value - low) * tall) for place, value in thinned(lines[name])]
        style = classes.get(name, "other")
        if len(points) == 1:
            drawn.append(f'<circle class="{style} dot" cx="{points[0][0]:.0f}" cy="{points[0][1]:.1f}" r="2.5"/>')
        elif points:
            drawn.append(f'<polyline class="{style}" points="{" ".join(f"{x:.0f},{y:.1f}" for x, y in points)}"/>')
    axes = f'<path class="axis" d="M0 0V{HEIGHT}H{WIDTH}"/>'
    return (
        f'<svg class="chart" role="img" aria-label="{escape(alt)}" viewBox="-4 -6 {WIDTH + 8} {HEIGHT + 12}">'
        f"{axes}{''.join(drawn)}</svg>"
    )


def span(cell: Span) -> str:
    """Return the drawing of an interval; the numbers stand beside it, so it is hidden from screen readers."""
    scale = 100 / ((cell.most - cell.least) or 1.0)
    low, mean, high = (min(100.0, max(0.0, (v - cell.least) * scale)) for v in (cell.low, cell.mean, cell.high))
    mark = "" if cell.mark is None else f'<path class="mark" d="M{(cell.mark - cell.least) * scale:.1f} 0V12"/>'
    return (
        f'<svg class="span" aria-hidden="true" viewBox="-4 0 108 12">{mark}<path class="whisker" d="M{low:.1f} 6H{high:.1f}"/>'
        f'<circle class="mean" cx="{mean:.1f}" cy="6" r="3.5"/></svg>'
    )


def dots(cell: Dots) -> str:
    """Return the drawing of values on an axis."""
    scale = 100 / ((cell.most - cell.least) or 1.0)
    places = [(min(100.0, max(0.0, (value - cell.least) * scale)), kept) for value, kept in cell.values]
    drawn = "".join(
        f'<circle class="{"keep" if kept else "drop"}" cx="{place:.1f}" cy="6" r="3"/>'
        for place, kept in sorted(places, key=lambda pair: pair[1])
    )
    return f'<svg class="span" aria-hidden="true" viewBox="-4 0 108 12"><path class="mark" d="M0 6H100"/>{drawn}</svg>'
