"""Composing a task's configuration: presets, typed values, paths taken literally, one clear line per mistake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from lmsearch.config import compose, plain_config, settings_of
from lmsearch.config_presets import choices_of, split_overrides
from lmsearch.errors import ConfigError
from lmsearch.paths import data_dir
from lmsearch.run_identity import config_digest, run_digest
from lmsearch.settings.fields import AnyValue, Ints, PathName, key
from lmsearch.settings.groups import Group, Settings
from lmsearch.settings.optim import betas_fault
from lmsearch.settings.tasks import TASKS as SETTINGS
from lmsearch.tasks.parts.run_dir import folder_of

FILES = {
    "train.yaml": """
defaults:
  - _self_
  - data: digits  # which images
  - model: nano
seed: 0  # of everything random
run_dir: null  # output folder
resume: false
device: auto
keep: null
note: none
lr: 0.1
steps: 10  # optimizer steps
betas: [0.9, 0.999]
levels: [1, 2]
anything: null
twice: ${seed}
genotype: null
search:
  architect: single  # who moves the alphas
""",
    "need.yaml": "checkpoint: ???\n",
    "data/digits.yaml": "name: digits\nroot: null\n",
    "data/planted.yaml": "# @package _global_\nkeep: 1\ndata:\n  name: planted\n  root: null\n",
    "model/nano.yaml": "name: local_vim_nano\ndrop_path_rate: 0.0\n",
    "model/tiny.yaml": "name: local_vim_tiny\ndrop_path_rate: 0.1\n",
}


@dataclass(frozen=True, kw_only=True)
class Images(Group):
    """Which images."""

    name: str = key("source")
    root: PathName | None = key("folder")


@dataclass(frozen=True, kw_only=True)
class Net(Group):
    """Which model."""

    name: str = key("model")
    drop_path_rate: float = key("probability")


@dataclass(frozen=True, kw_only=True)
class Search(Group):
    """How alphas learn."""

    architect: str = key("who moves the alphas", words=("single", "bilevel"))
    extra: int | None = key("of a later version", added=(None,), absent=True)


@dataclass(frozen=True, kw_only=True)
class Report(Group):
    """A section of a later version."""

    colour: str = key("of lines", added=("red",))


@dataclass(frozen=True, kw_only=True)
class Train(Settings):
    """A task with one key of every type."""

    seed: int = key("of everything random")
    run_dir: PathName | None = key("output folder", counts=False)
    resume: bool = key("go on", counts=False)
    device: str = key(words=("auto", "cpu", "cuda"), counts=False)
    keep: Ints | None = key("how many")
    note: str = key("anything that was typed")
    lr: float = key("learning rate", least=0.0, most=2.0)
    steps: int = key("optimizer steps", least=1, endless=True)
    betas: list[float] = key("of Adam", check=betas_fault)
    levels: list[int] = key("some numbers")
    anything: AnyValue | None = key("whatever Hydra reads")
    twice: int = key("the seed, unless it is set")
    genotype: PathName | None = key("of a search")
    later: int | None = key("of a later version", added=(1,), absent=True)
    search: Search
    data: Images
    model: Net
    report: Report | None = None


@dataclass(frozen=True, kw_only=True)
class Need(Settings):
    """A task that cannot do without."""

    checkpoint: PathName | None = key("weights")


OF_FOLDERS = ("idx", "imagefolder", "dense", "ade20k", "coco")  # whose root must be given
HARD_PATHS = ["a b", "a,b", "run=1=2", "it's", '"quoted"', "[x]", "{y}", "${seed}", r"back\slash", r"odd\${x}", "a#b", " x "]


def written(folder: Path, files: Mapping[str, str]) -> Path:
    """Return a folder with these files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small conf/ folder, for all tests: Hydra puts the same presets together once."""
    return written(tmp_path_factory.mktemp("conf") / "conf dir", FILES)


@pytest.fixture
def conf_dir(files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return that folder, whose tasks are known."""
    monkeypatch.setitem(SETTINGS, "train", Train)
    monkeypatch.setitem(SETTINGS, "need", Need)
    return files


def train(conf_dir: Path, *overrides: str) -> DictConfig:
    """Compose the test task."""
    return compose("train", overrides, conf_dir=conf_dir)


def test_defaults_and_presets_are_composed(conf_dir: Path) -> None:
    cfg = train(conf_dir, "model=tiny")
    assert (cfg.seed, cfg.data.name, cfg.model.name) == (0, "digits", "local_vim_tiny")


def test_a_value_wins_over_a_preset_wherever_it_stands(conf_dir: Path) -> None:
    assert train(conf_dir, "data=planted").keep == 1
    assert train(conf_dir, "keep=3", "data=planted", "model.drop_path_rate=0.5").keep == 3


@pytest.mark.parametrize("text", HARD_PATHS)
def test_paths_are_taken_as_they_stand(conf_dir: Path, text: str) -> None:
    keys = ("run_dir", "genotype", "data.root")
    cfg = train(conf_dir, *(f"{key}={text}" for key in keys))
    assert [OmegaConf.select(cfg, key) for key in keys] == [text] * 3


def test_a_path_that_can_be_none_is_found_before_anybody_looks_there(conf_dir: Path) -> None:
    for name in ("run_dir", "genotype", "checkpoint", "sheet", "data.root", "search_space"):
        with pytest.raises(ConfigError, match=f"{name}='' is empty; null is accepted too"):
            split_overrides([f"{name}="], conf_dir=conf_dir)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("seed=7", 7),
        ("lr=1", 1.0),
        ("lr=1e-3", 0.001),
        ("resume=True", True),
        ("betas=[0.5,0]", [0.5, 0]),
        ("levels=[3]", [3]),
        ("keep=2", 2),
        ("keep=[2,3]", [2, 3]),
        ("keep=null", None),
        ("run_dir=null", None),
        ("anything=[a,{b: 1}]", ["a", {"b": 1}]),
        ("note=a, b", "a, b"),
        ("twice=3", 3),
    ],
)
def test_values_are_read_by_the_type_of_their_default(conf_dir: Path, word: str, value: object) -> None:
    found = OmegaConf.to_container(train(conf_dir, word))[word.partition("=")[0]]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed=abc", "seed='abc' is not an integer"),
        ("seed=1.5", "seed='1.5' is not an integer"),
        ("seed=null", "seed='null' is not an integer"),
        ("seed=1,2", "seed='1,2' is not an integer"),
        ("twice=x", "twice='x' is not an integer"),
        ("lr=fast", "lr='fast' is not a number"),
        ("lr=nan", "lr='nan' is not a finite number"),
        ("resume=1", "resume='1' is neither true nor false"),
        ("betas=0.9", "betas='0.9' is not a list, such as [a,b]"),
        ("betas=[a]", "betas='[a]' is not a list of numbers, such as [0.9, 0.999]"),
        ("levels=[1.5]", "levels='[1.5]' is not a list of integers, such as [1, 2]"),
        ("keep=two", "keep='two' is not an integer or a list of integers, such as 2 or [2,3]; null is accepted too"),
        ("keep=1.0", "keep='1.0' is not an integer or a list of integers, such as 2 or [2,3]; null is accepted too"),
        ("keep=true", "keep='true' is not an integer or a list of integers, such as 2 or [2,3]; null is accepted too"),
        ("anything=1,2", "anything='1,2' holds several values; write a list as [a,b]; null is accepted too"),
        ("run_dir=", "run_dir='' is empty; null is accepted too"),
        ("lr=3", "lr=3.0 is out of range; accepted: 0.0 to 2.0"),
        ("steps=0", "steps=0 is out of range; accepted: 1 to any"),
        ("betas=[0.5,1]", "betas=[0.5, 1] is not accepted; expected two numbers in [0, 1)"),
        ("device=gpu", "device='gpu' is not accepted; accepted: auto, cpu, cuda"),
        ("search.architect=both", "search.architect='both' is not accepted; accepted: single, bilevel"),
        ("model=tinny", "model='tinny' is not a choice; did you mean tiny?"),
        ("model=null2", "model='null2' is not a choice"),
        ("sede=1", "unknown key 'sede'; did you mean seed"),
        ("model.drop_path=1", "unknown key 'model.drop_path'; did you mean model.drop_path_rate"),
        ("search=x", "search is a section, not a value; set its keys: search.architect"),
        ("+new=1", "'+new=1' is not of the form key=value, such as seed=1"),
        ("~data", "'~data' is not of the form key=value, such as seed=1"),
        ("image.png", "'image.png' is not of the form key=value, such as seed=1"),
        ("hydra.run.dir=x", "unknown key 'hydra.run.dir'"),
    ],
)
def test_a_mistake_is_one_clear_line(conf_dir: Path, word: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        train(conf_dir, word)
    text = str(raised.value)
    assert text.startswith(message) and "\n" not in text


def test_a_required_key_is_named(conf_dir: Path) -> None:
    with pytest.raises(ConfigError, match="lmsearch need needs checkpoint=..."):
        compose("need", [], conf_dir=conf_dir)
    assert compose("need", ["checkpoint=a b"], conf_dir=conf_dir).checkpoint == "a b"


def test_an_unknown_task_and_a_preset_that_the_task_has_not_are_errors(conf_dir: Path) -> None:
    with pytest.raises(ConfigError, match="no task 'trian'"):
        compose("trian", [], conf_dir=conf_dir)
    with pytest.raises(ConfigError, match="lmsearch need with model=tiny"):
        compose("need", ["model=tiny", "checkpoint=x"], conf_dir=conf_dir)


def test_digest_ignores_where_and_how_a_run_happens(conf_dir: Path) -> None:
    base = config_digest(plain_config(train(conf_dir)))
    assert base == config_digest(plain_config(train(conf_dir, "run_dir=x", "resume=true", "device=cpu")))
    assert base == config_digest(plain_config(train(conf_dir, "run_dir=${seed}")))
    assert base != config_digest(plain_config(train(conf_dir, "seed=1")))
    assert base != config_digest(plain_config(train(conf_dir, "model=tiny")))


def test_the_default_folder_names_task_data_model_and_seed(conf_dir: Path) -> None:
    cfg = train(conf_dir, "seed=3")
    assert folder_of(settings_of(Train, cfg), "train") == Path("runs/train-digits-local_vim_nano-s3")
    assert folder_of(settings_of(Train, cfg), "train", model="other") == Path("runs/train-digits-other-s3")
    assert folder_of(settings_of(Need, compose("need", ["checkpoint=x"], conf_dir=conf_dir)), "need") == Path("runs/need")


def test_composing_twice_leaves_nothing_behind(conf_dir: Path) -> None:
    assert train(conf_dir, "seed=5").seed == 5
    assert train(conf_dir).seed == 0


TASKS = sorted(path.stem for path in data_dir("conf").glob("*.yaml"))


def required(task: str, *presets: str) -> list[str]:
    """Return words that give a value to every key that the shipped task leaves open."""
    content = OmegaConf.load(data_dir("conf") / f"{task}.yaml")
    words = [f"{key}={'space' if key == 'what' else 'x'}" for key in content if OmegaConf.is_missing(content, key)]
    return [*presets, *words, *(["data.root=x"] if {f"data={name}" for name in OF_FOLDERS} & {*presets} else [])]


@pytest.mark.parametrize("task", TASKS)
def test_every_shipped_task_composes(task: str) -> None:
    cfg = compose(task, required(task))
    assert len(config_digest(plain_config(cfg))) == 64
    assert folder_of(settings_of(SETTINGS[task], cfg), task).parts[0] == "runs"


@pytest.mark.parametrize("task", TASKS)
def test_every_preset_of_a_shipped_task_composes(task: str) -> None:
    defaults = OmegaConf.load(data_dir("conf") / f"{task}.yaml").get("defaults", [])
    found = {group: choices_of(group) for entry in defaults if isinstance(entry, DictConfig) for group in entry}
    assert all(found.values())
    if task != "search":  # the models are the same files in every task
        found = {group: choices[:2] if group == "model" else choices for group, choices in found.items()}
    for number in range(max(map(len, found.values()), default=0)):  # presets of other groups change nothing of a group's own
        compose(task, required(task, *(f"{group}={choices[number % len(choices)]}" for group, choices in found.items())))


FAIR_THEN = ("search.derivation=climb", "search.holdout=0.2")  # what search=fair was in version 0.1.0
RUNS_OF_0_1_0 = {  # task, words: the digest of its run in version 0.1.0, whose folders must go on
    ("search", *FAIR_THEN): "d8ae66f8658f98e9847f996bbbba57e3e7402073a412e6c50f54e8559e06e4fd",
    ("search", "search=darts", "data=planted"): "212928e91603cf5fd061566086d40f83bc67e05630bc5f8062315e5d553951b0",
    ("search", "search=random"): "6e3d6bf683931b00c51c0212d65ac83a342409a85d4a2bf9a18778215bdf59de",
    ("retrain", "genotype=x"): "d52b0e304d0ba3a2ffd51b4f3e98ba4c7974650d7be7080996659ca9608ca91f",
    ("compare", "genotype=x"): "79f79bfc83ae5e47bf2d57321a5cb3a27b3ca25b364e191e077a80aea7067cff",
    ("audit", *FAIR_THEN): "7e6b8f292c4112655eeefe35bb9bb08e9e48080b9ef232511816a5ad8ff21c3e",
    # filled in for classes of images before the folder is claimed
    ("derive", "checkpoint=x", "batch_size=256"): "d16f732dfb04f3e3e37b423fd94572096e0921dd77700be654e4b6120fa241b0",
}  # fmt: skip


@pytest.mark.parametrize(("words", "digest"), RUNS_OF_0_1_0.items(), ids=range(len(RUNS_OF_0_1_0)))
def test_runs_of_the_first_version_are_the_same_runs(words: tuple[str, ...], digest: str) -> None:
    assert run_digest(plain_config(compose(words[0], words[1:]))) == digest


def test_how_a_run_is_carried_out_does_not_make_it_another_run(conf_dir: Path) -> None:
    digest = run_digest(plain_config(train(conf_dir)))
    for word in ("run_dir=a", "device=cpu", "resume=true"):
        assert run_digest(plain_config(train(conf_dir, word))) == digest, word
    for word in ("seed=1", "lr=0.2", "model=tiny"):
        assert run_digest(plain_config(train(conf_dir, word))) != digest, word


def test_a_key_of_a_later_version_counts_only_with_another_value(conf_dir: Path, tmp_path: Path) -> None:
    digest = run_digest(plain_config(train(conf_dir)))
    text = FILES["train.yaml"].replace("seed: 0", "later: 1\nreport:\n  colour: red\nseed: 0")
    later = written(tmp_path, FILES | {"train.yaml": text.replace("search:", "search:\n  extra: null")})
    assert run_digest(plain_config(train(later))) == digest
    for word in ("later=2", "report.colour=blue", "search.extra=1"):
        assert run_digest(plain_config(train(later, word))) != digest, word
