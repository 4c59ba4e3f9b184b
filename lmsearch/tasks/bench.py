"""lmsearch bench: how fast the scan, the layer and the training step are here, beside their peers, and how they grow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from omegaconf import DictConfig
from rich.console import Console

from lmsearch.bench.hardware import hardware
from lmsearch.bench.sections import SECTIONS, check_section, make_setup
from lmsearch.bench.tables import tables
from lmsearch.config import settings_of
from lmsearch.context import in_full, tell
from lmsearch.engine.devices import device_named
from lmsearch.engine.log import environment
from lmsearch.errors import ConfigError, did_you_mean
from lmsearch.figures.bench import bench_figure, can_be_drawn
from lmsearch.settings.tasks import Bench
from lmsearch.tasks.parts.run_dir import open_run_dir

PIPE_WIDTH = 130  # columns where the output is no terminal


def run(cfg: DictConfig) -> int:
    """Check that everything is right, measure, print, and write bench.json and bench.png into the run directory."""
    settings = settings_of(Bench, cfg)
    chosen, device = sections_of(settings.what), device_named(settings.device).type
    setup = make_setup(
        device=device, threads=settings.threads, repeats=settings.repeats, seed=settings.seed, quick=settings.quick
    )
    with open_run_dir(settings, "bench") as run_dir:
        console = Console()
        if not console.is_terminal:
            console = Console(width=PIPE_WIDTH)

        torch.manual_seed(settings.seed)
        found = {
            "environment": environment(settings.seed),
            "hardware": hardware(),
            "settings": {name: getattr(setup, name) for name in ("device", "threads", "repeats", "seed", "quick")},
        }
        for name, section in {"correctness": check_section, **{name: SECTIONS[name] for name in chosen}}.items():
            found[name] = section(setup)
            for table in tables(name, found[name]):
                if in_full():
                    console.print(table)
        run_dir.write_json("bench.json", found)
        console.print(f"wrote {run_dir / 'bench.json'}", highlight=False, soft_wrap=True)
        if can_be_drawn(found):
            run_dir.write_figure("bench.png", lambda: bench_figure(found))
            tell(f"wrote {run_dir / 'bench.png'}")
        if setup.quick and in_full():
            console.print("quick=true: small sizes; quote figures of a full run only", highlight=False)
    return 0


def sections_of(names: Sequence[str]) -> Sequence[str]:
    """Return the sections to measure; raise ConfigError for one that does not exist, or none."""
    if not names:
        raise ConfigError(f"what=[] leaves nothing to measure; accepted: {', '.join(SECTIONS)}")
    for name in names:
        if name not in SECTIONS:
            raise ConfigError(f"what={name!r} is not a section{did_you_mean(str(name), SECTIONS)}")
    return names
