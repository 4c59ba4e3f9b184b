"""ONNX files: a graph without traces of the machine that made it, its description in the metadata, and its outputs."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmsearch import __version__
from lmsearch.errors import CheckpointError, first_line
from lmsearch.export.described import KEY, NO_CERTIFICATE
from lmsearch.export.options import READERS, need
from lmsearch.export.program import quietly
from lmsearch.export.seal import BLANK, sealed

log = logging.getLogger(__name__)
INPUT, OUTPUT = "images", "outputs"
AXES = ("batch", "channels", "height", "width")  # of the input


def to_proto(program: torch.export.ExportedProgram, *, int8: bool) -> Any:
    """Return the ONNX model of a graph, its weights in 8 bits where `int8` says so."""
    with quietly():
        made = torch.onnx.export(program, (), input_names=[INPUT], output_names=[OUTPUT], verbose=False)
    proto = made.model_proto  # type: ignore[union-attr] # None only of the exporter before this one
    if int8:
        proto = in_8_bits(proto)
    strip(proto)
    return proto


def in_8_bits(proto: Any) -> Any:
    """Return the model with the weights of its matrix products in 8 bits; activations are rounded as they come."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, quietly():
        out = Path(folder) / "int8.onnx"
        quantize_dynamic(proto, out, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8)
        made = onnx.load(out)
    tell_share(made, onnx.TensorProto.INT8, onnx.TensorProto.FLOAT)
    return made


def tell_share(proto: Any, small: int, wide: int) -> None:
    """Log how many weights are of the type `small`; warn where most are still of the type `wide`. Single numbers are none."""
    stored = [tensor for tensor in proto.graph.initializer if tensor.dims]
    sizes = {kind: sum(math.prod(tensor.dims) for tensor in stored if tensor.data_type == kind) for kind in (small, wide)}
    total = sum(sizes.values())
    level = logging.INFO if 2 * sizes[small] >= total else logging.WARNING
    log.log(
        level,
        "int8=true: %d of %d weights are in 8 bits, those of matrix products; the others stay as they are",
        sizes[small],
        total,
    )


def strip(proto: Any) -> None:
    """Take out what tells of the exporter and the machine, and name the open axes of inputs and outputs."""
    for part in parts_of(proto.graph):
        part.doc_string = ""
        del part.metadata_props[:]
    del proto.metadata_props[:], proto.graph.value_info[:]
    proto.graph.name, proto.doc_string = "lmsearch", ""
    proto.producer_name, proto.producer_version = "lmsearch", __version__
    axes = proto.graph.input[0].type.tensor_type.shape.dim
    names = {axis.dim_param: name for axis, name in zip(axes, AXES, strict=True) if axis.dim_param}
    for value in (*proto.graph.input, *proto.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = names.get(axis.dim_param, axis.dim_param)


def parts_of(graph: Any) -> Iterator[Any]:
    """Yield a graph, all that it consists of, and the graphs inside its nodes."""
    yield graph
    yield from (*graph.input, *graph.output, *graph.initializer, *graph.value_info)
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from parts_of(attribute.g)


def pack(proto: Any, described: str) -> bytes:
    """Return the file of a model with its description in the metadata."""
    del proto.metadata_props[:]
    for key, value in ((KEY, described), (f"{KEY}.seal", BLANK)):
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    content: bytes = proto.SerializeToString(deterministic=True)
    return sealed(content)


def description_in(content: bytes, *, source: str) -> str:
    """Return the description in a file; raise CheckpointError where it is no ONNX file, or not one of ours."""
    need(READERS, source)
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load_from_string(content)
    except DecodeError as error:
        raise CheckpointError(f"{source}: not an ONNX file, or damaged") from error
    found = [entry.value for entry in proto.metadata_props if entry.key == KEY]
    if len(found) != 1:
        raise CheckpointError(f"{source}: {NO_CERTIFICATE}")
    return str(found[0])


@contextmanager
def told() -> Iterator[None]:
    """Raise CheckpointError for what onnxruntime raises inside the block; its exceptions have no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as raised

    kinds = tuple(kind for kind in vars(raised).values() if isinstance(kind, type) and issubclass(kind, Exception))
    try:
        yield
    except kinds as error:
        raise CheckpointError(f"onnxruntime cannot run it: {first_line(error)}") from error


class OnnxAnswers:
    """The outputs of an ONNX model on this machine's CPU, on as many threads as PyTorch has.

    Raises CheckpointError where onnxruntime cannot open or run it.
    """

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
        with told():
            self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def __call__(self, images: Tensor) -> Tensor:
        with told():
            (found,) = self.session.run([OUTPUT], {INPUT: np.ascontiguousarray(images.numpy())})
        return torch.from_numpy(found)
