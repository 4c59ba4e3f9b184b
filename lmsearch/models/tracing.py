"""What torch.compile and torch.export need of a network: tables that follow from names and grids as inputs of its graph."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache, wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from lmsearch.scan.grids import Grid

P = ParamSpec("P")
R = TypeVar("R")
KEPT = 1024  # tensors of each kind
GRAPHS = 256  # that torch.compile makes of one function; what needs more runs as it is


def constant_while_tracing(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function of plain values that is called while a graph is traced, and not part of it.

    This is what torch.compiler.assume_constant_result does; that imports torch's compiler, half of the time in which a process
    starts.
    """

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)

    called._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return called


@cache
def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Return what torch.compile makes of a function: a graph for all sizes of tensors and values of other arguments that come."""
    limit = max(torch._dynamo.config.recompile_limit, GRAPHS)  # by default 8, of all layers and choices of branches together
    if "recompile_limit" not in signature(torch.compile).parameters:  # a PyTorch that has only one limit for all functions
        torch._dynamo.config.recompile_limit = limit
        return torch.compile(function, dynamic=False)
    own: dict[str, Any] = {"recompile_limit": limit}  # the overloads of torch.compile leave it out
    return torch.compile(function, dynamic=False, **own)


class GraphInputs:
    """The tables of one module as its attributes, which traced graphs take as inputs. A copy begins without any."""

    def __init__(self) -> None:
        self.names: dict[tuple[Any, ...], str] = {}

    def __reduce__(self) -> tuple[type[GraphInputs], tuple[()]]:
        return GraphInputs, ()

    def name_of(self, table: Callable[..., Tensor], args: tuple[Any, ...]) -> str:
        """Return the name of the attribute that holds table(*args)."""
        key = (table, *args)
        if key not in self.names:
            self.names[key] = f"table_{len(self.names)}"
            vars(self)[self.names[key]] = table(*args)
        return self.names[key]


def graph_input(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return `make`, a function of plain values, with the GraphInputs of a module as its first argument; tables are kept.

    A graph could hold a table as a constant as well, but torch.compile gives all constants of a function one name.
    """

    @lru_cache(maxsize=KEPT)
    def kept(*args: Any) -> Tensor:
        with torch.inference_mode(False), _disable_current_modes():  # it must serve any later call, also one that trains
            return make(*args)

    @constant_while_tracing
    def named(inputs: GraphInputs, *args: Any) -> str:
        return inputs.name_of(kept, args)

    @wraps(make)
    def table(inputs: GraphInputs, *args: Any) -> Tensor:
        if torch.compiler.is_compiling():
            found: Tensor = getattr(inputs, named(inputs, *args))
            return found
        return kept(*args)

    return table


def plain_grid(grid: Grid) -> Grid:
    """Return the sides of a grid as plain numbers: torch.compile makes a graph for every grid, and not one for all of them.

    Sides that torch.export keeps open stay so.
    """
    return tuple([side if isinstance(side, torch.SymInt) else len(range(side)) for side in grid])
