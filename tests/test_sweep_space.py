"""What a sweep varies: ranges as they are typed and as YAML holds them, and one clear line per mistake."""

from __future__ import annotations

import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from lmsearch.errors import SweepError
from lmsearch.sweep.space import as_text, read_parameters, read_words

TYPED = "{optim.lr: log(1e-4,1e-1), model.embed_dim: [16, 32], search.alpha_lr: uniform(0.001,0.1), epochs: int(5,20)}"
RANGES = {
    "optim.lr": FloatDistribution(1e-4, 1e-1, log=True),
    "model.embed_dim": CategoricalDistribution([16, 32]),
    "search.alpha_lr": FloatDistribution(0.001, 0.1),
    "epochs": IntDistribution(5, 20),
}


def test_ranges_are_read_alike_from_the_command_line_and_from_yaml() -> None:
    lines = TYPED[1:-1].replace("), ", ")\n").replace("], ", "]\n")
    for params in (TYPED, yaml.safe_load(lines)):
        found = read_parameters(params, source="params")
        assert {key: p.distribution for key, p in found.items()} == RANGES


def test_choices_without_a_dot_are_numbers_in_yaml_too() -> None:
    given = yaml.safe_load("optim.lr: [1e-3, 1e-2]")
    assert read_parameters(given, source="mine.yaml") == read_parameters("{optim.lr: [1e-3, 1e-2]}", source="params")
    with pytest.raises(SweepError, match="none of them twice"):
        read_parameters(yaml.safe_load("optim.lr: [1e-3, 0.001]"), source="mine.yaml")


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("int(16,64,8)", IntDistribution(16, 64, step=8)),
        ("logint(1,64)", IntDistribution(1, 64, log=True)),
        ("uniform(-1, 1)", FloatDistribution(-1.0, 1.0)),
        ("[a, 'b, c', 2, 1.5, true, null]", CategoricalDistribution(["a", "b, c", 2, 1.5, True, None])),
        ("[[1,2], [2,1]]", CategoricalDistribution(["[1,2]", "[2,1]"])),
        ("['it is', \"runs/a=b\"]", CategoricalDistribution(["it is", "runs/a=b"])),
    ],
)
def test_every_form_of_a_range_is_understood(text: str, distribution: object) -> None:
    assert read_parameters(f"{{k: {text}}}", source="params")["k"].distribution == distribution


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim.lr", "params: 'optim.lr' is not of the form {key: range, ...}"),
        ("{optim.lr}", "params: 'optim.lr' is not of the form key: range"),
        ("{a: log(1,2), a: log(1,2)}", "params: a is given twice"),
        ("{a: 5}", "params: a: '5' is not a range; accepted: uniform(a,b)"),
        ("{a: normal(0,1)}", "params: a: 'normal(0,1)' is not a range"),
        ("{a: log(0,1)}", "params: a: 'log(0,1)' must lie above 0"),
        ("{a: uniform(2,1)}", "params: a: 'uniform(2,1)' is empty"),
        ("{a: uniform(1)}", "params: a: 'uniform(1)' holds 1 numbers"),
        ("{a: uniform(1,2,3)}", "params: a: 'uniform(1,2,3)' holds 3 numbers"),
        ("{a: int(1,2.5)}", "params: a: '2.5' in int(...) is not an integer"),
        ("{a: int(1,10,4)}", "params: a: 'int(1,10,4)': steps of 4 do not lead from 1 to 10"),
        ("{a: uniform(0,inf)}", "params: a: 'inf' in uniform(...) is not a finite number"),
        ("{a: uniform(x,1)}", "params: a: 'x' in uniform(...) is not a number"),
        ("{a: []}", "params: a: '[]' must hold at least one choice"),
        ("{a: [1, 1]}", "params: a: '[1,1]' must hold at least one choice, and none of them twice"),
        ("{a: [h, true, 1]}", "params: a: true and 1 are one choice for Optuna; leave one out"),
        ("{a: [1, 2}", "params: 'a: [1, 2' lacks a closing ']'"),
        ("{a: 1)}", "params: 'a: 1)' has a ')' too many"),
    ],
)
def test_a_mistake_in_a_range_is_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(SweepError) as raised:
        read_parameters(text, source="params")
    assert str(raised.value).startswith(message) and "\n" not in str(raised.value)


def test_a_file_that_holds_no_mapping_is_refused() -> None:
    with pytest.raises(SweepError, match="mine.yaml: \\['a'\\] is not a mapping of keys to ranges"):
        read_parameters(["a"], source="mine.yaml")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("[data=planted,epochs=2]", ("data=planted", "epochs=2")),
        ("epochs=2", ("epochs=2",)),
        ("[keep=[1,2], 'genotype=runs/a, b']", ("keep=[1,2]", "genotype=runs/a, b")),
        ("[]", ()),
        (["epochs=2"], ("epochs=2",)),
    ],
)
def test_words_are_read_from_text_and_lists(given: object, words: tuple[str, ...]) -> None:
    assert read_words(given, source="overrides") == words


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e-4, 16, True, None, "a b", [1, 2]])
def test_values_are_written_as_the_command_line_takes_them(value: object) -> None:
    expected = {True: "true", None: "null"}.get(value) if value is True or value is None else None
    text = as_text(value)
    assert text == expected if expected else yaml.safe_load(text) == value or float(text) == value
