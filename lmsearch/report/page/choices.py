"""The parts of a page that show a choice of directions: map, worth, moves, scan paths."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lmsearch.errors import DirectionError
from lmsearch.genotype import Genotype, LayerChoice
from lmsearch.report.page.blocks import Cell, Dots, Heat, Panel, Panels, Table, Text
from lmsearch.report.page.draw import chart, image_symbol, path_panel, path_symbol
from lmsearch.report.page.folder import Run
from lmsearch.scan.directions import index_table, label, parse_direction
from lmsearch.scan.grids import Grid, grid_text

COLOURS = 8  # classes k0, k1, ... of lines
IMAGE = "photo"  # id of the example image
MOST_TOKENS = 128 * 128  # of a grid whose paths are drawn


def layer_name(layer: LayerChoice, number: int) -> str:
    """Return the name of a layer, or its number."""
    return layer.name or str(number)


def candidates_of(layers: Sequence[LayerChoice]) -> list[str]:
    """Return every direction that a layer has or could have, in the order of the first that names it."""
    return list(dict.fromkeys(name for layer in layers for name in (*layer.scores, *layer.directions)))


def direction_map(genotype: Genotype, *, scores: str, votes: Mapping[str, Mapping[str, int]], seeds: int) -> Table:
    """Return layers by candidates: the score as colour and number, and what was kept. `votes` of seeds stand beside it."""
    columns = candidates_of(genotype.layers)
    values = [value for layer in genotype.layers for value in layer.scores.values()]
    least, most = min(values, default=0.0), max(values, default=1.0)
    least = min(least, 0.0) if least < 0.5 * most else least  # scores that hardly differ would all look alike
    rows: list[tuple[Cell, ...]] = []
    for number, layer in enumerate(genotype.layers):
        mine = votes.get(layer.name, {})
        cells = [_map_cell(layer, name, least, most, mine.get(name), seeds) for name in columns]
        rows.append((layer_name(layer, number), *cells))
    what = f"Colour and number: {scores}. " if values else ""
    caption = f"{what}A frame marks what was kept" + (f", n/{seeds} how many seeds kept it." if seeds else ".")
    return Table(caption, ("layer", *map(label, columns)), tuple(rows))


def _map_cell(layer: LayerChoice, name: str, least: float, most: float, votes: int | None, seeds: int) -> Heat:
    """Return one cell of the map."""
    score = layer.scores.get(name)
    words = ([] if score is None else [f"{score:.2f}"]) + ([] if votes is None else [f"{votes}/{seeds}"])
    share = None if score is None else (score - least) / ((most - least) or 1.0)
    return Heat(" ".join(words), share, name in layer.directions)


def worth_table(genotype: Genotype, *, scores: str, margin: str) -> Table | None:
    """Return every layer's scores on one axis, its margin and, of seeds, how far they agree; `scores` and `margin` name these."""
    if not any(layer.scores for layer in genotype.layers):
        return None
    values = [value for layer in genotype.layers for value in layer.scores.values()]
    least, most = min(0.0, *values), max(values)
    stability = genotype.health.get("stability", {})
    rows: list[tuple[Cell, ...]] = []
    for number, layer in enumerate(genotype.layers):
        kept = [value for name, value in layer.scores.items() if name in layer.directions]
        dropped = [value for name, value in layer.scores.items() if name not in layer.directions]
        dots = Dots(tuple((value, name in layer.directions) for name, value in layer.scores.items()), least, most)
        row: list[Cell] = [layer_name(layer, number), dots, min(kept, default=None), max(dropped, default=None), layer.margin]
        if stability:
            mine = stability.get(layer.name)
            row.append("–" if mine is None else f"{mine['jaccard']:.2f} ({mine['chance']:.2f})")
        rows.append(tuple(row))
    columns = ["layer", f"{scores} (filled: kept)", "least kept", "best dropped", margin]
    columns += ["overlap of seeds (chance)"] if stability else []
    return Table("What every candidate was worth, and how clear the choice was.", tuple(columns), tuple(rows))


def moves(layers: Mapping[str, Mapping[str, Sequence[float]]], kept: Mapping[str, Sequence[str]], *, what: str) -> Panels | None:
    """Return a chart per layer of how each direction's value moved, from {layer: {direction: a value per epoch}}."""
    longest = max((len(values) for mine in layers.values() for values in mine.values()), default=0)
    if longest < 2:
        return None
    every = [v for mine in layers.values() for values in mine.values() for v in values if v == v]
    low, high = min(0.0, *every), max(every)
    panels = []
    for layer, mine in layers.items():
        names = [name for name in mine if name in kept.get(layer, ())]
        classes = {name: f"k{number % COLOURS}" for number, name in enumerate(names)}
        alt = f"{layer}: {what} from the first epoch to the last; kept in the end: {', '.join(names) or 'nothing yet'}"
        key = tuple((style, name) for name, style in classes.items())
        panels.append(Panel(chart(mine, classes, alt=alt, low=low, high=high), alt, layer, key))
    name, _, more = what.partition(", ")
    told = f"{name[0].upper()}{name[1:]}{f' ({more})' if more else ''}"
    caption = (
        f"{told} of each direction over {longest} measurements, from {low:.2g} to {high:.3g}."
        " Coloured: kept in the end; grey: dropped."
    )
    return Panels(caption, (("", tuple(panels)),), wide=True)


@dataclass
class Paths:
    """Collects the symbols of the scan paths that a page draws, each once."""

    image: bytes | None = None
    symbols: dict[tuple[str, Grid], str] = field(default_factory=dict)

    def name(self, direction: str, grid: Grid) -> str:
        """Return the id of the symbol of a path."""
        self.symbols.setdefault((direction, grid), f"path{len(self.symbols)}")
        return self.symbols[direction, grid]

    @property
    def defs(self) -> str:
        """The symbols as SVG."""
        drawn = [path_symbol(name, index_table((d,), grid)[0].tolist(), _two(grid)) for (d, grid), name in self.symbols.items()]
        photo = [image_symbol(IMAGE, "data:image/png;base64," + base64.b64encode(self.image).decode())] if self.image else []
        return "".join([*photo, *drawn])

    def panel(self, direction: str, grid: Grid) -> Panel | None:
        """Return the drawing of a direction; None where the order has no table on the grid, or is too large to be seen."""
        if len(grid) != 2 or grid[0] * grid[1] > MOST_TOKENS:
            return None
        try:
            parse_direction(direction).check_grid(grid)
        except DirectionError:  # an order of the user's own, told by its label only
            return None
        alt = f"scan path of {label(direction)} over {grid_text(grid)} tokens"
        drawn = path_panel(self.name(direction, grid), _two(grid), image=IMAGE if self.image else None, alt=alt)
        return Panel(drawn, alt, label(direction))


def _two(grid: Grid) -> tuple[int, int]:
    """Return a grid of two sides."""
    return grid[0], grid[1]


def scan_paths(directions: Sequence[Sequence[str]], grids: Mapping[str, Grid], paths: Paths) -> Panels | Text:
    """Return every layer's kept directions as drawings; layers that keep the same on the same grid are told together."""
    together: dict[tuple[tuple[str, ...], Grid], list[str]] = {}
    for (layer, grid), mine in zip(grids.items(), directions, strict=True):
        together.setdefault((tuple(mine), grid), []).append(layer)
    groups = []
    for (mine, grid), layers in together.items():
        panels = tuple(panel for name in mine if (panel := paths.panel(name, grid)) is not None)
        if panels:
            groups.append((f"{', '.join(layers)} ({grid_text(grid)} tokens)", panels))
    if not groups:
        return Text("The orders are not drawn: their tables are not in this folder, or the grid is too large.")
    over = "over an example image of the data" if paths.image else "over the token grid; no example image was kept"
    caption = f"The way of each kept direction {over}. From dark to light; a dot starts it, a ring ends it."
    return Panels(caption, tuple(groups))


def kept_of(run: Run) -> dict[str, list[str]]:
    """Return what each layer of a run's genotype keeps, as people read it."""
    layers = run.genotype.layers if run.genotype else ()
    return {layer_name(layer, number): [label(d) for d in layer.directions] for number, layer in enumerate(layers)}
