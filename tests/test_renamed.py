"""Names of earlier versions are read with one warning, and a run is known by what it was known by before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lmsearch.engine.checkpoint import ModelSpec, read_model, save_checkpoint, save_model
from lmsearch.engine.run_dir import RunDir
from lmsearch.genotype import dumps, load_genotype
from lmsearch.models import create_model
from lmsearch.models import merge as merges
from lmsearch.scan import directions as scans
from lmsearch.scan.directions import former_names, parse_direction
from lmsearch.search_space import load_search_space

OLD = ModelSpec("local_vim_nano", (("h", "snake_t_flip"),) * 2, "mixed", {"depth": 2})  # as version 0.1.0 wrote it
TODAY = (("h", "snake_v_flip"),) * 2
WARNED = ["scan direction snake_t is now called snake_v; the old name is still read"]
FILES = {
    "genotype.json": json.dumps(
        {"schema": "lmsearch.genotype", "version": 1, "layers": [{"directions": ["snake_t", "snake_t_flip"]}]}
    ),
    "lists.txt": "[['snake_t', 'snake_t_flip']]",
    "space.yaml": "name: mine\ncandidates: [snake_t, snake_t_flip]\nkeep: 1",
}


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Give the warnings of a process that has read no old name yet."""
    for cached in (parse_direction, scans._present_base, merges.present_merge):
        cached.cache_clear()
    return caplog


@pytest.mark.parametrize("name", FILES)
def test_files_with_an_old_direction_are_read_with_one_warning(
    tmp_path: Path, name: str, warned: pytest.LogCaptureFixture
) -> None:
    (tmp_path / name).write_text(FILES[name])
    for _ in range(2):
        if name == "space.yaml":
            found = load_search_space(tmp_path / name).candidates
        else:
            found = load_genotype(tmp_path / name).directions[0]
        assert found == ("snake_v", "snake_v_flip")
    assert warned.messages == WARNED


def test_a_genotype_is_written_under_the_present_names(tmp_path: Path) -> None:
    (tmp_path / "genotype.json").write_text(FILES["genotype.json"])
    text = dumps(load_genotype(tmp_path / "genotype.json"))
    assert "snake_t" not in text and '"snake_v_flip"' in text


@pytest.mark.parametrize("file", ["model.safetensors", "checkpoint.pt"])
def test_old_weights_are_read_and_continued(tmp_path: Path, file: str, warned: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    weights = OLD.build().state_dict()
    if file == "checkpoint.pt":
        save_checkpoint(RunDir(tmp_path), {"spec": vars(OLD), "model": weights, "epoch": 1}, file=file)
    else:
        save_model(RunDir(tmp_path), OLD, weights)
        assert json.loads((tmp_path / "model.json").read_text())["merge"] == "mixed"
    spec, found = read_model(tmp_path / file)
    assert (spec.directions, spec.merge) == (TODAY, "weighted")
    assert spec.agrees_with(ModelSpec("local_vim_nano", TODAY, "weighted", {"depth": 2}))
    spec.build().load_state_dict(found)
    assert warned.messages == [*WARNED, "merge='mixed' is now called 'weighted'; the old name is still read"]


def test_an_old_supernet_computes_what_it_did() -> None:
    x = torch.randn(1, 1, 8, 8)
    outputs = []
    for directions, merge in ((OLD.directions, OLD.merge), (TODAY, "weighted")):
        torch.manual_seed(0)
        outputs.append(create_model("local_vim_nano", depth=2, directions=directions, merge=merge).eval()(x))
    assert torch.equal(*outputs)


def test_a_run_is_known_by_the_names_of_before() -> None:
    assert former_names([(("h", "snake_v"), ("snake_v_flip",)), 2, None]) == [(("h", "snake_t"), ("snake_t_flip",)), 2, None]
