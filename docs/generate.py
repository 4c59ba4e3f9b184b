"""Writes what the docs take from the code: keys.md, names.md and pictures/."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # also where it is run from elsewhere

from pictures import pictures

import lmsearch
from lmsearch.cli import TASKS as SUMMARIES
from lmsearch.config_help import nested
from lmsearch.config_presets import choices_of, preset_keys, task_keys, task_presets
from lmsearch.paths import data_dir
from lmsearch.settings.catalogue import declared
from lmsearch.settings.fields import Key
from lmsearch.settings.model import MODELS, model_preset
from lmsearch.settings.tasks import TASKS
from lmsearch.words import as_text

DOCS = Path(__file__).resolve().parent
CONF = data_dir("conf")
WIDEST = 100  # characters of a signature in one line
MADE = "Made by `python docs/generate.py`; a test compares it with the code.\n"
ROOMS = {  # of the Python names: title and module, besides what `lmsearch` itself has
    "ScanBench": (
        "lmsearch.scanbench", "load", "versions", "table_names", "Table", "Space", "replay", "judge", "Entry", "leaderboard",
    ),
    "Figures": ("lmsearch.figures.orders", "orders_figure", "layers_figure"),
    "Transformers": ("lmsearch.api.transformers", "backbone_of", "classifier_of"),
    "Other people's models": ("lmsearch.compat", "install", "installed", "uninstall"),
    "Registration": ("lmsearch.interop.transformers", "register"),
}  # fmt: skip


def documents() -> dict[str, str]:
    """Return the generated pages."""
    return {"keys.md": keys_page(), "names.md": names_page()}


def keys_page() -> str:
    """Return the page of all configuration keys."""
    parts = [
        "# All keys", MADE,
        "Everything on the command line is `key=value`. A preset, such as `data=imagefolder`, brings keys of its own; any of them"
        " can be given beside it. `lmsearch <task> --help` shows the same in a terminal, `lmsearch <task> --cfg` with values.",
        "A list is `[a,b]`, nothing is `null`. Keys without a default stand with `???`: they must be given.",
        "## Tasks", *(task_section(task) for task in TASKS),
        "## Data", *(preset_section("data", choice) for choice in choices_of("data", conf_dir=CONF)),
        "## Models", model_section(),
        "## Ways to search", search_section(),
        "## Training", optim_section(),
        "## Sweeps", *(preset_section("sweep", choice) for choice in choices_of("sweep", conf_dir=CONF)),
    ]  # fmt: skip
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def task_section(task: str) -> str:
    """Return a task's summary, presets and own keys."""
    presets, own = task_presets(task, CONF), task_keys(task, CONF)
    told = [f"### `lmsearch {task}`", f"{SUMMARIES[task][1][0].upper()}{SUMMARIES[task][1][1:]}."]
    if presets:
        told.append("Presets: " + ", ".join(f"`{group}={choice}`" for group, choice in presets.items()) + ".")
    return "\n\n".join([*told, table(own, keys_of(task))] if own else told)


def keys_of(task: str, *parts: Mapping[str, Any]) -> Mapping[str, Key]:
    """Return what is known of the keys of a task, with these keys of presets."""
    return declared(task, nested({name: value for part in (task_keys(task, CONF), *parts) for name, value in part.items()}))


def table(values: Mapping[str, Any], keys: Mapping[str, Key]) -> str:
    """Return keys with their defaults and meanings."""
    rows = [f"| `{name}` | `{as_text(value)}` | {cell(keys[name].told(as_text(value)))} |" for name, value in values.items()]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])


def cell(text: str) -> str:
    """Return a text as it may stand in a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def preset_section(group: str, choice: str) -> str:
    """Return a preset with the keys that it brings."""
    brought = preset_keys(group, choice, CONF)
    task = "sweep" if group == "sweep" else "search"
    keys = keys_of(task, brought)
    return f"### `{group}={choice}`\n\n{comment_of(CONF / group / f'{choice}.yaml')}\n\n{table(brought, keys)}"


def comment_of(path: Path) -> str:
    """Return the first comment of a preset's file in one paragraph."""
    lines = path.read_text(encoding="utf-8").splitlines()
    told = [line.removeprefix("#").strip() for line in lines if line.startswith("#") and "@package" not in line]
    return cell(" ".join(told))


def model_section() -> str:
    """Return the models and their keys; null is the model's own value."""
    named = ", ".join(f"`{name}`" for name in sorted(MODELS))
    brought = {f"model.{key}": value for family in ("local_vim", "local_vmamba") for key, value in model_preset(family).items()}
    del brought["model.name"]
    return (
        f"`model=` one of {named}. Keys that a family does not have are refused.\n\n{table(brought, keys_of('search', brought))}"
    )


def search_section() -> str:
    """Return what each preset sets otherwise than fair, and all keys with the values of fair."""
    fair, rows = preset_keys("search", "fair", CONF), []
    evolution = preset_keys("search", "evolution", CONF)
    for choice in choices_of("search", conf_dir=CONF):
        brought = preset_keys("search", choice, CONF)
        base = evolution if set(brought) == set(evolution) and choice != "evolution" else fair
        other = [f"`{key.removeprefix('search.')}={as_text(v)}`" for key, v in brought.items() if base.get(key, v) != v]
        beside = "`fair`" if base is fair else "`evolution`"
        rows.append(f"| `{choice}` | {beside} | {cell(', '.join(other)) or 'nothing'} |")
    changes = "\n".join(["| `search=` | beside | sets otherwise |", "|---|---|---|", *rows])
    only = {key: value for key, value in evolution.items() if key not in fair}
    known = keys_of("search", evolution) | keys_of("search", fair)
    return "\n\n".join(
        [
            changes, "### Keys of a supernet's search (`search=fair`)", table(fair, known),
            "### Keys of a search of architectures (`search=evolution`), besides these", table(only, known),
        ]
    )  # fmt: skip


def optim_section() -> str:
    """Return the recipes of training side by side."""
    choices = [c for c in choices_of("optim", conf_dir=CONF) if not c.endswith(("ade20k", "coco"))]
    brought = {choice: preset_keys("optim", choice, CONF) for choice in choices}
    names = list(dict.fromkeys(name for keys in brought.values() for name in keys))
    known = keys_of("search", *brought.values())
    meanings = "\n".join(["| key | meaning |", "|---|---|", *(f"| `{n}` | {cell(known[n].told(''))} |" for n in names)])
    cells = {name: [f"`{as_text(keys[name])}`" if name in keys else "" for keys in brought.values()] for name in names}
    rows = [f"| `{name}` | {' | '.join(found)} |" for name, found in cells.items()]
    heads = " | ".join(choice.replace("_", " ") for choice in choices)
    values = "\n".join([f"| key | {heads} |", "|---" * (len(choices) + 1) + "|", *rows])
    said = (
        "`data=` and the task choose `optim=`, such as `optim=search_digits`. `null` and `auto` are chosen by the number of"
        " images. `optim=search_ade20k`, `retrain_ade20k`, `search_coco` and `retrain_coco` hold the paper's schedules."
    )
    return "\n\n".join([said, meanings, values])


def names_page() -> str:
    """Return the page of the public Python names."""
    parts = ["# Python names", MADE, "What `import lmsearch` gives. [From Python](python.md) shows how they are used."]
    parts += [entry(f"lmsearch.{name}", getattr(lmsearch, name)) for name in lmsearch.__all__ if name != "__version__"]
    for title, (module, *names) in ROOMS.items():
        parts.append(f"## {title}: `{module}`")
        source = __import__(module, fromlist=names)
        parts += [entry(f"{module}.{name}", getattr(source, name)) for name in names]
    return "\n\n".join(parts) + "\n"


def entry(path: str, thing: Any) -> str:
    """Return name, signature and docstring of a function or class."""
    return "\n\n".join([f"### `{path}`", f"```py\n{signature(path.rpartition('.')[2], thing)}\n```", *paragraphs(thing)])


def signature(name: str, thing: Any) -> str:
    """Return a signature as it stands in the source, a parameter per line where it is long."""
    found = inspect.signature(thing)
    given = [str(p) for p in found.parameters.values()]
    keyword = next((n for n, p in enumerate(found.parameters.values()) if p.kind is p.KEYWORD_ONLY), None)
    if keyword is not None:
        given.insert(keyword, "*")
    back = "" if found.return_annotation is found.empty else f" -> {found.return_annotation}"
    text = f"{name}({', '.join(given)}){back}"
    text = text if len(text) <= WIDEST else f"{name}(\n" + "".join(f"    {one},\n" for one in given) + f"){back}"
    return re.sub(r": '([^']*)'", r": \1", text)  # annotations are text


def paragraphs(thing: Any) -> Iterator[str]:
    """Yield the paragraphs of a docstring; a shape such as (B, L, D) stays as it is."""
    for text in re.split(r"\n\s*\n", inspect.getdoc(thing) or ""):
        yield text.replace("<", "&lt;") if not text.startswith("    ") else text


def main() -> None:
    """Write every file that differs."""
    for name, text in (documents() | {f"pictures/{name}": svg for name, svg in pictures().items()}).items():
        path = DOCS / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
