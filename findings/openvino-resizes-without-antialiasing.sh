#!/usr/bin/env bash
# OpenVINO shrinks an image without antialiasing where the ONNX file asks for it: it reads the attribute, keeps it, and computes without.
#
# Resize of ONNX has `antialias` since opset 18, and PyTorch writes it for interpolate(antialias=True), so that preprocessing stands in the
# file. ONNX Runtime follows. OpenVINO's CPU plugin takes every second, every fourth pixel and its neighbour, as without the attribute: fine
# stripes come out as strong coarse ones, with no warning. Where an image is enlarged nothing is different. OpenVINO's own modes
# bilinear_pillow and bicubic_pillow do smooth: shrink with these, or before the network.
#
# Seen with openvino 2026.4.1, onnxruntime 1.32.0, onnx 1.23.2, Python 3.11; stripes of black and white of 3 pixels, 96 of them to a size:
# mode    size  antialias  contrast: ONNX Runtime  OpenVINO
# linear  192   0          0.435                   0.435
# linear  192   1          0.435                   0.435
# linear  24    0          0.408                   0.408
# linear  24    1          0.095                   0.408
# linear  12    0          0.408                   0.408
# linear  12    1          0.042                   0.408
# cubic   192   0          0.493                   0.493
# cubic   192   1          0.493                   0.493
# cubic   24    0          0.485                   0.485
# cubic   24    1          0.071                   0.485
# cubic   12    0          0.485                   0.485
# cubic   12    1          0.039                   0.485
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1
venv/bin/python - <<'PY'
import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper

WIDE = 96
image = np.broadcast_to((np.arange(WIDE) // 3 % 2).astype(np.float32), (1, 1, WIDE, WIDE)).copy()


def written(mode, side, antialias):
    sizes = numpy_helper.from_array(np.array([1, 1, side, side]), "sizes")
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode=mode, antialias=antialias)
    shapes = (1, 1, WIDE, WIDE), (1, 1, side, side)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in zip("xy", shapes, strict=True)]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [sizes])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


def by_runtime(model):
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": image})[0]


def by_openvino(model):
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled([image])[0]


print("mode    size  antialias  contrast: ONNX Runtime  OpenVINO")
for mode in ("linear", "cubic"):
    for side in (192, 24, 12):
        for antialias in (0, 1):
            runtime, other = (run(written(mode, side, antialias)).std() for run in (by_runtime, by_openvino))
            print(f"{mode:7} {side:<5} {antialias:<10} {runtime:<23.3f} {other:.3f}")
            smoothed = antialias == 1 and side < WIDE
            assert (abs(runtime - other) > 0.1) == smoothed, "OpenVINO resizes otherwise now"
PY
