#!/usr/bin/env bash
# Of a video that was cut without encoding it anew, ImageIO gives 12 frames though 7 are shown; the last 5 are made of unset memory.
#
# ffmpeg -c copy, and editors that cut likewise, trim MP4 files by a note in the header; the frames before the cut stay in the file, and in
# its number of frames. imageio.v3.imread with the plugin pyav makes an array for that number and fills in what is decoded. What is left
# is what the memory held, mostly zeros: black images, which go into a training set with the label of the video. PyAV and OpenCV end after
# 7 (OpenCV's CAP_PROP_FRAME_COUNT says 12, too), and so does iterating with imiter. Iterate, or write the frames with ffmpeg.
#
# Seen with imageio 2.38.1, imageio-ffmpeg 0.8.1 (to cut), av 18.1.0, opencv-python-headless 5.0.0.93, Python 3.11; 0 to 11, cut before 5:
# PyAV                          7: 5 6 7 8 9 10 11
# OpenCV                        7: 5 6 7 8 9 10 11
# ImageIO, imiter, pyav         7: 5 6 7 8 9 10 11
# ImageIO, imread, pyav        12: 5 6 7 8 9 10 11 and 5 that no picture was written to
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q imageio==2.38.1 imageio-ffmpeg==0.8.1 av==18.1.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
venv/bin/python - <<'PY'
import subprocess

import av
import cv2
import imageio.v3
import imageio_ffmpeg
import numpy as np

STEP = 20  # grey levels from one picture to the next
FIRST, ALL = 5, 12

with av.open("whole.mp4", "w") as file:
    stream = file.add_stream("libx264", rate=10, options={"crf": "1"})
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for number in range(ALL):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), STEP * number, dtype=np.uint8), "rgb24")
        file.mux(stream.encode(frame))
    file.mux(stream.encode(None))
cut = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-ss", str(FIRST / 10), "-i", "whole.mp4", "-c", "copy", "cut.mp4"]
subprocess.run(cut, check=True)


def by_opencv():
    capture = cv2.VideoCapture("cut.mp4")
    while (read := capture.read())[0]:
        yield read[1]


def by_pyav():
    with av.open("cut.mp4") as file:
        for frame in file.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


READERS = {
    "PyAV": (by_pyav(), ALL - FIRST),
    "OpenCV": (by_opencv(), ALL - FIRST),
    "ImageIO, imiter, pyav": (imageio.v3.imiter("cut.mp4", plugin="pyav"), ALL - FIRST),
    "ImageIO, imread, pyav": (imageio.v3.imread("cut.mp4", plugin="pyav"), ALL),
}
for name, (frames, expected) in READERS.items():
    pictures = [round(float(frame.mean()) / STEP) for frame in frames]
    shown, rest = pictures[: ALL - FIRST], len(pictures) - (ALL - FIRST)
    beyond = f" and {rest} that no picture was written to" if rest else ""
    print(f"{name:27} {len(pictures):3}: {' '.join(map(str, shown))}{beyond}")
    assert shown == list(range(FIRST, ALL)) and len(pictures) == expected, "cut videos are read otherwise now"
PY
