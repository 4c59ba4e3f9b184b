"""Peak memory of one forward and backward pass of a mixer, each measured in a process of its own.

On Linux the process first runs a tiny mixer, so that libraries and threads are loaded, then resets the kernel's
high-water mark of its resident memory, runs the real one, and reports that mark less the memory held before. ru_maxrss
would not do: it cannot be reset, and a child inherits it from its parent. On CUDA it is PyTorch's own count.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import torch

from lmsearch.bench.children import last_word_of
from lmsearch.bench.workloads import LayerShape, arranged, layer, layer_call

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
TINY = LayerShape(batch=1, d_model=16, side=2)


def supported(device: str) -> bool:
    """True where the peak can be measured: on CUDA, or on a system with Linux's /proc."""
    return device == "cuda" or (STATUS.is_file() and CLEAR.is_file())


def peak_bytes(subject: str, shape: LayerShape, *, threads: int, seed: int, device: str) -> int:
    """Return the peak bytes of `subject` in a new process, weights and input not counted; raise KernelError if it fails."""
    words = [subject, json.dumps(vars(shape)), str(threads), str(seed), device]
    return int(last_word_of("lmsearch.bench.memory", words, what=f"the memory of {subject!r}"))


def run_once(subject: str, shape: LayerShape, *, seed: int, device: str) -> int:
    """Run one forward and backward pass in this process and return its peak bytes."""
    mixer, x = layer(shape, seed=seed, device=device)
    module = arranged(mixer, subject)
    before = _mark(device)
    layer_call(module, x, shape.side)().sum().backward()
    return _peak(device) - before


def _mark(device: str) -> int:
    """Reset the peak and return the bytes held now."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    CLEAR.write_text(RESET_PEAK)
    return _status("VmRSS")


def _peak(device: str) -> int:
    """Return the largest number of bytes held since the mark."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(field: str) -> int:
    """Return one size of /proc/self/status in bytes."""
    (size,) = re.findall(rf"^{field}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    return 1024 * int(size)


def main(words: list[str]) -> None:
    """Print the peak bytes of what the words of `peak_bytes` name."""
    subject, shape, threads, seed, device = words
    torch.set_num_threads(int(threads))
    run_once(subject, TINY, seed=0, device=device)
    print(run_once(subject, LayerShape(**json.loads(shape)), seed=int(seed), device=device))


if __name__ == "__main__":
    main(sys.argv[1:])
