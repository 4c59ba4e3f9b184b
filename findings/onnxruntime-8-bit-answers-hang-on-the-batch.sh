#!/usr/bin/env bash
# In a file that ONNX Runtime quantised dynamically, the answer for one image hangs on which other images are in its batch.
#
# One would guess that an image has one answer: a classifier without batch statistics treats every row by itself, and `quantize_dynamic` is
# said to round activations as they come. It rounds them with one scale for the whole tensor, the batch included. One bright image makes
# the steps coarse for all others: their small values become 0, and the class changes. So the accuracy that was measured with 64 images
# a batch is not that of a service that answers one by one, and neither is the same after a shuffle. Compare an image
# alone with the same image in a batch before you trust such a file.
#
# Seen with ONNX Runtime 1.32.0, ONNX 1.23.2, Python 3.11; one matrix product, the image [0.02, 0.03, 0.01, 0.04] and one of about 1,000:
# answer for the image     plain file      8 bits
# alone                    class 1         class 1
# with itself              class 1         class 1
# with the bright one      class 1         class 0, all three scores 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

weights = np.array([[1.0, -1.0, 0.5], [-1.0, 1.0, 0.5], [0.5, 0.25, -1.0], [0.25, 0.5, -0.5]], np.float32)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])],
    "classifier",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
    [numpy_helper.from_array(weights, "w")],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), "plain.onnx")
quantize_dynamic("plain.onnx", "small.onnx", weight_type=QuantType.QInt8)

image = np.array([0.02, 0.03, 0.01, 0.04], np.float32)
bright = np.array([900.0, 1000.0, 950.0, 980.0], np.float32)
BATCHES = {"alone": [image], "with itself": [image, image], "with the bright one": [image, bright]}


def scores(file, batch):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.stack(batch)})[0][0]


found = {
    name: {file: scores(file, batch) for file in ("plain.onnx", "small.onnx")} for name, batch in BATCHES.items()
}
print(f"ONNX Runtime {onnxruntime.__version__}, ONNX {onnx.__version__}")
for name, by_file in found.items():
    print(f"{name:20}", {file: (int(values.argmax()), values.round(4).tolist()) for file, values in by_file.items()})
for by_file in found.values():
    assert by_file["plain.onnx"].argmax() == 1
    assert np.allclose(by_file["plain.onnx"], found["alone"]["plain.onnx"])
assert found["alone"]["small.onnx"].argmax() == found["with itself"]["small.onnx"].argmax() == 1
assert (found["with the bright one"]["small.onnx"] == 0).all()
PY
