"""Our kernels under other people's models: stand-ins for mamba_ssm, causal_conv1d and VMamba's extensions.

    import lmsearch.compat
    lmsearch.compat.install()   # before the import of a model that wants mamba_ssm

Nothing is installed by importing this package, and a package that is installed is left alone unless `replace=True`. What
is served stands in names.py; everything else raises an error that names it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch

from lmsearch.compat.finder import StandInFinder, loaded_modules, original_of
from lmsearch.compat.names import STAND_INS
from lmsearch.kernels import choose_backend

__all__ = ["install", "installed", "uninstall"]

_finders: list[StandInFinder] = []  # the one in sys.meta_path, if any
_displaced: dict[str, ModuleType] = {}  # modules of originals that were imported before `replace=True`


def install(*, replace: bool = False, quiet: bool = False) -> str:
    """Serve what STAND_INS names to every import from now on; print and return one line that says what runs on what.

    A package that can be imported already is left alone, and the line says so; with `replace` the stand-in takes its
    place, also where it was imported before. Modules that imported an original by then keep it. A second call starts anew.
    """
    uninstall()
    originals = {package: found for package in STAND_INS if (found := original_of(package)) is not None}
    packages = [package for package in STAND_INS if replace or package not in originals]
    line = _line(packages, {} if replace else originals)
    _displaced.update(loaded_modules(packages))
    _forget(packages)
    _finders.append(StandInFinder(packages))
    sys.meta_path.insert(0, _finders[0])
    if not quiet:
        print(line)
    return line


def uninstall() -> None:
    """Serve nothing any more and put replaced originals back; does nothing where nothing is installed."""
    for finder in _finders:
        sys.meta_path.remove(finder)
        _forget(finder.packages)
    _finders.clear()
    sys.modules.update(_displaced)
    _displaced.clear()


@contextmanager
def installed(*, replace: bool = False, quiet: bool = False) -> Iterator[str]:
    """`install` for the length of a `with` block; gives the line."""
    try:
        yield install(replace=replace, quiet=quiet)
    finally:
        uninstall()


def _forget(packages) -> None:
    for name in loaded_modules(packages):
        del sys.modules[name]
    importlib.invalidate_caches()


def _line(packages: list[str], left: dict[str, str]) -> str:
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    backends = ", ".join(f"{d}: {choose_backend('auto', torch.device(d), torch.float32)}" for d in devices)
    served = f"{', '.join(packages)} run on lmsearch's kernels ({backends})" if packages else "nothing is served"
    kept = "".join(
        f"; {package} is installed ({where}) and left alone, replace=True takes its place" for package, where in left.items()
    )
    return f"lmsearch.compat: {served}{kept}"
