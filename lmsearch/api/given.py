"""What a user gives: batches, an objective, a device. Checked here, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, Subset

from lmsearch.data import PlainLoader
from lmsearch.data.batch import Batches as CountedBatches
from lmsearch.engine.devices import device_named
from lmsearch.engine.objectives import Metric, Objective, objective_for
from lmsearch.engine.recipe import Recipe
from lmsearch.engine.threads import using_threads
from lmsearch.errors import ConfigError, DataError, first_line, short
from lmsearch.plain import plain_numbers

Batches = Iterable[object]  # of (inputs, targets)
Losses = Callable[[Tensor, Tensor], Tensor]
WARMUP = 0.1  # share of the training in which the learning rate rises, one epoch at most
END = 0.01  # learning rate at the end of the cosine, and before the warm-up, over the highest


class Counted:
    """An iterable that tells no length, with the number of batches that a first pass gave."""

    def __init__(self, batches: Batches) -> None:
        self.batches, self.length = batches, sum(1 for _ in batches)

    def __iter__(self) -> Iterator[object]:
        return iter(self.batches)

    def __len__(self) -> int:
        return self.length


def loader_of(batches: Batches, *, name: str, seed: int) -> PlainLoader:
    """Return a user's batches as a loader; raise DataError where they cannot be iterated, or only once, or hold nothing."""
    if not isinstance(batches, Iterable):
        raise DataError(f"{name}={short(batches)} is no iterable of (inputs, targets); give a DataLoader or a list")
    if isinstance(batches, Iterator):
        raise DataError(f"{name} can be iterated only once; give a DataLoader or a list of (inputs, targets)")
    loader = PlainLoader(batches if tells_length(batches) else Counted(batches), what=name, seed=seed)
    if len(loader) == 0:
        raise DataError(f"{name} holds no batch")
    return loader


def tells_length(batches: Batches) -> TypeGuard[CountedBatches]:
    """Tell whether an iterable has a length; a DataLoader over an IterableDataset only seems to."""
    try:
        len(batches)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def check_apart(**given: Batches | None) -> None:
    """Raise DataError where two of the given, by name, hold samples of one Dataset object in common."""
    known = {name: batches for name, batches in given.items() if batches is not None}
    drawn = {name: samples_of(batches) for name, batches in known.items()}
    for one, other in combinations(known, 2):
        if known[one] is known[other]:
            raise DataError(f"{one} and {other} are the same object; samples that decide on directions cannot test them")
        mine, theirs = drawn[one], drawn[other]
        if mine is None or theirs is None or mine[0] is not theirs[0]:
            continue
        if common := mine[1] & theirs[1]:
            raise DataError(
                f"{one} and {other} overlap: {len(common)} samples of one dataset, such as {min(common)}, are in both"
            )


def samples_of(batches: Batches) -> tuple[object, set[int]] | None:
    """Return the dataset that a DataLoader reads and the indices that it visits; None where that cannot be told."""
    if not isinstance(batches, DataLoader) or type(batches.batch_sampler) is not BatchSampler:
        return None
    dataset, sampler = batches.dataset, batches.batch_sampler.sampler
    chosen = getattr(sampler, "indices", None)  # of a SubsetRandomSampler
    if chosen is None:
        if not isinstance(sampler, RandomSampler | SequentialSampler):
            return None
        chosen = range(len(sampler.data_source))
    indices: Sequence[int] = [int(i) for i in chosen]
    while isinstance(dataset, Subset):
        indices, dataset = [int(dataset.indices[i]) for i in indices], dataset.dataset
    return dataset, set(indices)


def objective_of(given: str | Losses | None, *, metric: str | None = None) -> Objective:
    """Return the objective of a kind of target ("class" by default, "dense") or of a function (outputs, targets) -> losses (B,).

    `metric` names what a kind of target is judged by; an own function is judged by its losses.
    """
    if given is None or isinstance(given, str):
        return objective_for(given or "class", metric=metric)
    if not callable(given):
        raise ConfigError(f"objective={short(given)}: expected a function (outputs, targets) -> losses (B,), class or dense")
    if metric is not None:
        raise ConfigError(f"metric={metric!r} goes with a kind of target; an objective of one's own is judged by its losses")

    def losses(outputs: Tensor, targets: Tensor) -> Tensor:
        found = given(outputs, targets)
        if not isinstance(found, Tensor) or found.shape != targets.shape[:1]:
            shape = tuple(found.shape) if isinstance(found, Tensor) else short(found)
            raise ConfigError(f"the objective gave {shape}; expected one loss for each of {len(targets)} samples")
        return found.float()

    def statistics(outputs: Tensor, targets: Tensor) -> Tensor:
        values = losses(outputs, targets).double()
        return torch.stack([values.sum(), values.new_tensor(len(values))])

    judged = Metric("loss", "own", higher_is_better=False, bounds=(-float("inf"), float("inf")), in_training="loss")
    return Objective(
        judged, losses, lambda outputs, targets: losses(outputs.detach(), targets), lambda _: None, statistics,
        lambda sums: (sums[0] / sums[1]).item(),
    )  # fmt: skip


@torch.no_grad()
def check_objective(objective: Objective, module: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    """Raise DataError where the objective cannot compare the network's outputs with the targets."""
    outputs = answered(module, inputs)
    shapes = f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)} {targets.dtype}"
    try:
        objective.evaluation(outputs, targets)
    except (DataError, RuntimeError, IndexError, TypeError) as error:
        raise DataError(f"the objective cannot compare {shapes}: {error}") from error


@torch.no_grad()
def answered(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return what a network answers, evaluating; raise DataError where PyTorch cannot compute it of these inputs."""
    try:
        return module.eval()(inputs)
    except RuntimeError as error:
        given = f"inputs {tuple(inputs.shape)} {inputs.dtype}"
        raise DataError(f"{type(module).__name__} cannot answer {given}: {first_line(error)}") from error


def checked_seed(seed: object) -> int:
    """Return a seed as Python's number; raise ConfigError for what is none."""
    return checked_whole("seed", seed, least=0)


def checked_epochs(epochs: object) -> int:
    """Return a number of epochs as Python's; raise ConfigError for what is none."""
    return checked_whole("epochs", epochs, least=1)


def checked_whole(name: str, value: object, *, least: int) -> int:
    """Return a whole number, of NumPy or PyTorch too, as Python's; raise ConfigError for any other value."""
    number = plain_numbers(value)
    if type(number) is not int or number < least:
        raise ConfigError(f"{name}={short(value)} is not accepted; expected a whole number from {least} on")
    return number


def recipe_of(epochs: int, batch_size: int, lr: float) -> Recipe:
    """Return the recipe of a training: AdamW, a cosine with a short warm-up, clipped gradients, no mixing of images."""
    lr = plain_numbers(lr)
    if isinstance(lr, bool) or not isinstance(lr, int | float) or not 0 < lr < float("inf"):
        raise ConfigError(f"lr={short(lr)} is not accepted; expected a number above 0")
    return Recipe(
        epochs, batch_size, lr, min_lr=END * lr, warmup_lr=END * lr, warmup_epochs=min(1.0, WARMUP * epochs), weight_decay=0.05,
        betas=(0.9, 0.999), clip_grad=1.0, label_smoothing=0.0, mixup=0.0, cutmix=0.0, mix_prob=0.0, mix_switch_prob=0.0,
        ema_decay=None,
    )  # fmt: skip


def named_as(device: torch.device) -> str:
    """Return the name of a device, without its number where it is the one that is used without."""
    mine = device.type != "cuda" or not torch.cuda.is_available() or device.index == torch.cuda.current_device()
    return device.type if mine else str(device)


@contextmanager
def on_device(name: str | torch.device, threads: int | None) -> Iterator[torch.device]:
    """Give the block a device, and leave PyTorch's threads and random numbers as they were before it."""
    device = device_named(named_as(name) if isinstance(name, torch.device) else name)
    with using_threads(threads), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield device
