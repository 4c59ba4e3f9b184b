"""Run directories: what is in one is continued, refused or started over, and never lost by a mistyped command."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from lmsearch.cli import main
from lmsearch.config import compose_settings
from lmsearch.data import build_source
from lmsearch.engine.compiler import check_compiler
from lmsearch.engine.distributed import World
from lmsearch.errors import ConfigError
from lmsearch.settings.tasks import Compare, Search
from lmsearch.tasks.parts.run_dir import claim_run_dir, folder_of, tell_next

SMALL = ["data=planted", "data.grid=5", "epochs=1", "data.steps_per_epoch=2", "model.embed_dim=8", "model.d_state=2"]
SEARCH = ["search", *SMALL, "search=darts", "search.health_every=0", "batch_size=256"]
MODEL = ["model.depth=1", "model.embed_dim=8", "model.patch_size=2", "epochs=1", "optim.warmup_epochs=0", "batch_size=256"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search over two seeds."""
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    assert main([*SEARCH, "seeds=2", f"run_dir={run_dir}"]) == 0
    return run_dir


@pytest.fixture
def seeds(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(scope="module")
def compare(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words of a comparison, but for its folder."""
    path = tmp_path_factory.mktemp("compare") / "mine.json"
    path.write_text('[["h"]]')
    return ["compare", *MODEL, "hand_made=[v]", "baseline_limit=0", f"genotype={path}"]


@pytest.fixture(scope="module")
def once(compare: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison of one seed."""
    run_dir = tmp_path_factory.mktemp("once") / "run"
    assert main([*compare, f"run_dir={run_dir}"]) == 0
    return run_dir


@pytest.fixture(scope="module")
def twice(compare: list[str], once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, which has gone on with a second seed."""
    run_dir = Path(shutil.copytree(once, tmp_path_factory.mktemp("twice") / "run"))
    assert main([*compare, "seeds=2", f"run_dir={run_dir}"]) == 0
    return run_dir


def content(run_dir: Path) -> dict[Path, bytes]:
    """Return what all files hold, but for the locks."""
    return {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize(
    ("words", "into"),
    [
        (["checkpoint={run}/s0", "keep=2"], "s0"),
        (["genotypes={run}"], "s0"),
        (["checkpoint={run}/s0"], "."),
    ],
)
def test_derive_does_not_write_over_a_search(
    words: list[str], into: str, seeds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(seeds)
    assert main(["derive", *(word.format(run=seeds) for word in words), f"run_dir={seeds / into}"]) == 2
    assert "holds a run" in capsys.readouterr().err and content(seeds) == before


def test_a_copied_checkpoint_without_its_marker_is_protected_too(seeds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (seeds / "s0" / "run_id.txt").unlink()
    assert main(["derive", f"checkpoint={seeds / 's0'}", f"run_dir={seeds / 's0'}"]) == 2
    assert "holds a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["optim.warmup_epochs=9"], "optim.warmup_epochs=9"),
        (["search=pcdarts", "search.partial_channels=7"], "partial_channels=7"),
        (["search=random", "search.budget_steps=3"], "search.budget_steps=3"),
        (["search=bilevel", "search.order=3"], "search.order=3"),
        (["search=null"], "search=null"),
    ],
)
def test_starting_over_with_a_mistake_loses_nothing(
    words: list[str], says: str, seeds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(seeds)
    assert main(["search", *SMALL, *words, "overwrite=true", f"run_dir={seeds / 's0'}"]) == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1]
    assert content(seeds) == before


@pytest.mark.parametrize("task", ["retrain", "compare", "search"])
@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("batch_size=4096", "make no full batch of 4096"),
        ("backend=mamba_ssm", "backend='mamba_ssm' cannot run on cpu"),
        ("model.compile=true", "x.so is empty"),
    ],
)
def test_starting_over_with_what_does_not_run_here_loses_nothing(
    word: str, says: str, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir, program = tmp_path / "run", tmp_path / "programs" / "ab" / "x.so"
    for path, text in {
        run_dir / "run_id.txt": f"{task} 00 00\n",
        run_dir / "model.safetensors": "weights",
        run_dir / "metrics.json": "{}",
        program: "",
        tmp_path / "g.json": '[["h"]]',
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    os.utime(program, (0, 0))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "programs"))
    check_compiler.cache_clear()
    before = content(run_dir)
    own = [] if task == "search" else [f"genotype={tmp_path / 'g.json'}"]
    assert main([task, *MODEL, *own, "device=cpu", word, "overwrite=true", f"run_dir={run_dir}"]) == 2
    assert says in capsys.readouterr().err and content(run_dir) == before


def killed(*args: object, **options: object) -> None:
    """Stop before the first epoch."""
    raise KeyboardInterrupt


def test_a_search_that_starts_over_leaves_no_genotype_of_the_old_one(seeds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmsearch.tasks.search.train", killed)
    words = [*SEARCH, "seed=7", f"run_dir={seeds / 's0'}"]
    assert main(words) == 2
    assert main([*words, "overwrite=true"]) == 130
    assert not (seeds / "s0" / "genotype.json").exists()


@pytest.mark.parametrize(
    ("before", "again", "kept"),
    [
        ({"call": "a"}, {"call": "a"}, True),  # torchrun has started all processes again
        ({"call": "a"}, {"call": "b"}, False),
        ({"TORCHELASTIC_RUN_ID": "r"}, {"TORCHELASTIC_RUN_ID": "r", "TORCHELASTIC_RESTART_COUNT": "1"}, True),
        ({"SLURM_JOB_ID": "7"}, {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}, True),
        ({"SLURM_JOB_ID": "7"}, {"SLURM_JOB_ID": "8", "SLURM_RESTART_COUNT": "1"}, False),
        ({"SLURM_JOB_ID": "7"}, {"SLURM_JOB_ID": "7"}, False),  # typed once more in a shell of the job
        ({}, {}, False),
    ],
)
def test_a_job_that_is_started_again_starts_over_once(
    before: dict[str, str], again: dict[str, str], kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, source = tmp_path / "checkpoint.pt", build_source("digits")
    settings = compose_settings(Search, [*SMALL, "overwrite=true", f"run_dir={tmp_path}"])
    work.write_text("of another run")
    for told, there in ((before, False), (again, kept)):
        with monkeypatch.context() as patched:
            for name in ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
                patched.delenv(name, raising=False)
            for name, value in told.items():
                patched.setenv(name, value)
            with claim_run_dir(settings, "search", [], source=source, world=World(call=told.get("call", ""))):
                assert work.exists() == there
                work.write_text("mine")


def test_more_seeds_are_written_down_until_they_are_done(tmp_path: Path) -> None:
    source = build_source("digits")
    for seeds, cut, left in ((1, False, None), (2, True, "seeds=1 before, 2 now\n"), (2, False, None)):
        settings = compose_settings(Compare, ["genotype=g.json", f"seeds={seeds}", f"run_dir={tmp_path}"])
        with suppress(KeyboardInterrupt), claim_run_dir(settings, "compare", [], source=source):
            if cut:
                raise KeyboardInterrupt
        file = tmp_path / "taken_further.txt"
        assert (file.read_text() if file.exists() else None) == left


def test_a_retraining_that_never_saved_an_epoch_can_be_started_with_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.json").write_text('[["h"]]')
    words = ["retrain", *MODEL, f"genotype={tmp_path / 'mine.json'}", f"run_dir={tmp_path / 'run'}"]
    with monkeypatch.context() as patched:
        patched.setattr("lmsearch.tasks.retrain.fit", killed)
        assert main(words) == 130
    assert main([*words, "optim.lr=0.001"]) == 0


def test_a_finished_retraining_whose_checkpoint_was_deleted_is_neither_lost_nor_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.json").write_text('[["h"]]')
    words = ["retrain", *MODEL, f"genotype={tmp_path / 'mine.json'}", f"run_dir={tmp_path / 'run'}"]
    monkeypatch.setattr("lmsearch.tasks.retrain.fit", killed)
    assert main(words) == 130
    (tmp_path / "run" / "model.safetensors").write_text("weights")
    (tmp_path / "run" / "metrics.json").write_text('{"test_accuracy": 0.5}')
    capsys.readouterr()
    assert main([*words, "optim.lr=0.01"]) == 2 and "init_from" in capsys.readouterr().err
    assert main([*words, "resume=never"]) == 2 and "holds work (model.safetensors)" in capsys.readouterr().err
    assert main([*words, "resume=must"]) == 0
    assert "is finished" in (told := capsys.readouterr().out) and "test_accuracy 0.5000" in told
    assert (tmp_path / "run" / "model.safetensors").read_text() == "weights"
    assert main([*words, "optim.lr=0.01", "overwrite=true"]) == 130 and not (tmp_path / "run" / "metrics.json").exists()


def test_a_genotype_that_another_task_reads_in_its_own_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "genotype.json").write_text('[["h"]]')
    words = ["compare", *MODEL, "hand_made=[v]", "baseline_limit=0", f"genotype={tmp_path}", f"run_dir={tmp_path}"]
    assert main(words) == 0
    assert main([*words, "overwrite=true"]) == 0
    assert (tmp_path / "genotype.json").read_text() == '[["h"]]'


def test_another_derivation_is_replaced_only_when_asked_to(
    seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["derive", f"checkpoint={seeds / 's0'}", f"run_dir={tmp_path / 'derived'}"]
    assert main([*words, "keep=2"]) == 0
    before = content(tmp_path / "derived")
    assert main([*words, "keep=2"]) == 0 and content(tmp_path / "derived") == before
    assert main([*words, "keep=3"]) == 2
    assert "was derived otherwise" in capsys.readouterr().err and content(tmp_path / "derived") == before
    assert main([*words, "keep=3", "overwrite=true"]) == 0
    assert content(tmp_path / "derived") != before


def test_a_search_goes_on_with_more_seeds(seeds: Path) -> None:
    before = content(seeds / "s1")
    assert main([*SEARCH, "seeds=3", f"run_dir={seeds}"]) == 0
    after = content(seeds)
    assert after[seeds / "s1" / "checkpoint.pt"] == before[seeds / "s1" / "checkpoint.pt"]
    assert json.loads(after[seeds / "genotype.json"])["provenance"]["seeds"] == [0, 1, 2]


def test_one_seed_is_another_run_than_several(seeds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SEARCH, f"run_dir={seeds}"]) == 2
    assert "holds another run (seeds=2 there, 1 here: a search over several seeds" in capsys.readouterr().err
    one, several = (folder_of(compose_settings(Search, words), "search") for words in (["seed=3"], ["seed=3", "seeds=2"]))
    assert (one.name, several.name) == ("search-digits-local_vim_nano-s3", "search-digits-local_vim_nano-s3-seeds")


def test_a_comparison_goes_on_with_more_seeds(once: Path, twice: Path) -> None:
    one, two = (run_dir / "searched-s0" / "checkpoint.pt" for run_dir in (once, twice))
    assert one.stat().st_mtime_ns == two.stat().st_mtime_ns and one.read_bytes() == two.read_bytes()
    assert [json.loads((run_dir / "comparison.json").read_text())["seeds"] for run_dir in (once, twice)] == [1, 2]


def test_a_search_does_not_write_over_a_genotype_that_is_none_of_its_own(
    seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    derived, written = tmp_path / "derived", tmp_path / "written"
    assert main(["derive", f"checkpoint={seeds / 's0'}", "keep=2", f"run_dir={derived}"]) == 0
    written.mkdir()
    (written / "genotype.json").write_text('[["h"]]')
    for folder in (derived, written):
        before = content(folder)
        assert main([*SEARCH, f"run_dir={folder}"]) == 2
        assert "genotype.json would be lost" in capsys.readouterr().err and content(folder) == before
    assert main([*SEARCH, f"run_dir={written}", "overwrite=true"]) == 0


def test_a_retraining_writes_over_no_other_genotype(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "genotype.json").write_text('[["v"]]')
    (tmp_path / "mine.json").write_text('[["h"]]')
    assert main(["retrain", *MODEL, f"genotype={tmp_path / 'mine.json'}", f"run_dir={run_dir}"]) == 2
    assert "would be lost" in capsys.readouterr().err and (run_dir / "genotype.json").read_text() == '[["v"]]'
    assert main(["retrain", *MODEL, f"genotype={run_dir}", f"run_dir={run_dir}"]) == 0


def test_what_lies_in_a_folder_that_no_run_has_claimed_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = compose_settings(Search, [*SMALL, f"run_dir={tmp_path}"])
    for name in ("model.safetensors", "config.yaml", "metrics.json", "report.md"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(ConfigError, match=f"{name} would be lost"):
            claim_run_dir(settings, "search", [], source=build_source("digits")).__enter__()
        assert [(path.name, path.read_text()) for path in tmp_path.iterdir() if path.name != ".lock"] == [(name, "mine")]
        (tmp_path / name).unlink()


def test_starting_over_above_other_runs_leaves_them_alone(seeds: Path, compare: list[str], tmp_path: Path) -> None:
    above = tmp_path / "runs"
    shutil.copytree(seeds / "s0", above / "search-planted-local_vim-s0")
    shutil.copytree(seeds / "s1", above / "s1")
    before = content(above)
    for command in (SEARCH, SEARCH, compare, compare):
        assert main([*command, f"run_dir={above}", "overwrite=true"]) == 0
        assert before.items() <= content(above).items()


def test_fewer_seeds_than_there_are_write_over_nothing(
    seeds: Path, compare: list[str], twice: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SEARCH, "seeds=3", f"run_dir={seeds}"]) == 0
    before = content(seeds)
    assert main([*SEARCH, "seeds=2", f"run_dir={seeds}"]) == 2
    assert "holds more seeds already (s2)" in capsys.readouterr().err and content(seeds) == before
    words = [*compare, f"run_dir={shutil.copytree(twice, tmp_path / 'compared')}"]
    assert main(words) == 2 and "holds more seeds already" in capsys.readouterr().err
    assert main([*words, "overwrite=true"]) == 0


def test_seeds_that_were_never_begun_are_not_held(seeds: Path) -> None:
    marker = seeds / "run_id.txt"
    marker.write_text(marker.read_text() + "s2\ns3\n")  # as if more seeds had been asked for, and stopped before them
    assert main([*SEARCH, "seeds=3", f"run_dir={seeds}"]) == 0


def test_arms_that_nobody_claimed_are_not_taken_for_ones_own(
    compare: list[str], once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*compare, f"run_dir={shutil.copytree(once, tmp_path / 'run')}"]
    (tmp_path / "run" / "run_id.txt").write_text("")  # cut off by a full disk
    assert main([*words, "optim.lr=0.01"]) == 2 and "holds another run" in capsys.readouterr().err
    before = (tmp_path / "run" / "searched-s0" / "checkpoint.pt").read_bytes()
    assert main([*words, "optim.lr=0.01", "overwrite=true"]) == 0
    assert (tmp_path / "run" / "searched-s0" / "checkpoint.pt").read_bytes() != before


def test_training_time_is_that_of_all_calls(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('[["h"]]')
    words = ["retrain", *MODEL, "epochs=2", f"genotype={tmp_path / 'mine.json'}", f"run_dir={tmp_path / 'run'}"]
    assert main(words) == 0
    took = json.loads((tmp_path / "run" / "metrics.json").read_text())["train_s"]
    assert main(words) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["train_s"] == took > 0


def test_a_search_does_not_take_the_folder_of_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run_id.txt").write_text("sweep 0a1b mine\n")  # whose trials are in a database
    assert main([*SEARCH, f"run_dir={tmp_path}"]) == 2
    assert "holds another run" in capsys.readouterr().err and not (tmp_path / "config.yaml").exists()


def test_what_comes_next_is_a_command_that_a_shell_takes(capsys: pytest.CaptureFixture[str]) -> None:
    tell_next("checkpoint", Path("my runs/a"), "evaluate", "predict images=...")
    first, second = capsys.readouterr().out.removeprefix("next: ").strip().split(", or ")
    assert shlex.split(first) == ["lmsearch", "evaluate", "checkpoint=my runs/a"]
    assert shlex.split(second) == ["lmsearch", "predict", "images=...", "checkpoint=my runs/a"]
