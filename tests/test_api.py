"""run_search, run_retrain and run_compare: from a network of one's own and plain loaders, in memory, to plain results."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, SubsetRandomSampler, TensorDataset

import lmsearch
from lmsearch.api.given import check_apart, checked_seed, loader_of, objective_of
from lmsearch.api.nets import grids_of, marks
from lmsearch.data import build_source
from lmsearch.errors import LmsearchError
from lmsearch.search.architects.kinds import ARCHITECTS, PATHS
from lmsearch.search.supernet.relax import RELAXATIONS
from lmsearch.search_space import SearchSpace

PAGE = Path(__file__).resolve().parent.parent / "docs" / "python.md"
FOUR = SearchSpace("four", ("h", "h_flip", "v", "v_flip"), 1)
PLANTED = "v_flip"


class UNet(nn.Module):
    """A user's network: a mixer on 8x8 tokens, one on 4x4, a skip connection, and an output for every token of both maps."""

    def __init__(self, directions: list[list[str]], merge: str) -> None:
        super().__init__()
        options = lmsearch.MixerOptions(merge=merge, attention="none", d_state=8)
        self.embed = nn.Linear(2, 16)
        self.fine = lmsearch.LocalVimMixer(16, directions[0], options)
        self.coarse = lmsearch.LocalVimMixer(16, directions[1], options)
        self.heads = nn.ModuleList([nn.Linear(16, 1), nn.Linear(16, 1)])

    def forward(self, x: Tensor) -> Tensor:  # (B, 2, 8, 8) -> (B, 80, 1)
        x = self.embed(x.flatten(2).mT)
        fine = x + self.fine(x, (8, 8))
        low = nn.functional.avg_pool2d(fine.mT.unflatten(2, (8, 8)), 2).flatten(2).mT
        low = low + self.coarse(low, (4, 4))
        up = nn.functional.interpolate(low.mT.unflatten(2, (4, 4)), scale_factor=2).flatten(2).mT
        return torch.cat([self.heads[0](fine + up), self.heads[1](low)], 1)


def planted(part: str, size: int) -> TensorDataset:
    """Return sums along PLANTED on 8x8 tokens in the first channel, and on 4x4 tokens, each shown four times, in the second."""
    fine, coarse = (
        getattr(build_source("planted", direction=PLANTED, num_train=size, val_size=size, **more), part).eval_batch(
            np.arange(size)
        )
        for more in ({"grid": 8}, {"grid": 4, "set_seed": 1, "lag": 1})
    )
    shown = nn.functional.interpolate(coarse.inputs, scale_factor=2)
    return TensorDataset(torch.cat([fine.inputs, shown], 1), torch.cat([fine.targets, coarse.targets], 1))


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().flatten(1).mean(1)


def loaders(size: int, held: int) -> dict[str, DataLoader]:
    """Return plain loaders of planted samples."""
    known = planted("train", size + held)
    return {
        "train": DataLoader(Subset(known, range(size)), 32, shuffle=True),
        "holdout": DataLoader(Subset(known, range(size, size + held)), 32),
        "val": DataLoader(planted("val", 2 * held), 32),
    }


@pytest.mark.slow
def test_a_planted_direction_is_found_in_both_mixers_and_called_ok() -> None:
    found = lmsearch.run_search(UNet, **loaders(512, 128), objective=squared, space=FOUR, epochs=6, lr=0.01, recheck=1.0)
    assert found.directions == ((PLANTED,), (PLANTED,))
    assert found.health["status"] == "ok", found.health["reason"]


def test_a_planted_direction_is_found_at_two_resolutions_and_the_caller_keeps_its_random_numbers() -> None:
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    found = lmsearch.run_search(UNet, **loaders(512, 96), objective="dense", space=FOUR, epochs=3, lr=0.02, recheck=0)
    assert found.directions == ((PLANTED,), (PLANTED,))
    assert found.health["status"] == "unconfirmed" and "recheck=0.25 checks it" in found.health["reason"]
    assert [layer.name for layer in found.layers] == ["fine", "coarse"] and found.model == "UNet"
    assert torch.equal(torch.random.get_rng_state(), before)


class Classifier(nn.Module):
    """Two mixers, which take their lists in the other order than the module holds them."""

    def __init__(self, directions: list[list[str]], merge: str) -> None:
        super().__init__()
        options = lmsearch.MixerOptions(merge=merge, attention="none", d_state=2)
        self.embed, self.head = nn.Linear(1, 8), nn.Linear(8, 3)
        self.late = lmsearch.LocalVMambaMixer(8, directions[1], options)
        self.early = lmsearch.LocalVimMixer(8, directions[0], options)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(2).mT)
        x = x + self.early(x, (4, 4))
        return self.head((x + self.late(x, (4, 4))).mean(1))


def images(size: int = 48, side: int = 4) -> TensorDataset:
    draw = torch.Generator().manual_seed(0)
    return TensorDataset(torch.rand(size, 1, side, side, generator=draw), torch.randint(3, (size,), generator=draw))


def parts(dataset: Dataset, *shares: range) -> list[DataLoader]:
    return [DataLoader(Subset(dataset, share), 8) for share in shares]


TRAIN, HELD, VAL = range(24), range(24, 36), range(36, 48)
QUICK = {"epochs": 1, "recheck": 0}


def quick(model: object = Classifier, **changed: object) -> lmsearch.genotype.Genotype:
    """Search once over tiny data, as the arguments say."""
    train, holdout, val = parts(images(), TRAIN, HELD, VAL)
    given = {"train": train, "holdout": holdout, "val": val, "space": FOUR, "keep": [1, 2]} | QUICK | changed
    return lmsearch.run_search(model, **given)


def test_choices_come_in_the_order_in_which_the_factory_takes_them() -> None:
    found = quick()
    assert [layer.name for layer in found.layers] == ["early", "late"]
    assert [len(layer.directions) for layer in found.layers] == [1, 2]
    assert Classifier(found.directions, "sum")(torch.rand(2, 1, 4, 4)).shape == (2, 3)


def test_equal_arguments_give_equal_genotypes_and_lists_do_as_well_as_loaders() -> None:
    first = quick()
    again = quick(
        keep=np.array([1, 2]),
        epochs=np.int64(1),
        recheck=np.float32(0),
        lr=np.array(3e-3),
        threads=None,
        seed=np.uint8(0),
        device=torch.device("cpu", 0),
    )
    assert lmsearch.genotype.dumps(first) == lmsearch.genotype.dumps(again)
    train, holdout, val = (list(loader) for loader in parts(images(), TRAIN, HELD, VAL))
    assert quick(train=train, holdout=holdout, val=val).directions == first.directions


def test_without_val_nothing_is_tested() -> None:
    for search in ("fair", "darts"):
        health = quick(val=None, search=search).health
        assert health["status"] == "not tested" and ("entropy" in health) is (search == "darts")


def test_a_module_whose_mixers_hold_candidates_is_searched_and_stays_as_it_is() -> None:
    module = Classifier([["h", "v", "v_flip"], ["h", "v"]], "weighted")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = quick(module, space=None, keep=1)
    assert [layer.name for layer in found.layers] == ["late", "early"]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_shipped_model_takes_its_sizes_from_the_data() -> None:
    train, holdout = parts(images(side=8), TRAIN, HELD)
    found = quick("local_vim_nano", train=train, holdout=holdout, val=None, keep=1, space=FOUR)
    assert len(found.layers) == 3 and found.model == "local_vim_nano"


@pytest.mark.parametrize("kind", [replace(PATHS, name="mine"), replace(ARCHITECTS["mixed"], name="mine")])
def test_an_architect_of_ones_own_searches(kind: object) -> None:
    assert quick(search=kind).derivation["method"] == ("topk" if kind.learns else "halving")


def test_a_relaxation_of_ones_own_searches() -> None:
    assert quick(search=replace(RELAXATIONS["sigmoid"], name="mine", penalty=None)).derivation["method"] == "topk"


def without(record: object, name: str) -> SimpleNamespace:
    """Return a record with one of its entries forgotten."""
    return SimpleNamespace(**{key: value for key, value in vars(record).items() if key != name})


class Shared(Classifier):
    """Both mixers take the same list."""

    def __init__(self, directions: list[list[str]], merge: str) -> None:
        super().__init__([directions[0], directions[0]], merge)


class Growing(nn.Module):
    """As many mixers as there are lists."""

    def __init__(self, directions: list[list[str]], merge: str) -> None:
        super().__init__()
        options = lmsearch.MixerOptions(merge=merge)
        self.layers = nn.ModuleList(lmsearch.LocalVimMixer(8, names, options) for names in directions)


def pairs() -> list:
    return list(parts(images(), TRAIN)[0])


WRONG = {
    "no mixers": ({"model": lambda directions, merge: nn.Linear(1, 1)}, "holds no lmsearch mixer"),
    "a module without mixers": ({"model": nn.Linear(1, 1), "space": None}, "holds no lmsearch mixer"),
    "no alphas": ({"model": lambda directions, merge: Classifier(directions, "sum")}, "hold no alphas"),
    "a shared list": ({"model": Shared}, "list of its own"),
    "any number of mixers": ({"model": Growing}, "fix their number"),
    "no module": ({"model": lambda directions, merge: 3}, "no torch.nn.Module"),
    "an unknown model": ({"model": "local_vim_nanoo"}, "did you mean local_vim_nano"),
    "no model": ({"model": 3}, "make(directions, merge)"),
    "a generator": ({"train": (pair for pair in pairs())}, "train can be iterated only once"),
    "no iterable": ({"val": 7}, "val=7 is no iterable"),
    "an empty list": ({"holdout": []}, "holdout holds no batch"),
    "no pairs": ({"holdout": [torch.rand(3)]}, "no pair of tensors"),
    "an unknown target": ({"objective": "clas"}, "did you mean class"),
    "no objective": ({"objective": 3}, "expected a function"),
    "a mean loss": ({"objective": nn.functional.cross_entropy}, "expected one loss for each of 8 samples"),
    "other targets": ({"objective": "dense"}, "cannot compare outputs (8, 3)"),
    "an unknown search": ({"search": "fairr"}, "did you mean fair"),
    "a discrete search": ({"search": "random"}, "search='random' is not accepted"),
    "a part of the channels": ({"search": "pcdarts"}, "partial_channels"),
    "neither": ({"search": 3}, "an architect, a relaxation"),
    "an architect that forgets": ({"search": without(ARCHITECTS["fair"], "uses_holdout")}, "it has no uses_holdout"),
    "an architect that says it wrongly": ({"search": replace(PATHS, learns="no")}, "its learns is 'no'"),
    "an architect without a hook": ({"search": replace(PATHS, build=lambda parts, knobs: object())}, "it has no before_step"),
    "a relaxation that forgets": ({"search": without(RELAXATIONS["sigmoid"], "probabilities")}, "it has no probabilities"),
    "probabilities": ({"search": replace(RELAXATIONS["sigmoid"], probabilities=torch.sigmoid)}, "sum to 1"),
    "batches without samples": ({"train": [(torch.rand(0, 1, 4, 4), torch.zeros(0).long())]}, "train holds no sample"),
    "a list as a space": ({"space": ["h", "v"]}, "candidates of your own are a SearchSpace(name, candidates, keep)"),
    "too many kept": ({"keep": 9}, "keep=9 is larger"),
    "a negative recheck": ({"recheck": -1}, "recheck=-1"),
    "no epochs": ({"epochs": 0}, "epochs=0"),
    "no learning rate": ({"lr": 0}, "lr=0"),
    "an unknown device": ({"device": "tpu"}, "accepted: auto, cpu, cuda"),
    "too many threads": ({"threads": 10**6}, "threads=1000000"),
    "a recheck of a module": (
        {"model": Classifier([["h", "v"]] * 2, "weighted"), "space": None, "recheck": 0.25},
        "give a factory",
    ),
    "a space for a module": ({"model": Classifier([["h", "v"]] * 2, "weighted")}, "give a factory"),
    "no keep": ({"model": Classifier([["h", "v"]] * 2, "weighted"), "space": None, "keep": None}, "keep is needed"),
}


@pytest.mark.parametrize(("changed", "says"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_searched_is_one_clear_line(changed: dict, says: str) -> None:
    with pytest.raises(LmsearchError) as error:
        quick(**changed)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("seed", [-1, None, 1.5, "3", True])
def test_a_seed_that_is_none_is_refused_before_anything_is_built(seed: object) -> None:
    train, test = parts(images(), TRAIN, HELD)
    for run in (
        lmsearch.run_search,
        partial(lmsearch.run_retrain, genotype="cross"),
        partial(lmsearch.run_compare, genotype="cross"),
    ):
        held = {"holdout" if run is lmsearch.run_search else "test": test}
        with pytest.raises(LmsearchError, match=r"^seed=.* is not accepted; expected a whole number from 0 on$"):
            run(model=lambda *_: pytest.fail("a network was built"), train=train, seed=seed, **held)


def test_a_seed_of_numpy_or_pytorch_is_taken_as_pythons() -> None:
    for seed in (np.int64(3), np.uint8(3), torch.tensor(3)):
        assert type(checked_seed(seed)) is int and checked_seed(seed) == 3


def test_overlapping_samples_of_one_dataset_are_refused_and_others_are_not() -> None:
    data = images()
    train, holdout, val = parts(data, TRAIN, HELD, VAL)
    check_apart(train=train, holdout=holdout, val=val)
    check_apart(train=train, holdout=DataLoader(Subset(images(), TRAIN), 8), val=None)  # another object
    sampled = [DataLoader(data, 8, sampler=SubsetRandomSampler(share)) for share in (TRAIN, HELD)]
    check_apart(train=sampled[0], holdout=sampled[1])
    nested = DataLoader(Subset(Subset(data, range(20, 40)), range(10)), 8)  # 20 to 29
    whole = DataLoader(data, 8, shuffle=True)
    for given in ({"train": train, "val": nested}, {"train": whole, "val": val}, {"train": sampled[0], "val": nested}):
        with pytest.raises(LmsearchError, match="train and val overlap"):
            check_apart(**given)
    with pytest.raises(LmsearchError, match="same object"):
        check_apart(holdout=holdout, val=holdout)


def test_a_genotype_is_retrained_to_a_module_with_its_scores() -> None:
    train, test = parts(images(), TRAIN, HELD)
    one, again = (lmsearch.run_retrain(Classifier, [["h"], ["v", "w2"]], train, test, epochs=2, seed=3) for _ in range(2))
    assert set(one.scores) == {"loss", "accuracy"} and one.scores == again.scores
    assert one.module.early.directions == ("h",) and one.module.late.directions == ("v", "w2")
    balanced = lmsearch.run_retrain(Classifier, [["h"], ["v"]], train, test, epochs=1, metric="balanced_accuracy")
    assert "balanced_accuracy" in balanced.scores
    named = lmsearch.run_retrain(Classifier, "raster_pair", train, test, epochs=1).module
    assert named.early.directions == named.late.directions == ("h", "h_flip")
    emptied = [*train, (torch.rand(0, 1, 4, 4), torch.zeros(0).long())]
    assert lmsearch.run_retrain(Classifier, "cross", emptied, test, epochs=1).scores["loss"] > 0
    none = ((None, "one list of directions per layer, got None"), (["h", "v"], "layer 0: expected a list of directions, got 'h'"))
    for wrong, says in (([["h"]], "2 layers"), ([["h"], ["x"]], "'x'"), *none):
        with pytest.raises(LmsearchError, match=says):
            lmsearch.run_retrain(Classifier, wrong, train, test)
    with pytest.raises(LmsearchError, match="model is a Classifier that is built already.*make\\(directions, merge\\)"):
        lmsearch.run_retrain(one.module, [["h"], ["v"]], train, test)
    with pytest.raises(LmsearchError, match="metric='acuracy' is not accepted"):
        lmsearch.run_retrain(Classifier, [["h"], ["v"]], train, test, metric="acuracy")


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize("wrong", [lambda y: y.double(), lambda y: y.float(), lambda y: y[:, None], lambda y: -1 - y])
def test_labels_that_no_loss_takes_are_one_clear_line_before_a_training(wrong: Callable, test: bool) -> None:
    inputs, labels = images().tensors
    good, bad = ([(inputs[:8], values[:8])] for values in (labels, wrong(labels)))
    given = (Classifier, [["v"], ["h", "v"]], *((good, bad) if test else (bad, good)))
    for run in (lmsearch.run_retrain, lmsearch.run_compare):
        with pytest.raises(LmsearchError, match=r"^the objective cannot compare outputs \(8, 3\) and targets \(8,.*") as error:
            run(*given, epochs=1, **({"space": FOUR} if run is lmsearch.run_compare else {}))
        assert "\n" not in str(error.value)


def test_labels_and_inputs_that_a_network_cannot_take_are_one_clear_line() -> None:
    inputs, labels = images().tensors
    later = [(inputs[:8], labels[:8]), (inputs[8:16], labels[8:16] + 5)]
    bytes_ = [((inputs[:8] * 255).byte(), labels[:8])]
    for train, says in (
        (later, r"labels go from 5 to 7, but the network has 3"),
        (bytes_, r"answer inputs \(., 1, 4, 4\) torch.uint8"),
    ):
        held = [(inputs[16:24], labels[16:24])]
        for run in (
            partial(quick, train=train, holdout=held, val=None),
            partial(lmsearch.run_retrain, Classifier, [["v"]] * 2, train, held),
        ):
            with pytest.raises(LmsearchError, match=says) as error:
                run(epochs=1)
            assert "\n" not in str(error.value)


def test_dense_targets_of_other_axes_are_refused_and_axes_of_length_1_may_be_missing() -> None:
    losses = objective_of("dense").losses
    outputs = torch.rand(4, 6, 1)
    assert torch.equal(losses(outputs, outputs[..., 0]), torch.zeros(4))
    for other in (torch.rand(4, 3, 2), torch.rand(6, 4), torch.rand(4, 7)):
        with pytest.raises(LmsearchError, match=r"outputs \(4, 6, 1\) and targets .* differ; expected one shape"):
            losses(outputs, other)


class Twice(Classifier):
    """Its mixers run on 4x4 and then on 2x2 tokens, where windows of two are rows."""

    def forward(self, x: Tensor) -> Tensor:
        small = nn.functional.avg_pool2d(x, 2)
        x, small = (self.embed(y.flatten(2).mT) for y in (x, small))
        return self.head(self.early(self.late(x, (4, 4)), (4, 4)).mean(1) + self.early(self.late(small, (2, 2)), (2, 2)).mean(1))


def test_a_mixer_that_runs_on_two_grids_is_searched_over_what_differs_on_the_larger() -> None:
    assert grids_of(Twice(marks(2), "weighted"), torch.rand(3, 1, 4, 4)) == [(4, 4), (4, 4)]


class Stream(IterableDataset):
    """Samples that come one after the other and tell no number."""

    def __iter__(self) -> Iterator:
        return iter(images(24))


def test_a_dataloader_that_tells_no_length_is_counted() -> None:
    loader = loader_of(DataLoader(Stream(), 8), name="train", seed=0)
    assert len(loader) == 3 and loader.num_samples == 24


@pytest.mark.parametrize(
    ("objective", "seeds", "metric"), [(None, 1, "accuracy"), (nn.CrossEntropyLoss(reduction="none"), 2, "loss")]
)
def test_a_comparison_says_how_the_arms_differ(objective: object, seeds: int, metric: str) -> None:
    train, test = parts(images(), TRAIN, HELD)
    given = {"space": FOUR, "hand_made": ["h", "v"], "epochs": 1, "seeds": np.int64(seeds), "objective": objective}
    found = lmsearch.run_compare(Classifier, [["v"], ["h", "v"]], train, test, **given)
    assert found.metric == metric and list(found.arms) == ["searched", "random", "hand-made"]
    assert all(len(scores) == seeds for scores in found.per_seed.values())
    difference = found.differences["hand-made"]
    assert difference.low <= difference.mean <= difference.high
    assert difference.mean == pytest.approx(found.arms["searched"].mean - found.arms["hand-made"].mean, abs=1e-6)
    assert "within noise" in found.verdict or "the searched genotype is" in found.verdict
    assert "directions per layer differ" not in found.verdict
    shorter = lmsearch.run_compare(Classifier, [["v"], ["h", "v"]], train, test, **given | {"hand_made": ["h"], "seeds": 1})
    assert "directions per layer differ, and so do size and cost: searched 1.5, hand-made 1" in shorter.verdict
    with pytest.raises(LmsearchError, match=r"^hand_made: layer 0: expected a list of directions, got 'cross'$"):
        lmsearch.run_compare(Classifier, [["v"], ["h", "v"]], train, test, **given | {"hand_made": "cross"})


def test_the_short_example_of_the_docs_runs() -> None:
    (block,) = (text for text in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "run_search" in text)
    exec(block, {"dataset": images(64, side=8)})  # noqa: S102
    assert sum(bool(line.strip()) for line in block.splitlines()) <= 15
