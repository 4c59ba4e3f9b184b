"""Scan orders of a user's own: from a search space into models, genotypes and checkpoints, without the file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from lmsearch.cli import main
from lmsearch.engine.checkpoint import ModelSpec, read_model, save_model
from lmsearch.engine.log import RunLog
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import DirectionError, GenotypeError, SearchSpaceError
from lmsearch.genotype import Genotype, LayerChoice, dumps, load_genotype, loads, save_genotype
from lmsearch.models import create_model
from lmsearch.report.directions import print_choices
from lmsearch.scan.directions import duplicates, index_table, label, parse_direction
from lmsearch.scan.files import named_direction, read_orders, write_orders
from lmsearch.search.supernet.network import probabilities
from lmsearch.search.supernet.relax import RELAXATIONS
from lmsearch.search_space import load_search_space, resolve_keep

TABLE = [2, 0, 3, 1, 5, 4]
MINE = read_orders({"mine": {"2x3": TABLE}})["mine"]


def space_file(folder: Path, orders: str, candidates: str = "[h, mine, mine_flip]") -> Path:
    """Write a search space with an `orders` section and return its path."""
    path = folder / "space.yaml"
    path.write_text(f"name: own\ncandidates: {candidates}\nkeep: 1\norders: {orders}\n", encoding="utf-8")
    return path


def test_a_table_is_the_order_of_the_visit_and_its_flip_the_reversal() -> None:
    assert parse_direction(MINE).indices((2, 3)).tolist() == TABLE
    assert parse_direction(MINE + "_flip").indices((2, 3)).tolist() == TABLE[::-1]
    assert (label(MINE), label(MINE + "_flip"), label("w2x2_flip")) == ("mine", "mine_flip", "w2_flip")


@pytest.mark.parametrize("sides", [(1, 1), (3, 5), (16, 16), (16, 17), (3, 300)])
def test_a_name_carries_tables_of_any_size(sides: tuple[int, int]) -> None:
    table = np.random.RandomState(0).permutation(sides[0] * sides[1])
    name = read_orders({"big": {f"{sides[0]}x{sides[1]}": table.tolist()}})["big"]
    assert index_table((name,), sides)[0].tolist() == table.tolist()


def test_lists_text_and_files_give_the_same_name(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array(TABLE))
    (tmp_path / "a.txt").write_text("2, 0 3\n1 5, 4\n")
    values = (TABLE, "2 0 3 1 5 4", {"file": "a.npy"}, {"file": "a.txt"})
    assert {read_orders({"mine": {"2x3": value}}, folder=tmp_path)["mine"] for value in values} == {MINE}


def test_a_search_space_reads_files_beside_itself(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array(TABLE))
    space = load_search_space(space_file(tmp_path, "{mine: {2x3: {file: a.npy}}}"))
    assert space.candidates == ("h", MINE, MINE + "_flip")


def test_a_search_space_knows_its_own_orders_by_their_short_names(tmp_path: Path) -> None:
    space = load_search_space(space_file(tmp_path, f"{{mine: {{2x3: {TABLE}}}}}"))
    assert [space.direction(name) for name in ("mine", "mine_flip", "w2x2")] == [MINE, MINE + "_flip", "w2"]
    with pytest.raises(DirectionError, match="or an order of this file: mine"):
        space.direction("yours")
    unused = load_search_space(space_file(tmp_path, f"{{mine: {{2x3: {TABLE}}}}}", candidates="[h, v]"))
    assert unused.direction("mine") == MINE


def test_a_comparison_takes_an_own_order_as_hand_made_choice(tmp_path: Path) -> None:
    rows = [7 - row for row in range(8) for _ in range(8)]
    table = [8 * row + column for row, column in zip(rows, list(range(8)) * 8, strict=True)]
    space = space_file(tmp_path, f"{{mine: {{8x8: {table}}}}}")
    (tmp_path / "v.json").write_text('[["v"]]')
    words = ["model.depth=1", "model.embed_dim=8", "epochs=1", "optim.warmup_epochs=0", "batch_size=256", "baseline_limit=0"]
    words += [f"genotype={tmp_path / 'v.json'}", f"search_space={space}", "hand_made=[mine]", f"run_dir={tmp_path / 'run'}"]
    assert main(["compare", *words]) == 0
    arms = json.loads((tmp_path / "run" / "comparison.json").read_text())["arms"]
    assert arms["hand-made"]["directions"] == [[["mine"]]]


def test_an_order_equal_to_a_built_in_one_is_found_as_its_duplicate() -> None:
    rows = read_orders({"rows": {"2x3": list(range(6))}})["rows"]
    assert duplicates(("h", rows, MINE), (2, 3)) == {rows: "h"}


def test_two_files_with_different_tables_under_one_name_stay_two_orders() -> None:
    other = read_orders({"mine": {"2x3": TABLE[::-1]}})["mine"]
    assert label(other) == label(MINE) and other != MINE
    assert index_table((MINE, other), (2, 3)).tolist() == [TABLE, TABLE[::-1]]
    with pytest.raises(GenotypeError, match="two orders with different tables are called 'mine'"):
        dumps(Genotype((LayerChoice((MINE,)), LayerChoice((other,)))))


def test_a_genotype_file_lists_the_table_and_comes_back_whole(tmp_path: Path) -> None:
    genotype = Genotype((LayerChoice((MINE + "_flip", "h"), "layers.0", {"h": 0.4, MINE + "_flip": 0.6}, 0.2),),
                        health={"best": MINE, "ranks": {MINE + "_flip": 1}})  # fmt: skip
    save_genotype(genotype, tmp_path / "genotype.json")
    content = json.loads((tmp_path / "genotype.json").read_text())
    assert content["orders"] == {"mine": {"2x3": "2 0 3 1 5 4"}}
    assert content["layers"][0]["directions"] == ["mine_flip", "h"]
    assert content["health"] == {"best": "mine", "ranks": {"mine_flip": 1}}
    loaded = load_genotype(tmp_path)
    assert loaded.layers == genotype.layers
    assert dumps(loaded) == (tmp_path / "genotype.json").read_text()


def test_a_genotype_without_own_orders_has_no_orders_key() -> None:
    assert "orders" not in json.loads(dumps(Genotype((LayerChoice(("h",)),))))


def test_models_and_checkpoints_carry_the_order(tmp_path: Path) -> None:
    spec = ModelSpec("local_vim_nano", ((MINE, "h"),) * 2, options={"img_size": [2, 3], "depth": 2})
    model = spec.build()
    save_model(RunDir(tmp_path), spec, model.state_dict())
    again, weights = read_model(tmp_path)
    assert again == ModelSpec.from_dict(asdict(spec), source="test")
    rebuilt = again.build()
    rebuilt.load_state_dict(weights)
    x = torch.randn(2, 1, 2, 3)
    assert torch.equal(model.eval()(x), rebuilt.eval()(x))


def test_an_order_given_as_a_table_computes_what_the_built_in_one_does() -> None:
    rows = read_orders({"spiral8": {"4x5": parse_direction("spiral").indices((4, 5)).tolist()}})["spiral8"]
    x, outputs = torch.randn(2, 1, 4, 5), []
    for name in ("spiral", rows):
        torch.manual_seed(0)
        outputs.append(create_model("local_vim_nano", directions=[name, name + "_flip"], img_size=(4, 5)).eval()(x))
    assert torch.equal(*outputs)


def test_tables_and_logs_show_the_short_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = create_model("local_vim_nano", directions=[MINE, "h"], img_size=(2, 3), merge="weighted")
    with RunLog(RunDir(tmp_path)) as log:
        log.write(0, {}, layers=probabilities(model, RELAXATIONS["softmax"]))
    print_choices(Genotype((LayerChoice((MINE,)),)), scores="probability")
    shown = capsys.readouterr().out + (tmp_path / "metrics.jsonl").read_text() + str(model)
    assert "mine" in shown and "@" not in shown


def test_a_grid_without_a_table_is_refused_with_file_layer_and_order(tmp_path: Path) -> None:
    path = space_file(tmp_path, "{mine: {2x3: [2, 0, 3, 1, 5, 4]}}")
    space = load_search_space(path)
    with pytest.raises(SearchSpaceError) as raised:
        resolve_keep(space, None, 2, grids=[(2, 3), (4, 4)])
    assert str(raised.value) == f"{path}: layer 1 of the model: order 'mine' has no table for 4x4 tokens; it has 2x3"
    with pytest.raises(DirectionError, match="order 'mine' has no table for 8x8 tokens; it has 2x3"):
        create_model("local_vim_nano", directions=[MINE])


@pytest.mark.parametrize(
    ("orders", "message"),
    [
        ("{mine: {2x3: [0, 1, 2, 3, 4, 4]}}", "the 2x3 table is not a permutation: 4 is listed 2 times and 5 never"),
        ("{mine: {2x3: [0, 1]}}", "order 'mine': the 2x3 table has 2 entries; a 2x3 grid has 6 tokens"),
        ("{mine: {2x3: [0, 1, 2, 3, 4, 6]}}", "the 2x3 table holds 6; accepted: the raster indices 0 to 5"),
        ("{mine: {2x3: [0, 1, 2, 3, 4, -5]}}", "the 2x3 table holds -5; accepted"),
        ("{mine: {2x3: [0, 1, 2, 3, 4, 5.0]}}", "the 2x3 table holds 5.0, which is not an integer"),
        ("{mine: {2x3: [0, 1, 2, 3, 4, true]}}", "the 2x3 table holds True, which is not an integer"),
        ("{mine: {2x3: [0, 1, 2, 3, 4, 99999999999999999999]}}", "holds 99999999999999999999; accepted"),
        ("{mine: {2x3: 0 1 2 3 4 x}}", "the 2x3 table holds 'x', which is not an integer"),
        ("{mine: {2x3: 7}}", "the 2x3 table is 7; accepted: a list of integers, text of integers, or {file: <name>}"),
        ("{mine: {2x3: {file: none.npy}}}", "none.npy) cannot be read (No such file or directory)"),
        ("{mine: {2x3: {file: space.yaml}}}", "space.yaml) holds 'name:', which is not an integer"),
        ("{mine: {'6': [0]}}", "order 'mine': '6' is not a token grid; expected <rows>x<columns>, such as 8x8"),
        ("{mine: {}}", "order 'mine': {} must map token grids to tables"),
        ("{mine: [0, 1]}", "order 'mine': [0, 1] must map token grids to tables"),
        ("[mine]", "orders ['mine'] must map each name to its tables"),
        ("{w2: {1x1: [0]}}", "order 'w2': the name is taken by a built-in scan direction; choose another"),
        ("{hilbert: {1x1: [0]}}", "order 'hilbert': the name is taken by a built-in"),
        ("{a_flip: {1x1: [0]}}", "order 'a_flip': the name must be a letter, then letters, digits, _ and -"),
        ("{'a b': {1x1: [0]}}", "order 'a b': the name must be a letter"),
        ("{3: {1x1: [0]}}", "order 3: the name must be a letter"),
        ("{other: {1x1: [0]}}", "candidate 'mine' is not a scan direction; accepted: h, v"),
        ("{other: {1x1: [0]}}", "or an order of this file: other"),
    ],
)  # fmt: skip
def test_a_mistake_in_an_order_names_file_order_and_value(tmp_path: Path, orders: str, message: str) -> None:
    path = space_file(tmp_path, orders)
    with pytest.raises(SearchSpaceError) as raised:
        load_search_space(path)
    assert str(raised.value).startswith(str(path))
    assert message in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3), dtype=int), "has shape (2, 3) of int64; expected one axis of integers"),
        (np.zeros(6), "has shape (6,) of float64; expected one axis of integers"),
        (np.array([{}], dtype=object), "cannot be read"),
    ],
)
def test_an_array_file_must_hold_one_axis_of_integers(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DirectionError) as raised:
        read_orders({"mine": {"2x3": {"file": "a.npy"}}}, folder=tmp_path)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("orders", "message"),
    [
        ({"mine": {"2x3": {"file": "a.npy"}}}, "mine.json: order 'mine': the 2x3 table is {'file': 'a.npy'}; accepted: a list"),
        ({"mine": {"2x3": "0 1"}}, "mine.json: order 'mine': the 2x3 table has 2 entries"),
        ({"other": {"1x1": "0"}}, "mine.json: layer 0: 'mine' is not a scan direction"),
        ([], "mine.json: orders [] must be an object"),
    ],
)
def test_a_genotype_with_a_bad_table_is_refused(orders: object, message: str) -> None:
    content = {"schema": "lmsearch.genotype", "version": 1, "layers": [{"directions": ["mine"]}], "orders": orders}
    with pytest.raises(GenotypeError) as raised:
        loads(json.dumps(content), where="mine.json")
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    "name", [MINE[:-1], MINE + "A", "mine@", "mine@2x3", "mine@2x3:====", "@2x3:AgADAQUE", "mine@3x2:AAAAAAAA", MINE + ","]
)
def test_a_damaged_name_is_not_a_direction(name: str) -> None:
    with pytest.raises(DirectionError):
        parse_direction(name)


def test_a_label_that_a_pattern_has_cannot_be_written() -> None:
    with pytest.raises(DirectionError, match="'h': the name is taken"):
        write_orders([MINE.replace("mine", "h")])


def test_names_of_a_file_resolve_with_their_flips() -> None:
    assert named_direction("mine_flip", {"mine": MINE}) == MINE + "_flip"
    assert named_direction("w2x2_flip", {"mine": MINE}) == "w2_flip"


def test_a_searched_order_is_retrained_and_evaluated_without_the_file_it_came_from(tmp_path: Path) -> None:
    table = np.random.RandomState(0).permutation(64).tolist()
    path = space_file(tmp_path, f"{{mine: {{8x8: {table}}}}}", "[mine, mine_flip]")
    tiny = ["data=digits", "model.depth=1", "model.embed_dim=16", "batch_size=256", "epochs=1", "optim.warmup_epochs=0"]
    assert main(["search", *tiny, f"search_space={path}", f"run_dir={tmp_path / 's'}"]) == 0
    path.unlink()
    assert main(["retrain", *tiny, f"genotype={tmp_path / 's'}", f"run_dir={tmp_path / 'r'}"]) == 0
    assert main(["evaluate", f"checkpoint={tmp_path / 'r'}"]) == 0
    (direction,) = load_genotype(tmp_path / "r").directions[0]
    order = parse_direction(direction).indices((8, 8)).tolist()
    assert order in (table, table[::-1])
