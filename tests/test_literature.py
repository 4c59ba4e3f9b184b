"""The literature's sets of directions: what they scan, which models they fit, and how they are compared and shown."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from lmsearch.audit import verdict
from lmsearch.cli import main
from lmsearch.errors import ConfigError, GenotypeError
from lmsearch.genotype import Genotype, load_genotype, save_genotype
from lmsearch.literature import ARMS, ZIGZAGS, arm_layers, coincidences, genotype_named, kept_numbers
from lmsearch.models import create_model
from lmsearch.models.factory import FAMILIES
from lmsearch.scan.directions import index_table, parse_direction

TINY = ["data=planted", "data.grid=[3,3]", "data.num_train=32", "data.task=token_mean", "model.depth=1", "model.embed_dim=4"]
TINY += ["epochs=1", "optim.warmup_epochs=0"]


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_builds_a_network_of_a_depth_that_it_is_for_and_is_listed_with_its_source(name: str, root: Path) -> None:
    arm = ARMS[name]
    family, depth = next((f, d) for d in range(1, 101) for f in FAMILIES if arm.layers(f, d) is not None)
    layers = arm_layers(name, family=family, depth=depth)
    assert len(layers) == depth and all(parse_direction(d).name == d for layer in layers for d in layer)
    assert arm.depths != "any" or all(arm.layers(f, d) for f in FAMILIES for d in (1, 2, 33))
    assert "arXiv" in arm.source and arm.year >= 2023 and arm.scans
    assert f"| `{name}` |" in (root / "docs" / "literature.md").read_text(encoding="utf-8")
    model = create_model("local_vim", directions=layers[:2], depth=len(layers[:2]), embed_dim=8, img_size=64, num_classes=1)
    assert [mixer.directions for mixer in model.mixers()] == list(layers[:2])


def test_the_eight_zigzags_are_those_that_start_at_each_corner_by_rows_and_by_columns() -> None:
    starts = [(row[0], row[1]) for row in index_table(ZIGZAGS, (4, 4)).tolist()]
    assert starts == [(0, 1), (0, 4), (3, 2), (3, 7), (12, 13), (12, 8), (15, 14), (15, 11)]
    assert arm_layers("zigma8", family="local_vim", depth=9)[8] == ("snake",)


def test_an_arm_that_is_unknown_or_for_another_depth_is_one_clear_line() -> None:
    assert len(arm_layers("published", family="local_vmamba", depth=33)) == 33
    with pytest.raises(ConfigError, match=r"published is for models of 20 \(local_vim\), 15 or 33 .*, and mine has 3; leave it"):
        arm_layers("published", family="local_vim", depth=3, model="mine")
    with pytest.raises(ConfigError, match="'crosss' is not an arm; did you mean cross"):
        arm_layers("crosss", family="local_vim", depth=3)


def test_an_arm_is_a_genotype_by_its_name_unless_a_folder_or_file_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    named = partial(genotype_named, family="local_vim", depth=2, model="mine")
    assert named("cross").directions == (("h", "h_flip", "v", "v_flip"),) * 2
    assert named("zigma8").directions == (
        ("snake",),
        ("snake_v",),
    )
    assert main(["retrain", *TINY, "genotype=raster_pair", "run_dir=run", "baseline_limit=0"]) == 0
    assert load_genotype("run").directions == (("h", "h_flip"),)
    assert main(["complexity", "model=vim_tiny", "genotype=cross", "sizes=[32]", "detail=none"]) == 0
    with pytest.raises(GenotypeError, match=r"^genotype=published is for models of 20 .*, but mine has 2 layers"):
        named("published")
    with pytest.raises(GenotypeError, match="'crosss' is neither .*; did you mean cross"):
        named("crosss")
    save_genotype(Genotype.from_directions([["w2"], ["h"]]), tmp_path / "cross")
    assert named("cross").directions == (("w2",), ("h",))


def test_what_an_arm_loses_on_small_grids_is_told() -> None:
    layers = arm_layers("windows", family="local_vmamba", depth=2)
    told = coincidences(layers, [(14, 14), (2, 2)], padding="none")
    assert "w7 is w2 on 2x2 tokens" in told and "14x14" not in told
    assert [kept_numbers(layers), kept_numbers((("h",), ("h", "v")))] == ["4", "1 to 2"]


def test_arms_are_shown_beside_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "what=arms", "model=local_vmamba_nano", "grid=[4,4]"]) == 0
    text = capsys.readouterr().out
    assert "arms for local_vmamba_nano: 3 layers on 4x4 and 2x2 tokens" in text
    assert all(name in text for name in ARMS) and "2401.10166" in text


def test_arms_are_compared_without_a_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", *TINY, "arms=[raster,cross,random]", "search_space=localmamba8_w4"]
    assert main([*words, f"run_dir={tmp_path}"]) == 0
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert found["differences"].keys() == {"raster - cross", "raster - random"}
    assert found["arms"]["cross"]["directions"] == [[["h", "h_flip", "v", "v_flip"]]]
    assert "directions per layer differ, and so do size and cost: raster 1, cross 4, random 4" in found["verdict"]
    assert "raster minus this" in capsys.readouterr().out
    assert main(["report", f"run_dir={tmp_path}"]) == 0
    page = (tmp_path / "report.md").read_text()
    assert "directions of raster" in page and "searched" not in page.split("##")[0]


@pytest.mark.parametrize(("words", "message"), [
    (["arms=[raster,crosss]"], "arms: 'crosss' is not an arm; did you mean cross"),
    (["arms=[raster,published]"], "arms: published is for models of 20 (local_vim), 15 or 33 (local_vmamba) layers, and"),
    (["arms=[raster]"], "arms=[raster] leaves nothing to compare; name two or more of: searched, random, hand-made, raster"),
    (["arms=[raster,raster]"], "arms=[raster, raster] names raster twice"),
    ([], "lmsearch compare needs genotype=..., or arms= without searched"),
])  # fmt: skip
def test_wrong_arms_are_one_line(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *TINY, *words, f"run_dir={tmp_path / 'run'}"]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lmsearch: error")]
    assert len(said) == 1 and message in said[0] and not (tmp_path / "run").exists()


def test_arms_of_the_literature_join_the_race_of_an_audit() -> None:
    rows = [{"key": f"{arm} round {n}", "architecture": [["h"]], "val": score, "test": score, "took_s": 1.0}
            for n in range(3) for arm, score in (("searched", 0.8), ("hand-made", 0.7), ("arm cross", 0.9), ("random", 0.6))
            for score in [score + 0.001 * n]]  # fmt: skip
    rows = [row | {"key": row["key"] + ": h"} if row["key"].startswith("random") else row for row in rows]
    raced = verdict.race(rows, per_round=1, also=("cross",))
    assert raced is not None and raced["search_minus"]["cross"]["mean"] == pytest.approx(-0.1)
    assert raced["test"].keys() == {"search", "random search", "hand-made directions", "cross"}
    assert verdict.race(rows, per_round=1, also=("cross", "snakes")) is None


def test_an_audit_refuses_arms_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arms, message in (("[crosss]", "'crosss' is not an arm"), ("[published]", "published is for models of 20")):
        assert main(["audit", *TINY, f"arms={arms}", f"run_dir={tmp_path / 'run'}"]) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "run").exists()
