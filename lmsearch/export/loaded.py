"""An exported file as a network that answers images: for prediction, evaluation and timing."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from lmsearch.errors import CheckpointError, DataError, first_line
from lmsearch.export.certificate import Answers
from lmsearch.export.described import Described
from lmsearch.export.formats import Format, read_exported
from lmsearch.export.seal import check_seal
from lmsearch.scan.grids import grid_text


class ExportedNet(nn.Module):
    """Images (B, C, h, w) to the outputs of an exported file, computed on the CPU, whatever device they are on."""

    def __init__(self, answers: Answers, described: Described, source: str) -> None:
        super().__init__()
        self.answers, self.described, self.source = answers, described, source
        self.num_classes = described.info.num_classes

    def forward(self, images: Tensor) -> Tensor:
        self.check_size(tuple(images.shape[-2:]))
        with torch.autocast(images.device.type, enabled=False):
            try:
                return self.answers(images.cpu()).to(images.device)
            except CheckpointError as error:
                raise CheckpointError(f"{self.source}: {error}") from error

    def check_size(self, size: tuple[int, ...]) -> None:
        """Raise DataError, naming the sizes that the file takes, for images of another size (pixels)."""
        own, step, least = tuple(self.described.info.img_size), self.described.step, self.described.least
        if step is None and size != own:
            raise DataError(
                f"{self.source} takes images of {grid_text(own)} pixels only, not of {grid_text(size)}; export with dynamic=size"
                " for others"
            )
        if step is not None and any(side % step or side < least * step for side in size):
            raise DataError(
                f"{self.source} takes images whose sides are multiples of {step} pixels, from {least * step} on, not of"
                f" {grid_text(size)}"
            )


def describe_exported(path: Path) -> Described:
    """Return what an exported file says of itself; raise CheckpointError for a changed byte, no certificate, another version."""
    return _checked(path)[2]


def load_exported(path: Path) -> ExportedNet:
    """Return the network in an exported file; raises as `describe_exported` does."""
    kind, content, described = _checked(path)
    try:
        answers = kind.opened(content)
    except (RuntimeError, CheckpointError) as error:  # of another version of a library: its bytes are those that were written
        raise CheckpointError(f"{path}: cannot be opened here: {first_line(error)}") from error
    return ExportedNet(answers, described, str(path)).eval()


def _checked(path: Path) -> tuple[Format, bytes, Described]:
    kind, content = read_exported(path)
    check_seal(content, source=str(path))
    return kind, content, Described.from_json(kind.description_in(content, source=str(path)), source=str(path))
