"""lmsearch sweep, through the command line's own entry: on a task that only writes numbers, and once on a real one."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import optuna
import pytest
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState

from lmsearch.cli import main
from lmsearch.config import compose, compose_settings, plain_config
from lmsearch.context import FREE, SHARING
from lmsearch.data.manifest import Manifest
from lmsearch.engine.lock import holding
from lmsearch.engine.log import RunLog
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import DataError, FileError, SourceError, StorageError
from lmsearch.files import write_json
from lmsearch.run_identity import config_digest
from lmsearch.settings.sweep import Sweep as SweepSettings
from lmsearch.status import RunStatus
from lmsearch.sweep.begun_on import files_of
from lmsearch.sweep.pool import jobs_stay_here
from lmsearch.sweep.study import FAILED
from lmsearch.sweep.worker import Outcome, end
from lmsearch.tasks import retrain
from lmsearch.tasks import sweep as sweeping
from lmsearch.tasks.parts.run_dir import telling_failure
from lmsearch.tasks.parts.runs import read_run
from lmsearch.tasks.parts.samples import note_samples
from lmsearch.trials.storage import open_storage

PARAMS = "params={optim.lr: log(1e-4,1e-1), model.embed_dim: [16,32]}"
BASE = ["sweep", "task=retrain", "overrides=[genotype=cross,epochs=4]", "metric=val_accuracy"]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[DictConfig]:
    """Put a task in the place of retrain that only writes numbers; return the configurations that it was run with."""
    calls: list[DictConfig] = []

    def run(cfg: DictConfig) -> None:
        calls.append(cfg)
        print("said by the task")
        write(cfg, {"val_accuracy": cfg.optim.lr, "parameters": cfg.model.embed_dim, "health": {"entropy": 0.5}})

    monkeypatch.setattr(retrain, "run", run)
    return calls


def write(cfg: DictConfig, metrics: dict) -> None:
    """Write a run's metrics.json."""
    write_json(Path(cfg.run_dir) / "metrics.json", metrics)


def sweep(run_dir: Path, *words: str) -> int:
    """Run a sweep of the standard parameters."""
    return main([*BASE, PARAMS, f"run_dir={run_dir}", *words])


def results(run_dir: Path) -> dict:
    """Return what a sweep found."""
    return json.loads((run_dir / "results.json").read_text())


def error_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must fail with one line, and return the line."""
    assert main(list(words)) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("lmsearch: error: ")
    return line.removeprefix("lmsearch: error: ")


@pytest.mark.parametrize(
    ("words", "expected", "threads"),
    [
        (["workers=3", "trials=8"], 3, 5),
        (["workers=3", "trials=2"], 2, 5),
        (["launcher=submitit", "submitit.cluster=slurm", "submitit.cpus_per_task=6"], 1, 6),
        (["launcher=submitit", "submitit.cluster=local", "submitit.cpus_per_task=6"], 3, 5),
        (["launcher=submitit", "submitit.cluster=local"], 3, 2),
    ],
)
def test_trials_know_how_many_others_share_their_machine(
    words: list[str], expected: int, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, words = [], ["workers=3", *words]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sweeping, "cores", lambda: 16)
    monkeypatch.setattr(sweeping, "free_bytes", lambda device: 2**30)
    monkeypatch.setattr(sweeping, "work", lambda sweep, *_, name: seen.append((name, SHARING.get(), FREE.get(), sweep.threads)))
    for name in ("tune_process", "set_up_logging"):
        monkeypatch.setattr(sweeping, name, lambda: None)
    settings = compose_settings(SweepSettings, [*BASE[1:], PARAMS, f"run_dir={tmp_path}", *words])
    sweeping.run_worker(sweeping.make_sweep(settings), "one")
    assert seen == [("one", expected, 2**30, threads)] and (SHARING.get(), FREE.get()) == (1, None)


@pytest.mark.parametrize(
    ("words", "groups"),
    [
        ([], ("4,5", "6,7")),
        (["launcher=submitit", "submitit.cluster=local"], ()),
        (["launcher=submitit", "submitit.cluster=local", "submitit.gpus_per_node=1"], ("4", "5", "6", "7")),
        (["launcher=submitit", "submitit.cluster=slurm", "submitit.gpus_per_node=1"], ()),
    ],
)
def test_workers_on_this_machine_have_its_gpus_in_groups(
    words: list[str], groups: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    settings = compose_settings(SweepSettings, [*BASE[1:], PARAMS, f"run_dir={tmp_path}", "workers=2", *words])
    assert sweeping.make_sweep(settings).gpus == groups


@pytest.mark.parametrize("found", ["local", "slurm"])
def test_jobs_of_no_named_cluster_are_processes_of_this_machine_where_there_is_no_slurm(
    found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(AutoExecutor=SimpleNamespace(which=lambda: found)))
    assert jobs_stay_here(None) is (found == "local")


@pytest.mark.usefixtures("drawing")
def test_a_sweep_of_a_real_task_leaves_everything_behind(tmp_path: Path) -> None:
    (tmp_path / "h.json").write_text('[["h"]]')
    fixed = "data=planted,epochs=1,data.steps_per_epoch=1,batch_size=4"
    words = [f"overrides=[{fixed},genotype={tmp_path}/h.json]", "params={optim.lr: log(1e-4,1e-1)}", "trials=2"]
    run_dir = tmp_path / "a sweep, with = signs"
    assert main(["sweep", "task=retrain", *words, "metric=val_mse", "direction=minimize", f"run_dir={run_dir}"]) == 0
    for name in ("config.yaml", "environment.json", "trials.journal", "results.csv", "best.yaml", "history.png"):
        assert (run_dir / name).stat().st_size > 0, name
    for number in range(2):
        folder = run_dir / "trials" / f"{number:04d}"
        told = next(t for t in results(run_dir)["trials"] if t["trial"] == number)
        assert OmegaConf.load(folder / "config.yaml").optim.lr == told["params"]["optim.lr"]
        assert json.loads((folder / "trial.json").read_text())["state"] == "complete"
        assert "test_mse" in (folder / "output.txt").read_text()


def test_the_printed_command_runs_the_best_configuration_again(
    ran: list[DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(tmp_path, "trials=4") == 0
    out = capsys.readouterr().out
    best = max(ran, key=lambda cfg: cfg.optim.lr)
    command = results(tmp_path)["best"]["command"]
    assert command in out and "said by the task" not in out
    program, task, *words = shlex.split(command)
    assert (program, task) == ("lmsearch", "retrain")
    assert config_digest(plain_config(compose(task, words))) == config_digest(plain_config(best))
    assert config_digest(plain_config(OmegaConf.load(tmp_path / "best.yaml"))) == config_digest(plain_config(best))


def test_the_table_holds_every_trial_best_first(ran: list[DictConfig], tmp_path: Path) -> None:
    assert sweep(tmp_path, "trials=3", "direction=minimize") == 0
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert [float(row["val_accuracy"]) for row in rows] == sorted(cfg.optim.lr for cfg in ran)
    assert all(row["val_accuracy"] == row["optim.lr"] and row["model.embed_dim"] in ("16", "32") for row in rows)


def test_the_same_command_goes_on_and_draws_as_if_it_had_not_stopped(ran: list[DictConfig], tmp_path: Path) -> None:
    assert sweep(tmp_path / "cut", "trials=3", "sampler=random") == 0
    assert sweep(tmp_path / "cut", "trials=6", "sampler=random") == 0
    assert sweep(tmp_path / "whole", "trials=6", "sampler=random") == 0
    drawn = [cfg.optim.lr for cfg in ran]
    assert drawn[:6] == drawn[6:] and len(set(drawn)) == 6
    assert sweep(tmp_path / "cut", "trials=6") == 0 and len(ran) == 12, "nothing is left to run"


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
def test_every_sampler_sweeps(sampler: str, ran: list[DictConfig], tmp_path: Path) -> None:
    assert sweep(tmp_path, "trials=6", f"sampler={sampler}") == 0
    assert len(ran) == 6


def test_a_database_may_hold_several_studies(ran: list[DictConfig], tmp_path: Path) -> None:
    storage = f"storage=sqlite:///{tmp_path}/x.db"
    assert sweep(tmp_path / "a", "trials=1", storage) == 0
    assert sweep(tmp_path / "b", "trials=1", "direction=minimize", storage) == 0
    assert len(ran) == 2 and not (tmp_path / "a" / "trials.journal").exists()


def test_one_metric_has_one_best_trial_however_many_are_equal(ran: list[DictConfig], tmp_path: Path) -> None:
    assert sweep(tmp_path, "trials=3", "metric=health.entropy") == 0
    found = results(tmp_path)
    assert found["pareto"] == [0] and found["best"]["trial"] == 0


@pytest.mark.usefixtures("drawing")
def test_two_metrics_give_a_pareto_front(ran: list[DictConfig], tmp_path: Path) -> None:
    goal = ["metric=[val_accuracy,parameters]", "direction=[maximize,minimize]", "sampler=nsga2", "population=4"]
    assert sweep(tmp_path, *goal, "trials=9") == 0
    pairs = [(cfg.optim.lr, cfg.model.embed_dim) for cfg in ran]
    beaten = {a for a in pairs for b in pairs if b != a and b[0] >= a[0] and b[1] <= a[1]}
    found = results(tmp_path)
    shown = [t["values"] for t in found["trials"] if t["trial"] in found["pareto"]]
    front = [(values["val_accuracy"], values["parameters"]) for values in shown]
    assert set(front) == set(pairs) - beaten
    assert found["best"]["values"]["val_accuracy"] == max(front)[0]
    assert (tmp_path / "pareto.png").stat().st_size > 0


def test_nested_numbers_are_metrics_too(ran: list[DictConfig], tmp_path: Path) -> None:
    assert sweep(tmp_path, "trials=1", "metric=health.entropy") == 0
    assert results(tmp_path)["best"]["values"] == {"health.entropy": 0.5}


def test_a_prepared_sweep_and_a_file_of_ranges_are_joined(ran: list[DictConfig], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("seed: int(1, 9)\noptim.lr: log(1e-5, 1e-4)\n")
    words = ["sweep=retrain_recipe", f"params_file={tmp_path}/mine.yaml", "overrides=[genotype=cross]", "trials=1"]
    assert main(["sweep", *words, f"run_dir={tmp_path / 'run'}"]) == 0
    assert set(results(tmp_path / "run")["trials"][0]["params"]) == {
        "seed",
        "optim.lr",
        "optim.weight_decay",
        "optim.label_smoothing",
        "model.drop_path_rate",
    }
    assert main(["sweep", *words, "params={seed: [5]}", f"run_dir={tmp_path / 'other'}"]) == 0
    assert results(tmp_path / "other")["best"]["command"].endswith("seed=5 optim.lr=" + str(ran[1].optim.lr))


def test_a_trial_that_fails_is_recorded_with_its_line_and_the_others_run(
    ran: list[DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = retrain.run

    def run(cfg: DictConfig) -> None:
        if len(ran) == 1:
            ran.append(cfg)
            raise DataError("no images in x")
        if len(ran) == 2:
            ran.append(cfg)
            raise RuntimeError("out of memory\nand more")
        if len(ran) == 3:
            ran.append(cfg)
            return write(cfg, {"val_accuracy": float("nan")})
        good(cfg)

    monkeypatch.setattr(retrain, "run", run)
    assert sweep(tmp_path, "trials=5") == 0
    notes = {t["trial"]: (t["state"], t["note"]) for t in results(tmp_path)["trials"]}
    assert notes[1] == ("failed", "no images in x")
    assert notes[2] == ("failed", "RuntimeError: out of memory")
    assert notes[3] == ("failed", "val_accuracy is nan")
    assert notes[0] == notes[4] == ("complete", "")
    assert json.loads((tmp_path / "trials/0001/trial.json").read_text())["note"] == "no images in x"
    assert "Traceback" in (tmp_path / "trials/0002/error.txt").read_text()


@pytest.mark.parametrize(
    "error",
    [
        SourceError("images: no such folder"),
        FileError("checkpoint.pt cannot be written (No space left on device)"),
        OSError(errno.EFBIG, "File too large"),
        StorageError("storage='trials.journal' cannot be written (No space left on device)"),
    ],
)
def test_what_is_no_fault_of_a_trial_fails_none_and_ends_the_sweep(
    error: Exception,
    ran: list[DictConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sweep(tmp_path, "trials=1") == 0
    good, failing = retrain.run, Mock(side_effect=error)
    monkeypatch.setattr(retrain, "run", failing)
    line = error_of(capsys, *BASE, PARAMS, f"run_dir={tmp_path}", "trials=3")
    told = "a file cannot be written (File too large)" if isinstance(error, OSError) else str(error)
    assert line == f"{told}; trial 1 is queued again, and the same command goes on with it" and failing.call_count == 1
    monkeypatch.setattr(retrain, "run", good)
    assert sweep(tmp_path, "trials=3") == 0
    assert [t["state"] for t in results(tmp_path)["trials"]].count("complete") == 3


def test_data_that_cannot_be_opened_are_the_fault_of_a_trial_where_trials_differ_in_them(
    ran: list[DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = retrain.run

    def run(cfg: DictConfig) -> None:
        if cfg.data.name == "planted":
            raise SourceError("nothing to learn there")
        good(cfg)

    monkeypatch.setattr(retrain, "run", run)
    words = [*BASE, "params={data: [planted,digits]}", f"run_dir={tmp_path}", "trials=6", "sampler=random"]
    assert main(words) == 0
    assert {t["state"] for t in results(tmp_path)["trials"]} == {"complete", "failed"}


@pytest.mark.parametrize("directions", [["maximize"], ["maximize", "minimize"]])
def test_trials_that_fail_teach_the_sampler_to_look_elsewhere(directions: list[str], tmp_path: Path) -> None:
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=5), directions=directions)
    for _ in range(25):
        trial = study.ask()
        rate = trial.suggest_float("lr", 0, 1)
        fine = Outcome(TrialState.COMPLETE, [rate, -rate][: len(directions)])
        end(study, trial, RunDir(tmp_path), fine if rate < 0.75 else Outcome(TrialState.FAIL, note="it diverged"))
    lost = [FAILED in trial.user_attrs for trial in study.trials]
    assert any(lost) and sum(lost[10:]) <= 10, "15 of 15 where failed trials are nothing to the sampler"


def test_a_sweep_without_a_complete_trial_says_why_and_has_failed_until_there_is_one(
    ran: list[DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = retrain.run

    def run(cfg: DictConfig) -> None:
        raise DataError("no images in x")

    monkeypatch.setattr(retrain, "run", run)
    line = error_of(capsys, *BASE, PARAMS, f"run_dir={tmp_path}", "trials=2")
    assert line.startswith("no trial was completed; trial 0 failed: no images in x; see")
    assert (tmp_path / "results.csv").read_text().count("failed") == 2
    found = read_run(tmp_path)
    assert found.state is RunStatus.FAILED and "no trial was completed; trial 0 failed" in found.verdict
    monkeypatch.setattr(retrain, "run", good)
    assert sweep(tmp_path, "trials=3") == 0
    assert read_run(tmp_path).state is RunStatus.FINISHED


def test_an_interrupted_trial_goes_on_in_its_own_folder(
    ran: list[DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = retrain.run

    def interrupt(cfg: DictConfig) -> None:
        (Path(cfg.run_dir) / "half").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(retrain, "run", interrupt)
    assert sweep(tmp_path, "trials=2") == 130
    monkeypatch.setattr(retrain, "run", good)
    assert sweep(tmp_path, "trials=2") == 0
    states = {t["trial"]: (t["state"], Path(t["run_dir"]).name) for t in results(tmp_path)["trials"]}
    assert states == {0: ("queued again", "0000"), 1: ("complete", "0000"), 2: ("complete", "0002")}
    assert (Path(ran[0].run_dir) / "half").exists()


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_a_pruner_ends_trials_that_fall_behind_and_their_folder_says_so(
    pruner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: dict[str, int] = {}

    def run(cfg: DictConfig) -> None:
        folder = Path(cfg.run_dir)
        with telling_failure(RunDir(folder)), RunLog(RunDir(folder)) as run_log:
            for epoch in range(cfg.epochs):
                run_log.write(epoch, {"val_accuracy": cfg.optim.lr})
                lines[folder.name] = epoch + 1
        write(cfg, {"val_accuracy": cfg.optim.lr})

    monkeypatch.setattr(retrain, "run", run)
    assert sweep(tmp_path, "trials=16", f"pruner={pruner}", "sampler=random", "prune_after=2") == 0
    found = results(tmp_path)["trials"]
    pruned = [t for t in found if t["state"] == "pruned"]
    assert pruned and any(t["state"] == "complete" for t in found)
    for trial in pruned:
        folder = Path(trial["run_dir"])
        told = json.loads((folder / "trial.json").read_text())
        assert told["state"] == "pruned" and "epochs" in told["note"] and not (folder / "metrics.json").exists()
        assert not (folder / "error.txt").exists()
        assert 2 <= len((folder / "metrics.jsonl").read_text().splitlines()) < 4
    best = max(found, key=lambda t: t["params"]["optim.lr"])
    assert best["state"] == "complete"


def test_a_metric_that_no_epoch_logs_cannot_be_pruned_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(cfg: DictConfig) -> None:
        with RunLog(RunDir(Path(cfg.run_dir))) as run_log:
            run_log.write(0, {"val_loss": 1.0})
        write(cfg, {"val_accuracy": 0.5})

    monkeypatch.setattr(retrain, "run", run)
    words = (*BASE, PARAMS, f"run_dir={tmp_path}", "trials=1", "pruner=median")
    line = error_of(capsys, *words)
    assert line == "prune_metric='val_accuracy' is not logged by epochs of lmsearch retrain; accepted: val_loss"
    assert main([*words, "prune_metric=val_loss"]) == 0


def test_a_metric_that_is_not_there_stops_the_sweep_at_once(
    ran: list[DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = error_of(capsys, *BASE, PARAMS, f"run_dir={tmp_path / '1'}", "metric=accuracy")
    assert line == "metric='accuracy' is not in metrics.json; there are: health.entropy, parameters, val_accuracy"
    assert len(ran) == 1
    line = error_of(capsys, *BASE, PARAMS, f"run_dir={tmp_path / '2'}", "metrics_file=other.json")
    assert line == "metrics_file=other.json is not in the run directory of a trial; its JSON files: metrics.json"
    for number, (content, says) in enumerate({"[1]": "holds no names with numbers", "{}\n{}": "not valid JSON"}.items()):
        monkeypatch.setattr(retrain, "run", lambda cfg, content=content: (Path(cfg.run_dir) / "lines").write_text(content))
        line = error_of(capsys, *BASE, PARAMS, f"run_dir={tmp_path / f'kind {number}'}", "metrics_file=lines")
        assert line.startswith("metrics_file=lines") and says in line


def test_another_sweep_in_the_same_place_is_refused_until_it_is_overwritten(
    ran: list[DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(tmp_path, "trials=1") == 0
    words = [*BASE, "params={optim.lr: log(1e-3,1)}", f"run_dir={tmp_path}", "trials=1"]
    assert "is another sweep, with other params; choose another run_dir=, or overwrite=true" in error_of(capsys, *words)
    assert len(ran) == 1 and list((tmp_path / "trials").iterdir())
    assert main([*words, "overwrite=true"]) == 0
    assert len(ran) == 2 and list(results(tmp_path)["trials"][0]["params"]) == ["optim.lr"]


def test_trials_on_another_genotype_are_refused(
    ran: list[DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    genotype, drawn = tmp_path / "g.json", tmp_path / "drawn.json"
    words = [*BASE, f"overrides=[genotype={genotype}]", PARAMS, f"run_dir={tmp_path}", "study=mine"]
    for path in (genotype, drawn):
        path.write_text('[["h"]]')
    assert main([*words, "trials=1"]) == 0
    genotype.write_text('[["v"]]')
    line = error_of(capsys, *words, "trials=2")
    assert line.startswith(
        f"genotype={genotype} holds something else now than the trials of study 'mine' were begun on; put back"
    )
    assert len(ran) == 1
    genotype.write_text('[\n["h"]]')
    assert main([*words, "trials=2"]) == 0
    settings = compose_settings(SweepSettings, [*BASE[1:], "overrides=[]", f"params={{genotype: [{drawn}, cross]}}"])
    assert list(files_of(sweeping.make_sweep(settings))) == [f"genotype={drawn}"], "a set of the literature is no file"


def test_trials_on_other_samples_are_refused_before_they_begin(
    ran: list[DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, number = retrain.run, {"digits": 12, "planted": 5}

    def run(cfg: DictConfig) -> None:
        manifest = Manifest({"a": (number[cfg.data.name], "0" * 16)})
        source = SimpleNamespace(remembered={"training": manifest}, val=manifest, info=None)
        note_samples(RunDir(Path(cfg.run_dir)), source, begun=False)
        good(cfg)

    monkeypatch.setattr(retrain, "run", run)
    monkeypatch.setattr(Manifest, "of", lambda dataset, info: dataset)
    words = [*BASE, "params={optim.lr: log(1e-4,1e-1), data: [digits,planted]}", f"run_dir={tmp_path}", "sampler=random"]
    assert main([*words, "trials=4"]) == 0 and {cfg.data.name for cfg in ran} == {"digits", "planted"}
    number["digits"] = number["planted"] = 6
    line = error_of(capsys, *words, "trials=5")
    assert re.match(r"the training samples are not those that the trials of study .* were begun on \((12|5) then, 6 now\)", line)
    assert len(ran) == 4 and not (tmp_path / "trials" / "0004" / "manifest.json").exists()
    number |= {"digits": 12, "planted": 5}
    assert main([*words, "trials=5"]) == 0 and len(results(tmp_path)["trials"]) == 6


def test_overwriting_deletes_no_folder_that_is_not_of_the_study(ran: list[DictConfig], tmp_path: Path) -> None:
    mine = tmp_path / "trials" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    for _ in range(2):  # where there is no sweep yet, and where there is one
        assert sweep(tmp_path, "trials=1", "overwrite=true") == 0
        assert mine.read_text() == "mine"
        assert not (tmp_path / "trials" / "0000" / "old").exists()
        (tmp_path / "trials" / "0000" / "old").touch()


def test_a_folder_holds_one_study(ran: list[DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = tmp_path / "first"
    words = [*BASE, PARAMS, f"run_dir={run_dir}", "trials=1"]
    assert main(words) == 0
    before = (run_dir / "best.yaml").read_bytes()
    for more in (["study=second"], ["study=second", "overwrite=true"], [f"storage={tmp_path}/other.journal"]):
        assert error_of(capsys, *words, *more).startswith(f"{run_dir} holds the trials of another study, 'first'")
    assert (run_dir / "trials" / "0000" / "metrics.json").exists() and (run_dir / "best.yaml").read_bytes() == before
    assert main([*words, "trials=2"]) == 0 and len(ran) == 2


def test_a_folder_that_was_moved_goes_on(ran: list[DictConfig], tmp_path: Path) -> None:
    assert sweep(tmp_path / "old", "trials=1") == 0
    (tmp_path / "old").rename(tmp_path / "new")
    assert sweep(tmp_path / "new", "trials=2") == 0
    assert len(ran) == 2 and len(results(tmp_path / "new")["trials"]) == 2
    assert all(t["run_dir"].startswith(str(tmp_path / "new")) for t in results(tmp_path / "new")["trials"])
    (tmp_path / "new" / "trials" / "0001" / "checkpoint.pt").touch()
    assert sweep(tmp_path / "new", "trials=1", "overwrite=true") == 0
    assert [path.name for path in (tmp_path / "new" / "trials").iterdir()] == ["0000"]


def test_a_folder_that_was_moved_names_no_run_of_the_sweep_that_took_its_place(ran: list[DictConfig], tmp_path: Path) -> None:
    assert sweep(tmp_path / "old", "trials=2") == 0
    (tmp_path / "old").rename(tmp_path / "new")
    assert sweep(tmp_path / "old", "trials=2", "seed=9") == 0
    assert sweep(tmp_path / "new", "trials=2") == 0
    shown = {t["trial"]: t["run_dir"] for t in results(tmp_path / "new")["trials"]}
    assert shown == {number: str(tmp_path / "new" / "trials" / f"{number:04d}") for number in range(2)}
    for name in ("old", "new"):
        (tmp_path / name / "trials" / "0000" / "checkpoint.pt").touch()
    assert sweep(tmp_path / "new", "trials=1", "overwrite=true") == 0
    assert not list((tmp_path / "new").rglob("checkpoint.pt")) and not (tmp_path / "new" / "trials" / "0001").exists()
    assert (tmp_path / "old" / "trials" / "0000" / "checkpoint.pt").exists(), "that is of the other sweep"


def test_starting_over_deletes_no_folder_of_another_caller(ran: list[DictConfig], tmp_path: Path) -> None:
    shared = [f"storage=sqlite:///{tmp_path}/x.db", "study=shared"]
    assert sweep(tmp_path / "a", "trials=1", *shared) == 0
    mine = tmp_path / "b" / "trials" / "0000"
    mine.mkdir(parents=True)
    (mine / "data.txt").write_text("mine")
    assert sweep(tmp_path / "b", "trials=1", "overwrite=true", *shared) == 0
    assert (mine / "data.txt").exists() and len(ran) == 2


def test_starting_over_deletes_no_study_that_is_running(
    ran: list[DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shared, good = [f"storage={tmp_path}/x.journal", "study=shared", "trials=1"], retrain.run

    def run(cfg: DictConfig) -> None:
        line = error_of(capsys, *BASE, PARAMS, f"run_dir={tmp_path / 'b'}", "overwrite=true", *shared)
        assert line.startswith(f"study 'shared' is in use by process {os.getpid()} on ") and "trial 0" in line
        good(cfg)

    monkeypatch.setattr(retrain, "run", run)
    assert sweep(tmp_path / "a", *shared) == 0 and len(ran) == 1


def test_a_sweep_whose_study_is_deleted_ends_with_one_line(
    ran: list[DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(cfg: DictConfig) -> None:
        optuna.delete_study(study_name="run", storage=open_storage(tmp_path / "run" / "trials.journal"))
        write(cfg, {"val_accuracy": 1.0})

    monkeypatch.setattr(retrain, "run", run)
    assert error_of(capsys, *BASE, PARAMS, f"run_dir={tmp_path / 'run'}", "trials=2").endswith("so this one ends")


def test_a_sweep_is_not_put_into_the_folder_of_a_training(
    ran: list[DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run_id.txt").write_text("retrain 123 456\n")
    assert "holds another run; choose another run_dir=" in error_of(capsys, *BASE, PARAMS, f"run_dir={tmp_path}")
    assert ran == [] and {path.name for path in tmp_path.iterdir()} == {"run_id.txt", ".lock"}


def test_trials_of_a_caller_with_another_folder_are_shown_where_they_ran(ran: list[DictConfig], tmp_path: Path) -> None:
    shared = [f"storage=sqlite:///{tmp_path}/x.db", "study=shared"]
    assert sweep(tmp_path / "a", "trials=1", *shared) == 0
    assert sweep(tmp_path / "b", "trials=2", *shared) == 0
    shown = {t["trial"]: t["run_dir"] for t in results(tmp_path / "b")["trials"]}
    assert shown == {0: str(tmp_path / "a" / "trials" / "0000"), 1: str(tmp_path / "b" / "trials" / "0001")}


def test_a_mistyped_metric_is_put_right_until_a_trial_was_judged_by_one(
    ran: list[DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*BASE, PARAMS, f"run_dir={tmp_path}", "trials=1"]
    for _ in range(4):
        assert error_of(capsys, *words, "metric=accuracy").startswith("metric='accuracy' is not in metrics.json")
    assert "is another sweep, with other metric, direction" in error_of(capsys, *words, "direction=minimize")
    assert main(words) == 0
    assert len({cfg.optim.lr for cfg in ran}) == 1 and results(tmp_path)["best"]["values"].keys() == {"val_accuracy"}
    assert "is another sweep, with other metric, direction" in error_of(capsys, *words, "metric=parameters")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task=retrian"], "task='retrian' is not a task that can be swept; did you mean retrain"),
        (["task=sweep"], "task='sweep' is not a task that can be swept"),
        (["task=doctor", "overrides=[]"], "unknown key 'optim.lr'"),
        (["task=complexity", "overrides=[]", "params={num_classes: [2,3]}"], "task=complexity leaves no run directory"),
        (["overrides=[genotype=cross]", "params={optim.rl: log(1,2)}"], "unknown key 'optim.rl'; did you mean optim.lr"),
        (["params={optim.lr: uniform(-1,1)}"], "optim.lr=-1.0 is out of range"),
        (["params={batch_size: uniform(1,2)}"], "batch_size='1.0' is not an integer"),
        (["params={data: [digits,digit]}"], "data='digit' is not a choice; did you mean digits"),
        (["params={optim.lr: 5}"], "params: optim.lr: '5' is not a range"),
        (["params=null"], "nothing varies: give params={key: range, ...}"),
        (["params_file=none.yaml"], "params_file='none.yaml': cannot be read"),
        (["overrides=[genotype=cross,optim.lr=1]"], "optim.lr is given in params and in overrides"),
        (["overrides=[genotype=cross,run_dir=x]"], "run_dir of a trial is set by the sweep"),
        (["overrides=[]"], "lmsearch retrain needs genotype=..."),
        (["overrides=[genotype=cross,epochs]"], "'epochs' is not of the form key=value"),
        (["trials=0"], "trials=0 is out of range"),
        (["workers=0"], "workers=0 is out of range"),
        (["sampler=grid"], "sampler='grid' is not accepted; accepted: tpe, random, nsga2"),
        (["direction=up"], "direction='up' is not accepted; accepted: maximize, minimize"),
        (["metric=[a,b]"], "direction= needs maximize or minimize for each metric, as [a,b] for two; got none"),
        (["metric=[a,a]", "direction=[maximize,minimize]"], "metric=a,a is not accepted"),
        (["pruner=median", "metric=[a,b]", "direction=[maximize,minimize]"], "pruner=median cannot judge two metrics"),
        (["pruner=hyperband", "sampler=nsga2"], "pruner=hyperband contradicts sampler=nsga2"),
        (["population=4"], "population=4 is of sampler=nsga2"),
        (["storage=sqlite://"], "storage='sqlite://' is in memory, so all trials would be lost"),
        (["storage=sqlite:////none/x.db"], "storage='sqlite:////none/x.db' cannot be reached (unable to open database file)"),
        (["launcher=submitit", "submitit.cluster=moon"], "submitit.cluster='moon' is not accepted; accepted: slurm, local"),
    ],
)
def test_bad_input_is_one_clear_line(
    words: list[str], message: str, ran: list[DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert error_of(capsys, *BASE, PARAMS, f"run_dir={tmp_path}", *words).startswith(message)
    assert ran == []


def test_a_timeout_starts_no_further_trial(ran: list[DictConfig], tmp_path: Path) -> None:
    assert sweep(tmp_path, "trials=1") == 0
    assert sweep(tmp_path, "trials=5", "timeout=0") == 0
    assert len(ran) == 1


def test_starting_over_clears_a_journal_that_cannot_be_read(
    ran: list[DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(tmp_path, "trials=2") == 0
    (tmp_path / "trials.journal").write_bytes(b"\xff\x00 nonsense\n")
    words = [*BASE, PARAMS, f"run_dir={tmp_path}", "trials=1"]
    assert "trials.journal" in error_of(capsys, *words)
    assert main([*words, "overwrite=true"]) == 0
    assert len(results(tmp_path)["trials"]) == 1 and [path.name for path in (tmp_path / "trials").iterdir()] == ["0000"]


def test_a_journal_elsewhere_that_cannot_be_read_is_left_alone(
    ran: list[DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*BASE, PARAMS, f"run_dir={tmp_path / 'run'}", "trials=1", f"storage={tmp_path / 'shared.journal'}"]
    assert main(words) == 0
    (tmp_path / "shared.journal").write_bytes(b"nonsense\n")
    assert "shared.journal" in error_of(capsys, *words, "overwrite=true")
    assert (tmp_path / "shared.journal").read_bytes() == b"nonsense\n" and (tmp_path / "run" / "trials" / "0000").exists()


def test_starting_over_does_not_delete_a_trial_that_is_running(
    ran: list[DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(tmp_path, "trials=1") == 0
    with holding(tmp_path / "trials" / "0000"):
        assert "0000 is in use by process" in error_of(capsys, *BASE, PARAMS, f"run_dir={tmp_path}", "overwrite=true")
    assert (tmp_path / "trials" / "0000" / "metrics.json").exists()


def test_starting_over_with_a_launcher_that_cannot_be_used_deletes_no_trial(
    ran: list[DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(tmp_path, "trials=1") == 0
    words = ["launcher=submitit", "submitit.cluster=moon", "overwrite=true"]
    assert "submitit" in error_of(capsys, *BASE, PARAMS, f"run_dir={tmp_path}", *words)
    assert (tmp_path / "trials" / "0000" / "metrics.json").exists()


def test_two_commands_of_one_sweep_share_its_folder_but_neither_starts_it_over(
    ran: list[DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.joinpath("run").mkdir()
    with holding(tmp_path / "run", shared=True):
        assert sweep(tmp_path / "run", "trials=1") == 0
        assert "is in use by process" in error_of(capsys, *BASE, PARAMS, f"run_dir={tmp_path / 'run'}", "overwrite=true")
