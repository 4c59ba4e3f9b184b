"""E6 transfer: do directions that were searched on one task serve another? Classes, segmentation, detection, each for each.

python -m experiments.e6_transfer.run [--only "pilot "] [--shard 0/2] [--limit-minutes 30] [--summary]
The sizes of both plans are in plan.json: epochs are those of classification, segmentation, detection. Trainings wait for the
searches whose directions they take.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image
from scipy.stats import rankdata

from experiments.records import Record, read_records
from experiments.runs import LIGHT, search
from experiments.study import EIGHT, NotYet, Row, Study, main, one_thread
from lmsearch.cli import main as lmsearch
from lmsearch.data.dense.shapes import CLASSES, make_scene
from lmsearch.engine.randomness import key
from lmsearch.figures.choices import choices_figure
from lmsearch.files import write_figure
from lmsearch.stats.intervals import over_seeds

HERE = Path(__file__).resolve().parent
PLANS: dict[str, dict[str, Any]] = json.loads((HERE / "plan.json").read_text(encoding="utf-8"))
SIDE, KEEP, DEPTH = 32, 2, 3
METRICS = {"classification": "accuracy", "segmentation": "miou", "detection": "box_ap"}
HEADS = {"segmentation": "plain", "detection": "deformable_detr"}
FORMS = {"segmentation": "masks", "detection": "coco"}
BY_HAND = ("random", "hand-made")
ARMS = (*METRICS, *BY_HAND)
MODEL = ("model.patch_size=4", f"model.depth={DEPTH}", "device=cpu")
MILD = ("data.scale=[0.9,1.1]", "data.ratio=[1.0,1.0]", "data.colour=0.1")  # boxes are hardly learnt from such small images else


def rows() -> list[Row]:
    """Return the searches of a seed, then the trainings of every arm on every task, seed by seed and plan by plan."""
    listed = []
    for plan, sizes in PLANS.items():
        for seed in range(sizes["seeds"]):
            for task in METRICS:
                listed.append(Row(f"{plan} search", (task, f"seed{seed}"), {"plan": plan, "task": task, "seed": seed}))
            for task, arm in product(METRICS, ARMS):
                facts = {"plan": plan, "task": task, "seed": seed, "arm": arm}
                listed.append(Row(f"{plan} retrain", (task, f"from {arm}", f"seed{seed}"), facts))
    return listed


@cache
def scratch() -> TemporaryDirectory:
    """Return a folder that is deleted when the study ends."""
    return TemporaryDirectory(prefix="e6_")


@cache
def data(task: str, images: int) -> str:
    """Return the folder with the data of a task, which are written on the first call."""
    folder = Path(scratch().name) / f"{task}-{images}"
    if task in FORMS:
        with redirect_stdout(StringIO()):
            lmsearch(["shapes", f"out={folder}", f"format={FORMS[task]}", f"images={images}", f"img_size={SIDE}"])
    else:
        for split, number in (("train", images), ("val", images // 4), ("test", images // 4)):
            write_classes(folder / split, number, split)
    return str(folder)


def write_classes(folder: Path, images: int, split: str) -> None:
    """Write the images that show something in folders by the class of their largest object."""
    for number in range(images):
        scene = make_scene(number, split=split, size=(SIDE, SIDE))
        if len(scene.classes):
            name = CLASSES[scene.classes[scene.masks.sum((1, 2)).argmax()]]
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene.image).save(folder / name / f"{number}.png")


def words_of(row: Row, epochs: str) -> list[str]:
    """Return what search and training of a row have in common on the command line."""
    sizes, task = PLANS[row.facts["plan"]], row.facts["task"]
    where = data(task, sizes["images"])
    kind = ["data=dense", f"head={HEADS[task]}"] if task in HEADS else ["data=imagefolder"]
    long = [f"epochs={sizes[epochs][list(METRICS).index(task)]}", f"optim.warmup_epochs={sizes['warmup_epochs']}"]
    same = [f"data.root={where}", *MODEL, *long, f"batch_size={sizes['batch_size']}"]
    return [*kind, *same, *(MILD if task == "detection" else ())]


def work(row: Row) -> Record:
    """Search, or train the directions of an arm and measure them on the test set."""
    if row.part.endswith("search"):
        apart = f"seed={row.facts['seed'] + 100 * (1 + list(METRICS).index(row.facts['task']))}"  # else tasks share their luck
        checked = f"search.recheck={PLANS[row.facts['plan']]['recheck']}"
        return search([*words_of(row, "search_epochs"), apart, "search_space=localmamba8_w4", f"keep={KEEP}", LIGHT, checked])
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        genotype = Path(folder) / "genotype.json"
        chosen = directions(row)
        genotype.write_text(json.dumps(chosen), encoding="utf-8")
        words = [
            *words_of(row, "retrain_epochs"),
            f"seed={row.facts['seed']}",
            f"genotype={genotype}",
            f"run_dir={folder}/run",
            "baseline_limit=0",
        ]
        if code := lmsearch(["retrain", *words]):
            raise SystemExit(f"lmsearch retrain {' '.join(words)} ended with exit code {code}")
        metrics = json.loads((Path(folder) / "run" / "metrics.json").read_text(encoding="utf-8"))
    name = METRICS[row.facts["task"]]
    return {"chosen": chosen, "test": metrics[f"test_{name}"], "val": metrics[f"val_{name}"], "train_s": metrics["train_s"]}


def directions(row: Row) -> list[list[str]]:
    """Return the directions of an arm: what a search of this plan and seed found, random ones, or those by hand.

    Raises NotYet where that search has no record.
    """
    plan, arm, seed = row.facts["plan"], row.facts["arm"], row.facts["seed"]
    if arm == "random":
        rng = np.random.default_rng(key(seed, "transfer", plan))
        return [sorted(rng.choice(EIGHT, KEEP, replace=False).tolist()) for _ in range(DEPTH)]
    if arm == "hand-made":
        return [["h", "h_flip"]] * DEPTH
    wanted = Row(f"{plan} search", (arm, f"seed{seed}")).key
    found = [record["chosen"] for record in read_records(HERE / "results.jsonl.gz") if record.get("key") == wanted]
    if not found:
        raise NotYet(f"{row.key}: needs the row {wanted!r} first")
    return found[-1]


def summarise(records: list[Record]) -> Record:
    """Return, by plan, the scores of every arm on every task, and a task's own directions against all others, over seeds."""
    return {plan: matrix([r for r in records if r["plan"] == plan and "test" in r]) for plan in PLANS}


def matrix(records: Sequence[Mapping]) -> Record:
    """Return mean test scores by task and arm, and differences with their 95 % intervals where there are seeds enough."""
    scores = {(r["task"], r["arm"], r["seed"]): r["test"] for r in records}
    seeds = sorted({seed for *_, seed in scores})
    ranks = {"own_ranks": own_ranks(scores, seeds, ARMS), "own_ranks_of_searched": own_ranks(scores, seeds, tuple(METRICS))}
    found: Record = {"seeds": len(seeds), "mean": {}, "own_minus": {}} | ranks
    for task in METRICS:
        known = {arm: {s: scores[task, arm, s] for s in seeds if (task, arm, s) in scores} for arm in ARMS}
        found["mean"][task] = {arm: float(np.mean(list(values.values()))) for arm, values in known.items() if values}
        own = known[task]
        pairs = {arm: [own[s] - values[s] for s in own if s in values] for arm, values in known.items() if arm != task}
        found["own_minus"][task] = {arm: str(over_seeds(gaps)) for arm, gaps in pairs.items() if len(gaps) >= 2}
    return found


def own_ranks(scores: Mapping[tuple[str, str, int], float], seeds: Sequence[int], arms: Sequence[str]) -> Record:
    """Return the rank of a task's own directions among these arms, 1 the best, by task and seed, and how likely such ranks are.

    `p` is the probability of a sum of ranks as small or smaller where every arm is as likely as any other to have each rank:
    exact, with ties, one-sided. 1 where no cell has all arms. Among ARMS a small p may only say that searched directions are
    better than others; among the searched ones it says that a task's own serve it better than those of other tasks.
    """
    ranks: Record = {}
    chance = Counter({0.0: 1.0})
    for task, seed in product(METRICS, seeds):
        if all((task, arm, seed) in scores for arm in arms):
            cell = rankdata([-scores[task, arm, seed] for arm in arms])
            ranks[f"{task} seed{seed}"] = float(cell[arms.index(task)])
            before, chance = chance, Counter()
            for total, rank in product(before, cell.tolist()):
                chance[total + rank] += before[total] / len(arms)
    seen = sum(ranks.values())
    return {"ranks": ranks, "p": round(sum(share for total, share in chance.items() if total <= seen), 6)}


def draw(summary: Record, path: Path) -> None:
    """Draw the matrix of the largest plan that has scores; colours go from the worst to the best arm of a task."""
    plans = [plan for plan in PLANS if summary[plan]["mean"].get("segmentation")]
    if not plans:
        return
    mean = summary[plans[-1]]["mean"]
    scores = np.array([[mean[task].get(arm, np.nan) for arm in ARMS] for task in METRICS])
    worst, best = np.nanmin(scores, axis=1, keepdims=True), np.nanmax(scores, axis=1, keepdims=True)
    shades = (scores - worst) / np.where(best > worst, best - worst, 1.0)
    marks = [[f"{scores[y, x]:.3f}" + "\nown" * (arm == task) for x, arm in enumerate(ARMS)] for y, task in enumerate(METRICS)]
    names = [f"{task} ({METRICS[task]})" for task in METRICS]
    label, across = "worst (0) to best (1)", f"directions of, plan {plans[-1]}"
    write_figure(path, choices_figure(shades.tolist(), marks, layers=names, candidates=list(ARMS), label=label, across=across))


STUDY = Study(HERE, rows(), work, summarise, draw)

if __name__ == "__main__":
    one_thread()
    main(STUDY)
