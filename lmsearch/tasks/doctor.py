"""lmsearch doctor: versions, the machine, which scan backends run here, and the command that enables each missing one."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import lmsearch
from lmsearch.bench.hardware import cpu_model, cuda_devices, instruction_sets
from lmsearch.engine.threads import cores
from lmsearch.errors import BackendUnavailableError
from lmsearch.kernels import BACKENDS, choose_backend, self_test, triton_backend
from lmsearch.kernels.build import SOURCES
from lmsearch.kernels.native_library import instruction_set, load_library
from lmsearch.paths import data_dir

PACKAGES = ("torch", "numpy", "triton", "mamba-ssm")
PIPE_WIDTH = 130  # columns where the output is no terminal


def run(cfg: DictConfig) -> int:
    """Print both tables; always return 0, since a missing optional backend is no fault."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    console.print(grid("lmsearch doctor", ("what", "found"), facts()), highlight=False)
    console.print(grid("scan backends", ("device", "backend", "state"), backends()), highlight=False)
    print("next: lmsearch bench quick=true measures them")
    return 0


def grid(title: str, columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Table:
    """Return a table of text; nothing in it is read as markup."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def facts() -> Iterator[tuple[str, str]]:
    """Yield (what, found): versions, hardware, threads, native library and data folders."""
    yield "lmsearch", lmsearch.__version__
    yield "Python", platform.python_version()
    for package in PACKAGES:
        yield package, package_version(package)
    yield "CPU", f"{cpu_model()}, {cores()} cores"
    yield "instruction sets", ", ".join(instruction_sets()) or "unknown: this system does not list them"
    yield "PyTorch threads", str(torch.get_num_threads())
    yield "CUDA devices", "; ".join(cuda_devices()) or cuda_absence()
    yield from self_tests()
    yield "native library", native_library()
    for folder in ("conf", "search_spaces"):
        yield f"{folder}/", str(data_dir(folder))


def package_version(name: str) -> str:
    """Return the installed version, or "not installed"."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def cuda_absence() -> str:
    """Return why there is no CUDA device, as far as PyTorch tells."""
    return "none: this PyTorch is built for CPU only" if torch.version.cuda is None else "none found"


def self_tests() -> Iterator[tuple[str, str]]:
    """Yield what the Triton kernels' own test says on the current CUDA device, run now unless it passed before."""
    if not torch.cuda.is_available() or triton_backend.unavailable_reason(torch.device("cuda")) is not None:
        return
    device = torch.device("cuda", torch.cuda.current_device())
    for dtype in self_test.TOLERANCES:
        yield f"Triton self-test, {str(dtype).removeprefix('torch.')}", triton_backend.self_tested(device, dtype)


def native_library() -> str:
    """Return the instruction set of the native library, its path, and whether the install or this machine's cache holds it."""
    try:
        path, isa = Path(load_library()._name), instruction_set()
    except BackendUnavailableError as error:
        return f"none: {error}"
    where = "installed with lmsearch" if path.parent == SOURCES.parent else "compiled on first use"
    return f"{isa}, {where}: {path}"


def backends() -> Iterator[tuple[str, str, str]]:
    """Yield (device, backend, state) for every backend on every device that is here, and what "auto" runs on each."""
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for name in BACKENDS:
            yield device, name, state(name, device)
        yield device, "auto", automatic(device)


def state(name: str, device: str) -> str:
    """Return "available", or the reason and the command that would enable the backend."""
    try:
        return BACKENDS[name].unavailable_reason(torch.device(device)) or "available"
    except BackendUnavailableError as error:  # LMSEARCH_REQUIRE_NATIVE=1
        return str(error)


def automatic(device: str) -> str:
    """Return what backend="auto" runs for float32 tensors of `device`."""
    try:
        return f"runs {choose_backend('auto', torch.device(device), torch.float32)}"
    except BackendUnavailableError as error:
        return str(error)
