"""Keys that several tasks have."""

from __future__ import annotations

from dataclasses import dataclass

from lmsearch.settings.data import Dense, Digits, Idx, ImageFolder, Planted
from lmsearch.settings.fields import Ints, PathName, key
from lmsearch.settings.groups import Settings
from lmsearch.settings.model import Model
from lmsearch.settings.optim import Optim

Data = Digits | Idx | ImageFolder | Planted | Dense
METRICS = "accuracy | balanced_accuracy"
RUN_DIR = "runs/<task>-<data>-<model>-s<seed>"


@dataclass(frozen=True, kw_only=True)
class Voice(Settings):
    """How much a task tells while it works."""

    quiet: bool = key("true: print one line, the result; no progress, and of log lines only warnings", counts=False)
    verbose: bool = key("true: progress every second where there is no terminal, and errors with their tracebacks", counts=False)


@dataclass(frozen=True, kw_only=True)
class Machine(Voice):
    """Where a task computes, and how."""

    device: str = key("where networks run", words=("auto", "cpu", "cuda"), counts=False)
    precision: str = key("numbers that networks compute with", words=("fp32", "bf16", "fp16"))
    threads: int | None = key(
        "CPU threads of this process",
        least=1, counts=False, null="PyTorch's own (OMP_NUM_THREADS, else the cores); equal threads give equal bytes",
    )  # fmt: skip
    backend: str = key("scan kernels: auto | reference | native | triton | mamba_ssm")


@dataclass(frozen=True, kw_only=True)
class Output(Settings):
    """Where a task writes."""

    run_dir: PathName | None = key("output folder", null=RUN_DIR, counts=False)


@dataclass(frozen=True, kw_only=True)
class Claiming(Output):
    """What a task that claims its folder may do to another run in it."""

    overwrite: bool = key("start over in a run_dir that holds another run", counts=False)


@dataclass(frozen=True, kw_only=True)
class Reading(Settings):
    """Who reads images."""

    num_workers: int | None = key(
        "processes that read images (image and dense folders)",
        least=0, counts=False, null="on a GPU the cores shared out, 0 to 8 as shared memory has room; else 0: the training reads",
    )  # fmt: skip

    @property
    def readers(self) -> int:
        """Processes that read images for one loader; none where nobody has settled their number."""
        return self.num_workers or 0


@dataclass(frozen=True, kw_only=True)
class Training(Machine, Claiming, Reading):
    """What trains networks."""

    optim: Optim
    data: Data
    model: Model
    epochs: int = key("passes over the training set", least=1, by_recipe="null")
    batch_size: int = key("images per step", least=1, by_recipe="null")
    micro_batch: int | None = key(
        "images computed at a time, a divisor of batch_size: less memory, same result up to rounding",
        least=1, null="all of a step; 128 or less where LocalMamba's recipe chooses batch_size", added=(None,),
    )  # fmt: skip
    head: str | None = key(
        "answers pixels or objects: plain | upernet | mask2former | deformable_detr",
        null="plain with data=dense, else the model's classifier", added=(None,),
    )  # fmt: skip
    out_indices: Ints | None = key(
        "layers (local_vim) or stages whose maps the head sees, the last among them",
        null="the last layer, all stages", added=(None,),
    )  # fmt: skip
    frozen_stages: int = key(
        "first layers or stages that keep their weights, with the patch embedding; 0: none", least=0, added=(0,)
    )
    metric: str | None = key(METRICS, null="accuracy", added=(None,))
    seed: int = key("of all that is random: weights, order of images, augmentation", least=0)


@dataclass(frozen=True, kw_only=True)
class Resuming(Claiming):
    """What goes on where it was stopped."""

    resume: str = key(
        words={
            "auto": "go on with what run_dir holds of this run",
            "never": "refuse a folder that holds work",
            "must": "refuse one where nothing is to be continued",
        },
        counts=False,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GoingOn(Training, Resuming):
    """What trains for long, is kept while it does, and goes on where it was stopped."""

    save_every_s: float | None = key(
        "save inside an epoch too, that often",
        unit="seconds", least=0.0, null="at the ends of epochs and on signals only", counts=False,
    )  # fmt: skip
    keep_checkpoints: int = key(
        "states that are kept: checkpoint.pt and, for where it is damaged, older ones", least=1, counts=False
    )


@dataclass(frozen=True, kw_only=True)
class SideBySide(Settings):
    """How many trainings run at a time."""

    workers: int = key(
        "processes that train side by side, each with `threads` threads; one per GPU at most",
        least=1, counts=False,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Spaces(Settings):
    """What may be chosen from."""

    search_space: PathName = key("what may be chosen: a shipped name or a YAML file")


@dataclass(frozen=True, kw_only=True)
class Kept(Settings):
    """How many directions are kept."""

    keep: Ints | None = key(
        "directions kept per layer: a number, one per layer, or null for the search space's own",
    )


@dataclass(frozen=True, kw_only=True)
class HandMade(Settings):
    """A choice by hand, to compare with."""

    hand_made: list[str] = key("directions of the hand-made choice, every layer; the first `keep` of them")


@dataclass(frozen=True, kw_only=True)
class Strict(Settings):
    """Exit codes that tell the result."""

    strict: bool = key(counts=False)


@dataclass(frozen=True, kw_only=True)
class Baselines(Settings):
    """Simple baselines on the pixels."""

    baseline_limit: int | None = key(
        "logistic regression and nearest neighbour run up to this many training or test images",
        least=0, null="20000; 0: never", added=(None,),
    )  # fmt: skip
