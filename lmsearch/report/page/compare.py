"""The page of a comparison: is the searched choice better than others that were retrained alike?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmsearch.engine.objectives import METRICS
from lmsearch.errors import DirectionError, GenotypeError
from lmsearch.genotype import Genotype
from lmsearch.report.arms import HAND_MADE, SEARCHED
from lmsearch.report.page.blocks import Cell, Command, Heat, Page, Span, Table, Text, present, section
from lmsearch.report.page.choices import Paths, scan_paths
from lmsearch.report.page.common import (
    changed_command,
    cost_section,
    facts_of,
    next_command,
    reproduce_section,
    unfinished,
    words_section,
)
from lmsearch.report.page.folder import Run
from lmsearch.report.page.network import network_of
from lmsearch.report.page.preferences import FAMILIES, family_of
from lmsearch.report.page.search import choice_sections
from lmsearch.report.page.words import COMPARE_WORDS, SEARCH_WORDS

TEST = "test_"
LONG_MAP = 60  # rows of a map from which it is shown on demand


def compare_page(run: Run, search: Run | None = None) -> Page:
    """Return the page of a comparison; `search` is the run that found the searched choice, where its folder is there."""
    paths, result = Paths(run.image or (search.image if search else None)), run.result
    chosen = _genotype(result)
    network = network_of(run, chosen.directions) if chosen else None
    walks = scan_paths(chosen.directions, network.grids, paths) if chosen and network else None
    behind = search if search and search.genotype and chosen and search.genotype.directions == chosen.directions else None
    inside = choice_sections(behind, behind.genotype, None, paths) if behind and behind.genotype else []
    sections = [
        section("comparison", "Beside other choices", _arms(result), _baselines(result)),
        section("map", "Which directions each arm keeps", _map(result)),
        *(s for s in inside if s is not None and s.name in ("worth", "moves", "preferences")),
        section("paths", "The scan paths of each layer", walks),
        section("per-seed", "Seed by seed", _per_seed(result)),
        cost_section(run, network),
        words_section((*COMPARE_WORDS, *SEARCH_WORDS)),
        reproduce_section(run),
    ]
    tone, verdict, meaning = _findings(run, behind)
    return Page(
        title=f"Comparison of scan directions: {run.path.name}",
        kind="compare",
        status=run.state if not result else _word(result),
        tone=tone,
        verdict=verdict,
        meaning=meaning,
        advice=_advice(run),
        facts=(*facts_of(run), *_means(result)),
        missing=run.missing,
        sections=present(sections),
        defs=paths.defs,
    )


def _genotype(result: Mapping[str, Any]) -> Genotype | None:
    """Return the searched choice, None where its directions cannot be read, as orders of a user's own."""
    found = result.get("arms", {}).get(SEARCHED, {}).get("directions")
    try:
        return Genotype.from_directions(found[0], where="comparison.json") if found else None
    except GenotypeError:
        return None


def _first(result: Mapping[str, Any]) -> str:
    """Return the arm that the others are compared with."""
    return next((name.partition(" - ")[0] for name in result.get("differences", {})), SEARCHED)


def _ordered(result: Mapping[str, Any]) -> list[str]:
    """Return the arms, that one first."""
    return sorted(result.get("arms", {}), key=lambda name: name != _first(result))


def _others(result: Mapping[str, Any]) -> list[str]:
    """Return the arms that the first one is compared with."""
    return [name.partition(" - ")[2] for name in result.get("differences", {})]


def _signs(result: Mapping[str, Any]) -> list[int]:
    """Return for every other arm 1 where the first one is better, -1 where it is worse, 0 within noise."""
    metric = METRICS.get(str(result.get("metric")))
    ends = [(d["low"], d["high"]) for d in result.get("differences", {}).values()]  # None where one is not finite
    signs = [1 if low is not None and low > 0 else -1 if high is not None and high < 0 else 0 for low, high in ends]
    return signs if metric is None or metric.higher_is_better else [-sign for sign in signs]


def _once(result: Mapping[str, Any]) -> bool:
    """Tell whether every arm was trained with one seed, so that nothing tells the luck of training."""
    return int(result.get("seeds", 1)) == 1


def _lone(result: Mapping[str, Any]) -> bool:
    """Tell whether there is one test sample, which tells nothing of others."""
    return result.get("num_test") == 1


def _only(result: Mapping[str, Any]) -> str:
    """Return what the outcome is limited to; "" where it is not."""
    return "in one training" if _once(result) else "on one test sample" if _lone(result) else ""


def _word(result: Mapping[str, Any]) -> str:
    """Return the outcome in a word or two."""
    signs = _signs(result)
    if not any(signs):
        return "within noise"
    if max(signs) > 0:
        every, once, word = min(signs) > 0, "ahead", "better"
    else:
        every, once, word = max(signs) < 0, "behind", "worse"
    if only := _only(result):
        return f"{once} {only}" if every else f"{once} of some {only}"
    return word if every else f"{word} than some"


def _findings(run: Run, search: Run | None) -> tuple[str, str, tuple[str, ...]]:
    """Return tone, verdict and meaning."""
    if not run.result:
        verdict, meaning = unfinished(run)
        return "open", verdict, (meaning,)
    signs = _signs(run.result)
    others = _others(run.result)
    subject = "The searched directions" if _first(run.result) == SEARCHED else f"The directions of {_first(run.result)}"
    better, worse, same = ([n for n, s in zip(others, signs, strict=False) if s == sign] for sign in (1, -1, 0))
    only = _only(run.result)
    above, below = ("ahead of", "behind") if only else ("better than", "worse than")
    told = [f"{above} {_listed(better)}"] if better else []
    told += [f"{below} {_listed(worse)}"] if worse else []
    limit = ", each trained once: other seeds may reverse it" if _once(run.result) else f" {only}, which tells nothing of others"
    verdict = (
        f"{subject} are {' and '.join(told)}{limit if only else ''}."
        if told
        else (f"{subject} are not shown to be better than {_listed(others)}: the differences are within noise.")
    )
    more = f" Against {_listed(same)}, the difference is within noise." if told and same else ""
    seeds = run.result.get("seeds", 1)
    trained = f"Every choice was trained from scratch with the same recipe, {seeds} time{'s' if seeds != 1 else ''} each."
    own = () if search is None else _own_verdict(search)
    tone = "unsure" if only or bool(better) == bool(worse) else "good" if better else "bad"
    return tone, verdict + more, (trained, *_sentences(str(run.result.get("verdict", ""))), *own)


def _sentences(verdict: str) -> tuple[str, ...]:
    """Return the parts of a verdict, which semicolons hold together, as sentences."""
    return tuple(f"{part[0].upper()}{part[1:]}." for part in verdict.split("; ") if part)


def _own_verdict(search: Run) -> tuple[str, ...]:
    """Return what the search itself says of its choice."""
    health = search.genotype.health if search.genotype else {}
    return (
        (f"The search itself says “{health['status']}” of its choice: {health.get('reason', '')}.",) if "status" in health else ()
    )


def _listed(names: list[str]) -> str:
    """Return names as a list in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "the others"


def _advice(run: Run) -> tuple[Text | Command, ...]:
    """Return what to do next."""
    if not run.result:
        return (Command(run.command, "Go on with it:"),) if run.command and not run.writer else ()
    if _lone(run.result):
        return (Text("One test sample tells nothing of others: compare on data with a larger test set, in another run_dir=."),)
    first = _first(run.result)
    genotype, seeds = run.get("genotype") or "<search>", int(run.result.get("seeds", 1))
    once, beside = _once(run.result), dict(zip(_others(run.result), _signs(run.result), strict=True))
    free = Text("Hand-made directions cost no search and are as good, as far as this shows.")
    level = (free,) if first == SEARCHED and beside.get(HAND_MADE) == 0 and min(beside.values()) == 0 else ()
    if first == SEARCHED and not once and any(beside.values()) and min(beside.values()) >= 0:
        return Command(next_command("retrain", genotype=genotype), "Use the searched directions:"), *level
    further = max(5, 2 * seeds)
    again = changed_command(run.command or next_command("compare", genotype=genotype), seeds=further)
    why = "More seeds tell the luck of training" if once else "More seeds make the intervals narrower"
    more = Command(again, f"{why}; those that are done count:")
    ahead = [name for name, sign in beside.items() if sign < 0]
    if ahead and not once:
        return Text(f"Better than {'the searched directions' if first == SEARCHED else first}: {_listed(ahead)}."), more
    return *level, more


def _axis(result: Mapping[str, Any]) -> tuple[float, float]:
    """Return the least and most of all intervals, of what is finite."""
    known = [v for arm in result.get("arms", {}).values() for v in _score(arm).values() if v is not None] or [0.0]
    low, high = min(known), max(known)
    room = 0.05 * (high - low) or 0.01
    return low - room, high + room


def _score(arm: Mapping[str, Any]) -> Mapping[str, float | None]:
    """Return the interval of an arm, whatever its metric."""
    return next(value for key, value in arm.items() if key.startswith(TEST))


def _span(found: Mapping[str, float | None], least: float, most: float, mark: float | None = None) -> Cell:
    """Return an interval as a cell, where it is not finite its mean alone."""
    low, mean, high = (found[end] for end in ("low", "mean", "high"))
    return mean if low is None or mean is None or high is None else Span(low, mean, high, least, most, mark)


def _arms(result: Mapping[str, Any]) -> Table | None:
    """Return one row per arm: its score with interval, and how far the searched one is ahead."""
    if not result.get("arms"):
        return None
    least, most = _axis(result)
    gaps = {key.partition(" - ")[2]: value for key, value in result.get("differences", {}).items()}
    reach = max((abs(end) for gap in gaps.values() for end in (gap["low"], gap["high"]) if end is not None), default=1.0)
    rows: list[tuple[Cell, ...]] = []
    for name in _ordered(result):
        score, gap = _score(result["arms"][name]), gaps.get(name)
        rows.append((name, _span(score, least, most), None if gap is None else _span(gap, -reach, reach, 0.0)))
    metric = _metric(result)
    caption = f"Test {metric} on {result.get('num_test', '?')} samples; intervals: {result.get('interval', '95 %')}."
    return Table(caption, ("choice", f"test {metric}", f"{_first(result)} minus this"), tuple(rows))


def _metric(result: Mapping[str, Any]) -> str:
    """Return what scores are called in a caption."""
    return str(result.get("metric", "score")).replace("_", " ")


def _means(result: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the mean scores of all arms in a few words."""
    means = {name: _score(result["arms"][name])["mean"] for name in _ordered(result)}
    told = ", ".join(f"{name} {'–' if mean is None else f'{mean:.4f}'}" for name, mean in means.items())
    return ((f"test {result.get('metric', 'score')}", told),) if told else ()


def _baselines(result: Mapping[str, Any]) -> Table | None:
    """Return what simple methods reach."""
    metric = _metric(result)
    rows = tuple((name, float(value)) for name, value in result.get("baselines", {}).items())
    return Table("Simple methods on the pixels, for scale.", ("method", f"test {metric}"), rows) if rows else None


def _place(direction: str) -> tuple[int, str]:
    """Return where a direction stands among others: raster before windows before the rest."""
    try:
        return FAMILIES.index(family_of(direction)), direction
    except DirectionError:  # an order of the user's own, told by its label only
        return len(FAMILIES), direction


def _per_seed(result: Mapping[str, Any]) -> Table | None:
    """Return the scores of every training."""
    arms = result.get("arms", {})
    if not arms or result.get("seeds", 1) < 2:
        return None
    first, ordered = int(result.get("first_seed", 0)), _ordered(result)
    columns = zip(*(arms[name]["per_seed"] for name in ordered), strict=True)
    rows: list[tuple[Cell, ...]] = [(f"seed {first + number}", *scores) for number, scores in enumerate(columns)]
    return Table("Test scores of every training.", ("seed", *ordered), tuple(rows))


def _map(result: Mapping[str, Any]) -> Table | None:
    """Return layers by directions: which arms keep each; of arms that differ by seed, how many seeds do."""
    arms: Mapping[str, Any] = result.get("arms", {})
    if not arms:
        return None
    ordered = _ordered(result)
    every = {d for name in ordered for seed in arms[name]["directions"] for layer in seed for d in layer}
    names = sorted(every, key=_place)
    rows: list[tuple[Cell, ...]] = []
    for number in range(len(arms[ordered[0]]["directions"][0])):
        for arm in ordered:
            seeds = arms[arm]["directions"]
            counts = [sum(d in seed[number] for seed in seeds) for d in names]
            cells = [Heat(f"{n}/{len(seeds)}" if 0 < n < len(seeds) else "", n / len(seeds), n == len(seeds)) for n in counts]
            rows.append((f"layer {number}: {arm}", *cells))
    caption = "A frame marks what all seeds of an arm keep; n/m: n of its m seeds."
    return Table(caption, ("layer and arm", *names), tuple(rows), folded=len(rows) > LONG_MAP)
