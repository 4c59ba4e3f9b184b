"""The network that a user gives: a shipped name, a factory make(directions, merge), or a module whose mixers hold candidates.

What a factory tells of itself is found by building it: how many mixers it has, which list of directions each of them takes,
and, in one forward pass, on which token grids they run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lmsearch.api.given import answered
from lmsearch.data.info import Samples
from lmsearch.engine.objectives import Objective
from lmsearch.engine.optim import MARK
from lmsearch.errors import ModelError, short
from lmsearch.models import DirectionalMixer, create_model, model_depth
from lmsearch.models.patches import choose_patch
from lmsearch.scan.directions import parse_direction
from lmsearch.scan.grids import Grid, num_tokens
from lmsearch.search.supernet.network import named_mixers

Directions = Sequence[Sequence[str]]
Make = Callable[[Directions, str], nn.Module]
SUPERNET, DERIVED = "weighted", "sum"  # merges
MOST = 256  # mixers that are looked for


@dataclass(frozen=True)
class Net:
    """A family of networks: make(directions, merge) builds one from a list of directions for each of its mixers.

    order[m] is the list that the m-th mixer takes, in the order of the module.
    """

    name: str
    make: Make
    order: tuple[int, ...]

    def supernet(self, candidates: Directions) -> nn.Module:
        """Return a supernet; candidates[m] are those of the m-th mixer."""
        return self.make(self.listed(candidates), SUPERNET)

    def listed(self, of_mixers: Sequence) -> list:
        """Bring values of the mixers, in the order of the module, into the order of the lists."""
        return [of_mixers[self.order.index(number)] for number in range(len(self.order))]

    def ordered(self, of_lists: Sequence) -> list:
        """Bring values of the lists into the order in which the module holds their mixers."""
        return [of_lists[number] for number in self.order]


def open_net(model: object, loaders: Sequence[Samples], objective: Objective) -> Net:
    """Return what builds the user's networks, for the data of these loaders."""
    first = next(iter(loaders[0]))
    classes = isinstance(model, str) and objective.classes(first.targets) is not None
    return net_of(model, first.inputs, count_classes(loaders) if classes else None)


def net_of(model: object, inputs: Tensor, num_classes: int | None) -> Net:
    """Return what builds the user's networks; raise ModelError for what is neither a shipped name nor a factory.

    `inputs` is a batch of the data; `num_classes` is None where targets are no classes.
    """
    if isinstance(model, str):
        return shipped(model, inputs, num_classes)
    if isinstance(model, nn.Module):
        raise ModelError(
            f"model is a {type(model).__name__} that is built already; networks with other directions are needed here:"
            " give a shipped name or a factory make(directions, merge)"
        )
    if not callable(model):
        raise ModelError(
            f"model={short(model)} is not accepted; expected a shipped name, a factory make(directions, merge), or a module whose"
            " mixers hold candidates"
        )
    name = getattr(model, "__name__", type(model).__name__)
    return Net(name, model, order_of(model, name))


def shipped(name: str, inputs: Tensor, num_classes: int | None) -> Net:
    """Return a shipped model for images such as `inputs` (B, C, H, W)."""
    depth = model_depth(name)
    if inputs.dim() != 4 or num_classes is None:
        raise ModelError(
            f"model={name!r} takes images (B, C, H, W) with classes; give a factory make(directions, merge) for others"
        )
    size = (inputs.shape[2], inputs.shape[3])
    patch, chans = choose_patch(name, size), inputs.shape[1]

    def make(directions: Directions, merge: str) -> nn.Module:
        return create_model(
            name, directions=directions, merge=merge, img_size=size, in_chans=chans, num_classes=num_classes, patch_size=patch
        )

    return Net(name, make, tuple(range(depth)))


def order_of(make: Make, name: str) -> tuple[int, ...]:
    """Return which list of directions every mixer takes; raise ModelError unless each takes one of its own."""
    tried = None
    for depth in range(1, MOST + 1):
        try:
            module = make(marks(depth), SUPERNET)
        except (IndexError, ValueError, TypeError) as error:  # too few lists
            tried = tried or error
            continue
        order = lists_taken(module, depth, name)
        if len(order) > depth:
            raise ModelError(f"{name}: {len(order)} mixers share {depth} lists of directions; give each mixer a list of its own")
        if len(order) == depth and sorted(order) == list(range(depth)) and not grows(make, depth):
            return tuple(order)
        if sorted(order) != list(range(depth)):
            raise ModelError(
                f"{name}: of {depth} lists of directions its mixers take {len(set(order))}; each mixer takes its own"
            )
        raise ModelError(
            f"{name} makes as many mixers as there are lists of directions; fix their number, so that it can be found"
        )
    raise ModelError(f"{name} cannot be built from 1 to {MOST} lists of directions; with one list it says: {tried}")


def marks(depth: int) -> list[list[str]]:
    """Return lists of directions that tell from which of them a mixer was built."""
    return [[f"random{number}"] for number in range(1, depth + 1)]


def lists_taken(module: object, depth: int, name: str) -> list[int]:
    """Return the numbers of the lists that the mixers of a module took, in its order."""
    if not isinstance(module, nn.Module):
        raise ModelError(f"{name} returned {short(module)}, no torch.nn.Module")
    check_mixers(module, name)
    known = {parse_direction(mark).name: number for number, (mark,) in enumerate(marks(depth))}
    found = [mixer.directions for mixer in named_mixers(module).values()]
    if wrong := [names for names in found if len(names) != 1 or names[0] not in known]:
        raise ModelError(f"{name}: a mixer holds {', '.join(wrong[0])}; build every mixer with a list that the factory was given")
    return [known[names[0]] for names in found]


def grows(make: Make, depth: int) -> bool:
    """Tell whether one more list of directions makes one more mixer."""
    try:
        return len(named_mixers(make(marks(depth + 1), SUPERNET))) > depth
    except (IndexError, ValueError, TypeError):  # it takes no more
        return False


def check_mixers(module: nn.Module, name: str) -> None:
    """Raise ModelError where a module holds no mixers, or none with alphas."""
    mixers = [m for m in module.modules() if isinstance(m, DirectionalMixer)]
    if not mixers:
        raise ModelError(f"{name} holds no lmsearch mixer, so there are no scan directions to search")
    if any(mixer.alphas is None for mixer in mixers):
        raise ModelError(f"{name}: its mixers hold no alphas; build them with MixerOptions(merge=merge), as the factory is told")


@torch.no_grad()
def grids_of(module: nn.Module, inputs: Tensor) -> list[Grid]:
    """Return the token grid of every mixer in a forward pass, the largest where it runs several times.

    On a larger grid more directions differ. Raises ModelError for a mixer that does not run.
    """
    grids: dict[str, Grid] = {}
    mixers, handles = named_mixers(module), []
    for layer, mixer in mixers.items():

        def note(_: nn.Module, args: tuple, kwargs: dict, layer: str = layer) -> None:
            grid = tuple(kwargs["grid"] if "grid" in kwargs else args[1])
            grids[layer] = max(grid, grids.get(layer, grid), key=num_tokens)

        handles.append(mixer.register_forward_pre_hook(note, with_kwargs=True))
    try:
        answered(module, inputs[:1])
    finally:
        for handle in handles:
            handle.remove()
    if missing := [layer for layer in mixers if layer not in grids]:
        raise ModelError(f"the mixer {missing[0]} does not run in a forward pass, so its directions cannot be searched")
    return [grids[layer] for layer in mixers]


def count_classes(loaders: Iterable[Samples]) -> int:
    """Return one more than the largest class in any of the loaders."""
    return 1 + max(int(batch.target_values.max()) for loader in loaders for batch in loader)


def copies_of(module: nn.Module) -> Callable[[], nn.Module]:
    """Return what gives copies of a module whose mixers hold candidates; the module itself stays as it is."""
    check_mixers(module, type(module).__name__)
    return partial(copied, module)


def copied(module: nn.Module) -> nn.Module:
    """Return a copy whose parameters are marked as those of the module; a deepcopy has no marks."""
    twin = copy.deepcopy(module)
    for mine, its in zip(twin.parameters(), module.parameters(), strict=True):
        if getattr(its, MARK, False):
            setattr(mine, MARK, True)
    return twin
