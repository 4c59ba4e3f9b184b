"""The tasks that ship networks: exported files, and how fast they are."""

from __future__ import annotations

from dataclasses import dataclass

from lmsearch.settings.fields import PathName, again, key
from lmsearch.settings.shared import Claiming, Voice

WEIGHTS = "model.safetensors, checkpoint.pt or the run directory of a retraining"
SHIPPED = f"{WEIGHTS}, or an exported .onnx or .pt2"


@dataclass(frozen=True, kw_only=True)
class Export(Voice):
    """lmsearch export."""

    checkpoint: PathName = key(WEIGHTS)
    format: str = key(words={"onnx": "needs the extra onnx", "torch_export": "read by torch.export.load"})
    out: PathName = key("file to write: .onnx, or .pt2 with format=torch_export")
    scan: str = key(
        "how the file scans",
        words={"scan": "a loop over the tokens", "linear_attention": "onnxruntime's operator LinearAttention"},
    )
    dynamic: str = key(
        "what may differ from call to call", words={"batch": "the number of images", "size": "and their size, where it can"}
    )
    int8: bool = key("true: weights of matrix products in 8 bits (format=onnx); accuracy is measured beside it")
    tolerance: float | None = key(
        "largest difference from PyTorch's outputs that a file may have, as a share of the largest output",
        least=0.0, null="1e-4, with int8 0.1",
    )  # fmt: skip
    overwrite: bool = again(Claiming, "overwrite", help="true: replace a file that out= names")
