"""Searches over several seeds, their consensus, other derivations and the health that is logged, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from interruptions import cut_in_epoch

import lmsearch
from lmsearch.cli import main
from lmsearch.context import DRAWING, setting
from lmsearch.data import build_source, search_loaders, spread
from lmsearch.search.derivation.kinds import unseen_part
from lmsearch.tasks.parts.watch import is_due

SMALL = ["data=planted", "data.grid=5", "model.embed_dim=8", "model.d_state=2", "batch_size=128"]  # eight orders that differ
DARTS = ["search=darts", *SMALL, "data.direction=w2_flip", "epochs=2"]
PLANTED = [*DARTS, "data.steps_per_epoch=6", "search.health_every=1"]
SEEDS = ["search", *PLANTED, "seeds=3"]


@pytest.fixture(scope="module")
def over_seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("seeds") / "a run, with = signs"
    with setting(DRAWING, True):
        assert main([*SEEDS, f"run_dir={run_dir}"]) == 0
    return run_dir


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_every_seed_is_a_run_of_its_own_and_the_top_says_what_they_agree_on(over_seeds: Path) -> None:
    for seed in range(3):
        assert read(over_seeds / f"s{seed}" / "genotype.json")["provenance"]["seed"] == seed
    top = read(over_seeds / "genotype.json")
    assert top["derivation"] == {"method": "consensus", "of": "topk"}
    assert top["provenance"]["seeds"] == [0, 1, 2]
    assert set(top["health"]["stability"]["layers.0"]) == {"jaccard", "chance", "votes"}
    assert sum(top["health"]["stability"]["layers.0"]["votes"].values()) == 3
    assert (over_seeds / "genotype.png").read_bytes()[:4] == b"\x89PNG"


def test_one_seed_of_many_is_the_same_search_as_alone_to_the_byte(over_seeds: Path, tmp_path: Path) -> None:
    assert main(["search", *PLANTED, "seed=1", f"run_dir={tmp_path}"]) == 0
    assert (tmp_path / "genotype.json").read_bytes() == (over_seeds / "s1" / "genotype.json").read_bytes()


def test_an_interrupted_search_over_seeds_continues_where_it_was(over_seeds: Path, tmp_path: Path) -> None:
    with cut_in_epoch(4) as calls:
        assert main([*SEEDS, f"run_dir={tmp_path}"]) == 130
        assert main([*SEEDS, f"run_dir={tmp_path}"]) == 0
    assert calls == [0, 1, 0, 1, 1, 0, 1]
    assert (tmp_path / "genotype.json").read_bytes() == (over_seeds / "genotype.json").read_bytes()


def test_a_folder_that_holds_the_seeds_of_another_search_is_refused(over_seeds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", *PLANTED, "seeds=3", "epochs=3", f"run_dir={over_seeds}"]) == 2
    assert "overwrite=true" in capsys.readouterr().err


@pytest.mark.parametrize("as_folder", [True, False])
def test_derive_finds_the_same_consensus_from_the_runs(as_folder: bool, over_seeds: Path, tmp_path: Path) -> None:
    plain = tmp_path / "seeds"  # a list is split at commas, so its paths hold none
    plain.symlink_to(over_seeds)
    given = str(over_seeds) if as_folder else f"[{','.join(str(plain / f's{n}') for n in range(3))}]"
    assert main(["derive", f"genotypes={given}", f"run_dir={tmp_path / 'out'}"]) == 0
    mine, top = (read(folder / "genotype.json") for folder in (tmp_path / "out", over_seeds))
    assert mine["health"]["stability"] == top["health"]["stability"] and mine["health"]["reason"] == top["health"]["reason"]
    for one, other in zip(mine["layers"], top["layers"], strict=True):
        assert one["directions"] == other["directions"] and one["margin"] == other["margin"]
        assert one["scores"] == pytest.approx(other["scores"], abs=2e-6), "files hold six decimals"


def test_every_epoch_logs_its_health_and_the_genotype_lists_every_detector(over_seeds: Path) -> None:
    lines = [json.loads(line) for line in (over_seeds / "s0" / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        keys = {"health/entropy/layers.0", "health/gap", "health/margin", "health/sharpness", "health/cosine_low"}
        assert keys <= set(line)
    found = {f["name"]: f for f in read(over_seeds / "s0" / "genotype.json")["health"]["findings"]}
    assert set(found) == {
        "entropy", "advantage", "discretisation gap", "usefulness", "sharpness", "memorisation", "duplicates", "histogram",
    }  # fmt: skip
    assert len(found["discretisation gap"]["value"]) == 8
    assert found["sharpness"]["value"] == pytest.approx([line["health/sharpness"] for line in lines], abs=1e-6)


def test_the_summary_shows_the_detectors_and_ends_with_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    control = [*SMALL, "data.task=random", "epochs=1", "data.steps_per_epoch=2", "strict=true"]
    assert main(["search", *control, f"run_dir={tmp_path}"]) == 3
    out = capsys.readouterr().out
    assert "health of the search" in out and "advantage" in out and "->" in out
    status, _, following = out.splitlines()[-3:]
    assert "search status: indeterminate" in status and following.startswith("next: lmsearch retrain genotype=")


@pytest.mark.parametrize(
    ("every", "epochs", "expected"),
    [(None, 8, [1, 3, 5, 7]), (None, 5, [1, 2, 3, 4]), (None, 1, [0]), (3, 7, [2, 5]), (0, 5, [])],
)
def test_gradients_are_measured_a_few_times_in_a_run(every: int | None, epochs: int, expected: list[int]) -> None:
    assert [e for e in range(epochs) if is_due(every, e, epochs)] == expected


@pytest.mark.parametrize("number", [1, 5, 40, 400])
def test_a_spread_takes_samples_from_the_whole_of_the_held_out_part(number: int) -> None:
    source = build_source("digits")
    loaders = [search_loaders(source, holdout=0.2, batch_size=size, seed=0).holdout for size in (7, 64)]
    images, targets, *_ = spread(loaders[0], number)
    whole = torch.cat([batch[0] for batch in loaders[0]])
    assert len(images) == len(targets) == min(number, len(whole))
    assert torch.equal(images[0], whole[0]) and (number == 1 or torch.equal(images[-1], whole[-1]))
    assert torch.equal(images, spread(loaders[1], number)[0]), "the same for any batch size"


def test_derive_by_perturbation_loads_the_searchs_data_and_tests_the_result(over_seeds: Path, tmp_path: Path) -> None:
    words = [f"checkpoint={over_seeds / 's0'}", "derivation=perturbation", "keep=2", f"run_dir={tmp_path}"]
    assert main(["derive", *words]) == 0
    genotype = lmsearch.load_genotype(tmp_path)
    assert genotype.derivation["method"] == "perturbation"
    assert len(genotype.derivation["layers"]["layers.0"]["dropped"]) == 6
    assert genotype.health["status"] in ("ok", "indeterminate")


@pytest.mark.usefixtures("drawing")
def test_derive_with_health_says_what_the_search_said(over_seeds: Path, tmp_path: Path) -> None:
    words = [f"checkpoint={over_seeds / 's0'}", "health=true", "batch_size=32", f"run_dir={tmp_path}"]
    assert main(["derive", *words]) == 0
    mine, searched = (lmsearch.load_genotype(folder) for folder in (tmp_path, over_seeds / "s0"))
    assert mine.layers == searched.layers and mine.health == searched.health


def test_a_search_by_perturbation_is_what_derive_makes_of_its_checkpoint(tmp_path: Path) -> None:
    perturbed = [*PLANTED, "search.derivation=perturbation"]
    assert main(["search", *perturbed, f"run_dir={tmp_path / 'a'}"]) == 0
    words = [f"checkpoint={tmp_path / 'a'}", "derivation=perturbation", "batch_size=32", f"run_dir={tmp_path / 'b'}"]
    assert main(["derive", *words]) == 0
    assert (tmp_path / "a" / "genotype.json").read_bytes() == (tmp_path / "b" / "genotype.json").read_bytes()


@pytest.mark.parametrize("derivation", ["topk", pytest.param("perturbation", marks=pytest.mark.slow)])
def test_a_budget_is_spent_over_the_whole_net(derivation: str, tmp_path: Path) -> None:
    words = [*PLANTED, "model.depth=2", "keep=null", "budget=5", f"search.derivation={derivation}"]
    assert main(["search", *words, f"run_dir={tmp_path}"]) == 0
    genotype = lmsearch.load_genotype(tmp_path)
    assert sum(len(layer.directions) for layer in genotype.layers) == 5
    assert genotype.derivation["budget"] == 5
    assert main(["derive", f"checkpoint={tmp_path}", "budget=3", f"run_dir={tmp_path / 'less'}"]) == 0
    assert sum(len(layer.directions) for layer in lmsearch.load_genotype(tmp_path / "less").layers) == 3


def test_branches_dropped_by_shrinking_are_neither_kept_nor_measured(tmp_path: Path) -> None:
    words = [*PLANTED, "model.depth=2", "keep=null", "budget=3", "search.shrink=[[0.4,2]]"]
    assert main(["search", *words, "search.derivation=perturbation", f"run_dir={tmp_path}"]) == 0
    genotype = lmsearch.load_genotype(tmp_path)
    for layer in genotype.layers:
        left = {name for name, p in layer.scores.items() if p > 0}
        assert len(left) == 2 and set(layer.directions) <= left
    assert sum(len(layer.directions) for layer in genotype.layers) == 3
    found = {f["name"]: f for f in genotype.health["findings"]}
    assert len(found["discretisation gap"]["value"]) == 2
    assert all(0 <= e <= 1 for e in genotype.health["entropies"].values())


@pytest.mark.parametrize(
    ("command", "needle"),
    [
        (["search", "budget=6", "keep=2"], "contradict"),
        (["search", "data=planted", "budget=1"], "keep=null"),
        (["search", "budget=2"], "accepted: 3 to 24"),
        (["search", "budget=25"], "accepted: 3 to 24"),
        (["search", "budget=0"], "budget=0"),
        (["search", "seeds=0"], "seeds=0"),
        (["search", "search.derivation=magic"], "topk, perturbation"),
        (["derive"], "checkpoint=... and genotypes"),
        (["derive", "checkpoint=a", "genotypes=[b,c]"], "one of checkpoint"),
        (["derive", "genotypes=/nowhere"], "/nowhere"),
        (["derive", "genotypes=[localmamba/local_vim_tiny]"], "at least 2"),
        (["derive", "genotypes=[a,]"], "empty path"),
        (["derive", "genotypes=[localmamba/local_vim_tiny,localmamba/local_vim_tiny]"], "no scores"),
        (["derive", "genotypes=[a,b]", "health=true"], "cannot go with it"),
    ],
)
def test_contradictions_are_one_clear_line_and_nothing_is_written(
    command: list[str], needle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("lmsearch: error: ") and needle in error
    assert not list(tmp_path.iterdir())


TINY = [*DARTS, "data.steps_per_epoch=2", "batch_size=256", "search.health_every=0"]


def test_a_search_that_shrinks_to_what_it_keeps_is_tested_in_fresh_supernets_or_not_at_all(tmp_path: Path) -> None:
    words = [*TINY, "keep=3", "search.shrink=[[0.4,3]]", f"run_dir={tmp_path}"]
    assert main(["search", *words, "search.recheck=0"]) == 0
    assert read(tmp_path / "genotype.json")["health"]["status"] == "not tested"
    assert main(["search", *words]) == 0
    genotype = read(tmp_path / "genotype.json")
    assert genotype["health"]["status"] == "indeterminate" and "recheck_z" in genotype["health"]
    assert sorted(genotype["layers"][0]["scores"].values())[:5] == [0.0] * 5


@pytest.mark.parametrize("preset", ["fairdarts", "drnas"])
def test_derive_tests_the_same_mixture_as_the_search(preset: str, tmp_path: Path) -> None:
    assert main(["search", *TINY, f"search={preset}", "search.alpha_lr=0.5", f"run_dir={tmp_path / 'a'}"]) == 0
    words = [f"checkpoint={tmp_path / 'a'}", "health=true", "batch_size=32", f"run_dir={tmp_path / 'b'}"]
    assert main(["derive", *words]) == 0
    one, other = (read(tmp_path / name / "metrics.json")["holdout_mse"] for name in "ab")
    assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        ["search.shrink=[[0.5,0]]"],
        ["search.samples=3"],
        ["search.temperature=0"],
        ["epochs=4", "search.shrink=[[0.5,4]]", "search.alpha_warmup_epochs=2"],
    ],
)
def test_wrong_options_are_found_before_anything_is_written(
    wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", *TINY, *wrong, f"run_dir={tmp_path / 'run'}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_consensus_refuses_the_same_search_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        assert main(["search", *TINY, f"run_dir={tmp_path / name}"]) == 0
    capsys.readouterr()
    assert main(["derive", f"genotypes=[{tmp_path / 'a'},{tmp_path / 'b'}]", f"run_dir={tmp_path / 'c'}"]) == 2
    assert "the same search" in capsys.readouterr().err


def test_derive_names_the_seeds_of_a_search_over_several(over_seeds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["derive", f"checkpoint={over_seeds}"]) == 2
    assert "its seeds hold one each: s0, s1" in capsys.readouterr().err
    assert main(["derive", f"checkpoint={over_seeds / 'f0'}"]) == 2
    assert "no such checkpoint" in (told := capsys.readouterr().err) and "its seeds hold" not in told
    assert main(["show", "what=run", f"run_dir={over_seeds}"]) == 2
    assert "in folders inside, of which one can be shown: s0, s1" in capsys.readouterr().err


def test_overwriting_a_search_over_seeds_leaves_no_old_seed_behind(tmp_path: Path) -> None:
    assert main(["search", *TINY, "seeds=3", f"run_dir={tmp_path / 'z'}"]) == 0
    assert main(["search", *TINY, "seeds=2", "search.alpha_lr=0.1", "overwrite=true", f"run_dir={tmp_path / 'z'}"]) == 0
    assert main(["derive", f"genotypes={tmp_path / 'z'}", f"run_dir={tmp_path / 'c'}"]) == 0
    assert read(tmp_path / "c" / "genotype.json")["provenance"]["seeds"] == [0, 1]


def test_sharp_probabilities_do_not_count_as_dropped_branches(tmp_path: Path) -> None:
    words = [*TINY, "keep=4", "search.alpha_lr=1000", "seeds=2", f"run_dir={tmp_path / 'a'}"]
    assert main(["search", *words]) == 0
    assert main(["derive", f"genotypes={tmp_path / 'a'}", f"run_dir={tmp_path / 'b'}"]) == 0
    for name in "ab":
        (layer,) = read(tmp_path / name / "genotype.json")["layers"]
        assert len(layer["directions"]) == 4 and all(layer["scores"][d] > 0 for d in layer["directions"])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("model.patch_size=2", "patch_size=1"),
        ("search.alpha_warmup_epochs=2", "none of the 2 epochs"),
        ("optim.warmup_epochs=3", "more than epochs=2"),
        ("precision=fp16 search.architect=mixed", "use bf16"),
    ],
)
def test_what_cannot_work_is_one_line(wrong: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", *TINY, *wrong.split(), f"run_dir={tmp_path / 'run'}"]) == 2
    assert says in capsys.readouterr().err


def test_what_decided_on_directions_does_not_test_them() -> None:
    loaders = search_loaders(build_source("planted"), holdout=0.5, batch_size=8, seed=0)
    assert unseen_part(loaders, "topk", "single") is loaders.holdout
    for derivation, architect in (("perturbation", "single"), ("topk", "bilevel"), ("topk", "mixed")):
        assert unseen_part(loaders, derivation, architect) is loaders.val
