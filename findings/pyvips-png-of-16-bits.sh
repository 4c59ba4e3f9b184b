#!/usr/bin/env bash
# A label map of 16 bits that pyvips saves as PNG has 8: number 300 becomes 255, and with bitdepth=16 it is 65535.
#
# PNG holds 16 bits, and pyvips gives a uint16 array the format "ushort", so one expects the numbers in the file. What counts is another
# tag, the interpretation, which new_from_array sets to "b-w": numbers above 255 are cut to 255, which trainers take for void. bitdepth=16
# keeps 16 bits and multiplies by 257 first. In colour the array is divided by 256, so that small numbers are 0. As TIFF the numbers stay.
# Nothing is said. Give the copy another tag: copy(interpretation="grey16"), or "rgb16".
#
# Seen with pyvips 3.2.0 (libvips 8.18.7), Pillow 13.0.0, numpy 2.4.6, Python 3.11; the array holds 0, 100, 300 and 65535:
# PNG                                     L      [0, 100, 255, 255]
# PNG, bitdepth=16                        I;16   [0, 25700, 65535, 65535]
# PNG, copy(interpretation="grey16")      I;16   [0, 100, 300, 65535]
# PNG of three equal bands                RGB    [0, 0, 1, 255]
# TIFF                                    I;16   [0, 100, 300, 65535]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q pyvips==3.2.0 pyvips-binary==8.18.7 pillow==13.0.0 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np
import pyvips
from PIL import Image

VALUES = [0, 100, 300, 65535]
array = np.array([VALUES], dtype=np.uint16)
grey, colour = pyvips.Image.new_from_array(array), pyvips.Image.new_from_array(np.repeat(array[..., None], 3, axis=2))
assert grey.format == "ushort"
CASES = {
    "PNG": (grey, "a.png", {}, [0, 100, 255, 255]),
    "PNG, bitdepth=16": (grey, "b.png", {"bitdepth": 16}, [0, 25700, 65535, 65535]),
    'PNG, copy(interpretation="grey16")': (grey.copy(interpretation="grey16"), "c.png", {}, VALUES),
    "PNG of three equal bands": (colour, "d.png", {}, [0, 0, 1, 255]),
    "TIFF": (grey, "e.tif", {}, VALUES),
}
for name, (image, file, options, expected) in CASES.items():
    image.write_to_file(file, **options)
    with Image.open(file) as opened:
        seen = np.asarray(opened).reshape(len(VALUES), -1)[:, 0].tolist()
        print(f"{name:39} {opened.mode:6} {seen}")
    assert seen == expected, "arrays of 16 bits are written otherwise now"
PY
