#!/usr/bin/env bash
# "No class", -1, becomes class 0 in an HDF5 file of bytes, and class 300 becomes 255, "no class"; NumPy makes 255 and 44 of the same two.
#
# labels.astype("uint8") turns -1 into 255, which masks use for "no class", and many rely on it. h5py hands the numbers to HDF5 as they are,
# and HDF5 takes the nearest number that fits: below 0 is 0, above 255 is 255. So the first class grows by all that was not to be learnt,
# and classes above 255 are left out of loss and metric. It does so when a data set is assigned to, made from an array with dtype=, read with
# .astype(), or read into an array of bytes, each without a word. Convert with NumPy first, and check the range there.
#
# Seen with h5py 3.16.0 (HDF5 2.0.0), NumPy 2.4.6, Python 3.11:
# labels                                      1 255 256 300 -1
# NumPy's astype("uint8")                     1 255   0  44 255
# h5py, assigned to                           1 255 255 255   0
# h5py, create_dataset(data=, dtype=)         1 255 255 255   0
# h5py, stored as int64, .astype("uint8")     1 255 255 255   0
# h5py, stored as int64, read_direct          1 255 255 255   0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q h5py==3.16.0 numpy==2.4.6
venv/bin/python -W error - <<'PY'
import h5py
import numpy as np

labels = np.array([1, 255, 256, 300, -1])
seen = {"NumPy's astype(\"uint8\")": labels.astype("uint8")}
with h5py.File("labels.h5", "w") as file:
    assigned = file.create_dataset("assigned", labels.shape, dtype="uint8")
    assigned[...] = labels
    seen["h5py, assigned to"] = assigned[...]
    seen["h5py, create_dataset(data=, dtype=)"] = file.create_dataset("made", data=labels, dtype="uint8")[...]
    whole = file.create_dataset("whole", data=labels)
    seen['h5py, stored as int64, .astype("uint8")'] = whole.astype("uint8")[...]
    room = np.zeros(labels.shape, dtype="uint8")
    whole.read_direct(room)
    seen["h5py, stored as int64, read_direct"] = room
print(f"{'labels':42}", *labels)
for name, numbers in seen.items():
    print(f"{name:42}", *(f"{number:3}" for number in numbers))
    expected = [1, 255, 0, 44, 255] if name.startswith("NumPy") else [1, 255, 255, 255, 0]
    assert numbers.tolist() == expected, "numbers that do not fit are stored otherwise now"
PY
