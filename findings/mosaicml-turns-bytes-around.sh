#!/usr/bin/env bash
# The number 1 of a big-endian array is 256 when it is read from a MosaicML Streaming data set, and 1.0 is 4.6e-41.
#
# Arrays of MNIST-like files, FITS images, NIfTI and TIFF files of some machines are big-endian in NumPy, and calculate as any other does.
# The encoding "ndarray" writes the name of the type, "uint16" for both orders, and the bytes as they lie in memory; the reader takes them
# for little-endian. Nothing is said. Where the type is named, "ndarray:uint16", the writer refuses with "expected uint16, got uint16".
# pickle and numpy.save keep the order. Write array.astype(array.dtype.newbyteorder("=")).
#
# Seen with mosaicml-streaming 0.13.0, numpy 2.4.6, Python 3.11; the numbers 0 to 3, written and read again:
# stored as       little-endian   big-endian
# ndarray         0 1 2 3         0 256 512 768
# ndarray:uint16  0 1 2 3         ValueError: Wrong dtype: expected uint16, got uint16.
# pkl             0 1 2 3         0 1 2 3
# ndarray, float  0 1 2 3         0 4.6006e-41 8.96831e-44 2.30486e-41
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

# The encodings of its data sets are a module of their own; the package around it imports PyTorch and the clients of six clouds
place = Path(sysconfig.get_path("purelib"), "streaming/base/format/mds/encodings.py")
spec = importlib.util.spec_from_file_location("encodings", place)
encodings = importlib.util.module_from_spec(spec)
spec.loader.exec_module(encodings)

RIGHT = "0 1 2 3"


def read_again(stored, array):
    """Return the numbers of `array` after writing and reading."""
    try:
        back = encodings.mds_decode(stored, encodings.mds_encode(stored, array))
    except ValueError as error:
        return f"ValueError: {error}"
    return " ".join(f"{number:.6g}" for number in back)


print("stored as       little-endian   big-endian")
cases = (
    ("ndarray", "ndarray", "u2", "0 256 512 768"),
    ("ndarray:uint16", "ndarray:uint16", "u2", "ValueError: Wrong dtype: expected uint16, got uint16."),
    ("pkl", "pkl", "u2", RIGHT),
    ("ndarray, float", "ndarray", "f4", None),
)
for title, stored, kind, expected in cases:
    little, big = (read_again(stored, np.arange(4, dtype=order + kind)) for order in "<>")
    print(f"{title:15} {little:15} {big}")
    assert little == RIGHT, "little-endian arrays are stored otherwise now"
    assert big != RIGHT if expected is None else big == expected, "big-endian arrays are stored otherwise now"
PY
