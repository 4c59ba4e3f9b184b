#!/usr/bin/env bash
# Organs 1, 2 and 3 of a NIfTI label map, stored as whole numbers, come back as 0.9999..., and as 0, 1 and 2 by astype.
#
# nibabel stretches a floating-point array over all values of the type that set_data_dtype asks for, and notes the factor as a 32-bit
# float. Computed labels are floating-point, so int16 does not keep 1, 2, 3 as they are: get_fdata gives a bit less, and the usual
# astype(np.uint8) before a slice is saved as PNG cuts it off. Each organ gets the number of the one below, and the first one is
# background. Labels that are integers before they are saved stay; of floating-point ones round, or refuse them as classes.
#
# Seen with nibabel 5.4.2, numpy 2.4.6, Python 3.11:
# float64 array, as int16:  get_fdata up to 2.9999999993, astype(uint8) [0, 0, 1, 2]
# int16 array, as int16:    get_fdata up to 3.0000000000, astype(uint8) [0, 1, 2, 3]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q nibabel==5.4.2 numpy==2.4.6
venv/bin/python - <<'PY'
import nibabel
import numpy as np

labels = np.array([0, 1, 2, 3]).reshape(2, 2, 1)
for dtype, expected in ((np.float64, [0, 0, 1, 2]), (np.int16, [0, 1, 2, 3])):
    image = nibabel.Nifti1Image(labels.astype(dtype), np.eye(4))
    image.set_data_dtype(np.int16)
    image.to_filename("labels.nii.gz")
    stored = nibabel.load("labels.nii.gz")
    assert stored.get_data_dtype() == np.int16
    read = stored.get_fdata()
    cut = read.astype(np.uint8).ravel().tolist()
    name = f"{np.dtype(dtype).name} array, as int16:"
    print(f"{name:25} get_fdata up to {read.max():.10f}, astype(uint8) {cut}")
    assert cut == expected and read.round().ravel().tolist() == [0, 1, 2, 3], "labels are scaled otherwise now"
PY
