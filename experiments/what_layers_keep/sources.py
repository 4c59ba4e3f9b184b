"""Where directions were searched: the lists that LocalMamba published, and the records of our studies that are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.e5_race.run import live_task
from experiments.records import Record, read_records
from experiments.study import EIGHT
from experiments.what_layers_keep.counting import Layer
from lmsearch.genotype import load_genotype
from lmsearch.scan.directions import duplicates
from lmsearch.scan.grids import Grid
from lmsearch.scanbench.spaces import from_text
from lmsearch.search_space import load_search_space

STUDIES = Path(__file__).resolve().parent.parent
LISTS = {"Vim": "local_vim_tiny", "VMamba small": "local_vmamba_small", "VMamba tiny": "local_vmamba_tiny"}  # all that differ
SEVENS = load_search_space("localmamba8").candidates
Run = list[Layer]


def published() -> dict[str, Run]:
    """Return the three distinct searched lists. The last stage of VMamba has 7x7 tokens of 224 pixels: w7 is h there."""
    found = {}
    for name, model in LISTS.items():
        layers = load_genotype(f"localmamba/{model}").layers
        found[f"{name} ({len(layers)})"] = [
            layer_on(layer.directions, SEVENS, grid_of(layer.name or ""), "zeros") for layer in layers
        ]
    return found


def grid_of(name: str) -> Grid:
    """Return the tokens of a layer of 224x224 pixels by its name: layers.12 of Vim, or layers.3.blocks.1 of VMamba's stages."""
    stage = int(name.split(".")[1]) if "blocks" in name else 2
    return (56 >> stage, 56 >> stage)


def layer_on(kept: Sequence[str], candidates: tuple[str, ...], grid: Grid, padding: str = "none") -> Layer:
    """Return a layer whose candidates are compared on its grid."""
    return Layer(tuple(kept), candidates, duplicates(candidates, grid, padding=padding))


def records(study: str) -> list[Record]:
    """Return the records of a study, none where it has not run."""
    return [record for record in read_records(STUDIES / study / "results.jsonl.gz") if "part" in record]


def eights(chosen: Sequence[Sequence[str]]) -> Run:
    """Return what was kept of the eight candidates on 8x8 tokens, of which none are alike."""
    return [Layer(tuple(kept), EIGHT) for kept in chosen]


def controls() -> dict[str, list[Run]]:
    """Return the choices of searches on targets that no direction helps with."""
    named = {"no direction helps (E1)": "e1_planted", "no direction helps (E1, by method)": "e1_methods"}
    return {name: [eights(r["chosen"]) for r in records(study) if r["part"] == "control"] for name, study in named.items()}


def digits() -> dict[str, list[Run]]:
    """Return what the supernets of E3 derived on real digits, over its three spaces."""
    parts = {"digits, search=darts (E3)": "scores_digits", "digits, search=fair (E3)": "strict_digits"}
    return {name: [eights(r["derived"]) for r in records("e3_scanbench") if r["part"] == part] for name, part in parts.items()}


SEARCHES_OF_E6 = {"fair": "E6", "halving": "E6, halving", "halving, half held out": "E6, halving, half held out"}


def fashion() -> dict[str, list[Run]]:
    """Return what searches chose on Fashion-MNIST: LocalVim's in E6, LocalVMamba's in E7, whose LocalVims are E6's again."""
    vim, vmamba = ((14, 14),) * 3, ((14, 14), (14, 14), (7, 7))
    found: dict[str, list[Run]] = {}
    for arm, name in SEARCHES_OF_E6.items():
        rows = [r for r in records("e6_real") if r["part"] == "main search" and r["arm"] == arm and r["chosen"]]
        found[f"Fashion-MNIST, Vim ({name})"] = [on(r["chosen"], vim) for r in rows]
    found["Fashion-MNIST, VMamba (E7)"] = [on(r["chosen"], vmamba) for r in searched_in_e7("local_vmamba_nano")]
    return found


def searched_in_e7(model: str) -> list[Record]:
    """Return the rows of E7 that train what a search chose."""
    return [r for r in records("e7_ablations") if r["family"] == model and r["training"] == "searched" and r["chosen"]]


def on(chosen: Sequence[Sequence[str]], grids: Sequence[Grid]) -> Run:
    """Return layers on their grids."""
    return [layer_on(kept, SEVENS, grid) for kept, grid in zip(chosen, grids, strict=True)]


def dealt(arm: str) -> Iterator[tuple[tuple[str, ...], Run]]:
    """Yield, of each instance of E5 in which all directions help, the four that help most and what an arm shipped."""
    for record in records("e5_race"):
        if record["part"] in ("live", "fresh", "retrained") and arm in record["shipped"]:
            instance = int(record["words"][0].removeprefix("instance"))
            strengths = dict(zip(EIGHT, live_task(instance).source["strengths"], strict=True))
            best = sorted(EIGHT, key=lambda name: -strengths[name])[:4]
            yield tuple(best), eights(from_text(record["shipped"][arm]))


def validated() -> list[tuple[int, Run, float]]:
    """Return seed, layers and validation accuracy of the networks that random search and evolution trained in E6."""
    rows = [r for r in records("e6_real") if r["part"] == "main try"]
    return [(r["seed"], on(r["chosen"], ((14, 14),) * 3), r["val"]) for r in rows]
