"""Every verb, end to end on small budgets, through the command line's own entry."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from interruptions import cut_in_epoch

import lmsearch
from lmsearch.cli import main
from lmsearch.config import compose_settings
from lmsearch.context import DRAWING, setting
from lmsearch.data import build_source
from lmsearch.engine.checkpoint import ModelSpec, load_checkpoint, read_model
from lmsearch.engine.objectives import Scores
from lmsearch.engine.train import evaluate
from lmsearch.engine.warm_start import Start, start_from
from lmsearch.genotype import Genotype, LayerChoice, save_genotype
from lmsearch.report.arms import Arm
from lmsearch.search_space import load_search_space
from lmsearch.settings.tasks import Compare, Search
from lmsearch.tasks.compare import make_arms
from lmsearch.tasks.parts.build import build_data, build_objective, build_precision
from lmsearch.tasks.parts.candidates import search_data
from lmsearch.tasks.parts.watch import first_batch

TINY = ["model.depth=2", "model.embed_dim=8", "model.d_state=2", "batch_size=128", "epochs=1", "optim.warmup_epochs=0"]
SEARCHED = [*TINY, "search.holdout=0.1"]  # so many choices are measured on these samples that half of them take half the time
FEWER = [*TINY, "model.patch_size=2"]  # 4x4 tokens, where w4 is h
CANDIDATES = {"h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w4", "w4_flip"}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("search") / "a run, with = signs"
    with setting(DRAWING, True):
        assert main(["search", *SEARCHED, f"run_dir={run_dir}"]) == 0
    return run_dir


@pytest.fixture(scope="module")
def retrained(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("retrain") / "run"
    with setting(DRAWING, True):
        assert main(["retrain", *TINY, f"genotype={searched}", f"run_dir={run_dir}"]) == 0
    return run_dir


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_a_search_leaves_everything_behind(searched: Path) -> None:
    for name in (
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "metrics.json",
        "genotype.json",
        "genotype.png",
        "checkpoint.pt",
    ):
        assert (searched / name).stat().st_size > 0, name
    assert list((searched / "tb").iterdir())
    genotype = lmsearch.load_genotype(searched)
    assert [len(layer.directions) for layer in genotype.layers] == [4, 4]
    assert all(set(layer.scores) == CANDIDATES for layer in genotype.layers)
    assert genotype.health["status"] in ("ok", "indeterminate")
    line = json.loads((searched / "metrics.jsonl").read_text().splitlines()[0])
    assert "holdout_loss" in line and "probabilities" not in line, "no alphas learn"
    assert {"seed", "versions", "commit"} <= read(searched / "environment.json").keys()


def test_memorisation_is_judged_by_the_plain_loss_of_a_training_batch(tmp_path: Path) -> None:
    words = ["search=darts", *FEWER, "optim.label_smoothing=0.5", "search.health_every=1", "search.recheck=0"]
    assert main(["search", *words, f"run_dir={tmp_path}"]) == 0
    logged = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    cfg = compose_settings(Search, words)
    source, precision = build_data(cfg.data), build_precision(cfg)
    state = load_checkpoint(tmp_path)
    supernet = ModelSpec.from_dict(state["spec"], source="checkpoint").build()
    supernet.load_state_dict(state["model"])
    batch = first_batch(search_data(cfg, source, precision).weights, epoch=0)
    plain = evaluate(supernet, [batch], build_objective(source.info), precision).loss
    assert logged["health/train_loss"] == pytest.approx(plain, rel=1e-4)
    assert logged["health/train_loss"] != pytest.approx(logged["train_loss"], rel=1e-3)


def test_the_same_search_gives_the_same_bytes_anywhere(searched: Path, tmp_path: Path) -> None:
    assert main(["search", *SEARCHED, f"run_dir={tmp_path}"]) == 0
    assert (tmp_path / "genotype.json").read_bytes() == (searched / "genotype.json").read_bytes()


@pytest.mark.parametrize("architect", [["search=bilevel"], ["search=bilevel", "search.order=2"], ["search=localmamba"]])
def test_every_architect_searches(architect: list[str], tmp_path: Path) -> None:
    assert main(["search", *FEWER, *architect, f"run_dir={tmp_path}"]) == 0
    assert len(lmsearch.load_genotype(tmp_path).layers) == 2


def test_a_hierarchical_search_drops_duplicates_of_small_grids(tmp_path: Path) -> None:
    small = ["model=local_vmamba_nano", "model.dims=[8,16]", "model.depths=[1,1]", "model.d_state=2", "batch_size=128"]
    assert main(["search", *small, "epochs=1", "search.recheck=0", "optim.warmup_epochs=0", f"run_dir={tmp_path}"]) == 0
    first, second = lmsearch.load_genotype(tmp_path).layers
    assert set(first.scores) == CANDIDATES
    assert set(second.scores) == CANDIDATES - {"w4", "w4_flip"}, "on 4x4 tokens w4 is h"


def test_an_indeterminate_search_exits_with_3_when_strict(tmp_path: Path) -> None:
    random = [
        "data=planted",
        "data.grid=5",
        "data.task=random",
        "batch_size=128",
        "epochs=1",
        "data.steps_per_epoch=2",
        "strict=true",
    ]
    assert main(["search", *random, f"run_dir={tmp_path}"]) == 3
    assert lmsearch.load_genotype(tmp_path).health["status"] == "indeterminate"


def test_an_interrupted_search_continues_to_the_same_genotype(tmp_path: Path) -> None:
    args = ["search", *FEWER, "search=darts", "epochs=3", "search.recheck=0"]
    assert main([*args, f"run_dir={tmp_path / 'whole'}"]) == 0
    with cut_in_epoch(3) as calls:
        assert main([*args, f"run_dir={tmp_path / 'cut'}"]) == 130
        assert main([*args, f"run_dir={tmp_path / 'cut'}"]) == 0
    assert calls == [0, 1, 2, 2], "the second command must continue at the epoch that was cut off"
    whole, cut = ((tmp_path / name / "genotype.json").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


@pytest.mark.usefixtures("drawing")
def test_derive_takes_another_keep(searched: Path, tmp_path: Path) -> None:
    assert main(["derive", f"checkpoint={searched}", "keep=[1,3]", f"run_dir={tmp_path}"]) == 0
    assert [len(layer.directions) for layer in lmsearch.load_genotype(tmp_path).layers] == [1, 3]


def test_derive_again_chooses_what_the_search_chose(searched: Path, tmp_path: Path) -> None:
    assert main(["derive", f"checkpoint={searched / 'checkpoint.pt'}", f"run_dir={tmp_path}"]) == 0
    assert lmsearch.load_genotype(tmp_path).directions == lmsearch.load_genotype(searched).directions


def test_retraining_reports_and_saves_a_model_that_evaluates_the_same(retrained: Path, tmp_path: Path) -> None:
    metrics = read(retrained / "metrics.json")
    assert 0.0 <= metrics["test_accuracy"] <= 1.0
    assert main(["evaluate", f"checkpoint={retrained}", f"run_dir={tmp_path}"]) == 0
    assert read(tmp_path / "metrics.json")["test_accuracy"] == pytest.approx(metrics["test_accuracy"])


def test_predict_names_classes_of_image_files(retrained: Path, tmp_path: Path) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    for i in range(3):
        Image.fromarray((load_digits().images[i] / 16 * 255).astype("uint8")).save(tmp_path / f"{i}.png")
    out = tmp_path / "predictions.json"
    assert main(["predict", f"checkpoint={retrained}", f"images={tmp_path}", "top=2", f"out={out}"]) == 0
    found = read(out)
    assert len(found) == 3
    assert all(len(classes) == 2 and set(classes) <= set("0123456789") for classes in found.values())


def test_fine_tuning_starts_from_the_given_weights(retrained: Path, searched: Path, tmp_path: Path) -> None:
    frozen = [*TINY, "optim.lr=1e-12", "optim.min_lr=1e-12", "optim.warmup_lr=1e-12"]
    assert main(["retrain", *frozen, f"genotype={searched}", f"init_from={retrained}", f"run_dir={tmp_path}"]) == 0
    assert read(tmp_path / "metrics.json")["test_accuracy"] == pytest.approx(read(retrained / "metrics.json")["test_accuracy"])


def test_every_regulariser_of_the_papers_recipe_runs(searched: Path, tmp_path: Path) -> None:
    recipe = [
        "optim.mixup=0.2",
        "optim.cutmix=1.0",
        "optim.mix_prob=1.0",
        "optim.ema_decay=0.9",
        "model.drop_path_rate=0.1",
        "precision=bf16",
    ]
    assert main(["retrain", *FEWER, *recipe, f"genotype={searched}", f"run_dir={tmp_path}"]) == 0
    assert "test_accuracy" in read(tmp_path / "metrics.json")


def test_the_hand_made_choice_keeps_as_many_directions_as_the_genotype(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "mine.json").write_text('[["v_flip"], ["h", "w2", "w4", "v", "v_flip"]]')
    cfg = compose_settings(Compare, ["model.depth=2", f"genotype={tmp_path / 'mine.json'}"])
    arms = make_arms(cfg, build_source("digits"), load_search_space(cfg.search_space))
    assert [g.directions for g in arms[2].genotypes] == [(("h",), ("h", "h_flip", "w2", "w2_flip"))]
    assert "hand_made names 4 directions, fewer than the 5" in caplog.text


def test_compare_says_where_random_choices_come_from_another_search_space(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_genotype(Genotype((LayerChoice(("hilbert",)),), search_space="extended16"), tmp_path / "genotype.json")
    for words, warned in ((["search_space=extended16"], False), ([], True)):
        caplog.clear()
        cfg = compose_settings(Compare, ["model.depth=1", f"genotype={tmp_path}", *words])
        make_arms(cfg, build_source("digits"), load_search_space(cfg.search_space))
        assert ("was searched in search space extended16" in caplog.text) is warned


def test_seeds_that_happen_to_differ_alike_leave_the_test_samples_error() -> None:
    right = torch.arange(360) < 350
    worse = right & (torch.arange(360) != 0)
    one, other = (Arm(name, [], [Scores(1.0 * ~s, 1.0 * s)] * 2) for name, s in (("searched", right), ("random", worse)))
    difference = one.minus(other)
    assert difference.mean == pytest.approx(1 / 360) and difference.low < 0 < difference.high
    single = (replace(arm, results=arm.results[:1]) for arm in (one, other))
    alone = Arm.minus(*single)
    assert (difference.mean, difference.low, difference.high) == pytest.approx((alone.mean, alone.low, alone.high), rel=1e-9)


@pytest.mark.usefixtures("drawing")
def test_compare_judges_against_random_hand_made_and_simple_baselines(searched: Path, tmp_path: Path) -> None:
    assert main(["compare", *FEWER, f"genotype={searched}", "seeds=2", f"run_dir={tmp_path}"]) == 0
    result = read(tmp_path / "comparison.json")
    assert set(result["arms"]) == {"searched", "random", "hand-made"}
    assert result["arms"]["hand-made"]["directions"][0] == [["h", "h_flip", "w2", "w2_flip"]] * 2
    assert all(len(arm["per_seed"]) == 2 for arm in result["arms"].values())
    assert 0.95 < result["baselines"]["logistic regression"] < result["baselines"]["nearest neighbour"] < 1.0
    assert isinstance(result["verdict"], str)


@pytest.mark.parametrize("seeds", [1, 2])
def test_compare_takes_targets_that_are_no_classes(seeds: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.json").write_text('[["h"]]')
    words = ["data=planted", "epochs=1", "optim.warmup_epochs=0", "data.steps_per_epoch=3", "batch_size=32", "model.depth=1"]
    words += [f"genotype={tmp_path / 'mine.json'}", "hand_made=[v]", f"seeds={seeds}", f"run_dir={tmp_path / 'run'}"]
    assert main(["compare", *words]) == 0
    result = read(tmp_path / "run" / "comparison.json")
    assert result["metric"] == "mse" and result["baselines"] == {} and "test_accuracy" not in result["arms"]["searched"]
    for arm in result["arms"].values():
        assert arm["test_mse"]["low"] < arm["test_mse"]["mean"] == pytest.approx(sum(arm["per_seed"]) / seeds)
    assert "normal" in result["interval"] if seeds == 1 else "cut" not in result["interval"]
    assert "hand-made" in capsys.readouterr().out


def test_a_run_directory_of_another_run_is_refused_and_kept(
    retrained: Path, searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (retrained / "checkpoint.pt").read_bytes()
    assert main(["retrain", *TINY, "seed=5", f"genotype={searched}", f"run_dir={retrained}"]) == 2
    assert "overwrite=true" in capsys.readouterr().err
    assert (retrained / "checkpoint.pt").read_bytes() == before


def test_a_genotype_file_with_new_content_does_not_relabel_old_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    genotype, run_dir = tmp_path / "mine.json", tmp_path / "run"
    command = ["retrain", *TINY, f"genotype={genotype}", f"run_dir={run_dir}"]
    genotype.write_text('[["h"], ["h"]]')
    assert main(command) == 0
    genotype.write_text('[["v"], ["v"]]')
    assert main(command) == 2
    assert "overwrite=true" in capsys.readouterr().err
    assert lmsearch.load_genotype(run_dir).directions == (("h",), ("h",))
    assert main([*command, "overwrite=true"]) == 0
    assert lmsearch.load_genotype(run_dir).directions == (("v",), ("v",))


def test_overwriting_a_comparison_trains_its_arms_again(searched: Path, tmp_path: Path) -> None:
    command = ["compare", *FEWER, f"genotype={searched}", "baseline_limit=0", f"run_dir={tmp_path}"]
    assert main(command) == 0
    first = read(tmp_path / "comparison.json")
    assert main([*command, "epochs=2", "overwrite=true"]) == 0
    lines = (tmp_path / "searched-s0" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1]
    assert read(tmp_path / "comparison.json")["epochs"] == 2 != first["epochs"]


def test_a_command_that_failed_does_not_block_its_run_directory(searched: Path, tmp_path: Path) -> None:
    command = ["retrain", *TINY, f"genotype={searched}", f"run_dir={tmp_path}"]
    assert main([*command, "init_from=/nowhere"]) == 2
    assert main(command) == 0


def test_fine_tuning_resizes_positions_to_another_grid(retrained: Path) -> None:
    spec, weights = read_model(retrained)
    model = replace(spec, options=spec.options | {"img_size": [12, 16]}).build()
    start_from(model, Start(spec, weights))
    assert model.pos_embed.shape == (1, 12 * 16, 8)
    assert torch.equal(model.layers[0].mixer.A_log, weights["layers.0.mixer.A_log"])


@pytest.mark.parametrize(
    ("command", "needle"),
    [
        (["search", "keep=9"], "keep=9"),
        (["search", "epochs=0"], "epochs=0"),
        (["search", "optim.lr=-1"], "optim.lr"),
        (["search", "optim.betas=[2,3]"], "optim.betas"),
        (["search", "model.embed_dim=0"], "model.embed_dim=0"),
        (["search", "seed=abc"], "'abc' is not an integer"),
        (["search", "model=local_vim_tinny"], "local_vim_tiny"),
        (["search", "search_space=nowhere.yaml"], "nowhere.yaml"),
        (["search", "data=imagefolder", "data.root=/nowhere/at all"], "/nowhere/at all"),
        (["search", "device=cuda"] if not torch.cuda.is_available() else ["search", "device=tpu"], "device"),
        (["retrain", "genotype=localmamba/local_vim_tiny"], "20 layers"),
        (["retrain", "genotype=localmamba/local_vim_tinny"], "localmamba/local_vim_tiny"),
        (["derive", "checkpoint=/nowhere"], "no such checkpoint"),
        (["evaluate", "checkpoint=/nowhere", "data.root=own"], "/nowhere: no such checkpoint"),
        (["retrain", "genotype=windws", "data.root=own"], "did you mean windows"),
        (["retrain", "genotype=cross", "init_from=/nowhere", "data.root=own"], "/nowhere: no such checkpoint"),
        (["search", "data=planted", "data.direction=w3x"], "w3x"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(
    command: list[str], needle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("lmsearch: error: ") and needle in error
    assert not (tmp_path / "runs").exists(), "a command that cannot run must leave nothing behind"


def test_deriving_from_a_derived_net_is_refused(retrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["derive", f"checkpoint={retrained}", "keep=2", f"run_dir={tmp_path}"]) == 2
    assert "no alphas" in capsys.readouterr().err
