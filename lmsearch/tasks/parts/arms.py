"""The arms of a comparison or an audit: the genotype in question, random and hand-made ones, and sets of the literature."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from lmsearch.data import Source
from lmsearch.engine.objectives import metric_for
from lmsearch.errors import ConfigError
from lmsearch.genotype import Genotype, check_depth, load_genotype
from lmsearch.literature import ARMS, Layers, arm_layers, coincidences
from lmsearch.models.factory import model_family
from lmsearch.report.arms import HAND_MADE, RANDOM, SEARCHED, Arm, random_genotype
from lmsearch.scan.grids import Grid
from lmsearch.search.supernet.network import layer_candidates
from lmsearch.search_space import SearchSpace, resolve_keep
from lmsearch.settings.tasks import Compare
from lmsearch.tasks.parts.build import layer_grids
from lmsearch.tasks.parts.candidates import hand_made_choice

log = logging.getLogger(__name__)
CHOSEN = (SEARCHED, RANDOM, HAND_MADE)  # arms that are no set of the literature


def make_arms(settings: Compare, source: Source, space: SearchSpace) -> list[Arm]:
    """The arms that arms= names, the searched one first; random and hand-made ones keep as many directions per layer as it.

    Raises ConfigError for an unknown arm, one for another depth, one alone, and for a searched one without a genotype.
    """
    names = arm_names(CHOSEN if settings.arms is None else [str(name) for name in settings.arms])
    grids, padding = layer_grids(settings, source.info)
    genotype = genotype_in_question(settings, names, depth=len(grids))
    if genotype is not None and RANDOM in names:
        warn_other_space(genotype, space)

    def kept() -> tuple[int, ...]:
        if genotype is None:
            return resolve_keep(space, None, len(grids), grids=grids, padding=padding)
        return tuple(len(layer.directions) for layer in genotype.layers)

    def searched() -> list[Genotype]:
        return [] if genotype is None else [genotype] * settings.seeds

    def random() -> list[Genotype]:
        candidates = layer_candidates(space, grids, padding=padding, deduplicate=True)
        keep = kept()
        return [random_genotype(candidates, keep, settings.seed + n) for n in range(settings.seeds)]

    def hand_made() -> list[Genotype]:
        keep = kept()
        if len(settings.hand_made) < max(keep):
            log.warning("hand_made names %d directions, fewer than the %d that a layer has", len(settings.hand_made), max(keep))
        return [Genotype.from_directions(hand_made_choice(space, settings.hand_made, keep), where="hand_made")] * settings.seeds

    def literature(name: str) -> list[Genotype]:
        layers = literature_layers(name, settings.model.name, grids, padding=padding)
        return [Genotype.from_directions(layers, where=name)] * settings.seeds

    own: dict[str, Callable[[], list[Genotype]]] = {SEARCHED: searched, RANDOM: random, HAND_MADE: hand_made}
    metric = metric_for(source.info.target, settings.metric)
    return [Arm(name, own[name]() if name in own else literature(name), metric=metric) for name in names]


def arm_names(names: Sequence[str]) -> list[str]:
    """Return the arms to compare, the searched one first; raise ConfigError for one alone or one that is named twice."""
    refuse_twice(names)
    if len(names) < 2:
        accepted = ", ".join((*CHOSEN, *ARMS))
        raise ConfigError(f"arms=[{', '.join(names)}] leaves nothing to compare; name two or more of: {accepted}")
    return sorted(names, key=lambda name: name != SEARCHED)


def refuse_twice(names: Sequence[str]) -> None:
    """Raise ConfigError for arms of which one is named twice."""
    if repeated := [name for name in names if list(names).count(name) > 1]:
        raise ConfigError(f"arms=[{', '.join(names)}] names {repeated[0]} twice")


def genotype_in_question(settings: Compare, names: Sequence[str], *, depth: int) -> Genotype | None:
    """Return the genotype that genotype= names; None where there is none and no arm needs it."""
    if settings.genotype is None:
        if SEARCHED in names:
            raise ConfigError("lmsearch compare needs genotype=..., or arms= without searched; see lmsearch compare --help")
        return None
    genotype = load_genotype(settings.genotype)
    check_depth(genotype, depth, settings.model.name, where=str(settings.genotype))
    return genotype


def warn_other_space(genotype: Genotype, space: SearchSpace) -> None:
    """Say so where the genotype comes from another search space than the random ones."""
    if genotype.search_space not in (None, "unknown", space.name):
        log.warning(
            "the genotype was searched in search space %s, the random ones come from %s; search_space= names another",
            genotype.search_space,
            space.name,
        )


def literature_layers(name: str, model: str, grids: Sequence[Grid], *, padding: str, also: Sequence[str] = CHOSEN) -> Layers:
    """Return the directions of an arm of the literature, saying which of them visit the tokens alike.

    Raises ConfigError where the arm is unknown, or is for models of another depth; `also` are arms that it might be.
    """
    layers = arm_layers(name, family=model_family(model), depth=len(grids), model=model, also=also)
    if same := coincidences(layers, grids, padding=padding):
        log.warning("arm %s: %s, so that it scans less than it seems to", name, same)
    return layers
