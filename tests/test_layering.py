"""Imports point down only: cli -> tasks -> search, engine, ... -> models -> kernels, search_space, genotype -> scan."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "lmsearch"
LAYERS = (  # top first; a module may import modules of lower layers, and of its own room
    ("__main__", "testing"),
    ("cli",),
    ("tasks",),
    ("config_help", "run_identity", "completion"),
    ("config",),
    ("config_presets",),
    ("config_values",),
    ("bench", "sweep", "audit", "api"),
    ("scanbench", "report", "insight", "export"),
    ("search",),
    ("trials", "engine"),
    ("data", "interop"),
    ("models", "compat"),
    ("literature",),
    ("kernels", "search_space", "genotype"),
    ("genotype_schema",),
    ("scan",),
    ("settings",),
    ("stats", "figures", "reading"),
    ("files",),
    ("paths", "errors", "process", "context", "interrupts", "plain", "words", "status", "streams"),
    ("__init__",),  # its public names are imported on first use
)
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
WITHIN_REACH: set[tuple[str, str]] = set()  # neighbours of one layer
CONFIG_ONLY = ("cli", "tasks", "config", "config_values")


def room_of(module: str) -> str:
    """Return the room of a dotted module: lmsearch.models.mixer -> models."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def modules() -> list[Path]:
    """Return every Python file of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Return the dotted name of a file of the package."""
    parts = ["lmsearch", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Return the absolute names that a file imports, at any depth of its code."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {_target(node.module, alias.name) for alias in node.names}
    return frozenset(found)


def _target(module: str, name: str) -> str:
    """Return what `from module import name` imports: a module of the package, or a name inside `module`."""
    path = PACKAGE.parent.joinpath(*module.split("."), name)
    return f"{module}.{name}" if path.is_dir() or path.with_suffix(".py").is_file() else module


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_down(path: Path) -> None:
    room = room_of(name_of(path))
    assert room in RANK, f"{room} has no place in LAYERS"
    for target in imports_of(path):
        if target.partition(".")[0] != "lmsearch":
            continue
        other = room_of(target)
        below = RANK[other] > RANK[room] or other == room or (room, other) in WITHIN_REACH
        assert below, f"{name_of(path)} imports {target}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_only_the_tasks_know_hydra(path: Path) -> None:
    if room_of(name_of(path)) not in CONFIG_ONLY:
        assert not {name.partition(".")[0] for name in imports_of(path)} & {"hydra", "omegaconf"}


def test_modules_of_a_room_do_not_import_each_other_in_a_circle() -> None:
    graph = {name_of(path): imports_of(path) - {name_of(path)} for path in modules()}
    graph = {name: {t for t in targets if t in graph and t != "lmsearch"} for name, targets in graph.items()}
    while graph:
        free = {name for name, targets in graph.items() if not targets & graph.keys()}
        assert free, f"a circle within {sorted(graph)}"
        graph = {name: targets for name, targets in graph.items() if name not in free}


def test_the_package_imports_neither_tests_nor_experiments() -> None:
    for path in modules():
        assert not {name.partition(".")[0] for name in imports_of(path)} & {"tests", "experiments"}
