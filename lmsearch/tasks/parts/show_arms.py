"""The arms of the literature beside a model, for `lmsearch show what=arms`: which fit, and how many directions they keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from lmsearch.errors import ConfigError
from lmsearch.figures.orders import orders_figure
from lmsearch.literature import ARMS, LiteratureArm, coincidences, kept_numbers
from lmsearch.models import create_model
from lmsearch.models.factory import model_family
from lmsearch.scan.directions import index_table, label
from lmsearch.settings.looking import Show
from lmsearch.tasks.parts.drawn import GRID, Drawn, Grid, pair

WITHOUT_MODEL = "local_vim_nano"


@dataclass(frozen=True)
class Placed:
    """Layers of a network: its family, and the token grid of each."""

    model: str
    family: str
    grids: Sequence[Grid]
    padding: str


def show_arms(settings: Show) -> Drawn:
    """All arms, and which fit the model that model= names, on grid= tokens at its first layer."""
    at = placed(settings)
    first = at.grids[0]
    names = dict.fromkeys(d for arm in ARMS.values() for layer in arm.layers(at.family, len(at.grids)) or () for d in layer)
    orders = dict(zip(map(label, names), index_table(tuple(names), first), strict=True))
    return Drawn(lambda: orders_figure(orders, first), lambda: tell(at))


def placed(settings: Show) -> Placed:
    """Return the layers of the model, which is WITHOUT_MODEL where none is named."""
    options = {"name": WITHOUT_MODEL, "patch_size": 1} if settings.model is None else settings.model.options()
    name, grid = str(options.pop("name")), pair("grid", settings.grid, least=1)
    with torch.device("meta"):  # no memory, no time
        model = create_model(name, **options | {"directions": ["h"]})
        patch = model.patch_embed.patch_size
        size = tuple(side * patch for side in (grid or (GRID if settings.model is None else model.grid)))
        if grid is not None and tuple(model.patch_embed.grid(size)) != grid:
            raise ConfigError(f"grid={settings.grid} are no tokens of {name}")
    grids = [(height, width) for height, width in model.layer_grids((size[0], size[1]))]
    return Placed(name, model_family(name), grids, model.mixers()[0].options.window_padding)


def tell(at: Placed) -> None:
    """Print the table."""
    grids = " and ".join(dict.fromkeys(f"{h}x{w}" for h, w in at.grids))
    table = Table(title=f"arms for {at.model}: {len(at.grids)} layers on {grids} tokens")
    for column in ("arm", "scans", "kept", "fits", "source"):
        table.add_column(column, overflow="fold")
    for arm in ARMS.values():
        layers = arm.layers(at.family, len(at.grids))
        kept = "" if layers is None else kept_numbers(layers)
        table.add_row(arm.name, arm.scans, kept, fits(arm, at), f"{arm.source} ({arm.year})")
    Console().print(table)
    print("\n".join(f"{arm.name}: {arm.note}" for arm in ARMS.values() if arm.note))


def fits(arm: LiteratureArm, at: Placed) -> str:
    """Return whether an arm fits, and what it loses on small grids."""
    layers = arm.layers(at.family, len(at.grids))
    if layers is None:
        return f"no: {arm.depths} layers"
    same = coincidences(layers, at.grids, padding=at.padding)
    return f"yes, but {same}" if same else "yes"
