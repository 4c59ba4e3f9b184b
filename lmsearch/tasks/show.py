"""lmsearch show: scan paths, choices, runs and what networks look at, as text on the terminal or drawn into a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from lmsearch.config import settings_of
from lmsearch.errors import ConfigError
from lmsearch.files import make_folder, write_figure
from lmsearch.settings.looking import Show
from lmsearch.tasks.parts.drawn import Drawn
from lmsearch.tasks.parts.out_file import out_file
from lmsearch.tasks.parts.show_arms import show_arms
from lmsearch.tasks.parts.show_choices import show_direction, show_genotype, show_paths, show_space
from lmsearch.tasks.parts.show_networks import show_attention, show_importance, show_receptive, show_saliency
from lmsearch.tasks.parts.show_runs import show_race, show_run, show_scanbench, show_worth

ENDINGS = (".svg", ".png")
SUBJECTS: dict[str, Callable[[Show], Drawn]] = {
    "direction": show_direction, "space": show_space, "genotype": show_genotype, "paths": show_paths, "run": show_run,
    "worth": show_worth, "receptive": show_receptive, "attention": show_attention, "saliency": show_saliency,
    "importance": show_importance, "scanbench": show_scanbench, "race": show_race, "arms": show_arms,
}  # fmt: skip


def run(cfg: DictConfig) -> int:
    """Print what is asked for, or draw it into the file that out= names."""
    settings = settings_of(Show, cfg)
    out = None if settings.out is None else Path(settings.out)
    if out is not None:
        check_out(out, overwrite=settings.overwrite)
    drawn = SUBJECTS[settings.what](settings)
    if out is None:
        drawn.tell()
        print("next: the same command with out=x.svg draws it")
    else:
        make_folder(out.parent, key="out")
        write_figure(out, drawn.figure())
        print(f"drawn: {out}")
    return 0


def check_out(out: Path, *, overwrite: bool) -> None:
    """Raise ConfigError for a file that cannot be drawn, or is there already."""
    if out.suffix not in ENDINGS:
        raise ConfigError(f"out={str(out)!r} does not end in {' or '.join(ENDINGS)}")
    out_file(str(out), overwrite=overwrite)
