#!/usr/bin/env bash
# A red drawing with a palette comes back black from a MosaicML Streaming data set that stores images as "pil".
#
# The encoding writes mode, size and the raw bytes of a Pillow image. The raw bytes of mode P, as GIF and many PNG files have it, are places
# in a palette, and the palette is not written. The image that comes back is of mode P again, with a new palette of greys, and
# convert("RGB") makes grey levels of the places: nothing is said, other images are right. Label maps in a palette keep their classes.
# Convert to RGB before you write, or store as "png".
#
# Seen with mosaicml-streaming 0.13.0, pillow 13.0.0, Python 3.11; one pixel of an image of four colours, as RGB:
# stored as  mode of the image  written          read
# pil        RGB                (255, 0, 0)      (255, 0, 0)
# png        P                  (255, 0, 0)      (255, 0, 0)
# pil        P                  (255, 0, 0)      (0, 0, 0)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q numpy==2.4.6 pillow==13.0.0 typing_extensions==4.16.0
venv/bin/pip install -q --no-deps mosaicml-streaming==0.13.0
venv/bin/python - <<'PY'
import importlib.util
import sysconfig
from pathlib import Path

import numpy as np
from PIL import Image

# The encodings of its data sets are a module of their own; the package around it imports PyTorch and the clients of six clouds
place = Path(sysconfig.get_path("purelib"), "streaming/base/format/mds/encodings.py")
spec = importlib.util.spec_from_file_location("encodings", place)
encodings = importlib.util.module_from_spec(spec)
spec.loader.exec_module(encodings)

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], np.uint8)
drawing = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) // 4, "P")
drawing.putpalette(COLOURS.tobytes())
drawing.save("drawing.png")


def pixels(image):
    return np.asarray(image.convert("RGB"))


print("stored as  mode of the image  written          read")
for stored, mode, right in (("pil", "RGB", True), ("png", "P", True), ("pil", "P", False)):
    with Image.open("drawing.png") as opened:
        assert opened.mode == "P"
        image = opened.convert(mode)
    back = encodings.mds_decode(stored, encodings.mds_encode(stored, image))
    written, read = (tuple(map(int, pixels(one)[0, 0])) for one in (image, back))
    print(f"{stored:10} {mode:18} {written!s:16} {read}")
    assert back.mode == mode and np.array_equal(pixels(back), pixels(image)) == right, "palettes are stored otherwise now"
    assert mode == "RGB" or np.array_equal(np.asarray(back), np.asarray(image)), "classes change now"
PY
