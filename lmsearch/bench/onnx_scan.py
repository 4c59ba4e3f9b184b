"""onnxruntime's scan: one `Scan` node of ONNX, which runs a body per token. Forward only; needs onnx and onnxruntime."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

OPSET = 18


def unavailable_reason(device: str) -> str | None:
    """Return why it cannot run here, None where it can."""
    if device != "cpu":
        return "compared on CPUs only"
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    return f"not installed; run: python -m pip install {' '.join(missing)}" if missing else None


def onnxruntime_scan(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Run the scan on as many threads as PyTorch has: (B, L, D), without gradients."""
    values = {"x": x, "delta": delta, "A": A, "B": B, "C": C, "D": D}
    batch, _, channels = x.shape
    session = scan_session(batch, channels, A.shape[1], torch.get_num_threads())
    (y,) = session.run(None, {name: t.detach().numpy() for name, t in values.items()})
    return torch.from_numpy(y)


@lru_cache(maxsize=4)
def scan_session(batch: int, channels: int, states: int, threads: int) -> Any:
    """Return an inference session of the scan for these sizes and any number of tokens."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(scan_model(batch, channels, states), options, providers=["CPUExecutionProvider"])


def scan_model(batch: int, channels: int, states: int) -> bytes:
    """Return the model, serialised: h(t) = exp(delta A) h(t-1) + delta x B, y(t) = h(t) C + D x."""
    from onnx import TensorProto, checker, helper

    def value(name: str, *size: int | str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, size)

    node = helper.make_node
    body = helper.make_graph(
        [
            node("Unsqueeze", ["dt", "last"], ["dt1"]),
            node("Mul", ["dt1", "A"], ["rate"]),
            node("Exp", ["rate"], ["decay"]),
            node("Mul", ["decay", "h"], ["kept"]),
            node("Unsqueeze", ["dtx", "last"], ["dtx1"]),
            node("Unsqueeze", ["b", "middle"], ["b1"]),
            node("Mul", ["dtx1", "b1"], ["added"]),
            node("Add", ["kept", "added"], ["h_next"]),
            node("Unsqueeze", ["c", "last"], ["c1"]),
            node("MatMul", ["h_next", "c1"], ["y1"]),
            node("Squeeze", ["y1", "last"], ["y_token"]),
        ],
        "token",
        [
            value("h", batch, channels, states),
            *(value(name, batch, channels) for name in ("dt", "dtx")),
            *(value(name, batch, states) for name in ("b", "c")),
        ],
        [value("h_next", batch, channels, states), value("y_token", batch, channels)],
    )
    tokens = {"num_scan_inputs": 4, "scan_input_axes": [1] * 4, "scan_output_axes": [1]}
    graph = helper.make_graph(
        [
            node("Mul", ["delta", "x"], ["step"]),
            node("Scan", ["start", "delta", "step", "B", "C"], ["end", "scanned"], body=body, **tokens),
            node("Mul", ["D", "x"], ["skipped"]),
            node("Add", ["scanned", "skipped"], ["y"]),
        ],
        "selective_scan",
        [
            *(value(name, batch, "L", channels) for name in ("x", "delta")),
            *(value(name, batch, "L", states) for name in ("B", "C")),
            value("A", channels, states),
            value("D", channels),
        ],
        [value("y", batch, "L", channels)],
        [
            helper.make_tensor("start", TensorProto.FLOAT, (batch, channels, states), [0.0] * (batch * channels * states)),
            helper.make_tensor("last", TensorProto.INT64, (1,), [-1]),
            helper.make_tensor("middle", TensorProto.INT64, (1,), [1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    checker.check_model(model)
    return model.SerializeToString()
