#!/usr/bin/env bash
# A network of float16 whose sums overflow gives fine answers in ONNX Runtime on the CPU; as it is written, and on a GPU, they are infinite.
#
# The CPU has no kernels of float16 for most operators. ONNX Runtime puts casts around them and takes those between two of them away again:
# a chain of operators runs in float32 from its first to its last, and only what leaves it is rounded. A norm, a variance or scores of
# attention that pass 65504 on their way are computed as if float16 reached to 3e38, and small numbers do not vanish either. It is so with
# all optimizations off too. A check of an exported file of float16 against its network passes on the CPU and says nothing of where it
# will run. Compare with onnx.reference or on the device that will serve, and keep sums of squares in float32.
#
# Seen with onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6, Python 3.11; inputs and outputs are float16:
# graph                     inputs              runtime   reference
# (x + x) * 0.5             60000               60000     inf
# sqrt(sum(x * x))          300, 300, 400       583       inf
# (x * 0.0001) * 10000      0.0001              0.0001    0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator


def node(operator, inputs, output, **options):
    return helper.make_node(operator, inputs, [output], **options)


HALVED = [node("Add", ["x", "x"], "s"), node("Mul", ["s", "half"], "y")]
NORM = [node("Mul", ["x", "x"], "s"), node("ReduceSum", ["s"], "t", keepdims=0), node("Sqrt", ["t"], "y")]
SMALL = [node("Mul", ["x", "small"], "s"), node("Mul", ["s", "large"], "y")]
CONSTANTS = [numpy_helper.from_array(np.float16(value), name) for name, value in (("half", 0.5), ("small", 1e-4), ("large", 1e4))]


def answers(nodes, values):
    """What the runtime, with and without its optimizations, and the reference say."""
    x = np.array(values, np.float16)
    used = {name for each in nodes for name in each.input}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, shape) for name, shape in (("x", x.shape), ("y", None))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [each for each in CONSTANTS if each.name in used])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    seen = []
    for level in (onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        seen.append(session.run(None, {"x": x})[0])
    seen.append(ReferenceEvaluator(model).run(None, {"x": x})[0])
    assert all(answer.dtype == np.float16 for answer in seen)
    return [float(np.ravel(answer)[0]) for answer in seen]


CASES = (
    ("(x + x) * 0.5", HALVED, [60000], 60000, np.inf),
    ("sqrt(sum(x * x))", NORM, [300, 300, 400], 583, np.inf),
    ("(x * 0.0001) * 10000", SMALL, [0.0001], 0.0001, 0),
)
print(f"{'graph':25} {'inputs':19} {'runtime':9} reference")
for name, nodes, values, by_runtime, by_reference in CASES:
    plain, optimized, reference = answers(nodes, values)
    print(f"{name:25} {', '.join(f'{value:g}' for value in values):19} {optimized:<9.3g} {reference:g}".replace("6e+04", "60000"))
    for answer in (plain, optimized):
        assert np.isclose(answer, by_runtime, rtol=1e-3), "float16 overflows or vanishes on the CPU now"
    assert reference == by_reference, "the reference computes in another precision now"
PY
