"""How Python's import finds the stand-ins: a finder that knows the packages it was told to serve, and no others."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Collection, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn

from lmsearch.compat import names
from lmsearch.compat.names import STAND_INS

ORIGIN = names.__file__  # of every stand-in, so that Python names this file where a name cannot be imported


class StandInLoader(Loader):
    """Fills a module with the names that stand for it."""

    is_stand_in = True  # what the scan backend mamba_ssm, which wants the original, looks at

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the making of the module to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Put our functions and classes into the module, and what is said for a name that is not served."""
        root = STAND_INS[module.__name__.partition(".")[0]]
        served = root.modules[module.__name__]
        for name, (place, ours) in served.items():
            setattr(module, name, getattr(importlib.import_module(place), ours))
        module.__doc__ = f"Served by lmsearch.compat: {', '.join(served) or 'its modules'}."
        if root.version is not None and "." not in module.__name__:
            module.__dict__["__version__"] = root.version
        module.__dict__["__getattr__"] = _refusal(module.__name__, served)


def _refusal(module: str, served: Collection[str]) -> Callable[[str], NoReturn]:
    def refuse(name: str) -> NoReturn:
        raise AttributeError(f"lmsearch.compat does not serve {module}.{name}; it serves {', '.join(served) or 'no names here'}")

    return refuse


class StandInFinder(MetaPathFinder):
    """Finds the modules of `packages`, each one of STAND_INS."""

    def __init__(self, packages: Collection[str]) -> None:
        self.packages = tuple(packages)

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of a served module; raise ModuleNotFoundError for another one of a served package."""
        package = fullname.partition(".")[0]
        if package not in self.packages:
            return None
        modules = STAND_INS[package].modules
        if fullname not in modules:
            inside = ", ".join(name for name in modules if modules[name])
            raise ModuleNotFoundError(f"lmsearch.compat does not serve {fullname}; it serves {inside}", name=fullname)
        has_modules = any(name.startswith(f"{fullname}.") for name in modules)
        spec = ModuleSpec(fullname, StandInLoader(), origin=ORIGIN, is_package=has_modules)
        spec.has_location = True
        return spec


def original_of(package: str) -> str | None:
    """Return what an import of `package` finds that is no stand-in: a path, or the name alone; None where it finds nothing."""
    loaded = sys.modules.get(package)
    spec = getattr(loaded, "__spec__", None)
    if loaded is None:
        spec = importlib.util.find_spec(package)
    if spec is None:
        return None if loaded is None else package
    return None if spec.origin == ORIGIN else spec.origin or package


def loaded_modules(packages: Collection[str]) -> dict[str, ModuleType]:
    """Return what of `packages` is imported by now."""
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in packages}
