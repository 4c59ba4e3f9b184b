"""The same network as PyTorch runs it, compiled, and as the files that `lmsearch export` writes: what is timed side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lmsearch.data import DataInfo
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.errors import ExportError, first_line
from lmsearch.export.make import export_network
from lmsearch.export.onnx_file import OnnxAnswers
from lmsearch.export.options import ExportOptions
from lmsearch.models.backbone import Network


class Answering(nn.Module):
    """Images to outputs, reopened with as many threads as PyTorch has where a runtime fixes them as it starts."""

    def __init__(self, open_it: Callable[[], Callable[[Tensor], Tensor]], size: int, num_classes: int) -> None:
        super().__init__()
        self.open_it, self.size, self.num_classes = open_it, size, num_classes
        self.answers = open_it()

    def reopen(self) -> None:
        """Start the runtime anew."""
        self.answers = self.open_it()

    def forward(self, images: Tensor) -> Tensor:
        return self.answers(images)


@dataclass(frozen=True)
class Subject:
    """A trained network, its description and its data."""

    net: Network
    spec: ModelSpec
    info: DataInfo
    source: str

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights as PyTorch holds them."""
        return sum(p.numel() * p.element_size() for p in self.net.parameters())


def as_it_is(subject: Subject) -> Answering:
    """Return the network on the kernels that this machine has."""
    return Answering(lambda: subject.net, subject.weight_bytes, subject.net.num_classes)


def compiled(subject: Subject) -> Answering:
    """Return the network as torch.compile makes one graph of it; raise ExportError where the compiler does not run here."""
    net = torch.compile(subject.net, fullgraph=True)
    try:
        with torch.no_grad():
            net(torch.zeros(1, subject.info.in_chans, *subject.info.img_size))
    except (torch._dynamo.exc.TorchDynamoException, RuntimeError) as error:
        raise ExportError(f"torch.compile does not run here: {first_line(error)}") from error
    return Answering(lambda: net, subject.weight_bytes, subject.net.num_classes)


def as_onnx(subject: Subject, options: ExportOptions) -> Answering:
    """Return the network as an ONNX file that has been compared with it."""
    content = export_network(subject.net, subject.spec, subject.info, options, source=subject.source).content
    return Answering(lambda: OnnxAnswers(content), len(content), subject.net.num_classes)


VARIANTS: dict[str, Callable[[Subject], Answering]] = {
    "pytorch": as_it_is,
    "compile": compiled,
    "onnx": lambda subject: as_onnx(subject, ExportOptions()),
    "linear_attention": lambda subject: as_onnx(subject, ExportOptions(scan="linear_attention")),
    "int8": lambda subject: as_onnx(subject, ExportOptions(int8=True)),
}
