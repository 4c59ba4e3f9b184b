#!/usr/bin/env bash
# White pixels of an image of bytes are missing values to netCDF4: the mean of a page that is three quarters white is 0, black.
#
# A NetCDF variable that names no fill value has a default one: 255 of uint8, 65535 of uint16, -127 of int8. netCDF4 masks these values on
# reading, though the image was written whole, and its mean, minimum, maximum and counts go without them. A sensor's saturated pixels
# are 65535, and "no class" is 255. What turns the array into a plain one, np.asarray or PyTorch, has them again, so that two numbers of
# one image do not agree. h5py reads all. Call set_auto_mask(False) on the file that is read, or write with fill_value=False.
#
# Seen with netCDF4 1.7.5.1.post1, h5py 3.16.0, numpy 2.4.6, Python 3.11; three pixels of the greatest value and one of 0:
# variable                      netCDF4  as np.asarray  auto_mask off  h5py
# uint8                         0.0      191.25         191.25         191.25
# uint16                        0.0      49151.25       49151.25       49151.25
# uint8, fill_value=False       191.25   191.25         191.25         191.25
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q netCDF4==1.7.5.1.post1 h5py==3.16.0 numpy==2.4.6
venv/bin/python - <<'PY'
import h5py
import netCDF4
import numpy as np


def means(name):
    """Return the means of the variable as four ways of reading it give them."""
    with netCDF4.Dataset(name) as file:
        first = file["image"][:]
        file.set_auto_mask(False)
        second = file["image"][:]
    with h5py.File(name) as file:
        third = file["image"][:]
    return [float(array.mean()) for array in (first, np.asarray(first), second, third)]


print("variable                      netCDF4  as np.asarray  auto_mask off  h5py")
cases = (("uint8", "u1", {}), ("uint16", "u2", {}), ("uint8, fill_value=False", "u1", {"fill_value": False}))
for title, kind, options in cases:
    greatest = np.iinfo(kind).max
    with netCDF4.Dataset("image.nc", "w") as file:
        file.createDimension("pixel", 4)
        file.createVariable("image", kind, ("pixel",), **options)[:] = np.array([greatest] * 3 + [0], kind)
    seen = means("image.nc")
    print(f"{title:29} {seen[0]:<8} {seen[1]:<14} {seen[2]:<14} {seen[3]}")
    right = 0.75 * greatest
    assert seen == [right if options else 0.0, right, right, right], "default fill values are read otherwise now"
PY
