#!/usr/bin/env bash
# A network that has become NaN names a class in ONNX Runtime as if nothing were wrong.
#
# ArgMax and ReduceMax pass over NaN there. The reference implementation of ONNX, NumPy and PyTorch let NaN win, so that somebody
# notices. A graph that ends in ArgMax answers with the largest of what is left, and its answers differ from the network that was
# exported only on the broken inputs, which parity checks on good ones never see. Look for NaN before the maximum is taken.
#
# Seen with onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6, Python 3.11:
# scores [1, NaN, 3, 2]
# ArgMax:    runtime 2, reference 1, NumPy 1
# ReduceMax: runtime 3, reference nan, NumPy nan
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

scores = np.array([1, np.nan, 3, 2], np.float32)
print("scores [1, NaN, 3, 2]")


def answers(operator, kind):
    """What the runtime and the reference say of `scores`."""
    node = helper.make_node(operator, ["x"], ["y"], keepdims=0)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", kind, [])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return float(session.run(None, {"x": scores})[0]), float(ReferenceEvaluator(model).run(None, {"x": scores})[0])


index, largest = answers("ArgMax", TensorProto.INT64), answers("ReduceMax", TensorProto.FLOAT)
print(f"ArgMax:    runtime {index[0]:g}, reference {index[1]:g}, NumPy {np.argmax(scores)}")
print(f"ReduceMax: runtime {largest[0]:g}, reference {largest[1]:g}, NumPy {np.max(scores):g}")
assert index == (2, 1) and largest[0] == 3 and np.isnan(largest[1]), "NaN is treated otherwise now"
PY
