"""The page of a run: findings first, the same as HTML, Markdown and JSON, from whatever a folder holds."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from page_runs import audit_run, chosen, compare_on_one_image, compare_run, search_run, sweep_run, write
from PIL import Image
from test_audit import parts

from lmsearch.cli import main
from lmsearch.config import compose, plain_config
from lmsearch.context import LEAVING_PAGES, setting
from lmsearch.engine import memory
from lmsearch.engine.lock import holding
from lmsearch.engine.log import RunLog
from lmsearch.engine.memory import PROCESS, peak_bytes
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import FileError
from lmsearch.genotype import LayerChoice
from lmsearch.report.page import render
from lmsearch.report.page.blocks import Command, Page
from lmsearch.report.page.draw import scan_path, thinned
from lmsearch.report.page.folder import Run, read_run
from lmsearch.report.page.network import network_of
from lmsearch.report.page.preferences import preference
from lmsearch.report.page.several import unique_names
from lmsearch.report.page.story import page_of, page_of_all
from lmsearch.report.page.words import SEARCH_WORDS, STATUS
from lmsearch.scan.directions import index_table
from lmsearch.status import RunStatus, Status
from lmsearch.tasks.parts import page as left
from lmsearch.tasks.parts.cost import counting_cost
from lmsearch.tasks.parts.page import with_command
from lmsearch.tasks.parts.retold import command_of
from lmsearch.tasks.parts.run_dir import Claim, start_over
from lmsearch.words import as_text

TINY = ["data=planted", "data.grid=[3,3]", "data.num_train=40", "model.depth=1", "model.embed_dim=4", "epochs=1"]
TINY += ["optim.warmup_epochs=0", "search.recheck=0"]
ORDERS = (
    "h",
    "v_flip",
    "w2",
    "w2x3_flip",
    "cw3",
    "snake",
    "snake_v",
    "antisnake",
    "antisnake_v",
    "diag",
    "antidiag",
    "zigzag",
    "morton",
    "hilbert",
    "spiral",
)
ORDERS += ("atrous2", "random1")
LARGEST = 3_000_000  # bytes of a page


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small search that has left its page."""
    folder = tmp_path_factory.mktemp("searched") / "run"
    printed = io.StringIO()
    with setting(LEAVING_PAGES, True), redirect_stdout(printed):
        assert main(["search", *TINY, f"run_dir={folder}"]) == 0
    assert printed.getvalue().splitlines()[-1] == f"page: {folder / 'report.html'}"
    return folder


def html_of(page: Page) -> str:
    """Return the page as HTML, checked for tags that are not closed."""
    text = render.to_html(page)
    Balanced().check(text)
    return text


class Balanced(HTMLParser):
    """Tells whether every tag is closed in its turn."""

    EMPTY = {"meta", "circle", "path", "rect", "use", "image", "polyline", "br"}

    def check(self, text: str) -> None:
        self.open: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        assert self.open == [] and len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.open += [] if tag in self.EMPTY else [tag]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_search_ends_with_its_page(searched: Path) -> None:
    html, told = (searched / "report.html").read_text(), json.loads((searched / "report.json").read_text())
    assert told["verdict"] in html and told["verdict"] in (searched / "report.md").read_text()
    assert told["sections"][0]["name"] == "map" and "peak memory of the main process" in html and "FLOPs per image" in html
    for name, size in (("card.png", (1200, 675)), ("example.png", (3, 3))):
        with Image.open(searched / name) as image:
            assert image.size == size
    assert json.loads((searched / "cost.json").read_text())["sittings"] == 1


def test_the_time_of_all_sittings_counts(tmp_path: Path) -> None:
    (tmp_path / "cost.json").write_text('{"seconds": 50.0, "sittings": 2, "peak_memory_bytes": 1e15}')
    with pytest.raises(KeyboardInterrupt), counting_cost(RunDir(tmp_path)):
        raise KeyboardInterrupt
    told = json.loads((tmp_path / "cost.json").read_text())
    assert (told["sittings"], told["peak_memory_bytes"]) == (3, 1e15) and told["seconds"] >= 50.0 and told["hardware"]["cpu"]


def test_a_full_disk_does_not_hide_what_ended_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> None:
        raise FileError("no room")

    monkeypatch.setattr(RunDir, "write_json", full)
    monkeypatch.setattr(RunDir, "write_csv", full)
    monkeypatch.setattr(RunDir, "events", lambda *given, **options: None)
    with pytest.raises(ZeroDivisionError), counting_cost(RunDir(tmp_path)), RunLog(RunDir(tmp_path)):
        raise ZeroDivisionError
    with pytest.raises(FileError), counting_cost(RunDir(tmp_path)):
        pass


@pytest.mark.skipif(not PROCESS.is_file(), reason="needs /proc")
def test_the_peak_is_that_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert peak_bytes() >= int(re.search(r"VmRSS:\s*(\d+)", PROCESS.read_text())[1]) * 1024
    told = tmp_path / "status"
    told.write_text("Name:\tpython\nVmHWM:\t    2048 kB\n")
    monkeypatch.setattr(memory, "PROCESS", told)
    assert peak_bytes() == 2 << 20


def test_findings_come_first_then_what_they_rest_on(tmp_path: Path) -> None:
    html = html_of(page_of(read_run(search_run(tmp_path / "a", chosen(3)))))
    places = [
        html.index(f'id="{name}"') for name in ("findings", "map", "worth", "moves", "paths", "comparison", "cost", "reproduce")
    ]
    assert places == sorted(places) and places[0] < html.index("What it means") < html.index("What to do next") < places[1]


@pytest.mark.parametrize(
    ("derivation", "scores", "margin"),
    [
        ({"method": "topk"}, "probability", "margin"),
        ({"method": "perturbation"}, "probability", "margin (held-out loss)"),
        ({"method": "halving"}, "share of worth, by swaps", "margin (held-out loss)"),
        ({"method": "consensus", "of": "climb"}, "share of worth, by swaps", "margin (share of seeds)"),
    ],
)
def test_scores_and_margins_are_called_what_they_are(derivation: dict, scores: str, margin: str, tmp_path: Path) -> None:
    html = html_of(page_of(read_run(search_run(tmp_path / "a", replace(chosen(1), derivation=derivation)))))
    assert f">{margin}<" in html and f"{scores} (filled: kept)" in html


@pytest.mark.parametrize("status", [s for s in Status if s != Status.DIVERGED])
def test_every_status_is_told_in_a_plain_sentence(tmp_path: Path, status: Status) -> None:
    page = page_of(read_run(search_run(tmp_path / "a", chosen(1, status=status))))
    assert (page.status, page.verdict) == (status, STATUS[status][1])
    assert {"keep", "recheck", status} <= {word for word, _ in SEARCH_WORDS}


def test_a_page_asks_for_nothing(searched: Path) -> None:
    html = (searched / "report.html").read_text()
    asked = re.findall(r"""(?:\s(?:href|src)=|url\(|@import)\s*["']?([^"'\s>)]+)""", html)
    assert all(target.startswith(("#", "data:image/png;base64,")) for target in asked), asked
    assert "<script" not in html and "default-src 'none'" in html


def test_names_are_text_and_no_markup(tmp_path: Path) -> None:
    folder = search_run(tmp_path / "<b>&run", chosen(1))
    (folder / "environment.json").write_text(json.dumps({"versions": {"<i>": "</table>"}}))
    html = html_of(page_of(read_run(folder)))
    assert "&lt;b&gt;&amp;run" in html and "<b>&run" not in html and "&lt;/table&gt;" in html


@pytest.mark.parametrize("grid", [(14, 14), (7, 10)])
@pytest.mark.parametrize("name", ORDERS)
def test_a_drawn_path_visits_the_tokens_in_order(name: str, grid: tuple[int, int]) -> None:
    order = index_table((name,), grid)[0].tolist()
    drawn = scan_path(order, grid)
    visited = [token for path in re.findall(r' d="([^"]+)"', drawn) for token in walked(path, grid)]
    steps = [token for token, before in zip(visited, [None, *visited], strict=False) if token != before]
    assert steps == order
    first = re.search(r'class="first" cx="(\d+)" cy="(\d+)"', drawn)
    assert first and int(first[2]) * grid[1] + int(first[1]) == order[0]


def walked(path: str, grid: tuple[int, int]) -> list[int]:
    """Return the tokens that a path of whole steps passes; a jump passes none in between."""
    tokens, place = [], np.array([0, 0])
    for kind, numbers in re.findall(r"([MLHV])([\d ]+)", path):
        given = [int(number) for number in numbers.split()]
        target = np.array(given if kind in "ML" else [given[0], place[1]] if kind == "H" else [place[0], given[0]])
        steps = int(np.abs(target - place).sum()) if kind in "HV" else 1
        tokens += [place + (target - place) * step // steps for step in range(1, steps + 1)]
        place = target
    return [int(y * grid[1] + x) for x, y in tokens]


def test_lines_of_many_epochs_keep_their_ends() -> None:
    values = [float(n) for n in range(300)]
    kept = thinned(values)
    assert len(kept) <= 60 and kept[0] == (0, 0.0) and kept[-1] == (299, 299.0)
    assert thinned([1.0, float("nan"), 2.0]) == [(0, 1.0), (2, 2.0)]


@pytest.mark.slow
def test_a_page_of_300_epochs_and_33_layers_is_small(tmp_path: Path) -> None:
    many = ("h", "h_flip", "v", "v_flip", *(f"w{n}{flip}" for n in range(2, 8) for flip in ("", "_flip")))
    folder = search_run(tmp_path / "large", chosen(33, candidates=many), epochs=300)
    html = html_of(page_of(read_run(folder)))
    assert html.count('class="chart"') == 34 and len(html.encode()) < LARGEST


def test_preferences_are_held_against_all_random_choices() -> None:
    names = ("h", "v", "w2", "w3", "w4")
    layer = LayerChoice(("w2", "w4"), "a", dict.fromkeys(names, 0.0))
    found = preference([layer, layer], "window")
    counts = [sum(n.startswith("w") for n in pair) for pair in combinations(names, 2)]
    both = sorted(a + b for a in counts for b in counts)
    assert found is not None and (found.kept, found.of, found.mean) == (4, 4, pytest.approx(np.mean(both)))
    assert (found.low, found.high) == (both[int(0.025 * len(both))], both[int(0.975 * len(both))])
    assert preference([LayerChoice(("h",), "a", {"h": 1.0, "v": 0.0})], "window") is None


def test_a_comparison_says_what_is_better_than_what(tmp_path: Path) -> None:
    run = read_run(compare_run(tmp_path / "c", chosen(2)))
    page = page_of(run, read_run(search_run(tmp_path / "s", chosen(2))))
    assert page.verdict.startswith("The searched directions are better than random.") and "within noise" in page.verdict
    html = html_of(page)
    assert html.count('class="span"') >= 5 and 'id="moves"' in html and "nearest neighbour" in html
    assert any("says “ok” of its choice" in text for text in page.meaning)


def test_differences_within_noise_are_called_so(tmp_path: Path) -> None:
    page = page_of(read_run(compare_run(tmp_path / "c", chosen(1), accuracies=(0.8, 0.8, 0.8))))
    assert page.status == "within noise" and "not shown to be better than" in page.verdict


@pytest.mark.parametrize(
    ("accuracies", "seeds", "told"),
    [((0.9, 0.5, 0.9), 3, ["Use the searched directions:", "as good, as far as this shows"]),
     ((0.9, 0.5, 0.5), 3, ["Use the searched directions:"]),
     ((0.5, 0.3, 0.95), 3, ["Better than the searched directions: hand-made.", "narrower"]),
     ((0.9, 0.9, 0.9), 3, ["as good, as far as this shows", "narrower"]),
     ((0.95, 0.5, 0.5), 1, ["More seeds tell the luck of training"]),
     ((0.5, 0.3, 0.95), 1, ["More seeds tell the luck of training"])],
)  # fmt: skip
def test_the_advice_of_a_comparison_follows_what_it_shows(
    accuracies: tuple[float, ...], seeds: int, told: list[str], tmp_path: Path
) -> None:
    page = page_of(read_run(compare_run(tmp_path / "c", chosen(1), accuracies=accuracies, seeds=seeds)))
    said = [part.caption if isinstance(part, Command) else part.text for part in page.advice]
    assert len(said) == len(told) and all(part in text for part, text in zip(told, said, strict=True))
    if seeds == 1:
        word = "ahead in" if accuracies[0] == max(accuracies) else "ahead of some in"
        assert (page.status, page.tone) == (f"{word} one training", "unsure") and "other seeds may reverse it" in page.verdict


def test_a_comparison_on_one_test_image_says_that_nothing_was_tested(tmp_path: Path) -> None:
    page = page_of(read_run(folder := compare_on_one_image(tmp_path / "one", [0.25], [0.5], [0.25])))
    assert page.status == "within noise" and "0.2500 [0.0000, 1.0000]" in render.to_markdown(page)
    assert "so nothing was tested" in str(page.meaning) and "larger test set" in str(page.advice)
    found = json.loads((folder / "comparison.json").read_text())
    for interval in (*found["differences"].values(), *(arm["test_miou"] for arm in found["arms"].values())):
        interval["low"] = interval["high"] = None  # as of a metric without bounds, and in folders of older versions
    (folder / "comparison.json").write_text(json.dumps(found))
    assert "searched | 0.2500 | –" in render.to_markdown(page_of(read_run(folder)))
    page = page_of(read_run(compare_on_one_image(tmp_path / "two", [0.25, 0.26], [0.75, 0.74], [0.2, 0.3])))
    assert (page.status, page.tone) == ("behind of some on one test sample", "unsure")
    assert "On this test sample the searched genotype is behind random" in str(page.meaning)


def test_a_comparison_that_did_not_end_counts_its_trainings(tmp_path: Path) -> None:
    folder = compare_run(tmp_path / "c", chosen(1))
    (folder / "comparison.json").unlink()
    (folder / "run_id.txt").write_text("compare 01 23\nsearched-s0\nrandom-s0\nhand-made-s0\n")
    (folder / "searched-s0").mkdir()
    (folder / "searched-s0" / "metrics.json").write_text("{}")
    assert page_of(read_run(folder)).verdict == "This run did not end: 1 of 3 trainings are done."


def test_an_audit_answers_its_question(tmp_path: Path) -> None:
    page = page_of(read_run(audit_run(tmp_path / "yes", parts())))
    assert (page.status, page.tone) == ("yes", "good") and 'id="controls"' in html_of(page)
    assert page_of(read_run(audit_run(tmp_path / "no", parts(found=False)))).tone == "bad"
    undecided = page_of(read_run(audit_run(tmp_path / "short", parts()[:2])))
    assert undecided.status == "undecided" and "Too few rounds" in html_of(undecided)


def test_commands_that_an_audit_advises_are_about_what_it_was_about(tmp_path: Path) -> None:
    words = ["data=idx", "data.root=/my data", "keep=2", "search.dominance=0.01"]
    asked = [*words, "minutes=60", "arms=[cross]", "planted=h", "strict=true"]
    run = with_command(read_run(audit_run(tmp_path / "a", parts(), *asked)))
    (search,) = page_of(run).advice
    assert isinstance(search, Command) and search.text.startswith("lmsearch search data=idx ")
    assert sorted(shlex.split(search.text)[2:]) == sorted([*words, "model.depth=1"])
    quick = replace(run, config={**run.config, "quick": True}, result={"verdict": {"answer": "yes"}})
    (whole,) = page_of(with_command(quick)).advice
    told = shlex.split(whole.text) if isinstance(whole, Command) else []
    assert told[:2] == ["lmsearch", "audit"] and told[-1] == "quick=false"  # in another folder: this one is taken
    content = plain_config(compose("audit", told[2:]))
    assert {k: v for k, v in content.items() if v != run.config[k]} == {"run_dir": None, "strict": False}


def test_a_training_on_tokens_is_not_told_to_classify_images(tmp_path: Path) -> None:
    page = page_of(read_run(write(tmp_path / "a", "retrain", ["genotype=x"], metrics={"metric": "mse", "test_mse": 0.5})))
    assert [part.text.split()[1] for part in page.advice] == ["compare"]


def test_a_sweep_names_its_best_trial_or_that_there_is_none(tmp_path: Path) -> None:
    page = page_of(read_run(sweep_run(tmp_path / "a")))
    assert page.verdict == "Trial 0 did best: val_accuracy 0.9." and 'class="chart"' in html_of(page)
    assert page_of(read_run(sweep_run(tmp_path / "b", done=0))).verdict == "No trial of 4 was completed."


def test_the_cost_of_a_derived_network_is_that_of_all_channels(tmp_path: Path) -> None:
    folder = search_run(tmp_path / "a", chosen(2))
    whole = network_of(read_run(folder), chosen(2).directions)
    about = json.loads((folder / "about.json").read_text())
    about["options"]["partial_channels"] = 4
    (folder / "about.json").write_text(json.dumps(about))
    assert whole is not None and network_of(read_run(folder), chosen(2).directions) == whole


def test_a_value_of_zero_is_a_value_in_the_history_of_a_sweep(tmp_path: Path) -> None:
    folder = sweep_run(tmp_path / "a", done=4)
    content = json.loads((folder / "results.json").read_text())
    for trial, value in zip(content["trials"], (0.5, 0.0, 0.25, None), strict=True):
        trial["values"]["val_accuracy"] = value
    content["sweep"]["goal"]["directions"] = ["minimize"]
    (folder / "results.json").write_text(json.dumps(content))
    assert "val_accuracy of 3 trials, from 0 to 0.5; the best so far ends at 0" in html_of(page_of(read_run(folder)))


def test_a_run_of_the_first_version_says_what_it_did_not_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = search_run(tmp_path / "old", chosen(2), about=False)
    assert "does not tell its network" in html_of(page_of(read_run(folder)))
    assert main(["report", f"run_dir={folder}"]) == 0
    html = (folder / "report.html").read_text()
    assert "version 0.1.0 did not" in html and "FLOPs per image" in html and 'class="path"' in html
    assert capsys.readouterr().out.splitlines()[-1] == f"page: {folder / 'report.html'}"


def test_unfinished_and_damaged_runs_say_so(tmp_path: Path) -> None:
    folder = search_run(tmp_path / "a", chosen(2), epochs=5)
    (folder / "genotype.json").unlink()
    page = page_of(read_run(folder))
    assert page.verdict == "This run did not end: 5 of 5 epochs are done." and page.status == "stopped"
    discrete = search_run(tmp_path / "random", None, words=["search=random"])
    assert page_of(read_run(discrete)).verdict == "This run did not end: no result yet."
    (folder / "metrics.jsonl").write_text('{"epoch": "x"}\n')
    (folder / "config.yaml").unlink()
    page = page_of(read_run(folder))
    assert len(page.missing) == 2 and "config.yaml is not there" in page.missing[0] and "line 1" in page.missing[1]
    html_of(page)
    (sweep_run(tmp_path / "b") / "taken_further.txt").write_text("trials=4 before, 8 now\n")
    further = read_run(tmp_path / "b")
    assert further.state is RunStatus.STOPPED and "taken further (trials=4 before, 8 now)" in page_of(further).missing[0]


def test_a_run_that_an_error_ended_says_so_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = search_run(tmp_path / "a", None)
    traceback = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\n    f()\nValueError: no luck\nat all\n'
    (folder / "error.txt").write_text(traceback)
    assert main(["report", f"run_dir={folder}"]) == 0
    assert "failed: This run failed: ValueError: no luck" in capsys.readouterr().out.splitlines()
    page = page_of(read_run(folder))
    assert (page.status, page.tone) == ("failed", "bad") and page.sections[0].blocks[0].text == traceback
    finished = page_of(read_run(search_run(tmp_path / "b", chosen(2))))
    (tmp_path / "b" / "error.txt").write_text(traceback)
    again = page_of(read_run(tmp_path / "b"))
    assert again.status == "failed" and again.meaning[-1].endswith(finished.verdict)


def test_a_run_that_goes_on_is_read_and_told_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = search_run(tmp_path / "a", None)
    with holding(folder):
        assert main(["report", f"run_dir={folder}"]) == 0
    out = capsys.readouterr().out
    assert "running: This run is still going on: 0 of 3 epochs are done." in out


def test_runs_whose_folders_are_called_the_same_are_told_apart_by_those_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [Run(Path(path), "search") for path in ("a/runs/x", "b/runs/x", "c/y/x", "runs/x", "z", ".")]
    assert unique_names(runs) == ["a/runs/x", "b/runs/x", "y/x", "runs/x", "z", "."]
    alike = [search_run(Path(name, "runs", "x"), chosen(2, seed=seed)) for seed, name in enumerate("ab")]
    page = page_of_all([read_run(folder) for folder in alike])
    assert "chance" in page.verdict and [row[0] for row in page.sections[0].blocks[0].rows] == ["a/runs/x", "b/runs/x"]


def test_several_runs_stand_side_by_side_with_what_they_agree_on(tmp_path: Path) -> None:
    same = [search_run(tmp_path / f"s{n}", chosen(4, seed=n), words=[f"seed={n}"]) for n in range(3)]
    page = page_of_all([read_run(folder) for folder in same])
    names = [part.name for part in page.sections]
    assert names[:2] == ["runs", "map"] and "consensus" in names and "chance" in page.verdict
    other = read_run(search_run(tmp_path / "deep", chosen(5)))
    mixed = page_of_all([read_run(same[0]), other, read_run(compare_run(tmp_path / "c", chosen(2)))])
    assert any("no consensus" in text for text in mixed.meaning) and len(mixed.sections[0].blocks[0].rows) == 3
    html_of(page), html_of(mixed)


BAD = {
    "nothing": ([], "needs one of run_dir=<folder> and runs=[a,b] out=<folder>"),
    "both": (["run_dir={a}", "runs=[{a},{b}]"], "needs one of"),
    "absent": (["run_dir={a}/none"], "does not exist; give the folder of"),
    "file": (["run_dir={a}/config.yaml"], "is a file; give the folder of"),
    "empty": (["run_dir={empty}"], "is empty; give the folder"),
    "foreign": (["run_dir={foreign}"], "holds no run of lmsearch"),
    "one": (["runs=[{a}]", "out={out}"], "needs at least two folders"),
    "twice": (["runs=[{a},{a}]", "out={out}"], "is given twice"),
    "nowhere": (["runs=[{a},{b}]"], "needs out=<folder>"),
    "another": (["run_dir={a}", "out={b}"], "holds a run of lmsearch sweep"),
    "one of them": (["runs=[{a},{b}]", "out={b}"], "holds a run of lmsearch sweep"),
    "among": (["runs=[{a},{foreign}]", "out={out}"], "holds no run of lmsearch"),
}


@pytest.mark.parametrize(("words", "line"), BAD.values(), ids=BAD)
def test_a_folder_that_is_no_run_gets_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    places = {name: tmp_path / name for name in ("a", "b", "empty", "foreign", "out")}
    for name in ("a", "b"):
        sweep_run(places[name])
    places["empty"].mkdir()
    places["foreign"].mkdir()
    (places["foreign"] / "notes.txt").write_text("no run")
    assert main(["report", *(word.format(**places) for word in words)]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and line in told[0] and not places["out"].exists()


def test_a_page_replaces_pages_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left, "card_of", lambda page: Image.new("RGB", (1, 1)))
    (paper := tmp_path / "paper").mkdir()
    (paper / "report.md").write_text("mine")
    words = ["report", f"run_dir={sweep_run(tmp_path / 'a')}", f"out={paper}"]
    assert main(words) == 2
    assert "report.md is no page of lmsearch" in capsys.readouterr().err and os.listdir(paper) == ["report.md"]
    assert main([*words, "overwrite=true"]) == 0 and main(words) == 0
    assert (paper / "report.md").read_text() != "mine"


def test_a_folder_that_cannot_be_read_gets_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert main(["report", f"run_dir={tmp_path}"]) == 2
    assert "cannot be read (Permission denied)" in capsys.readouterr().err


def test_a_page_that_cannot_be_drawn_is_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("a fault of the page")

    folder = sweep_run(tmp_path / "a b")
    monkeypatch.setattr(left, "write_page", fail)
    with setting(LEAVING_PAGES, True):
        left.leave_page(RunDir(folder))
    assert [record.getMessage() for record in caplog.records] == [
        f"the page was not drawn ('a fault of the page'); lmsearch report 'run_dir={folder}' tries again"
    ]
    assert capsys.readouterr().out == ""


COMMANDS = (
    ["search"], ["search", "search=darts", "search.alpha_lr=0.5", "run_dir=a b"], ["search", "search=random", "data=planted"],
    ["search", "data=imagefolder", "data.root=/my images", "model=local_vim_tiny", "keep=[2,3]", "epochs=3"],
    ["compare", "genotype=x", "seeds=3", "hand_made=[h,v]"], ["audit", "minutes=2.5"], ["retrain", "genotype=x", "metric=null"],
    ["sweep", "sweep=search_alphas", "trials=3"],
    ["sweep", "task=retrain", "metric=val_accuracy", "params={optim.lr: log(1e-3,1e-1)}"],
)  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=range(len(COMMANDS)))
def test_the_command_that_is_told_gives_the_same_configuration(words: list[str]) -> None:
    content = plain_config(compose(words[0], words[1:]))
    told = shlex.split(command_of(words[0], content))
    assert told[:2] == ["lmsearch", words[0]]
    again = plain_config(compose(told[1], told[2:]))
    texts = [{key: as_text(value) for key, value in one.items()} for one in (content, again)]
    assert texts[0] == texts[1]


def test_a_run_that_starts_over_loses_the_page_of_before(searched: Path, tmp_path: Path) -> None:
    copy = RunDir(shutil.copytree(searched, tmp_path / "copy"))
    start_over(copy, Claim.read(copy.path))
    assert not {"report.html", "report.md", "report.json", "card.png", "cost.json", "example.png"} & set(os.listdir(copy.path))
