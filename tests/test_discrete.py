"""Discrete searches through the command line: what they leave behind, resume, budgets, contradictions."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest

import lmsearch
from lmsearch.cli import main
from lmsearch.config import compose_settings
from lmsearch.data import search_loaders
from lmsearch.genotype import Genotype, LayerChoice, dumps
from lmsearch.search.discrete.evaluators import SharedWeights
from lmsearch.settings.tasks import Search
from lmsearch.tasks.parts import discrete
from lmsearch.tasks.parts.build import build_data
from lmsearch.tasks.parts.discrete_results import health_of
from lmsearch.trials.storage import claim, open_storage

TINY = ["model.depth=1", "model.embed_dim=8", "model.d_state=2", "batch_size=128", "epochs=1", "optim.warmup_epochs=0"]
PLANTED = ["data=planted", "data.grid=5", "data.steps_per_epoch=1", "epochs=1", "batch_size=128"]
PLANTED += ["model.depth=1", "model.d_state=2"]
FEW = ["search.population=3", "search.tournament=2", "search.trials=5"]
CHEAP = ["search=evolution", *PLANTED, *FEW, "search.evaluate=standalone"]


def rows(run_dir: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run_dir / "trials.csv").read_text().splitlines()))


def tried(run_dir: Path) -> list[tuple[str, str]]:
    """Directions and score of every trial, in order."""
    return [(row["layers.0"], row["score"]) for row in rows(run_dir)]


def metrics(run_dir: Path) -> dict:
    return json.loads((run_dir / "metrics.json").read_text())


@pytest.mark.usefixtures("drawing")
def test_a_search_on_shared_weights_leaves_everything_behind(tmp_path: Path) -> None:
    assert main(["search", "search=evolution", *TINY, *FEW, f"run_dir={tmp_path}"]) == 0
    for name in ("config.yaml", "environment.json", "checkpoint.pt", "trials.journal", "genotype.png", "metrics.jsonl"):
        assert (tmp_path / name).stat().st_size > 0, name
    table = rows(tmp_path)
    best = max(table, key=lambda row: float(row["score"]))
    genotype = lmsearch.load_genotype(tmp_path)
    assert len(table) == 5 and best["layers.0"] == " ".join(genotype.directions[0])
    assert genotype.derivation["method"] == "evolution" and genotype.derivation["evaluate"] == "shared"
    assert genotype.health["status"] in ("not tested", "indeterminate")


def test_the_cost_of_shared_weights_is_k_branches_per_step_and_a_third_of_it_per_evaluation(tmp_path: Path) -> None:
    words = ["search=random", *TINY, "search.trials=3"]
    assert main(["search", *words, f"run_dir={tmp_path}"]) == 0
    loaders = search_loaders(build_data(compose_settings(Search, words).data), holdout=0.2, batch_size=128, seed=0)
    evaluation = loaders.holdout.num_samples / 128 * 4 / 3
    assert metrics(tmp_path)["branch_scan_steps_training"] == len(loaders.weights) * 4
    assert metrics(tmp_path)["branch_scan_steps"] == pytest.approx(len(loaders.weights) * 4 + 3 * evaluation)


@pytest.mark.parametrize("method", ["random", "local", "tpe"])
def test_every_method_searches_stand_alone(method: str, tmp_path: Path) -> None:
    words = [f"search={method}", *PLANTED, "search.evaluate=standalone", "search.trials=3"]
    assert main(["search", *words, f"run_dir={tmp_path}"]) == 0
    assert len(lmsearch.load_genotype(tmp_path).directions[0]) == 1, "the planted preset keeps one direction"
    found = metrics(tmp_path)
    assert found["metric"] == "mse" and found["best"] == pytest.approx(-max(float(row["score"]) for row in rows(tmp_path)))
    assert 0 < found["best"] <= found["mean"]
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_search_on_one_held_out_sample_is_indeterminate_and_its_genotype_can_be_written() -> None:
    trials = [SimpleNamespace(evaluation=SimpleNamespace(score=score, error=math.inf)) for score in (0.1, 0.3)]
    health = health_of(trials)
    assert health["status"] == "indeterminate" and "on one sample" in health["reason"]
    assert dumps(Genotype((LayerChoice(("h",)),), health=health))


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("objective", ["flops", "latency"])
def test_nsga2_writes_a_pareto_front(objective: str, tmp_path: Path) -> None:
    words = ["search=nsga2", *TINY, *FEW, f"search.objective2={objective}", "search.latency_batch=2"]
    assert main(["search", *words, f"run_dir={tmp_path}"]) == 0
    front = json.loads((tmp_path / "pareto.json").read_text())["front"]
    scores = [point["score"] for point in front]
    assert scores == sorted(scores) and all(point[objective] > 0 for point in front)
    assert (tmp_path / "pareto.png").stat().st_size > 0


def test_an_interrupted_search_continues_to_the_same_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["search", "search=evolution", *TINY, *FEW]
    assert main([*words, f"run_dir={tmp_path / 'whole'}"]) == 0
    real, calls = SharedWeights.__call__, []

    def interrupted(self: SharedWeights, architecture: tuple) -> object:
        calls.append(architecture)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, architecture)

    monkeypatch.setattr(SharedWeights, "__call__", interrupted)
    assert main([*words, f"run_dir={tmp_path / 'cut'}"]) == 130
    assert main([*words, f"run_dir={tmp_path / 'cut'}"]) == 0
    assert calls[3] == calls[4], "the second command must begin with the trial that was cut off"
    assert tried(tmp_path / "cut") == tried(tmp_path / "whole")
    whole, cut = ((tmp_path / name / "genotype.json").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def test_derive_refuses_the_checkpoint_of_shared_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "search=random", *TINY, "search.trials=1", f"run_dir={tmp_path}"]) == 0
    assert main(["derive", f"checkpoint={tmp_path}", "keep=1", f"run_dir={tmp_path / 'again'}"]) == 2
    assert "which learned no alphas" in capsys.readouterr().err


def test_a_finished_search_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["search", *CHEAP, f"run_dir={tmp_path}"]) == 0
    before = (tmp_path / "trials.csv").read_bytes()
    monkeypatch.setattr(discrete.StandAlone, "__call__", lambda self, architecture: pytest.fail("evaluated again"))
    assert main(["search", *CHEAP, f"run_dir={tmp_path}"]) == 0
    assert (tmp_path / "trials.csv").read_bytes() == before


@pytest.mark.parametrize("where", ["journal", "database"])
def test_a_search_goes_on_with_more_trials_as_if_it_had_had_them(where: str, tmp_path: Path) -> None:
    def command(name: str) -> list[str]:
        stored = [] if where == "journal" else [f"search.storage=sqlite:///{tmp_path}/{name}.db"]
        return ["search", *CHEAP, *stored, f"run_dir={tmp_path / name}"]

    assert main(command("whole")) == 0
    more = command("more")
    assert main([*more, "search.trials=2"]) == 0 and len(tried(tmp_path / "more")) == 2
    assert main([*more, "search.trials=null", f"search.budget_steps={metrics(tmp_path / 'more')['branch_scan_steps'] * 2}"]) == 0
    assert len(tried(tmp_path / "more")) == 4
    assert main(more) == 0
    assert tried(tmp_path / "more") == tried(tmp_path / "whole")
    assert lmsearch.load_genotype(tmp_path / "more").layers == lmsearch.load_genotype(tmp_path / "whole").layers


def test_fewer_trials_than_there_are_lose_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["search", *CHEAP, f"run_dir={tmp_path}"]) == 0
    assert main(["search", *CHEAP, "search.trials=2", f"run_dir={tmp_path}"]) == 0
    assert len(rows(tmp_path)) == 5 and "search.trials=2: this search has 5 already" in caplog.text


def test_trials_of_another_search_are_refused_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", *CHEAP, f"run_dir={tmp_path}"]) == 0
    assert main(["search", *CHEAP, "seed=5", f"run_dir={tmp_path}"]) == 2
    assert "overwrite=true" in capsys.readouterr().err
    assert len(rows(tmp_path)) == 5


def test_a_database_holds_several_searches_apart_and_overwriting_one_starts_it_over(tmp_path: Path) -> None:
    words = ["search", *CHEAP, "search.trials=2", f"search.storage=sqlite:///{tmp_path}/trials.db"]
    for seed in (0, 1):
        assert main([*words, f"seed={seed}", f"run_dir={tmp_path / str(seed)}"]) == 0
    assert tried(tmp_path / "0") != tried(tmp_path / "1")
    numbers = [row["trial"] for row in rows(tmp_path / "0")]
    assert main([*words, f"run_dir={tmp_path / '0'}", "overwrite=true"]) == 0
    assert [row["trial"] for row in rows(tmp_path / "0")] == numbers == ["0", "1"]


def test_overwriting_deletes_nothing_of_a_search_that_is_running(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = f"sqlite:///{tmp_path}/trials.db"
    words = ["search", *CHEAP, "search.trials=1", f"search.storage={where}", f"run_dir={tmp_path / 'run'}"]
    assert main(words) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    (study,) = optuna.get_all_study_names(storage := open_storage(where))
    claim(optuna.load_study(storage=storage, study_name=study).ask())
    capsys.readouterr()
    assert main([*words, "overwrite=true"]) == 2
    said = capsys.readouterr().err
    assert re.search(f"study '{study}' is in use by process {os.getpid()} on .*, which runs trial 1", said)
    assert len(optuna.load_study(storage=storage, study_name=study).trials) == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()} == before


def test_a_folder_whose_trials_are_in_a_database_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["search", "search=random", "search.evaluate=standalone", *TINY, "search.trials=1", f"run_dir={tmp_path / 'run'}"]
    words.append(f"search.storage=sqlite:///{tmp_path}/trials.db")
    assert main(words) == 0
    before = (tmp_path / "run" / "genotype.json").read_bytes()
    assert main([*words, "seed=5"]) == 2
    assert "holds another run" in capsys.readouterr().err
    assert (tmp_path / "run" / "genotype.json").read_bytes() == before
    assert main(words) == 0


def test_a_budget_is_not_overspent(tmp_path: Path) -> None:
    words = [*CHEAP, "search.trials=null"]
    assert main(["search", *CHEAP, f"run_dir={tmp_path / 'price'}"]) == 0
    price = float(rows(tmp_path / "price")[0]["cost"])
    assert main(["search", *words, f"search.budget_steps={3.5 * price}", f"run_dir={tmp_path / 'run'}"]) == 0
    assert len(rows(tmp_path / "run")) == 3
    assert metrics(tmp_path / "run")["branch_scan_steps"] == pytest.approx(3 * price)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search=random", "search.trials=null"], "both null"),
        (["search=nsga2", "search.objective2=null"], "needs a second objective"),
        (["search=tpe", "search.objective2=flops"], "no other method takes one"),
        (["search=evolution", "search.tournament=30"], "search.tournament=30 is larger than search.population=20"),
        (["search=tpe", "seeds=2"], "seeds=2 belongs to a supernet search"),
        (["search=tpe", "budget=4"], "budget=4 belongs to a supernet search"),
        (["search=darts", "search.method=tpe"], "search.method=tpe needs its own preset: search=tpe"),
        (["search=tpe", "search.method=supernet"], "search.method=supernet needs its own preset"),
        (["search=random", "search.storage=nonsense://x"], "storage='nonsense://x'"),
        (["search=random", "search.budget_steps=10"], "pays for no trial"),
        (["search=random", "search.budget_steps=10", "search.evaluate=standalone"], "pays for no trial"),
        (["search=random", "keep=9"], "keep=9 is larger than the 8 distinct candidates"),
        (["search=random", "search.fewest=5"], "search.fewest=5 is not between 1 and the 4"),
    ],
)
def test_contradictions_are_one_clear_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", *TINY, *words, f"run_dir={tmp_path}"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("lmsearch: error: ") and message in error


@pytest.mark.slow
def test_a_search_that_is_killed_in_a_trial_loses_nothing(tmp_path: Path) -> None:
    words = ["search", "search=evolution", *FEW, "search.evaluate=standalone", *TINY, "epochs=3"]
    assert main([*words, f"run_dir={tmp_path / 'whole'}"]) == 0
    run_dir = tmp_path / "cut"
    command = [sys.executable, "-m", "lmsearch", *words, f"run_dir={run_dir}"]
    process = subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "trial 2/5" in line:
            break
    time.sleep(0.3)  # into the third trial
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert not (run_dir / "genotype.json").exists()
    assert main([*words, f"run_dir={run_dir}"]) == 0
    assert tried(run_dir) == tried(tmp_path / "whole")
    assert (run_dir / "genotype.json").read_bytes() == (tmp_path / "whole" / "genotype.json").read_bytes()
