"""What a run knows is asked once: its data and model stand in place of the defaults of a task that reads it.

Only what the command line says otherwise counts more, and every difference is said.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf import DictConfig

from lmsearch.config import Defaults, compose, compose_presets, plain_config
from lmsearch.config_presets import choices_of, kind_of, own_keys, split_overrides
from lmsearch.errors import ConfigError, OtherPresetsError, did_you_mean, short
from lmsearch.genotype import FILE, load_genotype
from lmsearch.literature import ARMS
from lmsearch.paths import data_dir
from lmsearch.reading import is_file, is_folder, is_same, user_path
from lmsearch.tasks.parts.facts import FROM_DATA, Facts, read_facts
from lmsearch.words import as_text, dotted

LONGEST = 300  # characters of a value in a line
ROOT = "data.root"
IMAGE = ("img_size", "in_chans", "mean", "std", "crop_pct")  # how a network sees images
SHAPE = ("img_size", "in_chans")  # what the image gives to a network without weights
SPLIT = ("val_fraction", "split_seed")  # which images validate, of data that set some aside wherever they are
MASKS = ("ignore_index", "reduce_zero_label")  # what values of a mask mean, by which its classes are numbered
VOIDS = {  # what other values make void
    "data.val_fraction": ("data.val_digest",),
    "data.split_seed": ("data.val_digest",),
    "data.in_chans": ("data.mean", "data.std"),
}
OF_HEAD = ("head", "out_indices", "frozen_stages")  # options of a network that are keys of the task


@dataclass(frozen=True)
class Knowledge:
    """What a task takes from one run: presets by group, and values by dotted key.

    Those of the keys in `image` count for other images too, and so does what values of masks mean. For other data they do so
    only where the network is `trained`: a network that is not takes nothing then. `data_kind` is what its own data are, None
    where that is not known. Values that are `yielded` are not taken, since another run says them, and only compared.
    """

    run: str
    presets: Mapping[str, str]
    values: Mapping[str, Any]
    image: tuple[str, ...] = ()
    trained: bool = False
    data_kind: str | None = None
    yielded: Mapping[str, Any] = field(default_factory=dict)

    def under(self, presets: Mapping[str, str], given: Mapping[str, str]) -> tuple[Knowledge, list[str]]:
        """Return what is left of it under the presets and the data.root of the command line, and a line for each that differs."""
        conf = data_dir("conf")
        kinds = {group: kind_of(group, choice, conf) for group, choice in self.presets.items()}
        others = [group for group, kind in kinds.items() if group in presets and kind_of(group, presets[group], conf) != kind]
        lines = [f"{group}={presets[group]} given, {self.run} has {group}={self.presets[group]}" for group in others]
        if "data" in others and not self.trained:
            return Knowledge(self.run, {}, {}), lines
        root, mine = self.values.get(ROOT), given.get(ROOT)
        other_root = root is not None and mine is not None and not is_same(root, mine)
        if other_root and "data" not in others:
            lines.append(f"{ROOT}={mine} given, {self.run} has {root}")
        other_data = other_root or "data" in others
        own = self.values if root is None or mine is None else {**self.values, ROOT: mine}  # written as it is given
        kept = (*self.image, *_keys_of_data(MASKS))
        values = {
            key: value
            for key, value in own.items()
            if (key in kept if other_data and key.startswith("data.") else key.partition(".")[0] not in others)
        }
        left = {group: choice for group, choice in self.presets.items() if group not in others}
        if other_data and "data" in left:  # a recipe for those of the run is none for these
            left["data"] = kinds["data"]
        return replace(self, presets=left, values=values), lines

    def brought(self, presets: Mapping[str, str]) -> dict[str, str]:
        """Return what presets of the command line bring otherwise than others of their kind, but for how weights see images."""
        conf = data_dir("conf")
        kinds = {group: kind_of(group, choice, conf) for group, choice in self.presets.items()}
        mine = [(group, choice) for group, choice in presets.items() if kinds.get(group) == kind_of(group, choice, conf)]
        keys = {key: as_text(value) for group, choice in mine for key, value in own_keys(group, choice, conf).items()}
        return {key: text for key, text in keys.items() if not (self.trained and key in self.image)}

    def without(self, group: str) -> Knowledge:
        """Return it without a preset and its values."""
        values = {key: value for key, value in self.values.items() if key.partition(".")[0] != group}
        return replace(self, presets={g: c for g, c in self.presets.items() if g != group}, values=values)

    def yielding(self, keys: Collection[str]) -> Knowledge:
        """Return it with values that another run says in its place."""
        mine = {key: self.values[key] for key in keys if key in self.values}
        return replace(self, values={k: v for k, v in self.values.items() if k not in mine}, yielded={**self.yielded, **mine})

    def differs(self, other: Knowledge, given: Collection[str]) -> list[str]:
        """Return a line where what is taken from the other run is not what this one has; another model or head says enough."""
        keys = [key for key in self.yielded if key not in given and (key in other.values or key in OF_HEAD)]
        pairs = {key: (as_plain(other.values.get(key)), as_plain(self.yielded[key])) for key in keys}
        differing = [key for key, (theirs, mine) in pairs.items() if theirs != mine]
        if lead := [key for key in differing if key in ("model.name", "head")]:
            differing = lead
        theirs, mine = (" ".join(f"{key}={shown(pairs[key][side])}" for key in differing) for side in (0, 1))
        return [f"{theirs} from {other.run}, {self.run} has {mine}"] if differing else []

    def check_presets(self) -> None:
        """Raise ConfigError where its data or model is one that no preset is for."""
        for group, choice in self.presets.items():
            if choice not in (accepted := choices_of(group)):
                raise ConfigError(
                    f"{self.run} has {group}={short(choice)}, which is not a choice{did_you_mean(choice, accepted)}"
                )

    def for_data(self, kind: str | None) -> Knowledge:
        """Return it without the head where data of another kind come before it, which no head for its own learns from."""
        if None in (kind, self.data_kind) or kind == self.data_kind:
            return self
        return replace(self, values={key: value for key, value in self.values.items() if key not in OF_HEAD})

    def beside(self, given: Mapping[str, str]) -> Knowledge:
        """Return it without the values that mean nothing beside what the command line gives, such as means of other channels."""
        other = [key for key in VOIDS if key in given and given[key] != str(self.values.get(key))]
        void = {name for key in other for name in VOIDS[key]}
        return replace(self, values={key: value for key, value in self.values.items() if key not in void})

    def told(self, content: Mapping[str, Any], shipped: Mapping[str, Any], given: Collection[str]) -> list[str]:
        """Return a line with all that a configuration has from it in place of `shipped` defaults, both by dotted key.

        One more line for each key that is `given` otherwise.
        """
        found = [f"{group}={choice}" for group, choice in self.presets.items() if group not in given]
        differences = []
        for key in [key for key in content if key in self.values]:
            mine, value = content[key], as_plain(self.values[key])
            if key in given and mine != value:
                differences.append(f"{key}={shown(mine)} given, {self.run} has {shown(value)}")
            elif key not in given and mine == value != shipped.get(key):
                found.append(f"{key}={shown(value)}")
        return ([f"from {self.run}: {' '.join(found)}"] if found else []) + differences


def configure(task: str, words: Sequence[str]) -> tuple[DictConfig, list[str]]:
    """Return the configuration of a task over what the runs that it reads know, and the lines that say what was taken.

    Raises GenotypeError or CheckpointError where keys are unknown because the run that brings them is not there.
    """
    presets, values = split_overrides(words, conf_dir=data_dir("conf"))
    try:
        return configured(task, words, presets, values)
    except OtherPresetsError:
        if task in READERS:
            refuse_missing(values)
        raise


def refuse_missing(given: Mapping[str, str]) -> None:
    """Raise GenotypeError or CheckpointError for a genotype or weights that are not there."""
    if (genotype := given.get("genotype", "null")) not in ("null", *ARMS):
        load_genotype(genotype, also=ARMS)
    for weights in (given.get("init_from", "null"), given.get("checkpoint", "null")):
        path = user_path(weights)
        if weights != "null" and not is_folder(path) and not is_file(path):
            from lmsearch.engine.checkpoint import no_checkpoint  # imports PyTorch

            raise no_checkpoint(path)


def configured(task: str, words: Sequence[str], presets: dict[str, str], values: dict[str, str]) -> tuple[DictConfig, list[str]]:
    """Return what `configure` does, of the presets and values in the words."""
    presets = {group: choice for group, choice in presets.items() if choice != "null"}
    lines: list[str] = []
    left: list[Knowledge] = []
    known = list(READERS[task](values)) if task in READERS else []
    brought = {key: text for knowledge in known for key, text in knowledge.brought(presets).items()}
    given = brought | values
    kind = data_kind_of([presets, *(knowledge.presets for knowledge in known)])
    for knowledge in known:
        rest, said = knowledge.beside(given).for_data(kind).under(presets, given)
        rest.check_presets()
        left.append(rest)
        lines += said
    if not left:
        return compose(task, words), []
    left = with_one_head(left)
    lines += [line for mine in left for other in left if other is not mine for line in mine.differs(other, given)]
    defaults = Defaults(
        {group: choice for k in left for group, choice in k.presets.items()},
        {key: value for k in left for key, value in k.values.items() if key not in brought},
    )
    empty = [f"{group}=null" for group in defaults.presets]
    words = [word for word in words if word not in empty]
    cfg = compose(task, words, defaults=defaults)
    shipped = compose_presets(task, tuple({**defaults.presets, **presets}.items()), data_dir("conf"))
    after, before = (dict(dotted(plain_config(c))) for c in (cfg, shipped))
    return cfg, lines + [line for k in left for line in k.told(after, before, {*presets, *given})]


def with_one_head(known: Sequence[Knowledge]) -> list[Knowledge]:
    """Return them with the head of the last that has one, and its levels: others yield theirs."""
    owner = next((k for k in reversed(known) if "head" in k.values), None)
    return [k if owner is None or k is owner else k.yielding(OF_HEAD) for k in known]


def data_kind_of(chosen: Sequence[Mapping[str, str]]) -> str | None:
    """Return the kind of the data that the first of these choices of presets names; None where none does."""
    names = [presets["data"] for presets in chosen if "data" in presets]
    return kind_of("data", names[0], data_dir("conf")) if names else None


def of_genotype(run: str) -> Knowledge | None:
    """Return what training from scratch takes from the run that a genotype is of; None for a file or a shipped name."""
    folder = user_path(run)
    facts = read_facts(folder) if is_folder(folder) else None
    if facts is None:
        return None
    values = _data_values(facts, SHAPE) | _model_values(facts)
    if facts.search_space is not None:
        values["search_space"] = facts.search_space
    return Knowledge(run, _presets(facts), values, _keys_of_data(SHAPE), data_kind=facts.data.get("name"))


def of_weights(run: str) -> Knowledge | None:
    """Return what trained weights are used with: their data, how these show an image, and their model."""
    facts = read_facts(user_path(run))
    if facts is None:
        return None
    values = _data_values(facts, IMAGE) | _model_values(facts)
    image = _keys_of_data((*IMAGE, *SPLIT) if facts.data.keys() >= set(SPLIT) else IMAGE)
    return Knowledge(run, _presets(facts), values, image, trained=True, data_kind=facts.data.get("name"))


def _keys_of_data(names: Sequence[str]) -> tuple[str, ...]:
    """Return options of data as keys."""
    return tuple(f"data.{name}" for name in names)


def _presets(facts: Facts) -> dict[str, str]:
    """Return the presets of a run's data and model."""
    found = {group: section["name"] for group, section in (("data", facts.data), ("model", facts.model)) if "name" in section}
    return found | ({"data": facts.preset} if "data" in found and facts.preset is not None else {})


def _data_values(facts: Facts, image: Sequence[str]) -> dict[str, Any]:
    """Return the options of a run's data by key, and those of `image` as they were in the end."""
    return {f"data.{name}": value for name, value in ({**facts.data} | facts.image(image)).items()}


def _model_values(facts: Facts) -> dict[str, Any]:
    """Return the options of a run's model by key."""
    return {name if name in OF_HEAD else f"model.{name}": value for name, value in facts.model.items()}


def read_by_retrain(given: Mapping[str, str]) -> list[Knowledge]:
    """A genotype's run says data, head and model; weights to start from say their model, and what the genotype does not."""
    start = of_weights(given["init_from"]) if given.get("init_from", "null") != "null" else None
    searched = of_genotype(given["genotype"]) if "genotype" in given else None
    if start is None:
        return [searched] if searched else []
    if searched is not None:
        model = [key for key in searched.values if key.startswith("model.")]
        return [start.without("data"), searched.yielding(model).without("model")]
    folder = user_path(start.run)
    folder = folder if is_folder(folder) else folder.parent
    mine = {"genotype": str(folder)} if "genotype" not in given and is_file(folder / FILE) else {}
    return [replace(start, values={**start.values, **mine})]


def read_by_compare(given: Mapping[str, str]) -> list[Knowledge]:
    """The run of the genotype says data, model and search space."""
    found = of_genotype(given["genotype"]) if "genotype" in given else None
    return [found] if found else []


def read_by_evaluate(given: Mapping[str, str]) -> list[Knowledge]:
    """The weights say their data, and how these show an image; a preset of theirs has nothing to add to that."""
    found = of_weights(given["checkpoint"]) if "checkpoint" in given else None
    if found is None:
        return []
    kinds = {group: kind_of(group, choice, data_dir("conf")) for group, choice in found.presets.items()}
    return [replace(found, presets=kinds).without("model")]


def read_by_description(given: Mapping[str, str]) -> list[Knowledge]:
    """For a task about a network without data: its model and image size, as they are in the run of the genotype."""
    folder = user_path(given.get("genotype", "null"))
    facts = read_facts(folder) if is_folder(folder) else None
    if facts is None:
        return []
    values = {name: facts.info[name] for name in FROM_DATA if name in facts.info} | facts.image(SHAPE)
    return [Knowledge(given["genotype"], _presets(replace(facts, data={})), values | _model_values(facts))]


READERS: dict[str, Callable[[Mapping[str, str]], Iterable[Knowledge]]] = {
    "retrain": read_by_retrain,
    "compare": read_by_compare,
    "evaluate": read_by_evaluate,
    "complexity": read_by_description,
    "convert": read_by_description,
}


def shown(value: Any) -> str:
    """Return a value as the command line takes it, the middle of a long one left out."""
    text = as_text(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}...{text[-LONGEST // 2 :]}"


def as_plain(value: Any) -> Any:
    """Return a value with lists and dicts for tuples and other mappings."""
    if isinstance(value, Mapping):
        return {key: as_plain(entry) for key, entry in value.items()}
    return [as_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value
