"""How directions are searched: the keys of the presets in conf/search/, of a supernet and of discrete searches."""

from __future__ import annotations

from dataclasses import dataclass

from lmsearch.settings.fields import PathName, Stages, key
from lmsearch.settings.groups import Group
from lmsearch.settings.optim import LARGEST_RATE, betas_fault

DERIVATIONS = {
    "topk": "most probable",
    "perturbation": "drop what the held-out loss minds least; K + ... + (k+1) passes per layer",
    "climb": "swap what lowers it",
    "halving": "as climb, on up to 2,048 samples: the better half of the swaps goes on to more of them",
}
STORAGE = "where trials are kept: a journal file or a database URL (sqlite:///x.db)"
STORAGE_NULL = "trials.journal in run_dir"


@dataclass(frozen=True, kw_only=True)
class AnySearch(Group):
    """What all searches have."""

    method: str = key(
        words={
            "supernet": "alphas learn and are derived from",
            "random": "",
            "local": "",
            "evolution": "",
            "tpe": "",
            "nsga2": "",
        }
    )
    deduplicate: bool = key("drop candidates that visit a layer's grid exactly as an earlier one does")


@dataclass(frozen=True, kw_only=True)
class Supernet(AnySearch):
    """A supernet is trained, and what to keep is derived from it."""

    relaxation: str = key("alphas to branch weights: softmax | sigmoid | gumbel | sampled | dirichlet | uniform (no alphas)")
    update: str = key("how alphas are moved", words=("adam", "exponentiated_gradient"))
    architect: str = key(
        "alphas learn on",
        words={
            "single": "the weights' batches",
            "bilevel": "held-out ones",
            "mixed": "both",
            "fair": "none learn",
        },
    )
    order: int = key("architect=bilevel: order of the gradient, 1 or 2 (finite differences)", least=1, most=2)
    mixed_weight: float = key("architect=mixed: weight of the held-out gradient", least=0.0)
    holdout: float | None = key(
        "share of the training set that weights do not learn on; choices are made or tested on it",
        null="0.2, or what gives the derivation the samples that it can use, half at most",
    )
    alpha_lr: float | None = key(
        "learning rate of the alphas, constant", least=0.0, most=LARGEST_RATE, null="that of the weights, step by step"
    )
    alpha_betas: list[float] = key("the two betas of the alphas' Adam", check=betas_fault)
    alpha_weight_decay: float = key("weight decay of the alphas, which pulls them back to uniform", least=0.0)
    alpha_weight_decay_end: float | None = key("the same at the end of the search", least=0.0, null="constant")
    alpha_warmup_epochs: int = key("epochs in which only the weights learn", least=0)
    temperature: float = key("alphas are divided by it; a small one makes their weights sharp")
    temperature_end: float | None = key("the same at the end of the search, geometric in between", null="constant")
    samples: int | None = key(
        "gumbel, sampled: branches that a step runs per layer", least=1, null="as many as the layer keeps, 2 at least"
    )
    shrink: Stages = key("[[progress,branches],...]: from that share of the search on, layers hold so many branches at most")
    passes: int | None = key(
        "fair: passes of a step, each of as many branches as layers keep", least=1, null="until every branch had its turn"
    )
    dominance: float | None = key(
        "fair, few layers: alphas decide once one direction dominates; its chance where none matters",
        least=0.0, most=1.0, null="never", added=(None,),
    )  # fmt: skip
    partial_channels: int = key("the supernet scans 1/partial_channels of its channels, the others pass by: less memory", least=1)
    derivation: str = key(words=DERIVATIONS)
    recheck: float = key(
        "two fresh supernets check the choice, each trained for this share of the steps; 0: no recheck",
        least=0.0, endless=True,
    )  # fmt: skip
    health_every: int | None = key(
        "epochs between measurements of gap, curvature and gradients (without alphas, of gradients)",
        least=0, null="four in a run; 0: none",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Discrete(AnySearch):
    """Architectures are tried one by one."""

    evaluate: str = key(
        words={"shared": "masked in one supernet, trained on random paths", "standalone": "each trained from scratch"}
    )
    trials: int | None = key("architectures to evaluate", least=1, null="as many as budget_steps pays for", endless=True)
    budget_steps: float | None = key(
        "branch-scan steps for training and evaluation together", least=0.0, null="no limit", endless=True
    )
    holdout: float = key("shared: share of the training set held out to score architectures")
    population: int = key("evolution: the youngest that may breed; nsga2: architectures per generation", least=2)
    tournament: int = key("evolution: how many of them compete to breed", least=1)
    fewest: int | None = key("least directions that a layer may keep", least=1, null="exactly as many as keep says")
    objective2: str | None = key("nsga2, to be small", words={"flops": "per image", "latency": "s per batch, measured here"})
    latency_batch: int = key("images per timed forward pass", least=1)
    storage: PathName | None = key(STORAGE, null=STORAGE_NULL)
