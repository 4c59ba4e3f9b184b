"""Scan directions, search spaces and genotypes, for `lmsearch show`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from lmsearch.data.reading import read_image
from lmsearch.errors import DirectionError, GenotypeError
from lmsearch.figures.choices import choices_figure
from lmsearch.figures.orders import layers_figure, orders_figure
from lmsearch.genotype import Genotype, check_depth, load_genotype
from lmsearch.models import create_model, model_names
from lmsearch.reading import is_folder, user_path
from lmsearch.report.directions import genotype_figure, print_choices
from lmsearch.report.text import order_lines
from lmsearch.scan.directions import index_table, label
from lmsearch.scan.grids import grid_text
from lmsearch.search_space import load_search_space
from lmsearch.settings.looking import Show
from lmsearch.tasks.parts.conclude import scores_of
from lmsearch.tasks.parts.drawn import GRID, Drawn, Grid, given, lines, pair
from lmsearch.tasks.parts.facts import read_facts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OF_GRIDS = ("depth", "depths", "patch_size", "stem", "embed_dim", "dims")  # options of a model that its token grids hang on


def show_direction(settings: Show) -> Drawn:
    """The path of every named direction."""
    space = load_search_space(settings.search_space)
    names = [space.direction(name) for name in settings.directions] or space.candidates
    return of_orders(settings, names)


def show_space(settings: Show) -> Drawn:
    """The path of every candidate of a search space."""
    space = load_search_space(settings.search_space)
    keep = space.keep if isinstance(space.keep, int) else list(space.keep)
    return of_orders(
        settings, space.candidates, head=f"search space {space.name}: {len(space.candidates)} candidates, keep {keep}"
    )


def of_orders(settings: Show, names: Sequence[str], *, head: str = "") -> Drawn:
    """Return the paths of directions on one grid; what visits it as an earlier one does is told as text."""
    grid = pair("grid", settings.grid, least=1) or GRID
    orders = dict(zip(map(label, names), index_table(tuple(names), grid), strict=True))
    told = [head] if head else []
    for name, order in orders.items():
        told += [f"{name} on {grid_text(grid)} tokens, by the time of the visit:", *order_lines(order, grid), ""]
    return Drawn(lambda: orders_figure(orders, grid, image=picture(settings)), lines(told[:-1]))


def picture(settings: Show) -> np.ndarray | None:
    """Return image= as values (h, w, 3) of [0, 1]; None where there is none."""
    return None if settings.image is None else np.asarray(read_image(user_path(settings.image), 3), dtype=float) / 255


def show_genotype(settings: Show) -> Drawn:
    """The kept directions of every layer, with scores where the genotype has some."""
    source = given(settings, "genotype", "run_dir")
    genotype = load_genotype(source)
    scored = any(layer.scores for layer in genotype.layers)
    means = "evaluate" in genotype.derivation  # of a search that tries architectures
    label_of = "mean score" if means else scores_of(genotype)
    tell = partial(print_choices, genotype, scores=label_of)
    if not scored:
        return Drawn(plain(genotype, source), tell)
    return Drawn(lambda: genotype_figure(genotype, scores=label_of, vmin=None if means else 0.0), tell)


def plain(genotype: Genotype, source: str) -> Callable[[], Figure]:
    """Return what draws a genotype without scores, such as a published one: kept or not."""
    usual = [*load_search_space("localmamba8").candidates, *load_search_space("extended16").candidates]
    own = dict.fromkeys(d for layer in genotype.layers for d in layer.directions)
    names = sorted(own, key=lambda name: usual.index(name) if name in usual else len(usual))
    kept = [[float(name in layer.directions) for name in names] for layer in genotype.layers]
    marks = [["kept" if cell else "" for cell in row] for row in kept]
    layers = [layer.name or str(number) for number, layer in enumerate(genotype.layers)]
    return lambda: choices_figure(
        kept, marks, layers=layers, candidates=list(map(label, names)), label="", vmin=0.0, title=source
    )


def show_paths(settings: Show) -> Drawn:
    """The paths of the kept directions of every layer, each on its own grid."""
    source = given(settings, "genotype", "run_dir")
    genotype = load_genotype(source)
    grids = grids_of(genotype, source, pair("grid", settings.grid, least=1))
    layers: dict[str, Mapping[str, Sequence[int]]] = {}
    for number, (layer, grid) in enumerate(zip(genotype.layers, grids, strict=True)):
        try:
            table = index_table(layer.directions, grid)
        except DirectionError as error:
            raise GenotypeError(f"{source}: layer {number}: {error}") from None
        layers[layer.name or str(number)] = dict(zip(map(label, layer.directions), table, strict=True))
    own = dict(zip(layers, grids, strict=True))
    told = [
        line
        for layer, orders in layers.items()
        for name, order in orders.items()
        for line in (
            f"{layer}: {name} on {grid_text(own[layer])} tokens, by the time of the visit:",
            *order_lines(order, own[layer]),
            "",
        )
    ]
    return Drawn(lambda: layers_figure(layers, own, image=picture(settings), title=source), lines(told[:-1]))


def grids_of(genotype: Genotype, source: str, asked: Grid | None) -> list[Grid]:
    """Return the token grid of every layer: as asked for, else of the run's or the genotype's model, else GRID."""
    path = user_path(source)
    facts = read_facts(Path(path)) if is_folder(path) else None
    name = facts.model.get("name") if facts else genotype.model
    if asked is not None or name not in model_names():
        return [asked or GRID] * len(genotype.layers)
    info = facts.info if facts else {}
    options = {key: value for key, value in (facts.model if facts else {}).items() if key in OF_GRIDS}
    options |= {key: info[key] for key in ("img_size", "in_chans") if key in info}
    with torch.device("meta"):  # no memory, no time
        model = create_model(name, directions=[["h"]] * len(genotype.layers), **options)
    size = tuple(info["img_size"]) if "img_size" in info else tuple(side * model.patch_embed.patch_size for side in model.grid)
    grids = model.layer_grids(size)
    check_depth(genotype, len(grids), name, where=source)
    return [(grid[0], grid[1]) for grid in grids]
