"""Configuration of a task: conf/<task>.yaml, its presets, and the key=value words of the command line, checked.

Presets (model=..., data=...) are Hydra groups: one choice per file in conf/<group>/. Every other key=value is read here
by the type of the default that it replaces, so that paths may hold any character and a wrong type is one clear line.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from lmsearch.config_values import OPTIONAL_TYPES, PATH_KEYS, literal, read_value
from lmsearch.errors import ConfigError, did_you_mean
from lmsearch.paths import data_dir
from lmsearch.reading import is_folder

CHOICES = {
    "device": ("auto", "cpu", "cuda"),
    "precision": ("fp32", "bf16", "fp16"),
    "on_error": ("raise", "skip"),
    "search.method": ("supernet", "random", "local", "evolution", "tpe", "nsga2"),
    "search.evaluate": ("shared", "standalone"),
    "optim.class_weights": ("none", "balanced"),
    "data.sampler": ("shuffled", "balanced"),
    "search.objective2": ("flops", "latency"),
    "search.architect": ("single", "bilevel", "mixed", "fair"),
    "search.update": ("adam", "exponentiated_gradient"),
    "sampler": ("tpe", "random", "nsga2"),
    "pruner": ("none", "median", "hyperband"),
    "launcher": ("local", "submitit"),
    "search.derivation": ("topk", "perturbation", "climb"),
    "derivation": ("topk", "perturbation", "climb"),
}
RANGES = {  # least and most, where a number of the right type can still make no sense
    "epochs": (1, None),
    "batch_size": (1, None),
    "num_workers": (0, None),
    "seeds": (1, None),
    "seed": (0, None),
    "budget": (1, None),
    "top": (1, None),
    "minutes": (0.0, None),
    "trials": (1, None),
    "workers": (1, None),
    "threads": (1, None),
    "timeout": (0.0, None),
    "population": (2, None),
    "prune_after": (1, None),
    "submitit.timeout_min": (1, None),
    "submitit.cpus_per_task": (1, None),
    "submitit.gpus_per_node": (0, None),
    "model.patch_size": (1, None),
    "model.embed_dim": (1, None),
    "model.depth": (1, None),
    "model.d_state": (1, None),
    "model.drop_path_rate": (0.0, 0.99),
    "search.trials": (1, None),
    "search.budget_steps": (0.0, None),
    "search.population": (2, None),
    "search.tournament": (1, None),
    "search.fewest": (1, None),
    "search.latency_batch": (1, None),
    "search.order": (1, 2),
    "search.alpha_lr": (0.0, None),
    "search.alpha_weight_decay": (0.0, None),
    "search.alpha_weight_decay_end": (0.0, None),
    "search.mixed_weight": (0.0, None),
    "search.samples": (1, None),
    "search.partial_channels": (1, None),
    "search.alpha_warmup_epochs": (0, None),
    "search.health_every": (0, None),
    "search.recheck": (0.0, None),
    "search.passes": (1, None),
    "optim.lr": (0.0, None),
    "optim.min_lr": (0.0, None),
    "optim.warmup_lr": (0.0, None),
    "optim.warmup_epochs": (0, None),
    "optim.weight_decay": (0.0, None),
    "optim.clip_grad": (0.0, None),
    "optim.label_smoothing": (0.0, 1.0),
    "optim.mixup": (0.0, None),
    "optim.cutmix": (0.0, None),
    "optim.mix_prob": (0.0, 1.0),
    "optim.mix_switch_prob": (0.0, 1.0),
    "optim.ema_decay": (0.0, 1.0),
    "data.flip_prob": (0.0, 1.0),
    "data.randaugment_ops": (0, None),
    "data.randaugment_magnitude": (0.0, 10.0),
    "data.randaugment_std": (0.0, None),
    "data.erasing_prob": (0.0, 1.0),
    "data.crop_pct": (0.01, 1.0),
    "data.val_fraction": (0.001, 0.9),
    "baseline_limit": (0, None),
}
BETAS = ("optim.betas", "search.alpha_betas")
NOT_IN_DIGEST = (  # how and where a run is carried out, not what it is
    "run_dir", "resume", "overwrite", "strict", "init_strict", "device", "num_workers", "hydra",
    "save_every_s", "keep_checkpoints", "workers", "threads", "quiet", "verbose",
)  # fmt: skip
# Keys that came after 0.1.0, each with the value that does what 0.1.0 did: only another value makes a run another one, so that
# the folders of earlier versions go on. Sections that came later are listed key by key.
ADDED_KEYS: dict[str, Any] = {
    "metric": None,
    "optim.class_weights": "none",
    "data.sampler": "shuffled",
    "data.val_fraction": None,
    "data.val_digest": None,
    "data.mean": None,
    "data.std": None,
    "data.scale": [0.08, 1.0],
    "data.ratio": [3 / 4, 4 / 3],
    "data.flip_prob": 0.5,
    "data.randaugment_ops": 2,
    "data.randaugment_magnitude": 9.0,
    "data.randaugment_std": 0.5,
    "data.erasing_prob": 0.25,
    "data.crop_pct": 0.875,
    "baseline_limit": None,
}
OPEN_ENDED = ("seeds", "search.trials", "search.budget_steps", "search.recheck", "minutes")  # a run may be given more of it


@dataclass(frozen=True)
class Defaults:
    """What stands in place of the shipped defaults until the command line says otherwise: presets, and values by dotted key."""

    presets: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


def compose(task: str, overrides: Sequence[str], *, defaults: Defaults | None = None, conf_dir: Path | None = None) -> DictConfig:
    """Return the configuration of `task` with the `overrides` ("key=value") applied, over `defaults` where it has those keys.

    Raises ConfigError with one clear line for an unknown key or preset, a value of another type, or a missing value.
    """
    conf_dir, defaults = conf_dir or data_dir("conf"), defaults or Defaults()
    presets, values = split_overrides(overrides, conf_dir=conf_dir)
    cfg = copy.deepcopy(compose_presets(task, tuple((defaults.presets | presets).items()), conf_dir))
    accepted = set(keys_of(cfg))
    for key, value in defaults.values.items():
        if key in accepted:
            OmegaConf.update(cfg, key, literal(value), merge=False)
    for key, text in values.items():
        _set(cfg, key, text, conf_dir=conf_dir)
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        needed = ", ".join(f"{key}=..." for key in missing)
        words = " ".join([task, *(f"{key}={choice}" for key, choice in presets.items())])  # keys depend on the presets
        raise ConfigError(f"lmsearch {task} needs {needed}; see lmsearch {words} --help")
    _check_choices(cfg)
    return cfg


def default_run_dir(
    task: str, cfg: DictConfig, *, data: str | None = None, model: str | None = None, seed: int | None = None
) -> Path:
    """Return runs/<task>-<data>-<model>-s<seed>, with what is not given from the configuration, or left out.

    A search over several seeds, which is no longer search with the first of them, has "-seeds" added.
    """
    data = data or OmegaConf.select(cfg, "data.name")
    model = model or OmegaConf.select(cfg, "model.name")
    seed = OmegaConf.select(cfg, "seed") if seed is None else seed
    several = "seeds" if task == "search" and cfg.seeds > 1 else None
    parts = [task, data, model, None if seed is None else f"s{seed}", several]
    return Path("runs") / "-".join(str(part).replace("/", "-") for part in parts if part is not None)


def choices_of(group: str, *, conf_dir: Path | None = None) -> tuple[str, ...]:
    """Return the presets of a group, such as the model names of conf/model/, sorted; empty where there is no such group."""
    folder = (conf_dir or data_dir("conf")) / group
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def split_overrides(overrides: Sequence[str], *, conf_dir: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Split the command line's words into presets and values; a key given twice takes the last."""
    presets: dict[str, str] = {}
    values: dict[str, str] = {}
    for word in overrides:
        key, equals, text = word.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][\w./-]*", key):
            raise ConfigError(f"{word!r} is not of the form key=value, such as seed=1")
        choices = choices_of(key, conf_dir=conf_dir)
        if not choices:
            if key in PATH_KEYS:
                read_value(key, text, None)  # what can be no path is found before anybody looks there
            values[key] = text
        elif text in choices or text == "null":
            presets[key] = text
        else:
            own = f"; images of your own: data=imagefolder data.root={text}" if key == "data" and is_folder(Path(text)) else ""
            raise ConfigError(f"{key}={text!r} is not a choice{did_you_mean(text, choices)}{own}")
    return presets, values


@lru_cache(maxsize=16)  # a sweep composes the same files for every trial
def compose_presets(task: str, presets: tuple[tuple[str, str], ...], conf_dir: Path) -> DictConfig:
    """Let Hydra put conf/<task>.yaml and its presets together; change only copies of what it returns."""
    if not (conf_dir / f"{task}.yaml").is_file():
        raise ConfigError(f"there is no conf/{task}.yaml, so no task {task!r}")
    words = [f"{key}={choice}" for key, choice in presets]
    nothing = ", ".join(word for word in words if word.endswith("=null"))
    try:
        with initialize_config_dir(version_base=None, config_dir=str(conf_dir.resolve())):
            return hydra_compose(config_name=task, overrides=words)
    except (HydraException, OmegaConfBaseException) as error:
        reason = str(error).strip().splitlines()[0]
        given = f" with {' '.join(words)}" if words else ""
        raise ConfigError(f"lmsearch {task}{given}: {reason}") from error
    except ValueError as error:  # Hydra's for a group that must name a preset
        if not nothing:
            raise
        raise ConfigError(f"lmsearch {task} with {nothing}: it cannot do without; see lmsearch {task} --help") from error


def _set(cfg: DictConfig, key: str, text: str, *, conf_dir: Path) -> None:
    """Read `text` by the type of the default at `key` and put it there."""
    head, _, leaf = key.rpartition(".")
    section = OmegaConf.select(cfg, head) if head else cfg
    if not isinstance(section, DictConfig) or leaf not in list(section):
        if owners := _presets_with(key, conf_dir):
            raise ConfigError(f"unknown key {key!r} with these presets; it is a key of {', '.join(owners)}")
        raise ConfigError(f"unknown key {key!r}{did_you_mean(key, keys_of(cfg))}")
    try:
        default = None if OmegaConf.is_missing(section, leaf) else section[leaf]
    except InterpolationResolutionError:  # it refers to a key that has no value yet
        default = None
    if isinstance(default, DictConfig) and default and key not in OPTIONAL_TYPES:
        inside = ", ".join(f"{key}.{name}" for name in default)
        raise ConfigError(f"{key} is a section, not a value; set its keys: {inside}")
    OmegaConf.update(cfg, key, literal(read_value(key, text, default)), merge=False)


def _presets_with(key: str, conf_dir: Path) -> list[str]:
    """Return the presets that bring a key, such as data=imagefolder for data.root."""
    group, _, leaf = key.partition(".")
    files = {choice: OmegaConf.load(conf_dir / group / f"{choice}.yaml") for choice in choices_of(group, conf_dir=conf_dir)}
    return [f"{group}={choice}" for choice, content in files.items() if leaf in list(content.get(group, content))]


def keys_of(cfg: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every value in `cfg`."""
    for name in cfg:
        node = cfg._get_node(name)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation() and len(node):
            yield from keys_of(node, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _check_choices(cfg: DictConfig) -> None:
    """Raise ConfigError where a key that takes one of a few words holds another."""
    for key, accepted in CHOICES.items():
        value = OmegaConf.select(cfg, key)
        if value is not None and value not in accepted:
            raise ConfigError(f"{key}={value!r} is not accepted; accepted: {', '.join(accepted)}")
    for key, (least, most) in RANGES.items():
        value = OmegaConf.select(cfg, key)
        if isinstance(value, (int, float)) and (value < least or (most is not None and value > most)):
            raise ConfigError(f"{key}={value} is out of range; accepted: {least} to {'any' if most is None else most}")
    for key in BETAS:
        value = OmegaConf.select(cfg, key)
        if value is not None and (len(value) != 2 or not all(0 <= beta < 1 for beta in value)):
            raise ConfigError(f"{key}={list(value)} is not accepted; expected two numbers in [0, 1)")
