"""lmsearch shapes: a small data set with masks and objects, made on the spot, in the layout that format= names."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from lmsearch.config import settings_of
from lmsearch.data.checks import size2d
from lmsearch.data.dense.writing import shapes_files
from lmsearch.errors import ConfigError
from lmsearch.files import make_folder, write_bytes
from lmsearch.settings.tasks import Shapes

KNOWN = "shapes"  # the folder that the preset data=shapes reads
SMALLEST = 16  # pixels of a side, at which every form can still be told


def run(cfg: DictConfig) -> int:
    """Write the data set into the folder that out= names, which must be new or empty."""
    settings = settings_of(Shapes, cfg)
    out = Path(settings.out)
    size = size2d("img_size", settings.img_size)
    if min(size) < SMALLEST:
        raise ConfigError(
            f"img_size={settings.img_size} is too small for the shapes; expected sides of at least {SMALLEST} pixels"
        )
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise ConfigError(f"out={str(out)!r} is there already; name a new or an empty folder")
    make_folder(out, key="out")
    number = 0
    for name, content in shapes_files(settings.format, images=settings.images, img_size=size, seed=settings.seed):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out / name, content)
        number += 1
    words = "data=shapes" if out == Path(KNOWN) else f"data=dense data.root={out}"
    print(f"{number} files in {out}; train on them with {words}")
    return 0
