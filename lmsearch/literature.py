"""The sets of scan directions that papers use, as arms of a comparison: what each scans, in which layers, and its source.

Where a paper's own code visits tokens a little otherwise, or shares weights that ours do not share, `note` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmsearch.errors import ConfigError, GenotypeError, did_you_mean
from lmsearch.genotype import Genotype, check_depth, load_genotype
from lmsearch.reading import user_path
from lmsearch.scan.directions import duplicates, label
from lmsearch.scan.grids import Grid, grid_text

Layers = tuple[tuple[str, ...], ...]
PUBLISHED = ("localmamba/local_vim_tiny", "localmamba/local_vmamba_tiny", "localmamba/local_vmamba_small")
ZIGZAGS = (  # one per layer, again from the first after the eighth
    "snake", "snake_v", "antisnake", "snake_v_flip", "snake_flip", "antisnake_v", "antisnake_flip", "antisnake_v_flip",
)  # fmt: skip


@dataclass(frozen=True)
class LiteratureArm:
    """A set of directions: `layers(family, depth)` lists them per layer, or gives None for a depth that it is not made for."""

    name: str
    scans: str
    source: str
    year: int
    layers: Callable[[str, int], Layers | None]
    note: str = ""
    depths: str = "any"


def everywhere(*directions: str) -> Callable[[str, int], Layers]:
    """Return what gives every layer the same directions."""
    return lambda family, depth: (directions,) * depth


def in_turn(family: str, depth: int) -> Layers:
    """One of ZIGZAGS per layer, in turn."""
    return tuple((ZIGZAGS[number % len(ZIGZAGS)],) for number in range(depth))


def as_published(family: str, depth: int) -> Layers | None:
    """The searched list that LocalMamba published for a network of this family and depth, if there is one."""
    for name in PUBLISHED:
        genotype = load_genotype(name)
        if name.partition("/")[2].startswith(family) and len(genotype.layers) == depth:
            return genotype.directions
    return None


LOCALMAMBA = "LocalMamba, Huang et al., arXiv 2403.09338"
ARMS: dict[str, LiteratureArm] = {
    arm.name: arm
    for arm in (
        LiteratureArm(
            "raster", "rows, once", "Mamba, Gu and Dao, arXiv 2312.00752", 2023,
            everywhere("h"), note="as a model of text reads; on image patches an ablation of Vision Mamba",
        ),
        LiteratureArm(
            "raster_pair", "rows, forwards and backwards", "Vision Mamba (Vim), Zhu et al., arXiv 2401.09417", 2024,
            everywhere("h", "h_flip"),
        ),
        LiteratureArm(
            "cross", "rows and columns, both ways", "VMamba, Liu et al., arXiv 2401.10166", 2024,
            everywhere("h", "h_flip", "v", "v_flip"),
        ),
        LiteratureArm(
            "snakes", "rows and columns to and fro, both ways", "PlainMamba, Yang et al., arXiv 2403.17695", 2024,
            everywhere("snake", "snake_flip", "snake_v", "snake_v_flip"),
            note="PlainMamba shares one scan's weights over the four and tells them apart by a learned vector",
        ),
        LiteratureArm(
            "zigma8", "one of eight snakes per layer, in turn", "ZigMa, Hu et al., arXiv 2403.13802", 2024, in_turn,
            note="with sides of an odd number of tokens the eight paths come in another turn than in ZigMa's code",
        ),
        LiteratureArm(
            "diagonals", "both diagonals, both ways", "RS-Mamba, Zhao et al., arXiv 2404.02668", 2024,
            everywhere("diag", "diag_flip", "antidiag", "antidiag_flip"),
            note="RS-Mamba adds these to `cross`, and its diagonals go on at the other edge; these end there",
        ),
        LiteratureArm(
            "hilbert_pair", "Hilbert's curve, both ways", "FractalMamba, Tang et al., arXiv 2405.14480", 2024,
            everywhere("hilbert", "hilbert_flip"), note="FractalMamba also shifts its curves",
        ),
        LiteratureArm(
            "windows", "windows of 2x2 and 7x7 tokens, both ways", LOCALMAMBA, 2024,
            everywhere("w2", "w2_flip", "w7", "w7_flip"), note="the local half of LocalMamba's eight candidates",
        ),
        LiteratureArm(
            "localmamba_hand", "rows and 2x2 windows, both ways", LOCALMAMBA, 2024,
            everywhere("h", "h_flip", "w2", "w2_flip"), note="LocalMamba's choice without a search",
        ),
        LiteratureArm(
            "published", "what LocalMamba's search chose", LOCALMAMBA, 2024, as_published,
            note="searched on ImageNet, with windows of 2 and 7",
            depths="20 (local_vim), 15 or 33 (local_vmamba)",
        ),
    )
}  # fmt: skip


def literature_arm(name: str, *, also: Sequence[str] = ()) -> LiteratureArm:
    """Return an arm by name; raise ConfigError for another one (`also` are other names that are accepted there)."""
    if name not in ARMS:
        raise ConfigError(f"arms: {name!r} is not an arm{did_you_mean(name, [*ARMS, *also])}")
    return ARMS[name]


def genotype_named(source: str | Path, *, family: str, depth: int, model: str) -> Genotype:
    """Return the genotype of an arm for a model, or what `load_genotype` reads; a file or folder comes before an arm of its name.

    Raises GenotypeError where there is neither, or it has another depth than the model.
    """
    name = str(source)
    if name not in ARMS or user_path(source).exists():
        genotype = load_genotype(source, also=ARMS)
        check_depth(genotype, depth, model, where=name)
        return genotype
    if (layers := ARMS[name].layers(family, depth)) is None:
        raise GenotypeError(f"genotype={name} is for models of {ARMS[name].depths} layers, but {model} has {depth} layers")
    return Genotype.from_directions(layers, where=name)


def arm_layers(name: str, *, family: str, depth: int, model: str = "", also: Sequence[str] = ()) -> Layers:
    """Return the directions of every layer of an arm; raise ConfigError where it is unknown or has none for this depth."""
    arm = literature_arm(name, also=also)
    layers = arm.layers(family, depth)
    if layers is None:
        raise ConfigError(f"arms: {name} is for models of {arm.depths} layers, and {model or family} has {depth}; leave it out")
    return layers


def kept_numbers(layers: Layers) -> str:
    """Return how many directions a layer keeps, such as "4" or "2 to 4"."""
    numbers = sorted({len(layer) for layer in layers})
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def coincidences(layers: Layers, grids: Sequence[Grid], *, padding: str) -> str:
    """Return which directions of a layer visit its tokens alike, such as "w7 is h on 7x7 tokens"; "" for none."""
    told: dict[str, None] = {}
    for layer, grid in zip(layers, grids, strict=True):
        same = duplicates(layer, grid, padding=padding)
        told |= dict.fromkeys(f"{label(name)} is {label(first)} on {grid_text(grid)} tokens" for name, first in same.items())
    return "; ".join(told)
