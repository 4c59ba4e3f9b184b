#!/usr/bin/env bash
# A network that weighs the columns of its map weighs channels instead once OnnxSlim is through with it, if the map is as wide as it has channels.
#
# OnnxSlim merges a multiplication into the convolution before it, when the constant has one value for each channel. It squeezes the constant
# and compares lengths, so that values along the width or the height are taken for values of channels where the numbers agree, such as
# 8 channels of 8 x 8, or 14 of 14 x 14. The file is smaller, valid and another network; at other sizes it is left alone. Addition is looked at
# properly, and --model-check, which would notice, is off unless asked for. Compare the answers of a file before and after, always.
#
# Seen with onnxslim 0.1.98, onnx 1.23.2, onnxruntime 1.32.0, Python 3.11; a convolution to 8 channels, then times a constant:
# map    constant of          operators after  largest answer  largest difference
# 8 x 8  (8,) columns         Conv             12              11
# 8 x 8  (8, 1) rows          Conv             11              12
# 8 x 8  (8, 1, 1) channels   Conv             15              0
# 9 x 9  (9,) columns         Conv Mul         15              0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q onnxslim==0.1.98 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import numpy as np
import onnx
import onnxruntime
import onnxslim
from onnx import TensorProto, helper, numpy_helper

print("map    constant of          operators after  largest answer  largest difference")
for side, shape, axis, operators in (
    (8, (8,), "columns", "Conv"),
    (8, (8, 1), "rows", "Conv"),
    (8, (8, 1, 1), "channels", "Conv"),
    (9, (9,), "columns", "Conv Mul"),
):
    draw = np.random.default_rng(0)
    weight = draw.normal(size=(8, 3, 3, 3)).astype(np.float32)
    scale = np.linspace(0, 1, max(shape), dtype=np.float32).reshape(shape)
    nodes = [helper.make_node("Conv", ["image", "weight"], ["map"], pads=[1] * 4), helper.make_node("Mul", ["map", "scale"], ["answer"])]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, side, side])]
    outputs = [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, 8, side, side])]
    constants = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(scale, "scale")]
    graph = helper.make_graph(nodes, "network", inputs, outputs, constants)
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(network, full_check=True)
    slim = onnxslim.slim(network)
    onnx.checker.check_model(slim, full_check=True)

    image = draw.normal(size=(1, 3, side, side)).astype(np.float32)
    before, after = (onnxruntime.InferenceSession(one.SerializeToString()).run(None, {"image": image})[0] for one in (network, slim))
    difference = np.abs(before - after).max()
    left = " ".join(node.op_type for node in slim.graph.node)
    print(f"{side} x {side}  {f'{shape} {axis}':20} {left:16} {np.abs(before).max():<15.0f} {difference:.0f}")
    wrong = side == 8 and axis != "channels"
    assert left == operators and (difference > 5 if wrong else difference < 1e-4), "multiplications are merged otherwise now"
PY
