"""The tasks that ship networks: exported files, and how fast they are."""

from __future__ import annotations

from dataclasses import dataclass

from lmsearch.settings.fields import Ints, PathName, PathNames, again, key
from lmsearch.settings.shared import Claiming, Output, Voice

WEIGHTS = "model.safetensors, checkpoint.pt or the run directory of a retraining"
SHIPPED = f"{WEIGHTS}, or an exported .onnx or .pt2"


def above_0(value: float) -> str:
    """Return what is wrong with a share that is nothing."""
    return "" if value > 0 else "is not accepted; accepted: above 0"


@dataclass(frozen=True, kw_only=True)
class Export(Voice):
    """lmsearch export."""

    checkpoint: PathName = key(WEIGHTS)
    format: str = key(words={"onnx": "needs the extra onnx", "torch_export": "read by torch.export.load"})
    out: PathName = key("file to write: .onnx, or .pt2 with format=torch_export")
    scan: str = key(
        "how the file scans",
        words={"scan": "a Scan node of ONNX", "linear_attention": "onnxruntime's LinearAttention (format=onnx)"},
    )
    dynamic: str = key(
        "what may differ from call to call", words={"batch": "the number of images", "size": "and their size, where it can"}
    )
    int8: bool = key("true: weights of matrix products in 8 bits (format=onnx); accuracy is measured beside it")
    tolerance: float | None = key(
        "most that a file may differ from PyTorch to be written, as a share of the largest output",
        least=0.0, most=1.0, null="1e-4, with int8 0.1", check=above_0,
    )  # fmt: skip
    overwrite: bool = again(Claiming, "overwrite", help="true: replace a file that out= names")


@dataclass(frozen=True, kw_only=True)
class LatencySettings(Output, Voice):
    """lmsearch latency."""

    checkpoint: PathNames = key("a run directory, its weights, or an exported file; [a,b]: a table for each")
    what: list[str] = key(
        "ways to run the network, of pytorch, compile, onnx, linear_attention, int8; an exported file is timed as it is"
    )
    batches: Ints = key("images per call: a number or a list", unit="images")
    thread_counts: Ints = key("CPU threads: a number or a list; all of a call's")
    repeats: int = key("calls that are timed, one by one", least=1)
    run_dir: PathName | None = again(Output, "run_dir", help="folder of latency.json and latency.md", null="runs/latency-<run>")
