#!/usr/bin/env bash
# A bit that was turned in a TFRecord file makes label 3 a label 7 for tfrecord: the checksums are in the file, and it does not read them.
#
# Each record of the format has two checksums, of its length and of its data, so that a damaged file is found out, and TensorFlow stops at
# one with DataLoss. The package tfrecord, which reads such files without TensorFlow, takes the checksums off the file and goes on.
# What it gives has all fields, types and sizes, with other numbers in them, in each epoch. Files that are compressed with gzip are
# safe, since gzip has a checksum of its own that is. Check files after each copy, as below or with a digest of the whole.
#
# Seen with tfrecord 1.14.6, protobuf 7.36.2, Python 3.11; an image of 12 bytes of 100 with label 3:
# one bit turned in   checksum of the data   tfrecord reads
# nothing             right                  label 3, 12 bytes of 100
# the label           wrong                  label 7, 12 bytes of 100
# the image           wrong                  label 3, 11 bytes of 100 and one of 228
# the checksum        wrong                  label 3, 12 bytes of 100
# the label, gzip     -                      an error
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q numpy==2.4.6 protobuf==7.36.2 crc32c==2.9.post0
venv/bin/pip install -q --no-deps tfrecord==1.14.6
venv/bin/python -W ignore - <<'PY'
import gzip
import struct
from pathlib import Path

import crc32c
from tfrecord.reader import tfrecord_loader
from tfrecord.writer import TFRecordWriter

IMAGE = bytes([100] * 12)
writer = TFRecordWriter("whole.tfrecord")
writer.write({"image": (IMAGE, "byte"), "label": (3, "int")})
writer.close()
whole = Path("whole.tfrecord").read_bytes()
label = whole.index(b"\x0a\x01\x03") + 2  # a list of one number, 3
image = whole.index(IMAGE) + 5


def turned(place, bit, data=whole):
    changed = bytearray(data)
    changed[place] ^= bit
    return bytes(changed)


def checksum_is_right(data):
    """Return whether the data of the first record have the checksum that stands behind them."""
    (length,) = struct.unpack("<Q", data[:8])
    crc = crc32c.crc32c(data[12 : 12 + length])
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    return struct.unpack("<I", data[12 + length : 16 + length])[0] == masked


def read(data, **options):
    Path("some.tfrecord").write_bytes(data)
    (record,) = tfrecord_loader("some.tfrecord", None, {"image": "byte", "label": "int"}, **options)
    return int(record["label"][0]), bytes(record["image"])


print("one bit turned in   checksum of the data   tfrecord reads")
CASES = {
    "nothing": (whole, 3, IMAGE),
    "the label": (turned(label, 4), 7, IMAGE),
    "the image": (turned(image, 128), 3, IMAGE[:5] + bytes([228]) + IMAGE[6:]),
    "the checksum": (turned(len(whole) - 1, 1), 3, IMAGE),
}
for name, (data, number, pixels) in CASES.items():
    found = read(data)
    others = sorted(set(found[1]) - {100})
    told = f"label {found[0]}, {found[1].count(100)} bytes of 100" + "".join(f" and one of {other}" for other in others)
    print(f"{name:19} {'right' if checksum_is_right(data) else 'wrong':22} {told}")
    assert found == (number, pixels), "damaged records are read otherwise now"
    assert checksum_is_right(data) == (name == "nothing")
packed = gzip.compress(whole, compresslevel=0)
try:
    read(turned(packed.index(b"\x0a\x01\x03") + 2, 4, packed), compression_type="gzip")
    raise AssertionError("gzip's checksum is not looked at now")
except (OSError, EOFError):
    print(f"{'the label, gzip':19} {'-':22} an error")
PY
