"""The page of several runs side by side: what they agree on, and how far that is more than chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from lmsearch.errors import GenotypeError
from lmsearch.genotype import Genotype
from lmsearch.report.page.blocks import Cell, Heat, Page, Section, Table, Text, present, section
from lmsearch.report.page.choices import Paths, candidates_of, layer_name, scan_paths
from lmsearch.report.page.common import words_section
from lmsearch.report.page.folder import Run
from lmsearch.report.page.network import network_of
from lmsearch.report.page.preferences import preference_table
from lmsearch.report.page.words import SEARCH_WORDS, STATUS, status_of
from lmsearch.scan.directions import label
from lmsearch.search.derivation.choice import Quota
from lmsearch.search.trust.consensus import check_alike, common_quota, consensus

MEANT = (
    ("overlap", "Of two runs' kept directions in a layer: how many both keep, as a share of those that either keeps."),
    ("chance", "The overlap that two random choices of the same sizes would have."),
)


def several_page(runs: Sequence[Run], pages: Sequence[Page]) -> Page:
    """Return the page of runs with their own pages, in the same order."""
    names = unique_names(runs)
    chosen = {name: run.genotype for name, run in zip(names, runs, strict=True) if run.genotype is not None}
    same = {len(g.layers) for g in chosen.values()}
    agreed, why = _consensus(list(chosen.values()), list(chosen)) if len(chosen) > 1 else (None, "")
    paths = Paths(next((run.image for run in runs if run.image), None))
    sections = [
        section("runs", "The runs side by side", _table(names, runs, pages)),
        section("map", "Which directions each layer keeps", _votes(chosen) if len(same) == 1 else None),
        *(_agreed_sections(agreed, runs[0], paths) if agreed else ()),
        _settings(names, runs),
        words_section((*MEANT, *SEARCH_WORDS)),
    ]
    verdict, tone = _verdict(agreed, pages)
    meaning = tuple(text for text in (_reason(agreed), why) if text)
    return Page(
        title=f"{len(runs)} runs side by side",
        kind="several",
        status=str(agreed.health["status"]) if agreed else "side by side",
        tone=tone,
        verdict=verdict,
        meaning=meaning or ("Each run has a verdict of its own in the table below.",),
        advice=(Text("Each run's own page stands in its folder; lmsearch report run_dir=<folder> draws it."),),
        facts=(("runs", ", ".join(names)),),
        missing=tuple(f"{name}: {text}" for name, run in zip(names, runs, strict=True) for text in run.missing),
        sections=present(sections),
        defs=paths.defs,
    )


def unique_names(runs: Sequence[Run]) -> list[str]:
    """Return the names of the folders, each with as many folders around as tell it from others that are called the same."""
    paths = [run.path.parts for run in runs]
    names = [str(Path(*parts[-1:])) for parts in paths]
    for number in range(2, max(map(len, paths)) + 1):
        short = Counter(names)
        names = [str(Path(*parts[-number:])) if short[name] > 1 else name for name, parts in zip(names, paths, strict=True)]
    return names


def _consensus(genotypes: Sequence[Genotype], names: Sequence[str]) -> tuple[Genotype | None, str]:
    """Return what the genotypes agree on, or None and why they cannot be put together."""
    try:
        check_alike(genotypes, names)
        quota: Quota = common_quota(genotypes)
    except GenotypeError as error:
        return None, f"There is no consensus of these runs: {error}."
    layers, health = consensus(genotypes, quota)
    return Genotype(layers, health=health, derivation={"method": "consensus"}), ""


def _verdict(agreed: Genotype | None, pages: Sequence[Page]) -> tuple[str, str]:
    """Return the verdict and its tone."""
    if agreed is None:
        return f"{len(pages)} runs, told one by one.", "open"
    observed, chance = agreed.health["agreement"], agreed.health["agreement_chance"]
    tone = STATUS[status_of(agreed.health["status"]) or next(iter(STATUS))][0]
    p = agreed.health.get("agreement_p")
    if p is not None and p < 0.05:
        return f"The runs agree on directions more than chance would: {observed:.2f} against {chance:.2f}.", tone
    return f"The runs agree on directions no more than chance would: {observed:.2f} against {chance:.2f}.", tone


def _reason(agreed: Genotype | None) -> str:
    """Return why the consensus has its status."""
    return f"As one search over several seeds they are “{agreed.health['status']}”: {agreed.health['reason']}." if agreed else ""


def _table(names: Sequence[str], runs: Sequence[Run], pages: Sequence[Page]) -> Table:
    """Return a row per run."""
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, page.kind, run.state, page.status, page.verdict) for name, run, page in zip(names, runs, pages, strict=True)
    )
    return Table("Every run with its own verdict.", ("run", "kind", "state", "status", "verdict"), rows)


def _votes(chosen: Mapping[str, Genotype]) -> Table | None:
    """Return layers by directions: how many runs keep each."""
    if not chosen:
        return None
    genotypes = list(chosen.values())
    columns = candidates_of([layer for genotype in genotypes for layer in genotype.layers])
    rows: list[tuple[Cell, ...]] = []
    for number, layer in enumerate(genotypes[0].layers):
        counts = [sum(name in genotype.layers[number].directions for genotype in genotypes) for name in columns]
        cells = [Heat(f"{n}/{len(genotypes)}" if n else "", n / len(genotypes), n == len(genotypes)) for n in counts]
        rows.append((layer_name(layer, number), *cells))
    return Table("How many of the runs keep each direction; a frame: all do.", ("layer", *map(label, columns)), tuple(rows))


def _agreed_sections(agreed: Genotype, run: Run, paths: Paths) -> list[Section | None]:
    """Return stability, scan paths and preferences of what the runs agree on."""
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (layer.name or str(n), ", ".join(map(label, layer.directions)), found["jaccard"], found["chance"])
        for n, layer in enumerate(agreed.layers)
        if (found := agreed.health["stability"].get(layer.name or str(n))) is not None
    )
    stable = Table("What most runs keep, and how far two runs overlap.", ("layer", "consensus", "overlap", "chance"), rows)
    network = network_of(run, agreed.directions)
    walks = scan_paths(agreed.directions, network.grids, paths) if network else None
    return [
        section("consensus", "Consensus and stability", stable),
        section("paths", "The scan paths of the consensus", walks),
        section("preferences", "Shallow against deep, window against raster", preference_table(agreed.layers)),
    ]


def _settings(names: Sequence[str], runs: Sequence[Run]) -> Section | None:
    """Return the commands of all runs."""
    rows: tuple[tuple[Cell, ...], ...] = tuple((name, run.command) for name, run in zip(names, runs, strict=True) if run.command)
    table = Table("The command of each run, with every key that differs from its default.", ("run", "command"), rows)
    return section("reproduce", "How to reproduce them", table if rows else None)
