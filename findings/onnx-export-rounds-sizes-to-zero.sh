#!/usr/bin/env bash
# A size that is rounded up as Python programmers round up, -(-n // w) * w, is rounded down in an exported ONNX file.
#
# Python's // rounds towards minus infinity, and so does PyTorch for sizes that are traced. The exporter writes the size as ONNX's Div,
# which rounds towards zero, so that -4 // 3 is -1 in the file and -2 in the network. Nothing is said: the file opens and runs, and every
# shape that hangs on the size is another one. It shows only where the size does not divide: the example that is exported often does.
# (n + w - 1) // w * w has no negative number and is the same in both.
#
# Seen with torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0, Python 3.11:
# 4 rows in windows of 3: PyTorch 6, the file 3 with -(-n // 3) * 3
# 4 rows in windows of 3: PyTorch 6, the file 6 with (n + 2) // 3 * 3
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import logging

import onnxruntime
import torch

logging.disable(logging.WARNING)  # the exporter's


class Rows(torch.nn.Module):
    """Zeros in as many rows as whole windows of 3 have."""

    def __init__(self, rounded):
        super().__init__()
        self.rounded = rounded

    def forward(self, x):
        return torch.zeros(self.rounded(x.shape[0]), 1) + x.sum()


def rows(rounded):
    """How many rows network and file give for 4."""
    net, x = Rows(rounded).eval(), torch.ones(4, 2)
    made = torch.onnx.export(net, (torch.ones(6, 2),), dynamic_shapes=({0: torch.export.Dim("n", min=2)},), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(made.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return len(net(x)), len(found)


signed, plain = rows(lambda n: -(-n // 3) * 3), rows(lambda n: (n + 2) // 3 * 3)
print(f"4 rows in windows of 3: PyTorch {signed[0]}, the file {signed[1]} with -(-n // 3) * 3")
print(f"4 rows in windows of 3: PyTorch {plain[0]}, the file {plain[1]} with (n + 2) // 3 * 3")
assert (signed, plain) == ((6, 3), (6, 6)), "sizes are rounded otherwise now"
PY
