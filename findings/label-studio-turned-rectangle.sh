#!/usr/bin/env bash
# A rectangle that was turned in Label Studio lies elsewhere in its COCO, YOLO and VOC exports, but for COCO's of square images.
#
# Annotators turn rectangles to fit lying cars, leaves and text. The tool stores the upper left corner, around which it is turned, and the
# sides, all in percent of the image, and the angle. The converter's COCO export turns the percentages, as if they were of one length
# across and down; YOLO and VOC leave the angle out. All other objects are right, and nothing is said. The same converter's oriented boxes
# (is_obb) are turned in pixels, and right: where results have a rotation, export these, or compute the upright boxes yourself.
#
# Seen with label-studio-sdk 2.1.2, Python 3.11; a rectangle of 20 % x 30 % from (60 %, 20 %):
# image      turned by  drawn           COCO            YOLO            VOC             oriented boxes
# 100 x 60   0          60..80, 12..30  60..80, 12..30  60..80, 12..30  60..80, 12..30  60..80, 12..30
# 100 x 60   90         42..60, 12..32  30..60, 12..24  60..80, 12..30  60..80, 12..30  42..60, 12..32
# 100 x 100  90         30..60, 20..40  30..60, 20..40  60..80, 20..50  60..80, 20..50  30..60, 20..40
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q label-studio-sdk==2.1.2
venv/bin/python -W ignore - 2>/dev/null <<'PY'
import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path

from label_studio_sdk.converter import Converter
from PIL import Image

CONFIG = """<View><Image name="image" value="$image"/>
<RectangleLabels name="label" toName="image"><Label value="leaf"/></RectangleLabels></View>"""
ACROSS, DOWN, WIDTH, HEIGHT = 60, 20, 20, 30  # percent
Path("images").mkdir()


def told(left, top, right, bottom):
    return "{:g}..{:g}, {:g}..{:g}".format(*(round(side, 6) + 0.0 for side in (left, right, top, bottom)))


def of_coco(folder, wide, high):
    (entry,) = json.loads((folder / "result.json").read_text())["annotations"]
    left, top, width, height = entry["bbox"]
    return told(left, top, left + width, top + height)


def of_yolo(folder, wide, high):
    _, x, y, width, height = map(float, (folder / "labels" / "a.txt").read_text().split())
    return told((x - width / 2) * wide, (y - height / 2) * high, (x + width / 2) * wide, (y + height / 2) * high)


def of_oriented(folder, wide, high):
    corners = list(map(float, (folder / "labels" / "a.txt").read_text().split()[1:]))
    across, down = [x * wide for x in corners[::2]], [y * high for y in corners[1::2]]
    return told(min(across), min(down), max(across), max(down))


def of_voc(folder, wide, high):
    box = ET.parse(folder / "Annotations" / "a.xml").find("object/bndbox")
    return told(*(float(box.find(name).text) for name in ("xmin", "ymin", "xmax", "ymax")))


def drawn(angle, wide, high):
    """The upright box around the rectangle, by its corners in pixels."""
    turn = math.radians(angle)
    corners = [(x * WIDTH * wide / 100, y * HEIGHT * high / 100) for x in (0, 1) for y in (0, 1)]
    across = [ACROSS * wide / 100 + x * math.cos(turn) - y * math.sin(turn) for x, y in corners]
    down = [DOWN * high / 100 + x * math.sin(turn) + y * math.cos(turn) for x, y in corners]
    return told(min(across), min(down), max(across), max(down))


CASES = [
    (100, 60, 0, ["60..80, 12..30"] * 5),
    (100, 60, 90, ["42..60, 12..32", "30..60, 12..24", "60..80, 12..30", "60..80, 12..30", "42..60, 12..32"]),
    (100, 100, 90, ["30..60, 20..40", "30..60, 20..40", "60..80, 20..50", "60..80, 20..50", "30..60, 20..40"]),
]
print("image      turned by  drawn           COCO            YOLO            VOC             oriented boxes")
for wide, high, angle, expected in CASES:
    Image.new("RGB", (wide, high)).save("images/a.jpg")
    value = {"x": ACROSS, "y": DOWN, "width": WIDTH, "height": HEIGHT, "rotation": angle, "rectanglelabels": ["leaf"]}
    sizes = {"original_width": wide, "original_height": high, "image_rotation": 0}
    result = {"id": "r", "type": "rectanglelabels", "from_name": "label", "to_name": "image", "value": value, **sizes}
    dates = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
    annotation = {"id": 1, "completed_by": 1, "was_cancelled": False, "result": [result], **dates}
    Path("tasks.json").write_text(json.dumps([{"id": 1, "data": {"image": "images/a.jpg"}, "annotations": [annotation]}]))
    converter = Converter(CONFIG, ".")
    seen = [drawn(angle, wide, high)]
    ways = (("coco", of_coco, {}), ("yolo", of_yolo, {}), ("voc", of_voc, {}), ("yolo", of_oriented, {"is_obb": True}))
    for number, (name, read, how) in enumerate(ways):
        folder = Path(f"{name}{number}_{high}x{angle}")
        images = str(folder / "images")
        getattr(converter, f"convert_to_{name}")("tasks.json", str(folder), output_image_dir=images, is_dir=False, **how)
        seen.append(read(folder, wide, high))
    print(f"{f'{wide} x {high}':10} {angle:<10} {seen[0]:15} {seen[1]:15} {seen[2]:15} {seen[3]:15} {seen[4]}")
    assert seen == expected, "turned rectangles are exported otherwise now"
PY
