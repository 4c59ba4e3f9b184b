"""Search space files: what is read, what is refused, and how many directions each layer keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lmsearch.errors import GenotypeError, SearchSpaceError
from lmsearch.genotype import load_genotype
from lmsearch.search_space import SearchSpace, load_search_space, resolve_keep, shipped_search_spaces

LOCALMAMBA8 = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w7", "w7_flip")


def write(folder: Path, text: str) -> Path:
    """Write a search space file and return its path."""
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_localmamba8_has_the_published_candidates_in_their_order() -> None:
    assert load_search_space("localmamba8") == SearchSpace("localmamba8", LOCALMAMBA8, 4)


@pytest.mark.parametrize("name", sorted(shipped_search_spaces()))
def test_every_shipped_space_loads_under_its_own_name(name: str) -> None:
    assert load_search_space(name).name == name


def test_all_orders_of_localmamba8_w4_differ_on_8x8_tokens() -> None:
    assert load_search_space("localmamba8_w4").duplicates((8, 8)) == {}


def test_a_file_may_list_candidates_and_keep_per_layer(tmp_path: Path) -> None:
    space = load_search_space(write(tmp_path, "name: mine\ncandidates: [[h, v], [w2x2, h, w3]]\nkeep: [1, 2]"))
    assert space.layer_candidates(2) == (("h", "v"), ("w2", "h", "w3"))
    assert space.candidates == ("h", "v", "w2", "w3")
    assert resolve_keep(space, None, 2) == (1, 2)
    with pytest.raises(SearchSpaceError, match="listed for 2 layers, the model has 3"):
        space.layer_candidates(3)


def test_duplicates_are_the_later_of_equal_walks() -> None:
    space = load_search_space("localmamba8")
    for side in (6, 7):
        assert space.duplicates((side, side)) == {"w7": "h", "w7_flip": "h_flip"}
    assert space.duplicates((6, 6), padding="zeros") == {}


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (None, (4, 4)),
        (2, (2, 2)),
        ([1, 8], (1, 8)),
        (np.int64(2), (2, 2)),
        (np.array([1, 8]), (1, 8)),
        ((1, np.uint8(8)), (1, 8)),
    ],
)
def test_keep_is_the_spaces_own_one_number_or_one_per_layer(keep: object, expected: tuple[int, ...]) -> None:
    assert resolve_keep(load_search_space("localmamba8"), keep, 2) == expected


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (9, "keep=9 is larger than the 8 distinct candidates of layer 0"),
        ([2, 7], "keep=7 is larger than the 6 distinct candidates of layer 1 \\(7x7 tokens make w7 = h, w7_flip = h_flip\\)"),
        ([1, 2, 3], "keep lists 3 numbers, the model has 2 layers"),
        (0, "keep: 0 is neither a whole number of at least 1"),
        ("two", "keep: 'two' is neither a whole number"),
        (True, "keep: True is neither a whole number"),
    ],
)
def test_a_keep_that_does_not_fit_is_refused(keep: object, message: str) -> None:
    with pytest.raises(SearchSpaceError, match=message):
        resolve_keep(load_search_space("localmamba8"), keep, 2, grids=[(14, 14), (7, 7)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\ncandidates: [h, w3x]\nkeep: 1", "candidate 'w3x' is not a scan direction; accepted: h, v, w<side>"),
        ("name: a\ncandidates: [[h], [h, x]]\nkeep: 1", "layer 1: candidate 'x' is not a scan direction"),
        ("name: a\ncandidates: [h, 3]\nkeep: 1", "candidate 3 is not a scan direction"),
        ("name: a\ncandidates: [w2, w2x2]\nkeep: 1", "candidate 'w2x2' repeats 'w2'"),
        ("name: a\ncandidates: []\nkeep: 1", "candidates must be a list of directions"),
        ("name: a\ncandidates: [[h], []]\nkeep: 1", "layer 1: candidates must be a list"),
        ("name: a\ncandidates: h\nkeep: 1", "candidates must be a list of directions, or one list per layer; got 'h'"),
        ("name: a\ncandidates: [h, v]\nkeep: 3", "keep 3 is larger than the 2 candidates h, v"),
        ("name: a\ncandidates: [h, v]\nkeep: [1, 3]", "keep 3 is larger than the 2 candidates"),
        ("name: a\ncandidates: [[h, v], [h]]\nkeep: 2", "keep 2 is larger than the 1 candidates h"),
        ("name: a\ncandidates: [[h, v], [h]]\nkeep: [1]", "keep lists 1 layers, candidates list 2"),
        ("name: a\ncandidates: [h, v]\nkeep: 1.5", "keep: 1.5 is neither a whole number"),
        ("name: a\ncandidates: [h, v]", "the key 'keep' is missing; needed: name, candidates, keep"),
        ("name: 3\ncandidates: [h, v]\nkeep: 1", "name 3 is not text"),
        ("name: a\ncandidates: [h, v]\nkeep: 1\nextra: 2", "unknown key 'extra'; accepted: name, candidates, keep"),
        ("- h", "a search space is a mapping with the keys name, candidates, keep"),
        ("", "a search space is a mapping"),
        ("name: [a", "line 1: not a readable YAML file"),
    ],
)
def test_a_mistake_in_a_file_names_the_file_and_the_value(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SearchSpaceError) as raised:
        load_search_space(path)
    assert str(raised.value).startswith(str(path))
    assert message in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("given", [["h", "v"], None, 3])
def test_what_is_neither_a_name_nor_a_path_is_one_clear_line(given: object) -> None:
    for load, error in ((load_search_space, SearchSpaceError), (load_genotype, GenotypeError)):
        with pytest.raises(error, match=r"is neither a shipped name nor"):
            load(given)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(SearchSpaceError, match="'localmamba9' is neither .*did you mean localmamba8"):
        load_search_space("localmamba9")
