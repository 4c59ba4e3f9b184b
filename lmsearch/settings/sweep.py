"""The configuration of lmsearch sweep: the keys of conf/sweep.yaml and conf/sweep/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lmsearch.settings.fields import PathName, Ranges, Words, again, key
from lmsearch.settings.groups import Group
from lmsearch.settings.search import STORAGE, STORAGE_NULL
from lmsearch.settings.shared import Claiming, Output, Voice


@dataclass(frozen=True, kw_only=True)
class Submitit(Group):
    """Jobs of a cluster."""

    cluster: str | None = key("slurm | local", null="slurm where it is installed")
    timeout_min: int = key("minutes of one job", least=1)
    cpus_per_task: int = key("CPU cores of one job", least=1)
    gpus_per_node: int = key("GPUs of one job", least=0)
    mem_gb: float | None = key("memory of one job", unit="GB", null="the cluster's own")
    slurm_partition: str | None = key("partition", null="the cluster's own")
    slurm_account: str | None = key("account", null="the user's own")


@dataclass(frozen=True, kw_only=True)
class Sweep(Claiming, Voice):
    """lmsearch sweep."""

    presets: ClassVar[Mapping[str, str]] = {"sweep": "a prepared sweep: task, params, metric and direction"}
    task: str = key("the task that is run, such as retrain or search")
    params: Ranges | None = key("{key: range}: uniform(a,b), log(a,b), int(a,b), int(a,b,step), logint(a,b) or [x,y,z]")
    params_file: PathName | None = key("YAML file with such a mapping, read first; a key of params replaces the file's")
    overrides: Words = key("key=value words that every trial gets, such as [data=planted,epochs=2]")
    metric: Words = key("what is optimised: a number of the run directory's metrics file, or two of them as [a,b]", added=(None,))
    direction: Words | None = key("maximize | minimize, as [a,b] for two metrics", null="maximize, of one metric only")
    metrics_file: str = key("file of the run directory that holds the metrics; nested numbers are named a.b")
    trials: int = key("number of trials in all, with those of earlier calls; lost ones that run again count once", least=1)
    timeout: float | None = key("seconds after which no new trial starts", least=0.0, null="no limit")
    sampler: str = key(words=("tpe", "random", "nsga2"))
    population: int | None = key("nsga2: trials per generation", least=2, null="a quarter of the trials, 4 to 50")
    seed: int = key("of the sampler", least=0)
    pruner: str = key("end trials that fall behind, judged after every epoch", words=("none", "median", "hyperband"))
    prune_metric: str | None = key(
        "value that the task logs every epoch (metrics.jsonl), judged in the direction of metric", null="metric"
    )
    prune_after: int = key("epochs that every trial runs at least", least=1)
    run_dir: PathName | None = again(Output, "run_dir", null="runs/sweep-<task>-s<seed>")
    overwrite: bool = again(
        Claiming, "overwrite", help="delete the study and the folders of its trials in run_dir, and start over"
    )
    storage: PathName | None = key(STORAGE, null=STORAGE_NULL)
    study: PathName | None = key("name of the study in the storage, one for each run_dir", null="the name of run_dir")
    workers: int = key("processes that run trials side by side", least=1, counts=False)
    launcher: str = key(words={"local": "processes of this machine", "submitit": "jobs; needs pip install submitit"})
    submitit: Submitit
