#!/usr/bin/env bash
# A video of 12 frames, recorded as fast as the camera could, has 46 in ImageIO: which picture is frame 9 depends on the plugin.
#
# Phones, webcams and screen recorders write frames with times of their own, not at an even rate. ImageIO's FFMPEG plugin, the default of
# imageio.v2, asks ffmpeg for raw video, and that repeats frames until the rate is even. PyAV, OpenCV, and ImageIO through its
# other plugin give what is stored. Annotations that were made by number with the one lie beside their objects in pictures of the other,
# and repeated pictures count several times. count_frames says 12 all the same. Go by times, or write the frames as images first.
#
# Seen with imageio 2.38.1, imageio-ffmpeg 0.8.1, av 18.1.0, opencv-python-headless 5.0.0.93, Python 3.11; pictures 0 to 11:
#                          frames  frame 9 is picture
# PyAV                     12      9
# OpenCV                   12      9
# ImageIO, plugin pyav     12      9
# ImageIO, plugin FFMPEG   46      3
# the same, count_frames   12
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q imageio==2.38.1 imageio-ffmpeg==0.8.1 av==18.1.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
venv/bin/python - <<'PY'
from fractions import Fraction

import av
import cv2
import imageio.v2
import imageio.v3
import numpy as np

TIMES = [0, 10, 20, 30, 80, 85, 90, 95, 150, 160, 170, 220]  # hundredths of a second
STEP = 20  # grey levels from one picture to the next

with av.open("video.mp4", "w") as file:
    stream = file.add_stream("libx264", rate=10, options={"crf": "1", "bf": "0"})
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    stream.codec_context.time_base = Fraction(1, 100)
    for number, time in enumerate(TIMES):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), STEP * number, dtype=np.uint8), "rgb24")
        frame.pts, frame.time_base = time, Fraction(1, 100)
        file.mux(stream.encode(frame))
    file.mux(stream.encode(None))


def by_opencv():
    capture = cv2.VideoCapture("video.mp4")
    while (read := capture.read())[0]:
        yield read[1]


def by_pyav():
    with av.open("video.mp4") as file:
        for frame in file.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


READERS = {
    "PyAV": (by_pyav(), 12, 9),
    "OpenCV": (by_opencv(), 12, 9),
    "ImageIO, plugin pyav": (imageio.v3.imread("video.mp4", plugin="pyav"), 12, 9),
    "ImageIO, plugin FFMPEG": (imageio.v3.imread("video.mp4", plugin="FFMPEG"), 46, 3),
}
print("                         frames  frame 9 is picture")
for name, (frames, *expected) in READERS.items():
    pictures = [round(float(frame.mean()) / STEP) for frame in frames]
    print(f"{name:24} {len(pictures):<7} {pictures[9]}")
    assert [len(pictures), pictures[9]] == expected, "frames are counted otherwise now"
counted = imageio.v2.get_reader("video.mp4").count_frames()
print(f"{'the same, count_frames':24} {counted}")
assert counted == len(TIMES), "count_frames counts otherwise now"
PY
