"""The configuration of every task: what conf/<task>.yaml and its presets hold, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

from lmsearch.settings.exporting import SHIPPED, Export, LatencySettings
from lmsearch.settings.fields import Ints, PathName, PathNames, again, key
from lmsearch.settings.groups import Settings
from lmsearch.settings.looking import Board, Clean, Show, Status
from lmsearch.settings.model import Model
from lmsearch.settings.report import Report
from lmsearch.settings.search import DERIVATIONS, Discrete, Supernet
from lmsearch.settings.shared import (
    METRICS,
    RUN_DIR,
    Baselines,
    Claiming,
    Data,
    GoingOn,
    HandMade,
    Kept,
    Machine,
    Output,
    Reading,
    Resuming,
    SideBySide,
    Spaces,
    Strict,
    Training,
    Voice,
)
from lmsearch.settings.sweep import Sweep

PER_STEP = "256; 8 where pixels or objects are answered"
OF_ALL_TARGETS = "accuracy, of dense targets mse, of classes of pixels miou, of objects box_ap"


@dataclass(frozen=True, kw_only=True)
class Searching(Training, Spaces, Kept):
    """What searches, as one search or many."""

    search: Supernet | Discrete

    @property
    def supernet(self) -> Supernet:
        """The keys of a supernet's search, which this one is."""
        return cast(Supernet, self.search)

    @property
    def discrete(self) -> Discrete:
        """The keys of a discrete search, which this one is."""
        return cast(Discrete, self.search)


@dataclass(frozen=True, kw_only=True)
class Search(Searching, GoingOn, Strict, SideBySide):
    """lmsearch search."""

    run_dir: PathName | None = again(Output, "run_dir", null=f"{RUN_DIR}, over several seeds with -seeds")
    metric: str | None = again(
        Training, "metric",
        help=f"choice and verdict go by it: {METRICS} (losses of all classes alike)", null=OF_ALL_TARGETS,
    )  # fmt: skip
    budget: int | None = key(
        "directions kept over all layers together, in place of keep; needs derivation=perturbation or topk",
        least=1, null="keep decides",
    )  # fmt: skip
    seeds: int = key(
        "searches with seed, seed + 1, ... in s<seed>/, and a genotype.json of what they agree on", least=1, endless=True
    )
    strict: bool = again(
        Strict, "strict",
        help="exit with code 3 unless the status is ok (random, local and the like: where it is indeterminate)",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Audit(Searching, Resuming, HandMade, Strict, SideBySide):
    """lmsearch audit."""

    metric: str | None = again(Training, "metric", help=f"scores and verdict go by it: {METRICS}", null=OF_ALL_TARGETS)
    seed: int = again(Training, "seed", help="first seed of the trainings")
    minutes: float = key(
        "time that the audit may take; it plans its rounds, and if need be shorter trainings, to fit",
        least=0.0, endless=True,
    )  # fmt: skip
    arms: list[str] | None = key(
        "sets of the literature that join the race, trained once a round (lmsearch show what=arms)", null="none", added=(None,)
    )
    quick: bool = key(
        "true: does order matter at all? Brief trainings of fixed and random orders, two minutes or more",
        added=(False,),
    )
    save_every_s: float | None = again(
        GoingOn,
        "save_every_s",
        help="save the training that runs, that often",
        null="at the ends of its epochs and on signals only",
    )
    planted: str = key("direction that the control plants on the grid of the first layer")
    strict: bool = again(Strict, "strict", help="exit with code 3 unless search is warranted")


@dataclass(frozen=True, kw_only=True)
class Retrain(GoingOn, Baselines):
    """lmsearch retrain."""

    metric: str | None = again(Training, "metric", help=f"best.safetensors goes by it: {METRICS}", null=OF_ALL_TARGETS)
    genotype: PathName = key("run directory of a search (its data and model are taken), genotype.json, shipped name or arm")
    init_from: PathName | None = key(
        "fine-tune: start from this model.safetensors or run directory; directions and classes go by name"
    )
    init_strict: bool = key(
        "refuse an init_from that lacks a direction or is a supernet; false: what it lacks starts fresh",
        counts=False,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Compare(GoingOn, Spaces, HandMade, Baselines, SideBySide):
    """lmsearch compare."""

    metric: str | None = again(Training, "metric", help=f"intervals and verdict go by it: {METRICS}", null=OF_ALL_TARGETS)
    genotype: PathName | None = key(
        "run directory of a search (its data, model and space are taken), genotype.json or shipped name",
        null="none, for arms= without searched",
    )
    arms: list[str] | None = key(
        "what is compared, with the first: searched, random, hand-made, or any of lmsearch show what=arms",
        null="searched, random, hand-made", added=(None,),
    )  # fmt: skip
    seeds: int = key("number of seeds per genotype: seed, seed + 1, ...", least=1, endless=True)
    hand_made: list[str] = again(
        HandMade, "hand_made",
        help="directions of the hand-made choice; each layer takes as many of the first as it keeps",
    )  # fmt: skip
    search_space: PathName = again(
        Spaces, "search_space", help="random genotypes are drawn from it, and it knows your own orders"
    )


@dataclass(frozen=True, kw_only=True)
class Derive(Machine, Claiming, Kept, Reading):
    """lmsearch derive."""

    checkpoint: PathName | None = key("checkpoint.pt or the run directory of a search")
    genotypes: PathNames | None = key(
        "in place of checkpoint: [a,b,...] of genotype.json or run directories, or a folder of s<seed>/"
    )
    keep: Ints | None = again(
        Kept, "keep", help="directions kept per layer: a number, one per layer, or null for what the search was asked for"
    )
    budget: int | None = key("directions kept over all layers together, in place of keep", least=1)
    derivation: str | None = key(words=DERIVATIONS, null="the search's")
    health: bool = key("test the result on the search's held-out data; all but topk always do")
    run_dir: PathName | None = again(Output, "run_dir", null="runs/derive-<data>-<model>-s<seed>")
    overwrite: bool = again(Claiming, "overwrite", help="replace a genotype.json in run_dir that was derived otherwise")
    batch_size: int | None = key("samples per step", least=1, null=PER_STEP)


@dataclass(frozen=True, kw_only=True)
class Evaluate(Machine, Output, Reading):
    """lmsearch evaluate."""

    presets: ClassVar[Mapping[str, str]] = {
        "data": "null: the data of the training; its keys, where not given, are those of the training"
    }
    data: Data | None = None
    checkpoint: PathName = key(SHIPPED)
    run_dir: PathName | None = again(Output, "run_dir", null="runs/evaluate-<data>-<model>")
    batch_size: int | None = key("images per step", least=1, null=PER_STEP)


@dataclass(frozen=True, kw_only=True)
class Predict(Machine):
    """lmsearch predict."""

    checkpoint: PathName = key(SHIPPED)
    images: PathNames = key("an image, a folder (sub-folders too), a pattern such as scans/*.png, or a list of these: [a,b]")
    top: int = key("classes given per image", least=1)
    batch_size: int | None = key("images per step", least=1, null=PER_STEP)
    out: PathName | None = key(".csv, .jsonl or .json file for the results; a folder where pixels or objects are answered")
    tile: int | None = key(
        "networks for pixels or objects: side of the square windows in which a large image is answered",
        unit="pixels of the image", least=16, null="the whole image at once",
    )  # fmt: skip
    overlap: int = key("pixels that neighbouring windows share; where they do, their answers are averaged", least=0)
    annotations: PathName | None = key(
        "networks for objects: COCO file of the images, whose ids of images and classes the results get",
        null="images count from 1",
    )  # fmt: skip
    sheet: PathName | None = key(".png: thumbnails of at most 100 images, evenly spaced over all, with the answers")
    on_error: str = key("an unreadable image", words={"raise": "stop there", "skip": "named in the results, counted"})
    overwrite: bool = again(Claiming, "overwrite", help="true: replace files that out= and sheet= name")


@dataclass(frozen=True, kw_only=True)
class Complexity(Settings):
    """lmsearch complexity."""

    model: Model | None = None
    published: bool = key("all published models beside the paper's own figures instead of one model")
    genotype: PathName | None = key(
        "directions of the layers: genotype.json, run directory, shipped name or arm", null="the model's own"
    )
    merge: str | None = key("sum (a derived net) | weighted (a supernet)", null="the model's own")
    img_size: Ints | None = key("image side, or [height,width]", unit="pixels", null="the model's own")
    sizes: Ints | None = key(
        "image sides of the growth table, such as [224,384,512]", unit="pixels", null="1, 1.5 and 2 times img_size"
    )
    num_classes: int | None = key("number of classes", null="the model's own")
    in_chans: int | None = key("image channels", null="the model's own")
    precision: str = again(Machine, "precision", help="of the tensors kept for training")
    detail: str = key("rows of the table", words=("none", "layers", "directions"))
    out: PathName | None = key("also write every figure to this JSON file")
    overwrite: bool = again(Claiming, "overwrite", help="true: replace a file that out= names")


@dataclass(frozen=True, kw_only=True)
class Convert(Settings):
    """lmsearch convert."""

    model: Model | None = None
    source: PathName = key("released .pth file; with to=official: model.safetensors, checkpoint.pt or a run directory of ours")
    out: PathName = key("folder to write; with to=official: the .pth file to write")
    to: str = key(words={"lmsearch": "", "official": "takes source= and out= alone; a file that it wrote needs no model="})
    genotype: PathName | None = key(
        "directions of the checkpoint's layers, which it does not hold", null="the published ones (a supernet: all eight)"
    )
    weights: str = key(
        words={"model": "those under model or state_dict", "ema": "their moving average, under ema_model or model_ema"}
    )
    img_size: Ints | None = key("image side that the checkpoint was trained at, or [height,width]", unit="pixels", null="224")
    class_names: PathName | None = key("text file with one class name per line", null="0, 1, 2, ...")


@dataclass(frozen=True, kw_only=True)
class Bench(Output, Voice):
    """lmsearch bench."""

    what: list[str] = key("sections to measure, in this order")
    quick: bool = key("true: small sizes and at most 2 repeats, done within a minute; its figures mean little", added=(False,))
    threads: int = again(
        Machine, "threads", help="CPU threads of the mixer and the training step; the scan alone runs on 1", null=""
    )
    repeats: int = key("rounds of each comparison; medians and ranges are over these", least=1)
    device: str = again(Machine, "device")
    seed: int = again(Training, "seed", help="of the random tensors and scan orders")
    run_dir: PathName | None = again(Output, "run_dir", help="folder of bench.json and bench.png", null="runs/bench-s<seed>")


@dataclass(frozen=True, kw_only=True)
class Shapes(Settings):
    """lmsearch shapes."""

    out: PathName = key("folder to write, new or empty")
    format: str = key(
        words={
            "masks": "images/<split> and annotations/<split> with palette masks",
            "coco": "<split>/ and annotations/instances_<split>.json",
            "yolo": "data.yaml, <split>/images and <split>/labels with polygons",
        }
    )
    images: int = key("training images; val and test get a quarter of that each", least=1)
    img_size: Ints = key("image side, or [height,width]", unit="pixels")
    seed: int = key("of the images", least=0)


@dataclass(frozen=True, kw_only=True)
class Doctor(Settings):
    """lmsearch doctor takes no keys."""


TASKS: dict[str, type[Settings]] = {
    "search": Search,
    "derive": Derive,
    "retrain": Retrain,
    "evaluate": Evaluate,
    "predict": Predict,
    "compare": Compare,
    "audit": Audit,
    "complexity": Complexity,
    "report": Report,
    "doctor": Doctor,
    "bench": Bench,
    "sweep": Sweep,
    "convert": Convert,
    "shapes": Shapes,
    "show": Show,
    "status": Status,
    "clean": Clean,
    "board": Board,
    "export": Export,
    "latency": LatencySettings,
}
