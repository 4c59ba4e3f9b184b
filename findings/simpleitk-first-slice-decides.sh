#!/usr/bin/env bash
# The first file of a stack decides in SimpleITK what numbers the others may hold: class 300 becomes 44, and slices of a PET scan are 0.
#
# A stack of images gets the pixel type of its first file, and all other files are converted to it, without rounding, clipping or a word.
# Labels of 16 bits behind a slice of 8 bits keep their lower byte. In DICOM the type follows from the rescale slope of the slice: where
# that of the first one is 1, as of an empty slice, the scan is made of whole numbers, and 0.9 is 0. The same files in reverse order are
# read as they are. Name the type, sitk.ReadImage(files, sitk.sitkFloat32), or read the slices one by one.
#
# Seen with SimpleITK 2.5.7, pydicom 3.0.2, Python 3.11; one pixel of each slice:
# slices                order      pixel type               values
# PNG, 8 and 16 bits    as it is   8-bit unsigned integer   7, 44, 255
# PNG, 8 and 16 bits    reversed   16-bit unsigned integer  65535, 300, 7
# PET, slopes 1 to 0.25 as it is   16-bit signed integer    3, 0, 0
# PET, slopes 1 to 0.25 reversed   64-bit float             0.75, 0.9, 3
# PET, slopes 1 to 0.25 as float   32-bit float             3, 0.9, 0.75
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q SimpleITK==2.5.7 pydicom==3.0.2 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid

SIDE = 4
SERIES, STUDY = generate_uid(), generate_uid()


def label_slice(place, kind, label):
    path = f"labels{place}.png"
    sitk.WriteImage(sitk.GetImageFromArray(np.full((SIDE, SIDE), label, kind)), path)
    return path


def pet_slice(place, slope, stored=3):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    image = Dataset()
    image.file_meta = meta
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    image.SeriesInstanceUID, image.StudyInstanceUID, image.Modality = SERIES, STUDY, "PT"
    image.InstanceNumber, image.ImagePositionPatient = place + 1, [0, 0, place]
    image.ImageOrientationPatient, image.PixelSpacing, image.SliceThickness = [1, 0, 0, 0, 1, 0], [1, 1], 1
    image.Rows = image.Columns = SIDE
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 1
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.RescaleSlope, image.RescaleIntercept = 15, slope, 0
    image.PixelData = np.full((SIDE, SIDE), stored, np.int16).tobytes()
    path = f"pet{place}.dcm"
    image.save_as(path, enforce_file_format=True)
    return path


labels = [label_slice(0, np.uint8, 7), label_slice(1, np.uint16, 300), label_slice(2, np.uint16, 65535)]
pet = [pet_slice(place, slope) for place, slope in enumerate((1, 0.3, 0.25))]
CASES = (
    ("PNG, 8 and 16 bits", "as it is", labels, (), [7, 44, 255]),
    ("PNG, 8 and 16 bits", "reversed", labels[::-1], (), [65535, 300, 7]),
    ("PET, slopes 1 to 0.25", "as it is", pet, (), [3, 0, 0]),
    ("PET, slopes 1 to 0.25", "reversed", pet[::-1], (), [0.75, 0.9, 3]),
    ("PET, slopes 1 to 0.25", "as float", pet, (sitk.sitkFloat32,), [3, 0.9, 0.75]),
)
print("slices                order      pixel type               values")
for slices, order, files, kind, expected in CASES:
    image = sitk.ReadImage(files, *kind)
    seen = sitk.GetArrayFromImage(image)[:, 0, 0]
    print(f"{slices:21} {order:10} {image.GetPixelIDTypeAsString():24} {', '.join(f'{value:g}' for value in seen)}")
    assert np.allclose(seen, expected, atol=1e-6), "the first file does not decide now"
PY
