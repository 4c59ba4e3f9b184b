"""Figures: drawn from plain numbers, without touching what matplotlib remembers between calls."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from lmsearch import figures
from lmsearch.figures.audit import audit_figure
from lmsearch.figures.bench import bench_figure, can_be_drawn
from lmsearch.figures.canvas import new_figure
from lmsearch.figures.choices import choices_figure
from lmsearch.figures.compared import race_figure, scatter_figure
from lmsearch.figures.confusion import confusion_figure
from lmsearch.figures.curves import curves_figure
from lmsearch.figures.heat import attention_figure, receptive_figure, saliency_figure
from lmsearch.figures.importance import importance_figure
from lmsearch.figures.moves import worth_figure
from lmsearch.figures.orders import layers_figure, orders_figure
from lmsearch.figures.precision import precision_figure
from lmsearch.figures.trials import front_figure, history_figure
from lmsearch.files import figure_bytes, write_figure
from lmsearch.scan.directions import index_table
from lmsearch.search_space import load_search_space

ROOT = Path(__file__).resolve().parent.parent
GROWTH = {"axes": {"L": {"exponent": 1.0, "sizes": [{"size": 1, "seconds": 1.0}, {"size": 2, "seconds": 2.0}]}}}
ARM = {"mean": 0.5, "low": 0.4, "high": 0.6}
MAP = [[0.0, 0.5, 0.1], [1.0, 0.2, 0.3]]
CALLS: dict[Any, tuple[tuple, dict]] = {
    attention_figure: (({"h": [[1.0, 0.0], [0.5, 1.0]]}, (1, 2)), {"token": 1}),
    audit_figure: (([[0.5, 0.6], [0.7]], {"search": ARM}), {"labels": ("val", "test"), "title": "yes"}),
    bench_figure: (({"growth": GROWTH},), {}),
    choices_figure: (
        ([[0.5, float("nan")]], [["kept", ""]]),
        {"layers": ["layers.0"], "candidates": ["h", "v"], "label": "probability"},
    ),
    curves_figure: (([0, 1], {"loss": {"train": [1.0, 0.5], "val": [1.1, 0.7]}}), {}),
    confusion_figure: ((["a", "b"], [[3, 1], [0, 0]]), {"title": "4 samples"}),
    front_figure: (([(1, 2), (2, 1), (3, 3)], [(1, 2), (2, 1)]), {"labels": ("loss", "flops"), "names": ["0", "1"]}),
    history_figure: (([0, 1, 2], [0.3, 0.2, 0.4]), {"maximise": True, "label": "accuracy"}),
    importance_figure: (({"a": {"h": 0.1, "v": -0.2}, "b": {"v": 0.0}}, {"a": ["h"], "b": ["v"]}, [1.0, 0.9, 0.8]), {}),
    layers_figure: (({"layers.0": {"h": [0, 1, 2, 3]}}, {"layers.0": (2, 2)}), {"image": [[0.0, 0.5], [0.5, 1.0]]}),
    new_figure: ((4, 3), {}),
    orders_figure: (({"h": [0, 1, 2, 3], "v": [0, 2, 1, 3]}, (2, 2)), {}),
    precision_figure: ((["a", "_b"], {"box": np.array([[1.0, np.nan], [0.5, np.nan]]), "mask": np.full((2, 2), np.nan)}), {}),
    race_figure: (({"random": [[0.3, 0.1], [0.2, 0.2]], "fair": [[0.1, 0.0]]},), {"cost": "trainings", "label": "regret"}),
    receptive_figure: ((MAP,), {"token": (0, 1), "grid": (2, 3)}),
    saliency_figure: ((MAP, MAP), {}),
    scatter_figure: (({"1 layer": ([1, 2], [2, 3])},), {"labels": ("val", "test"), "marked": {"1 layer": {0: "h+v"}}}),
    worth_figure: (
        ([0, 1], {"layers.0": {"h": [0.1, float("nan")], "v": [0.2, 0.3]}}),
        {"kept": {"layers.0": ["v"]}, "label": "p"},
    ),
}


@pytest.fixture
def users_pyplot() -> Iterator[Figure]:
    """Give the open figure of a user whose backend is none that the package draws with."""
    before = matplotlib.get_backend()
    plt.switch_backend("svg")
    yield plt.figure()
    plt.close("all")
    plt.switch_backend(before)


def drawing_functions() -> set[Any]:
    """Return every public function of the room that gives a figure."""
    modules = [importlib.import_module(f"lmsearch.figures.{m.name}") for m in pkgutil.iter_modules(figures.__path__)]
    found = {f for m in modules for _, f in inspect.getmembers(m, inspect.isfunction) if f.__module__ == m.__name__}
    return {f for f in found if "Figure" in str(inspect.signature(f).return_annotation)}


def test_every_function_that_draws_is_tested_here() -> None:
    assert drawing_functions() == CALLS.keys()


@pytest.mark.parametrize("draw", CALLS, ids=lambda draw: draw.__name__)
def test_a_figure_leaves_backend_open_figures_and_settings_alone(draw: Any, users_pyplot: Figure, tmp_path: Path) -> None:
    args, options = CALLS[draw]
    settings = dict(matplotlib.rcParams)
    figure = draw(*args, **options)
    assert isinstance(figure, Figure)
    write_figure(tmp_path / "figure.png", figure)
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
    assert matplotlib.get_backend() == "svg" and plt.gcf() is users_pyplot and plt.get_fignums() == [users_pyplot.number]
    assert dict(matplotlib.rcParams) == settings


@pytest.mark.parametrize("draw", [layers_figure, worth_figure], ids=lambda draw: draw.__name__)
def test_equal_figures_are_equal_bytes_in_svg_and_their_text_is_text(draw: Any) -> None:
    args, options = CALLS[draw]
    first, again = (figure_bytes(draw(*args, **options), "svg") for _ in range(2))
    assert first == again and b"<text" in first


def test_ids_of_several_figures_on_a_page_differ(users_pyplot: Figure) -> None:
    args, options = CALLS[worth_figure]
    ids = [set(re.findall(rb' id="([^"]+)"', figure_bytes(worth_figure(*args, **options), "svg", salt=s))) for s in ("a", "b")]
    assert ids[0] and not ids[0] & ids[1]


def test_nothing_asks_for_pyplot_or_a_backend() -> None:
    files = [path for room in ("lmsearch", "experiments") for path in sorted((ROOT / room).rglob("*.py"))]
    assert len(files) > 100
    assert not [str(path) for path in files if any(word in path.read_text() for word in ("pyplot", "matplotlib.use"))]


@pytest.mark.parametrize("classes", [2, 100])
def test_a_confusion_matrix_is_drawn_with_every_name(classes: int) -> None:
    names = [f"class ${n}_{{" for n in range(classes)]  # read as mathematics it would raise
    figure = confusion_figure(names, np.eye(classes, dtype=int) * 3, title="6 test samples")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown == names
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(upper.y0 >= lower.y1 - 1 for upper, lower in zip(boxes, boxes[1:], strict=False)), "names do not overlap"
    assert len(axes.texts) == (4 if classes == 2 else 0)


def test_the_orders_of_a_space_get_a_panel_each() -> None:
    names = load_search_space("extended16").candidates[:6]
    figure = orders_figure(dict(zip(names, index_table(names, (4, 5)), strict=True)), (4, 5))
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == list(names)
    start = figure.axes[names.index("v")].lines[0]
    assert (start.get_xdata(), start.get_ydata()) == ([0], [0])


def test_the_best_value_so_far_goes_the_way_that_is_better() -> None:
    for maximise, best in ((True, [0.3, 0.3, 0.4]), (False, [0.3, 0.2, 0.2])):
        figure = history_figure([0, 1, 2], [0.3, 0.2, 0.4], maximise=maximise, label="loss")
        assert list(figure.axes[0].lines[1].get_ydata()) == best


def test_an_audit_without_a_race_says_so_and_sorts_architectures_by_their_mean() -> None:
    figure = audit_figure([[0.2, 0.4], [0.5]], {}, labels=("val", "test"), title="too early to say")
    left, right = figure.axes
    assert [list(line.get_ydata()) for line in left.lines] == [[0.5], [0.2, 0.4]]
    assert [text.get_text() for text in right.texts] == ["race not complete"]


def test_a_benchmark_without_sections_has_no_figure() -> None:
    assert not can_be_drawn({"correctness": {}}) and can_be_drawn({"growth": GROWTH})
