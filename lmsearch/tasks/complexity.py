"""lmsearch complexity: what a model costs, per layer and direction, how that grows, and the published models beside the paper."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from torch import nn

from lmsearch.config import settings_of
from lmsearch.errors import ConfigError
from lmsearch.files import make_folder, write_text
from lmsearch.interop.localmamba import released
from lmsearch.literature import genotype_named
from lmsearch.models import create_model, model_depth
from lmsearch.models.complexity import Complexity, Cost, complexity, own_count, released_count
from lmsearch.models.factory import model_family
from lmsearch.scan.directions import label
from lmsearch.scan.grids import grid_text
from lmsearch.settings.model import Model
from lmsearch.settings.tasks import Complexity as ComplexitySettings
from lmsearch.tasks.parts.memory import VALUE_BYTES
from lmsearch.tasks.parts.out_file import out_file

# parameters and "FLOPs" as printed in arXiv 2403.09338, and of VMamba in its repository, for images of 224 pixels
PAPER = {
    "local_vim_tiny": ("8M", "1.5G"),
    "local_vim_small": ("28M", "4.8G"),
    "local_vmamba_tiny": ("26M", "5.7G"),
    "local_vmamba_small": ("50M", "11.4G"),
    "vim_tiny": ("7M", "1.5G"),
    "vim_small": ("26M", "5.1G"),
    "vmamba_tiny": ("22M", "5.6G"),
    "vmamba_small": ("44M", "11.2G"),
}
OWN_RULE = ("vmamba_tiny", "vmamba_small")  # counted by their own code, without norms; first printed as 4.5G and 9.1G
UNPRINTED = (
    "local_vim_tiny_middle_cls_token",
    "local_vim_tiny_search",
    "local_vmamba_tiny_search",
    "local_vmamba_small_search",
)
PARTS = ("conv", "x_proj", "dt_proj", "scan", "attention")
GROWTH = (1.0, 1.5, 2.0)  # image sides, times the model's own
PIPE_WIDTH = 150  # columns where the output is no terminal
PUBLISHED_NOTE = """\
MACs: one multiplication and its addition. FLOPs: multiplications, additions and exponentials. Per image.
The released code counts MACs, but LocalVim's convolution and projections once per layer instead of once per direction
("projections"), and the scan as 5N+2 (LocalVim) or 9N+1 (LocalVMamba) per token, channel and direction where 4N+3 or 4N+2
are multiplications ("scan"). It adds the norms, and for LocalVMamba pads every direction to the longest ("other").
VMamba's own count is that of LocalVMamba without norms; its repository first printed 4.5G and 9.1G, then the figures here."""


def run(cfg: DictConfig) -> int:
    """Print the tables; also write the figures as JSON to the file that out= names."""
    settings = settings_of(ComplexitySettings, cfg)
    if settings.out is not None:
        out_file(settings.out, overwrite=settings.overwrite)
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    if settings.published:
        reports = published(console)
    elif settings.model is None:
        raise ConfigError("lmsearch complexity needs model=..., or published=true for all published models")
    else:
        reports = one_model(settings, settings.model, console)
    if settings.out is not None:
        make_folder(Path(settings.out).absolute().parent, key="out")
        content = {name: [describe(r) for r in sizes] for name, sizes in reports.items()}
        write_text(settings.out, json.dumps(content, indent=1) + "\n")
        print(f"figures: {settings.out}")
    elif not settings.published:
        print("next: lmsearch complexity published=true sets the published models beside the paper's figures")
    return 0


def one_model(settings: ComplexitySettings, chosen: Model, console: Console) -> dict[str, list[Complexity]]:
    """Print a model layer by layer, then at growing image sizes."""
    name, model = build(settings, chosen)
    value_bytes = VALUE_BYTES[settings.precision]
    report = complexity(model, image_size(settings.img_size), bytes_per_value=value_bytes)
    if settings.detail != "none":
        console.print(layer_table(name, report, directions=settings.detail == "directions"))
    given = [settings.sizes] if isinstance(settings.sizes, int) else settings.sizes
    sizes: Sequence[int | Sequence[int]] = given or [tuple(round(side * factor) for side in report.img_size) for factor in GROWTH]
    reports = [complexity(model, image_size(size), bytes_per_value=value_bytes) for size in sizes]
    console.print(growth_table(name, reports))
    return {name: [report, *reports]}


def build(settings: ComplexitySettings, chosen: Model) -> tuple[str, nn.Module]:
    """Return the name and the model, without memory for its weights."""
    options = chosen.options()
    name = options.pop("name")
    given = {key: getattr(settings, key) for key in ("merge", "num_classes", "in_chans")}
    options |= {key: value for key, value in given.items() if value is not None}
    if settings.genotype is not None:
        depth = model_depth(name, **{key: options[key] for key in ("depth", "depths") if key in options})
        genotype = genotype_named(settings.genotype, family=model_family(name), depth=depth, model=name)
        options["directions"] = genotype.directions
    with torch.device("meta"):
        return name, create_model(name, **options)


def image_size(value: int | Sequence[int] | None) -> tuple[int, int] | None:
    """Return (height, width) from a side or a pair; None stays None. Raises ConfigError for anything else."""
    if value is None:
        return None
    sides = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise ConfigError(f"image size {value} is not a number of pixels or a pair of them, such as 224 or [224,320]")
    return sides


def published(console: Console) -> dict[str, list[Complexity]]:
    """Print all published models beside the paper's figures, and what makes the difference."""
    table = Table(title="published models at 224 pixels, GMACs unless said")
    for column in (
        "model",
        "parameters",
        "paper",
        "GFLOPs",
        "GMACs",
        "paper",
        "released rule",
        "projections",
        "scan",
        "other",
        "train MiB",
    ):
        table.add_column(column, justify="left" if column == "model" else "right", overflow="fold")
    reports = {}
    for name in (*PAPER, *UNPRINTED):
        with torch.device("meta"):
            model = create_model(name)
        report = complexity(model)
        ours, theirs = own_count(report), released_count(released(model), report, norms=name not in OWN_RULE)
        parameters, flops = PAPER.get(name, ("-", "-"))
        differences = [getattr(ours, part) - getattr(theirs, part) for part in ("projections", "scan", "other")]
        total = report.total
        table.add_row(
            name,
            f"{report.parameters:,}",
            parameters,
            giga(total.flops),
            giga(total.macs),
            flops,
            f"{theirs.total / 1e9:.3f}",
            *(f"{difference / 1e9:+.3f}" for difference in differences),
            mebi(total.activation_bytes),
        )
        reports[name] = [report]
    console.print(table)
    console.print(PUBLISHED_NOTE, highlight=False)
    return reports


def layer_table(name: str, report: Complexity, *, directions: bool) -> Table:
    """One row per layer and, where asked for, one per direction; MMACs of the parts."""
    table = Table(
        title=f"{name} at {grid_text(report.img_size)}: {report.parameters:,} parameters (MMACs of each part, per image)"
    )
    for column in (
        "layer",
        "tokens",
        "parameters",
        "shared",
        "conv",
        "x_proj",
        "dt_proj",
        "scan",
        "attention",
        "MMACs",
        "MFLOPs",
        "train MiB",
    ):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for layer in report.layers:
        parts = [sum(getattr(d, part).macs for d in layer.directions) for part in PARTS]
        grid = grid_text(layer.grid)
        kept = ", ".join(label(d.direction) for d in layer.directions)
        title = layer.name if directions else f"{layer.name}: {kept}"
        table.add_row(title, grid, f"{layer.parameters:,}", mega(layer.shared.macs), *map(mega, parts), *totals(layer.total))
        for d in layer.directions if directions else ():
            parts = [getattr(d, part).macs for part in PARTS]
            table.add_row(f"  {label(d.direction)}", str(d.tokens), f"{d.parameters:,}", "", *map(mega, parts), *totals(d.total))
    rest = report.parameters - sum(layer.parameters for layer in report.layers)
    table.add_row("embedding, merging, head", "", f"{rest:,}", mega(report.rest.macs), *[""] * len(PARTS), *totals(report.rest))
    table.add_section()
    table.add_row("total", "", f"{report.parameters:,}", "", *[""] * len(PARTS), *totals(report.total))
    return table


def growth_table(name: str, reports: Sequence[Complexity]) -> Table:
    """One row per image size, each cost also as a multiple of the first row's."""
    table = Table(title=f"{name} at growing image sizes (per image)")
    for column in ("image", "GMACs", "GFLOPs", "scan GMACs", "train MiB"):
        table.add_column(column, justify="right")
    first = reports[0]
    for report in reports:
        row = []
        for value, base, show in (
            (report.total.macs, first.total.macs, giga),
            (report.total.flops, first.total.flops, giga),
            (own_count(report).scan, own_count(first).scan, giga),
            (report.total.activation_bytes, first.total.activation_bytes, mebi),
        ):
            row.append(f"{show(value)} (x{value / base:.2f})")
        table.add_row(f"{report.img_size[0]}x{report.img_size[1]}", *row)
    return table


def totals(cost: Cost) -> tuple[str, str, str]:
    """Return the last three columns of a layer table."""
    return mega(cost.macs), mega(cost.flops), mebi(cost.activation_bytes)


def mega(count: int) -> str:
    """Millions, two decimals."""
    return f"{count / 1e6:.2f}"


def giga(count: int) -> str:
    """Billions, three significant decimals."""
    return f"{count / 1e9:.3f}"


def mebi(count: int) -> str:
    """Bytes in MiB."""
    return f"{count / 2**20:.2f}"


def describe(report: Complexity) -> dict:
    """Return a report as JSON values, totals included."""
    return asdict(report) | {"total": asdict(report.total)}
