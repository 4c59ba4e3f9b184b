#!/usr/bin/env bash
# idx2numpy cannot write back an array that it has just read, and the attempt leaves an empty file where the data were.
#
# IDX, the format of MNIST and its relatives, is big-endian. Integers and floats of more than one byte come back as big-endian
# NumPy arrays, and the writer knows native ones only. It opens the file before it looks: a data set that is corrected in place
# is gone. (torch.from_numpy refuses such arrays as well: use astype.) Write to another file first, and rename.
#
# Seen with idx2numpy 1.2.3, numpy 2.4.6, Python 3.11:
# read as >i4
# written back: FormatError, 0 bytes left of 36
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q idx2numpy==1.2.3 numpy==2.4.6
venv/bin/python - <<'PY'
from pathlib import Path

import idx2numpy
import numpy as np

path = Path("labels.idx")
idx2numpy.convert_to_file(str(path), np.arange(6, dtype=np.int32).reshape(2, 3))
size, values = path.stat().st_size, idx2numpy.convert_from_file(str(path))
print("read as", values.dtype.str)
try:
    idx2numpy.convert_to_file(str(path), values)
except idx2numpy.FormatError as error:
    print(f"written back: {type(error).__name__}, {path.stat().st_size} bytes left of {size}")
else:
    raise SystemExit("what was read can be written now")
assert values.dtype == np.dtype(">i4") and path.stat().st_size == 0, "the file survives now"
PY
