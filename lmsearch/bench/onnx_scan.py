"""Two scans of onnxruntime, forward only: a `Scan` node of ONNX, which runs a body per token, and its own `LinearAttention`,
a kernel of the same recurrence once decays, keys and queries are written out for every channel. Both need onnx, onnxruntime."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lmsearch.export.linear_attention import DOMAIN, OPERATOR, attributes

OPSET = 18


def unavailable_reason(device: str) -> str | None:
    """Return why it cannot run here, None where it can."""
    if device != "cpu":
        return "compared on CPUs only"
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    return f"not installed; run: python -m pip install {' '.join(missing)}" if missing else None


def onnxruntime_scan(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Run the `Scan` on as many threads as PyTorch has: (B, L, D), without gradients."""
    return _run(scan_model, {"x": x, "delta": delta, "A": A, "B": B, "C": C, "D": D})


def onnxruntime_linear_attention(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Run `LinearAttention`, likewise."""
    return _run(linear_attention_model, {"x": x, "delta": delta, "A": A, "B": B, "C": C, "D": D})


def _run(model: Callable[[int, int, int], bytes], values: dict[str, Tensor]) -> Tensor:
    sizes = (values["x"].shape[0], *values["A"].shape)
    (y,) = session_of(model, *sizes, torch.get_num_threads()).run(None, {name: t.detach().numpy() for name, t in values.items()})
    return torch.from_numpy(y)


@lru_cache(maxsize=4)
def session_of(model: Callable[[int, int, int], bytes], batch: int, channels: int, states: int, threads: int) -> Any:
    """Return an inference session of a scan for these sizes and any number of tokens."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model(batch, channels, states), options, providers=["CPUExecutionProvider"])


def scan_model(batch: int, channels: int, states: int) -> bytes:
    """Return the model, serialised: h(t) = exp(delta A) h(t-1) + delta x B, y(t) = h(t) C + D x."""
    from onnx import TensorProto, helper

    node, value = helper.make_node, _value
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
    tokens: dict[str, Any] = {"num_scan_inputs": 4, "scan_input_axes": [1] * 4, "scan_output_axes": [1]}
    graph = helper.make_graph(
        [
            node("Mul", ["delta", "x"], ["step"]),
            node("Scan", ["start", "delta", "step", "B", "C"], ["end", "scanned"], body=body, **tokens),
            node("Mul", ["D", "x"], ["skipped"]),
            node("Add", ["scanned", "skipped"], ["y"]),
        ],
        "selective_scan",
        *_inputs_and_output(batch, channels, states),
        [
            helper.make_tensor("start", TensorProto.FLOAT, (batch, channels, states), [0.0] * (batch * channels * states)),
            helper.make_tensor("last", TensorProto.INT64, (1,), [-1]),
            helper.make_tensor("middle", TensorProto.INT64, (1,), [1]),
        ],
    )
    return _serialised(graph)


def linear_attention_model(batch: int, channels: int, states: int) -> bytes:
    """Return the model of the same: a head for every channel, with `states` keys and one value."""
    from onnx import TensorProto, helper

    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Unsqueeze", ["delta", "last"], ["delta1"]),
            node("Mul", ["delta1", "A"], ["rates"]),
            node("Reshape", ["rates", "flat"], ["decay"]),
            node("Mul", ["delta", "x"], ["value"]),
            node("Tile", ["B", "repeats"], ["key"]),
            node("Tile", ["C", "repeats"], ["query"]),
            node(
                OPERATOR, ["query", "key", "value", "", "decay"], ["scanned", "end"], domain=DOMAIN, **attributes(channels),
            ),
            node("Mul", ["D", "x"], ["skipped"]),
            node("Add", ["scanned", "skipped"], ["y"]),
        ],
        "linear_attention",
        *_inputs_and_output(batch, channels, states),
        [
            helper.make_tensor("last", TensorProto.INT64, (1,), [-1]),
            helper.make_tensor("flat", TensorProto.INT64, (3,), [0, 0, -1]),
            helper.make_tensor("repeats", TensorProto.INT64, (3,), [1, 1, channels]),
        ],
    )  # fmt: skip
    return _serialised(graph, DOMAIN)


def _value(name: str, *size: int | str) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, size)


def _inputs_and_output(batch: int, channels: int, states: int) -> tuple[list[Any], list[Any]]:
    tokens = [_value(name, batch, "L", channels) for name in ("x", "delta")] + [_value(n, batch, "L", states) for n in "BC"]
    return [*tokens, _value("A", channels, states), _value("D", channels)], [_value("y", batch, "L", channels)]


def _serialised(graph: Any, *domains: str) -> bytes:
    from onnx import checker, helper

    imports = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    checker.check_model(model)
    return model.SerializeToString()
