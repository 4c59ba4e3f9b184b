"""Files that people wrote: whatever stands in them, a reader returns a value or says in one short line what is wrong."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch

from lmsearch.cli import main
from lmsearch.data import DataInfo
from lmsearch.engine.checkpoint import ModelSpec, load_model, read_model, save_model
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import LONGEST, CheckpointError, ConfigError, GenotypeError, LmsearchError, SearchSpaceError, short
from lmsearch.genotype import load_genotype
from lmsearch.models import create_model
from lmsearch.reading import MAX_BYTES, MAX_DEPTH, check_bounds, object_in, parse_json, parse_yaml, read_text
from lmsearch.scan.directions import index_table, parse_direction
from lmsearch.scan.tables import table_name
from lmsearch.search_space import load_search_space
from lmsearch.tasks.parts.run_dir import Claim

DEEP, HUGE = 100_000, "9" * 5_000
SIZES = {"embed_dim": 16, "depth": 2, "img_size": [4, 4], "patch_size": 2, "in_chans": 1, "num_classes": 2, "d_state": 2}
INFO = DataInfo("mine", 2, ("a", "b"), (4, 4), 1, (0.5,), (0.5,))
SPEC = ModelSpec("local_vim", (("h", "v"), ("w2", "h_flip")), "sum", SIZES, {"info": asdict(INFO)})
GENOTYPE = """{"schema": "lmsearch.genotype", "version": 1, "model": "local_vim_nano", "keep": [2, 1], "health": {"status": "ok"},
 "orders": {"mine": {"2x2": "0 2 1 3"}},
 "layers": [{"directions": ["h", "w2x2"], "name": "layers.0", "scores": {"h": 0.5, "w2": 0.4, "v": 1}, "margin": 0.1},
            {"directions": ["mine_flip"]}]}"""
SPACE = """name: mine
candidates: [[h, v, &a w2, mine], [h, snake_flip, w2x3]]   # a comment
keep: [2, 1]
orders: {mine: {2x2: [0, 2, 1, 3], 1x2: "1 0"}}
"""
LISTS = ('x = [["h", "v_flip"], ["w2x3"]]', '[["h", "v_flip"],\n ["w2x3"]]', "(('h', 'diag'), ('v',),)")
DIRECTIONS = ("h", "w7_flip", "w2x3", "atrous2", "random17", "hilbert_flip", table_name("mine", {(2, 2): [0, 2, 1, 3]}))
INSERTS = (
    "null", "true", "[]", "{}", "[[[", "]", "}", '"', "'", "-1", "0", "1e999", "-1e999", "NaN", ".nan", ".inf", HUGE, "9" * 400,
    "2024-01-01", "1:2:3", "0x" + "f" * 5_000, "0b1", "\\ud800", "\\U00110000", "\x00", "\x07", "é", "\ufeff", "٣", "😀",
    "*a", "&a ", "<<: ", "!!timestamp x", "!!int x", "!!bool x", "!!binary x", "!!python/name:os.system ", "? ", "- ", "---\n",
    "%", "\t", "@", "_flip", "w99999", "w100000", "x", "[" * DEEP, "{" * 2_000, '{"a":' * 2_000, "a" * 500_000,
    '"version": 1,', "1.5", "1_000", "b'x'", "\\d",
)  # fmt: skip


def mutated(text: str, dice: random.Random) -> bytes:
    """Return `text` with one to three changes: cut, doubled, swapped or inserted parts, changed bytes."""
    content = text.encode()
    for _ in range(dice.randint(1, 3)):
        a, b = sorted(dice.randrange(len(content) + 1) for _ in range(2))
        b = min(b, a + dice.choice([1, 5, 40]))
        kind = dice.randrange(6)
        if kind == 0:
            content = content[:a] + content[b:]
        elif kind == 1:
            content = content[:b] + content[a:b] + content[b:]
        elif kind == 2:
            content = content[:a] + bytes([dice.randrange(256)]) + content[a + 1 :]
        elif kind == 3:
            content = content[:a]
        else:
            tokens = [i for i in range(len(content)) if content[i : i + 1] in b'":,[]{} \n=(']
            at = dice.choice(tokens) + 1 if tokens else a
            end = at if kind == 4 else next((i for i in tokens if i > at), at)
            content = content[:at] + dice.choice(INSERTS).encode("utf-8", "surrogatepass") + content[end:]
    return content


def read_a_genotype(folder: Path, dice: random.Random) -> None:
    (folder / "genotype.json").write_bytes(mutated(GENOTYPE, dice))
    load_genotype(folder / "genotype.json")


def read_a_model(folder: Path, dice: random.Random) -> None:
    if not (folder / "model.safetensors").exists():
        save_model(RunDir(folder), SPEC, SPEC.build().state_dict())
        without_digests(folder / "model.safetensors")
        (folder / "whole.json").write_text(json.dumps(without_digest(folder / "model.json"), indent=1))
    (folder / "model.json").write_bytes(mutated((folder / "whole.json").read_text(), dice))
    spec, weights = read_model(folder)
    load_model(spec, weights, source="model.json")
    DataInfo.from_dict(spec.data.get("info"))


def read_a_space(folder: Path, dice: random.Random) -> None:
    (folder / "space.yaml").write_bytes(mutated(SPACE, dice))
    load_search_space(folder / "space.yaml")


def read_lists(folder: Path, dice: random.Random) -> None:
    (folder / "lists.txt").write_bytes(mutated(dice.choice(LISTS), dice))
    load_genotype(folder / "lists.txt")


def read_a_direction(folder: Path, dice: random.Random) -> None:
    text = mutated(dice.choice(DIRECTIONS), dice)
    name = parse_direction(text.decode("utf-8", dice.choice(["replace", "surrogateescape"])))
    index_table((name.name,), (2, 2))
    name.padded_grid((2, 2))


READERS = (read_a_genotype, read_a_model, read_a_space, read_lists, read_a_direction)


def check_every_mutation(reader: Callable[[Path, random.Random], None], folder: Path, *, inputs: int) -> None:
    """Feed a reader `inputs` mutated inputs: it may return or raise an LmsearchError of one short line, nothing else."""
    refused = 0
    for seed in range(inputs):
        try:
            reader(folder, random.Random(seed))
        except LmsearchError as error:
            refused += 1
            assert len(str(error)) < LONGEST + 100 and "\n" not in str(error), (seed, str(error))
        except Exception as error:
            raise AssertionError(f"input {seed} of {reader.__name__}: {type(error).__name__}") from error
    assert refused > inputs / 4


@pytest.mark.parametrize("reader", READERS)
def test_a_mutated_file_is_read_or_refused_in_one_line(reader: Callable[[Path, random.Random], None], tmp_path: Path) -> None:
    check_every_mutation(reader, tmp_path, inputs=200)


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_thousands_of_mutated_files_are_read_or_refused(reader: Callable[[Path, random.Random], None], tmp_path: Path) -> None:
    check_every_mutation(reader, tmp_path, inputs=5_000)


# ---------------------------------------------------------------- JSON and YAML
@pytest.mark.parametrize("parse", [parse_json, parse_yaml])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' is given twice"),
        ('{"a": {"b": 1, "c": 2, "b": 1}}', "the key 'b' is given twice"),
        (f'{{"a": {HUGE}}}', "has more than 100 digits"),
        (f"[{'[' * 60}{']' * 60}]", f"more than {MAX_DEPTH} deep"),
        ("[" * DEEP, "deep"),
        ('{"a":' * 20_000, "deep"),
        ('["\\ud800"]', "half a character"),
        ("[1, 2", "f"),
    ],
    ids=["twice", "twice inside", "digits", "deep", "deeper", "deep mappings", "surrogate", "cut"],
)
def test_what_is_ambiguous_or_unbounded_is_refused(parse: Callable, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        parse(text, where="f", error=ConfigError)
    assert str(raised.value).startswith("f") and "\n" not in str(raised.value) and len(str(raised.value)) < 300


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_json_numbers_must_be_finite(number: str) -> None:
    with pytest.raises(ConfigError, match="is not a number that a file may hold"):
        parse_json(f"[{number}]", where="f", error=ConfigError)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: .inf", "line 1: .*is not a number that a file may hold"),
        ("a: 1\nb: 0x" + "f" * 5_000, "line 2: .*more than 100 digits"),
        ("a: !!int x", "is not of the kind that its tag says"),
        ("a: !!bool x", "is not of the kind that its tag says"),
        ("a: !!timestamp x", "could not determine a constructor"),
        ("a: !!python/name:os.system x", "could not determine a constructor"),
        ("<<: {a: 1}", "a key must be text or a number"),
        ("? [1]\n: 2", "a key must be text or a number"),
        ("a: &x [*x]", "recursive"),
        ('a: "\\U00110000"', "not a readable YAML file"),
        ("\n".join(["a: &a0 [0, 0]", *(f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9))]), "entries"),
    ],
)
def test_yaml_beyond_plain_values_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        parse_yaml(text, where="f", error=ConfigError)
    assert "\n" not in str(raised.value)


def test_yaml_dates_are_texts_and_anchors_may_repeat_a_list() -> None:
    content = parse_yaml("name: 2024-01-01\na: [&x [h, v], *x]\n2024-01-02: 1", where="f", error=ConfigError)
    assert content == {"name": "2024-01-01", "a": [["h", "v"], ["h", "v"]], "2024-01-02": 1}


@pytest.mark.parametrize(("text", "found"), [(None, {}), ('{"a": 1', {}), ("[1]", {}), ('{"a": 1}', {"a": 1})])
def test_what_a_run_left_counts_as_not_there_where_it_cannot_be_read(tmp_path: Path, text: str | None, found: dict) -> None:
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    assert object_in(tmp_path / "a.json") == found


def test_text_is_utf8_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_text(tmp_path / "a", where="a", error=ConfigError) == "[1]"
    (tmp_path / "a").write_bytes(b"[1\xff]")
    with pytest.raises(ConfigError, match="a: not a text file, since byte 2 is not UTF-8"):
        read_text(tmp_path / "a", where="a", error=ConfigError)
    with (tmp_path / "a").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ConfigError, match="more than 16,777,216 bytes"):
        read_text(tmp_path / "a", where="a", error=ConfigError)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_text(tmp_path, where="a", error=ConfigError)


def test_as_many_levels_as_accepted_are_read() -> None:
    content: list = []
    for _ in range(MAX_DEPTH):
        content = [content]
    assert check_bounds(content, where="f", error=ConfigError) is content
    with pytest.raises(ConfigError, match="deep"):
        check_bounds([content], where="f", error=ConfigError)


# ---------------------------------------------------------------- messages
def test_a_quoted_value_is_short_however_long_or_deep_it_is() -> None:
    deep: list = []
    for _ in range(DEEP):
        deep = [deep]
    for value in (deep, "x" * 500_000, 10**10_000, list(range(10**6)), {"a" * 10**6: 1}, "a\nb" * 100):
        assert len(short(value)) <= 60 and "\n" not in short(value)
    while deep:  # taken apart from outside, since Python would recurse
        deep = deep.pop()
    assert short(["h", 3, None]) == "['h', 3, None]"


def test_a_message_that_quotes_long_input_keeps_its_beginning_and_end() -> None:
    message = str(LmsearchError("begin " + "x" * 500_000 + " end"))
    assert len(message) < LONGEST + 100 and message.startswith("begin ") and message.endswith(" end")


@pytest.mark.parametrize("key", ["genotype", "init_from", "run_dir", "no_such_key", "seed", "data", "batch_size"])
def test_the_command_answers_very_long_words_with_a_short_line(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"{key}={'x' * 100_000}"] + (["genotype=/nowhere"] if key != "genotype" else [])
    assert main(["retrain", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and len(error) < LONGEST + 200


def test_a_word_of_many_brackets_is_refused_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retrain", "data=imagefolder", "data.root=x", "genotype=x", f"data.mean={'[' * 5_000}"]) == 2
    assert "inside each other more than 50 deep" in capsys.readouterr().err


def test_a_run_dir_that_is_not_utf8_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retrain", "genotype=x", f"run_dir={os.fsdecode(b'a' + bytes([255]))}"]) == 2
    assert "run_dir='a\\udcff' is not UTF-8" in capsys.readouterr().err


# ---------------------------------------------------------------- genotypes, spaces, directions
def genotype_with(layer: str, head: str = "") -> str:
    return f'{{"schema": "lmsearch.genotype", "version": 1, {head} "layers": [{layer}]}}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (genotype_with(f'{{"directions": ["h"], "scores": {{"h": {"9" * 400}}}}}'), "has more than 100 digits"),
        (genotype_with('{"directions": ["h"], "scores": {"h": 1e999}}'), "is not a number"),
        (genotype_with('{"directions": ["h"], "directions": ["v"]}'), "the key 'directions' is given twice"),
        (genotype_with('{"directions": ["h"]}', f'"keep": {HUGE},'), "has more than 100 digits"),
        (genotype_with('{"directions": ["h"]}', f'"health": {"[" * DEEP}{"]" * DEEP},'), "deep"),
        (genotype_with('{"directions": ["\\ud800"]}'), "half a character"),
        (genotype_with(f'{{"directions": ["w{HUGE}"]}}'), "is not a scan direction"),
        (genotype_with('{"directions": ["w1٣"]}'), "is not a scan direction"),
        (f"[[{HUGE}]]", "not a nested list"),
        ("[" * DEEP, "not a nested list"),
        ("(" * 5_000, "not a nested list"),
        ("[{[]: 1}]", "not a nested list"),
        ('[["\\d"]]', "is not a scan direction"),
        ("[" + "['h']," * 200_000 + "]", "characters, which are no direction lists"),
    ],
    ids=range(14),
)
def test_a_genotype_file_beyond_the_bounds_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "g.json").write_text(text, encoding="utf-8")
    with pytest.raises(GenotypeError, match=message) as raised:
        load_genotype(tmp_path / "g.json")
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 700


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b\ncandidates: [h]\nkeep: 1", "line 2: .*'name' is given twice"),
        (f"name: a\ncandidates: [h]\nkeep: {HUGE}", "digits"),
        ("name: a\ncandidates: " + "[" * 2_000, "deep"),
        (f"name: a\ncandidates: [w{HUGE}]\nkeep: 1", "is not a scan direction"),
        (f"name: a\ncandidates: [{'x' * 500_000}]\nkeep: 1", "is not a scan direction"),
        ("name: a\ncandidates: [h]\nkeep: 1\norders: {mine: {2x2: {file: bomb.npy}}}", "cannot be read"),
        ("name: a\ncandidates: [h]\nkeep: 1\norders: {mine: {2x2: {file: zip.npy}}}", "no .npy file"),
        ('name: a\ncandidates: [h]\nkeep: 1\norders: {mine: {2x2: {file: "a\\0b"}}}', "cannot be read"),
    ],
)
def test_a_search_space_beyond_the_bounds_is_refused(tmp_path: Path, text: str, message: str) -> None:
    header = np.lib.format.magic(1, 0) + (118).to_bytes(2, "little")
    bomb = "{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + "\n"
    (tmp_path / "bomb.npy").write_bytes(header + bomb.encode())
    (tmp_path / "zip.npy").write_bytes(b"PK\x03\x04 nothing")
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(SearchSpaceError, match=message) as raised:
        load_search_space(tmp_path / "s.yaml")
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 700


def test_text_that_can_be_no_path_is_no_file() -> None:
    for text in ("x" * 100_000, "a\0b", "~nobody-of-this-name/x"):
        with pytest.raises(GenotypeError, match="is neither a shipped name nor a file"):
            load_genotype(text)
        with pytest.raises(SearchSpaceError, match="is neither a shipped name nor a YAML file"):
            load_search_space(text)


def test_zero_padding_to_far_more_tokens_is_refused_before_anything_is_allocated() -> None:
    sizes = {"embed_dim": 16, "depth": 1, "img_size": 8, "patch_size": 1}
    with pytest.raises(LmsearchError, match="w99999 with zero padding makes 99999x99999 tokens of 8x8; accepted: up to 262,144"):
        create_model("local_vim", directions=["w99999"], window_padding="zeros", **sizes)
    create_model("local_vim", directions=["w99999"], window_padding="none", **sizes)
    create_model("local_vim", directions=["w500"], window_padding="zeros", **sizes)


# ---------------------------------------------------------------- model.json
def without_digests(weights: Path) -> None:
    """Write weights again as version 0.1.0 did, without a word on the net that they belong to."""
    safetensors.torch.save_file(safetensors.torch.load_file(weights), weights)


def without_digest(path: Path) -> dict:
    """Return what a model.json says but for its digest, which would answer before anything else is looked at."""
    return {key: value for key, value in json.loads(path.read_text()).items() if key != "sha256"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 7}, "version 7 of a model cannot be read; accepted: 1"),
        ({"version": True}, "version True of a model"),
        ({"naem": "x"}, "unknown key 'naem'"),
        ({"name": 3}, "name 3 is not what"),
        ({"name": "resnet"}, "'resnet' is not a model"),
        ({"directions": [[["h"]], ["v"]]}, "directions of layer 0"),
        ({"directions": [["h"]] * 200_000}, "directions of 200,000 layers; accepted: up to 4,096"),
        ({"directions": {"a": 1}}, "directions {'a': 1} is not what"),
        ({"directions": [["h", "v"]]}, "directions has 1 layers but local_vim has 2"),
        ({"options": []}, "options \\[\\] is not what"),
        ({"options": SIZES | {"directions": ["h"]}}, "directions is no option"),
        ({"options": SIZES | {"family": "local_vmamba"}}, "family is no option"),
        ({"options": SIZES | {"embed_dim": 10**9}}, "embed_dim=1000000000 is not accepted; expected whole numbers from 1 to"),
        ({"options": SIZES | {"embed_dim": 2**16}}, "a checkpoint of another model"),
        ({"options": SIZES | {"img_size": [60_000, 60_000], "use_rope": False}}, "a checkpoint of another model"),
        ({"options": SIZES | {"depth": 10**9}}, "depth=1000000000 is not accepted"),
        ({"options": SIZES | {"img_size": [4, 4, 4]}}, "expected one side, or"),
        ({"options": SIZES | {"embed_dim": [16]}}, "embed_dim=\\[16\\] is not accepted"),
        ({"options": SIZES | {"norm": {}}}, "norm={} is not accepted; expected text"),
        ({"options": SIZES | {"use_rope": "yes"}}, "use_rope='yes' is not accepted; expected true or false"),
        ({"options": SIZES | {"drop_path_rate": "a"}}, "drop_path_rate='a' is not accepted"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_description_that_makes_no_model_names_file_and_value(tmp_path: Path, change: dict, message: str) -> None:
    save_model(RunDir(tmp_path), SPEC, SPEC.build().state_dict())
    without_digests(tmp_path / "model.safetensors")
    (tmp_path / "model.json").write_text(json.dumps(without_digest(tmp_path / "model.json") | change))
    with pytest.raises(CheckpointError, match=message) as raised:
        load_model(*read_model(tmp_path), source=str(tmp_path))
    assert str(tmp_path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("img_size", [4]), ("mean", [0.5, 0.5]), ("std", [0.0]), ("target", "x"), ("class_names", "ab"), ("crop_pct", "1")],
)
def test_a_wrong_data_description_names_the_key(key: str, value: object) -> None:
    with pytest.raises(LmsearchError, match=f"data description: {key} cannot be"):
        DataInfo.from_dict(asdict(INFO) | {key: value})


# ---------------------------------------------------------------- sweeps and markers of runs
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"seed: int(1,3)\nseed: int(2,4)", "'seed' is given twice"),
        (b"seed: " + b"[" * 2_000, "deep"),
        (b"\xff", "not a text file"),
        (b"optim.lr: [.inf, 1]", "is not a number that a file may hold"),
    ],
)
def test_ranges_of_a_sweep_are_read_as_strictly(
    tmp_path: Path, text: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.yaml").write_bytes(text)
    words = [f"params_file={tmp_path / 'p.yaml'}", f"run_dir={tmp_path / 'run'}", "trials=1", "overrides=[genotype=g.json]"]
    assert main(["sweep", "sweep=retrain_recipe", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("marker", [b"\xff\xfe", b"search 0 0\n../other", b"search 0 0\n/tmp"])
def test_a_damaged_marker_of_a_run_is_named(tmp_path: Path, marker: bytes) -> None:
    (tmp_path / "run_id.txt").write_bytes(marker)
    with pytest.raises(ConfigError, match="run_id.txt"):
        Claim.read(tmp_path)
