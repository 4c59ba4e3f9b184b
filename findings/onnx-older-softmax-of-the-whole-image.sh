#!/usr/bin/env bash
# Converted to an older opset by ONNX's own converter, a softmax over the classes of every pixel becomes one over the classes of all pixels.
#
# Up to opset 12 `axis` of Softmax, LogSoftmax and Hardmax means this axis and all behind it, from 13 on this one alone. On the way up the
# converter puts nodes around Softmax and LogSoftmax that keep the meaning, on the way down it leaves the axis as it is; Hardmax it leaves so
# on the way up and refuses on the way down. The checker is content. A softmax of the last axis, as in attention and classifiers, is the
# same in both, so only dense heads are hurt: the best class of a pixel stays, its probability is gone. Export at the older opset instead.
#
# Seen with onnx 1.23.2, onnxruntime 1.32.0, Python 3.11; three classes of 8 x 8 pixels, largest difference to what it was before:
# operator    axis  opset 13 to 12  opset 12 to 13
# Softmax     1     0.92            0.00
# Softmax     last  0.00            0.00
# LogSoftmax  1     5.36            0.00
# LogSoftmax  last  0.00            0.00
# Hardmax     1     refused         1.00
# Hardmax     last  refused         0.00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, version_converter

SHAPE = (1, 3, 8, 8)  # images, classes, height, width
logits = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def written(operator, axis, opset):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], axis=axis)], "g", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)


def answers(model):
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": logits})[0]


def changed(operator, axis, before, after):
    model = written(operator, axis, before)
    converted = version_converter.convert_version(model, after)
    assert converted.opset_import[0].version == after
    return np.abs(answers(converted) - answers(model)).max()


def shown(operator, axis, before, after):
    try:
        return f"{changed(operator, axis, before, after):.2f}"
    except RuntimeError as refusal:
        assert "No Adapter" in str(refusal)
        return "refused"


EXPECTED = {
    ("Softmax", 1): ("0.92", "0.00"),
    ("Softmax", 3): ("0.00", "0.00"),
    ("LogSoftmax", 1): ("5.36", "0.00"),
    ("LogSoftmax", 3): ("0.00", "0.00"),
    ("Hardmax", 1): ("refused", "1.00"),
    ("Hardmax", 3): ("refused", "0.00"),
}
print("operator    axis  opset 13 to 12  opset 12 to 13")
for (operator, axis), expected in EXPECTED.items():
    seen = shown(operator, axis, 13, 12), shown(operator, axis, 12, 13)
    print(f"{operator:11} {'last' if axis == 3 else axis:<5} {seen[0]:<15} {seen[1]}")
    assert seen == expected, "the converter treats the axis otherwise now"
PY
