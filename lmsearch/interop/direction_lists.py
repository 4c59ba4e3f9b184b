"""LocalMamba's nested direction lists, one list per layer, as Python or JSON text: to a Genotype and back."""

from __future__ import annotations

import json

from lmsearch.errors import GenotypeError
from lmsearch.genotype import Genotype
from lmsearch.genotype_schema import read_direction_lists

STYLES = ("python", "json")


def parse_direction_lists(text: str, *, where: str = "direction lists") -> Genotype:
    """Return the genotype that `text` lists: JSON, or a Python literal with or without a name before it.

    Raises GenotypeError, naming `where`, the layer and the value, for anything else. No code in `text` is run.
    """
    return Genotype.from_directions(read_direction_lists(text, where=where), where=where)


def format_direction_lists(genotype: Genotype, *, style: str = "python") -> str:
    """Return the nested lists of `genotype`, one layer per line, as a "python" literal or as "json"."""
    if style not in STYLES:
        raise GenotypeError(f"style {style!r} is not a form of direction lists; accepted: {', '.join(STYLES)}")
    write = repr if style == "python" else json.dumps
    rows = [f"    {write(list(layer.directions))}" for layer in genotype.layers]
    return "[\n" + ",\n".join(rows) + ("," if style == "python" else "") + "\n]\n"
