"""What `tune_process` is worth: the mixer's pass in processes with its settings of threads and memory, and without."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from typing import TYPE_CHECKING

from lmsearch.bench.children import last_word_of
from lmsearch.process import tune_process

if TYPE_CHECKING:
    from lmsearch.bench.workloads import LayerShape

TUNED, PLAIN = "lmsearch.tune_process()", "as Python starts"
SET_BY_TUNING = ("OMP_WAIT_POLICY", "MALLOC_TRIM_THRESHOLD_")  # a child would inherit them
CALLS = 5


def memory_setting() -> str:
    """Return in words how this process keeps freed memory, which all that is timed in it shares."""
    kept = os.environ.get("MALLOC_TRIM_THRESHOLD_")
    return "kept, by lmsearch.tune_process()" if kept is None else f"as MALLOC_TRIM_THRESHOLD_={kept} says"


def step_seconds(way: str, shape: LayerShape, *, threads: int, seed: int) -> float:
    """Return the median seconds of a forward and backward pass of the mixer in a new process, set up in this way."""
    words = [way, json.dumps(vars(shape)), str(threads), str(seed)]
    return float(last_word_of("lmsearch.bench.process", words, what=f"a process {way!r}", without=SET_BY_TUNING))


def main(words: list[str]) -> None:
    """Print the seconds of what the words of `step_seconds` name."""
    way, shape, threads, seed = words
    if way == TUNED:
        tune_process()
    import torch  # only now

    from lmsearch.bench.workloads import LayerShape, layer, layer_call

    torch.set_num_threads(int(threads))
    sizes = LayerShape(**json.loads(shape))
    mixer, x = layer(sizes, seed=int(seed), device="cpu")
    call, times = layer_call(mixer, x, sizes.side), []
    for _ in range(1 + CALLS):
        start = time.perf_counter()
        call().sum().backward()
        times.append(time.perf_counter() - start)
    print(statistics.median(times[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])
