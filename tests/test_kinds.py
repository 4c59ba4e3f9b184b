"""Kinds are known by their records: what a name means is said once, beside its classes, and no other file compares names."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmsearch.data.info import TARGETS, DataInfo, TargetKind, target_kind
from lmsearch.engine.nonfinite import ANSWERS
from lmsearch.engine.objectives import METRICS, OBJECTIVES, Metric, metric_for, objective_for
from lmsearch.errors import DataError
from lmsearch.files import finite
from lmsearch.models.dense import HEADS
from lmsearch.search.architects.kinds import ARCHITECTS
from lmsearch.search.derivation.kinds import DERIVATIONS
from lmsearch.search.supernet.relax import RELAXATIONS
from lmsearch.settings.search import Supernet
from lmsearch.settings.shared import METRICS as told_metrics
from lmsearch.settings.shared import Training
from lmsearch.settings.tasks import OF_ALL_TARGETS
from lmsearch.status import PASSED, Level, Status

PACKAGE = Path(__file__).resolve().parent.parent / "lmsearch"
HOMES = {
    "search/architects/kinds.py": ARCHITECTS,
    "search/derivation/kinds.py": DERIVATIONS,
    "search/supernet/relax.py": RELAXATIONS,
    "data/info.py": TARGETS,
    "engine/nonfinite.py": ANSWERS,
    "engine/objectives/kinds.py": OBJECTIVES,
    "engine/objectives/metrics.py": METRICS,
    "models/dense/heads.py": HEADS,
    "status.py": [*Status, *Level],
}
NAMES = {str(name) for names in HOMES.values() for name in names}
DECLARED = {
    "settings/search.py": NAMES,
    "settings/optim.py": set(ANSWERS),
}  # what --help tells of each name, which PyTorch need not be imported for
OTHER_MEANING = {  # file, name: what the name means there
    ("data/__init__.py", "dense"): "name of a data source",
    ("data/dense/writing.py", "segmentation"): "key of COCO files",
    ("stats/detection.py", "segmentation"): "key of COCO files",
    ("audit/verdict.py", "diverged"): "key of audit.json: how many did",
    ("settings/tasks.py", "skip"): "what predict does about a file that cannot be read",
    ("models/merge.py", "mixed"): "how a mixer of an earlier version merges its branches",
    ("tasks/parts/discrete_results.py", "diverged"): "key of metrics.json: how many did",
    ("tasks/parts/measured.py", "accuracy"): "key of metrics.json, whatever the metric",
    ("tasks/parts/measured.py", "balanced_accuracy"): "key of metrics.json, whatever the metric",
}


def strings(node: ast.AST) -> Iterator[str]:
    """Yield the text of a constant, or of those in a tuple, list or set."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        for inside in node.elts:
            yield from strings(inside)


def compared(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every text that decides something: in comparisons, cases, startswith, and as keys of a dict."""
    for node in ast.walk(tree):
        parts: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        elif isinstance(node, ast.Dict):
            parts = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("startswith", "endswith"):
            parts = node.args
        yield from ((node.lineno if hasattr(node, "lineno") else 0, text) for part in parts for text in strings(part))


def found(source: str, file: str) -> list[str]:
    """Return where a file compares names of kinds that are not its own."""
    names = NAMES - set((HOMES | DECLARED).get(file, ()))
    return [
        f"{file}:{line}: {text!r}"
        for line, text in compared(ast.parse(source))
        if text in names and (file, text) not in OTHER_MEANING
    ]


def test_no_file_compares_the_names_of_kinds_but_their_own() -> None:
    files = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    assert [place for file, source in sorted(files.items()) for place in found(source, file)] == []
    for file, name in OTHER_MEANING:
        assert name in {text for _, text in compared(ast.parse(files[file]))}, f"{file} no longer compares {name!r}"


def test_the_command_line_takes_just_the_kinds_that_there_are() -> None:
    accepted = {field.name: set(field.metadata["key"].words) for field in dataclasses.fields(Supernet)}
    assert accepted["architect"] == set(ARCHITECTS) and accepted["derivation"] == set(DERIVATIONS)


def listed(kind: type, name: str) -> list[str]:
    """The words that the help of a key names."""
    told = next(field.metadata["key"].help for field in dataclasses.fields(kind) if field.name == name)
    return [text.split(" ")[0] for text in told.partition(": ")[2].split(" | ")]


def test_help_names_the_relaxations_heads_and_metrics_that_there_are() -> None:
    assert listed(Supernet, "relaxation") == [*RELAXATIONS] and listed(Training, "head") == [*HEADS]
    of_classes = [metric.name for metric in METRICS.values() if metric.target == "class"]
    assert told_metrics.split(" | ") == of_classes
    defaults = [metric_for(kind).name for kind in TARGETS]
    told_defaults = [f"of dense targets {defaults[1]}", f"of classes of pixels {defaults[2]}", f"of objects {defaults[3]}"]
    assert ", ".join([defaults[0], *told_defaults]) == OF_ALL_TARGETS


@pytest.mark.parametrize(
    "source",
    [
        "if how == 'fair': pass",
        "if 'climb' != how: pass",
        "if how not in ('ok', 'unconfirmed'): pass",
        "PASSES = {'single': 1}",
        "match how:\n case 'dense': pass",
        "if how.startswith('mse'): pass",
    ],
)
def test_a_comparison_of_names_is_found(source: str) -> None:
    assert len(found(source, "tasks/search.py")) >= 1


def info(target: str) -> DataInfo:
    return DataInfo("made", 3, ("a", "b", "c"), (4, 4), 1, (0.0,), (1.0,), target=target)


@pytest.mark.parametrize("kind", TARGETS.values(), ids=TARGETS)
def test_every_kind_of_target_has_an_objective_and_a_metric(kind: TargetKind) -> None:
    assert set(OBJECTIVES) == set(TARGETS) == {metric.target for metric in METRICS.values()}
    assert info(kind.name).targets is kind
    assert objective_for(kind.name).metric.target == kind.name


def test_an_unknown_kind_of_target_is_refused() -> None:
    for use in (target_kind, objective_for, lambda name: info(name).targets):
        with pytest.raises(DataError, match="target='clas'.*did you mean class"):
            use("clas")


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_the_bounds_of_a_metric_hold_its_signed_values(metric: Metric) -> None:
    least, most = metric.bounds
    assert all(least <= metric.signed(value) <= most for value in (0.0, 1.0))


def test_a_verdict_is_written_as_plain_text() -> None:
    assert [str(status) for status in Status] == ["ok", "unconfirmed", "indeterminate", "not tested", "diverged"]
    assert [str(status) for status in PASSED] == ["ok", "unconfirmed"]
    written = finite({"status": Status.OK, "levels": [Level.WARNING]})
    assert written == {"status": "ok", "levels": ["warning"]} and type(written["status"]) is type(written["levels"][0]) is str
