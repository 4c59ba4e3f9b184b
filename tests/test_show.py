"""lmsearch show: everything can be looked at as text and as a drawing, and a mistake is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmsearch.cli import main
from lmsearch.context import DRAWING, setting
from lmsearch.engine.checkpoint import load_checkpoint, save_checkpoint
from lmsearch.engine.run_dir import RunDir
from lmsearch.report.text import map_lines, order_lines, series_lines, spark
from lmsearch.settings.looking import SUBJECTS
from lmsearch.tasks.show import SUBJECTS as SHOWN

TINY = ["data=planted", "data.grid=3", "model.depth=1", "model.embed_dim=8", "model.d_state=2", "data.steps_per_epoch=2",
        "epochs=2", "batch_size=64", "optim.warmup_epochs=0", "search.recheck=0"]  # fmt: skip


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("search") / "run"
    with setting(DRAWING, True):
        assert main(["search", *TINY, "keep=2", f"run_dir={run_dir}"]) == 0
    return run_dir


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["show", *words]) == 0
    return capsys.readouterr().out


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["show", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    return error


def test_every_subject_that_help_names_can_be_shown() -> None:
    assert SUBJECTS.keys() == SHOWN.keys()


def test_a_scan_order_is_shown_by_the_time_of_the_visit(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(["what=direction", "directions=[snake]", "grid=[2,3]"], capsys).splitlines()
    assert lines == ["snake on 2x3 tokens, by the time of the visit:", "1 2 3", "6 5 4", lines[-1]]
    assert lines[-1].startswith("next: ")


@pytest.mark.parametrize("what", ["genotype", "paths", "run", "worth", "importance", "receptive", "attention"])
def test_a_search_is_shown_as_text_and_drawn(
    what: str, searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"what={what}", f"run_dir={searched}", "samples=8", "hand_made=[h,v]"]
    assert "layers.0" in (text := told(words, capsys)) or what == "run", text
    out = tmp_path / "x.svg"
    assert told([*words, f"out={out}"], capsys) == f"drawn: {out}\n"
    assert out.read_text().startswith("<?xml")
    assert "exists already; name another file, or set overwrite=true" in refused([*words, f"out={out}"], capsys)


def test_importance_is_shown_of_a_checkpoint_as_of_its_folder(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (
        ["what=importance", f"checkpoint={path}", "samples=8", "hand_made=[h,v]"]
        for path in (searched, searched / "checkpoint.pt")
    )
    assert told(one, capsys).splitlines()[1:] == told(other, capsys).splitlines()[1:]


def test_a_search_leaves_scalars_images_text_histograms_and_hyperparameters_for_tensorboard(searched: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(searched / "tb"))
    events.Reload()
    tags = events.Tags()
    assert {"directions/layers.0/h", "holdout_loss", "result/val_mse"} <= {*tags["scalars"]}
    assert {"worth", "genotype"} <= {*tags["images"]}
    assert {"genotype/text_summary", "health/text_summary"} <= {*tags["tensors"]}
    assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")
    assert "layers/0.mixer.alphas" in tags["histograms"]


def test_a_published_genotype_has_the_grids_of_its_model(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(["what=paths", "genotype=localmamba/local_vmamba_tiny"], capsys)
    assert "on 56x56 tokens" in text and "on 7x7 tokens" in text


def test_a_genotype_is_marked_among_all_architectures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    genotype = tmp_path / "genotype.json"
    genotype.write_text(json.dumps({"schema": "lmsearch.genotype", "version": 1, "layers": [{"directions": ["v", "h"]}]}))
    words = ["what=scanbench", "table=graded", f"genotype={genotype}"]
    assert told([*words, f"out={tmp_path / 'x.svg'}"], capsys) and ">h+v</text>" in (tmp_path / "x.svg").read_text()
    assert "is in no space of ScanBench" in refused([*words[:2], "genotype=localmamba/local_vim_tiny"], capsys)


def test_an_order_that_has_no_table_for_the_grid_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    genotype = tmp_path / "genotype.json"
    layers = [{"directions": ["h"]}, {"directions": ["mine"]}]
    content = {"schema": "lmsearch.genotype", "version": 1, "layers": layers, "orders": {"mine": {"2x2": [3, 0, 2, 1]}}}
    genotype.write_text(json.dumps(content))
    words = ["what=paths", f"genotype={genotype}"]
    assert "2 4" in told([*words, "grid=2"], capsys)
    error = refused([*words, "grid=[14,14]"], capsys)
    assert f"{genotype}: layer 1: order 'mine' has no table for 14x14 tokens; it has 2x2" in error


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["what=dirction"], "what='dirction' is not accepted; accepted: direction, space, genotype"),
        ([], "lmsearch show needs what=..."),
        (["what=genotype"], "what=genotype needs genotype=... or run_dir=..."),
        (["what=direction", "directions=[w0x]"], "'w0x' is not a scan direction"),
        (["what=direction", "grid=[1,2,3]"], "grid=[1, 2, 3] is not a number from 1 on or a pair of them"),
        (["what=direction", "out=x.gif"], "out='x.gif' does not end in .svg or .png"),
        (["what=scanbench", "table=nope"], "'nope' has no table in ScanBench"),
        (["what=run", "run_dir=tests"], "holds no run of lmsearch"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert says in refused(words, capsys)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["what=attention", "layer=layers.9"], "layer='layers.9' is no layer of this network"),
        (["what=attention", "token=[3,0]"], "token=[3,0] is outside the grid of 3x3 tokens of layers.0"),
        (["what=receptive", "layer=7"], "layer='7' is no level of this network"),
        (["what=saliency"], "what=saliency asks for a network with classes"),
        (["what=importance", "hand_made=[h,hilbert]"], "hand_made: hilbert is no candidate of layers.0"),
    ],
)
def test_what_a_run_does_not_have_is_told(
    words: list[str], says: str, searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refused([*words, f"run_dir={searched}"], capsys)


def test_what_a_folder_of_another_task_lacks_is_told(searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = load_checkpoint(searched)
    del state["holdout"]  # as of a retraining
    save_checkpoint(RunDir(tmp_path), state)
    assert "expected the run of `lmsearch search`" in refused(["what=importance", f"checkpoint={tmp_path}"], capsys)
    (tmp_path / "run_id.txt").write_text("derive 0\n")
    assert "lmsearch derive left no epochs there" in refused(["what=run", f"run_dir={tmp_path}"], capsys)


def test_text_drawings() -> None:
    assert order_lines([2, 0, 1, 3], (2, 2)) == ["2 3", "1 4"]
    assert map_lines([[0.0, -1.0], [0.5, 0.0]]) == ["  @@", "++"]
    assert len(map_lines([[1.0] * 200] * 3)[0]) <= 120
    assert spark([0.0, float("nan"), 1.0], least=0.0, most=1.0) == "▁ █"
    assert series_lines({"a": {"h": [0.0, 1.0]}}, {"a": ["h"]}) == ["a", "  h  ▁█  +1.0000  kept"]
