"""lmsearch bench: how fast the scan, the layer and the training step are here, beside their peers, and how they grow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from omegaconf import DictConfig
from rich.console import Console

from lmsearch.bench.hardware import hardware
from lmsearch.bench.sections import SECTIONS, check_section, make_setup
from lmsearch.bench.tables import tables
from lmsearch.engine.log import environment
from lmsearch.errors import ConfigError, did_you_mean
from lmsearch.figures.bench import bench_figure
from lmsearch.files import write_figure, write_json
from lmsearch.tasks.parts.run_dir import open_run_dir

PIPE_WIDTH = 130  # columns where the output is no terminal


def run(cfg: DictConfig) -> int:
    """Check that everything is right, measure, print, and write bench.json and bench.png into the run directory."""
    chosen = sections_of(cfg.what)
    check_positive(cfg)
    device = pick_device(cfg.device)
    plan = make_setup(device=device, threads=cfg.threads, repeats=cfg.repeats, seed=cfg.seed, quick=cfg.quick)
    with open_run_dir(cfg, "bench") as run_dir:
        console = Console()
        if not console.is_terminal:
            console = Console(width=PIPE_WIDTH)

        torch.manual_seed(cfg.seed)
        found = {
            "environment": environment(cfg.seed),
            "hardware": hardware(),
            "settings": {name: getattr(plan, name) for name in ("device", "threads", "repeats", "seed", "quick")},
        }
        for name, section in {"correctness": check_section, **{name: SECTIONS[name] for name in chosen}}.items():
            found[name] = section(plan)
            for table in tables(name, found[name]):
                console.print(table)
        write_json(run_dir / "bench.json", found)
        console.print(f"wrote {run_dir / 'bench.json'}", highlight=False, soft_wrap=True)
        if (figure := bench_figure(found)) is not None:
            write_figure(run_dir / "bench.png", figure)
            console.print(f"wrote {run_dir / 'bench.png'}", highlight=False, soft_wrap=True)
        if plan.quick:
            console.print("quick=true: small sizes; quote figures of a full run only", highlight=False)
    return 0


def sections_of(what: str | Sequence[str]) -> list[str]:
    """Return the sections to measure; raise ConfigError for one that does not exist, or none."""
    names = [what] if isinstance(what, str) else list(what)
    if not names:
        raise ConfigError(f"what=[] leaves nothing to measure; accepted: {', '.join(SECTIONS)}")
    for name in names:
        if name not in SECTIONS:
            raise ConfigError(f"what={name!r} is not a section{did_you_mean(str(name), SECTIONS)}")
    return names


def check_positive(cfg: DictConfig) -> None:
    """Raise ConfigError unless threads and repeats are at least 1."""
    for key in ("threads", "repeats"):
        if cfg[key] < 1:
            raise ConfigError(f"{key}={cfg[key]} is not accepted; expected at least 1")


def pick_device(name: str) -> str:
    """Return "cpu" or "cuda"; "auto" takes CUDA where there is one; raise ConfigError for device=cuda without one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device='cuda' but PyTorch sees no CUDA device; use device=cpu or device=auto")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
