"""Golden records: what short searches and trainings do, step by step, so that a change of the code can be held against it.

`make golden` writes tests/golden/ anew. A commit that changes them says which numbers changed and why.
Every run is started with the arguments of the command line, on the reference backend and one thread, in a process whose
arithmetic hardly depends on the processor (PINNED).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "golden"
MACHINE = "machine"  # the file that says whose arithmetic the records have
PINNED = {  # plain kernels of PyTorch, MKL and oneDNN; whoever sets one of these variables keeps their choice
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OMP_NUM_THREADS": "1",
}
EVERYWHERE = ["backend=reference", "device=cpu"]
PLANTED = [  # six directions a layer on 3x3 tokens, 20 steps
    *EVERYWHERE, "data=planted", "data.grid=3", "model.embed_dim=8", "model.d_state=2", "batch_size=128", "epochs=4",
    "data.steps_per_epoch=5", "keep=2",
]  # fmt: skip
DEEP, SHORT = ["model.depth=2"], ["search.recheck=0", "search.health_every=0"]
DIGITS = [*EVERYWHERE, "model.patch_size=2", "model.depth=2", "model.embed_dim=8", "optim.warmup_epochs=1", "batch_size=100"]
MIXED = ["optim.mixup=0.8", "optim.cutmix=1.0", "optim.mix_prob=0.9", "optim.ema_decay=0.9", "model.drop_path_rate=0.2"]
RUNS = {  # name: the words of its command
    "fair": ["search", *PLANTED, *DEEP, "search=fair", "search.recheck=0.5"],
    "darts": ["search", *PLANTED, *DEEP, "search=darts", "search.recheck=0.5"],
    "bilevel": ["search", *PLANTED, *SHORT, "search=bilevel"],
    "bilevel_order2": ["search", *PLANTED, *SHORT, *DEEP, "search=bilevel", "search.order=2"],
    "sampled": ["search", *PLANTED, *SHORT, *DEEP, "search=sampled"],
    "shrink": ["search", *PLANTED, *SHORT, "search=shrink"],
    "gdas": ["search", *PLANTED, *SHORT, "search=gdas"],
    "perturbation": ["search", *PLANTED, *SHORT, "search=darts", "search.derivation=perturbation"],
    "seeds": ["search", *PLANTED, *SHORT, "search=fair", "search.derivation=climb", "seeds=2"],
    "digits": ["search", *DIGITS, *SHORT, "search=darts", "keep=2", "epochs=3"],
    "retrain": ["retrain", *DIGITS, *MIXED, "epochs=2"],
}
FAST = ("fair", "bilevel", "seeds", "digits", "retrain")  # what every test run makes anew; the slow tests make all
TRAINED = ("test_loss", "test_accuracy", "val_accuracy", "parameters")  # what is kept of the metrics of a training
GENOTYPE = [["h", "v_flip", "w2"], ["h_flip", "v"]]  # that is retrained


@contextmanager
def traced() -> Iterator[list[dict]]:
    """Collect every step of training inside the block: its loss, and digests of alphas, weights and their moving average."""
    from lmsearch.engine.train import Trainer

    steps: list[dict] = []
    real = Trainer.step

    def step(self: Trainer, *args: object, **options: object) -> object:
        scores = real(self, *args, **options)
        state = self.model.state_dict()
        alphas = {name: value for name, value in state.items() if name.endswith(".alphas")}
        parts = {"alphas": alphas, "weights": {name: value for name, value in state.items() if name not in alphas}}
        if self.ema is not None:
            parts["ema"] = self.ema.module.state_dict()
        steps.append({"step": len(steps), "loss": scores.loss} | {name: digest(part) for name, part in parts.items() if part})
        return scores

    Trainer.step = step
    try:
        yield steps
    finally:
        Trainer.step = real


def digest(tensors: Mapping[str, object]) -> str:
    """Return a short digest of the bytes of some tensors, whatever their names."""
    joined = hashlib.sha256()
    for value in tensors.values():
        joined.update(value.detach().contiguous().numpy().tobytes())
    return joined.hexdigest()[:16]


def record(words: list[str], folder: Path) -> dict:
    """Run one command and return what it did: its steps, and the genotype or the metrics that it wrote."""
    from lmsearch.cli import main
    from lmsearch.context import DRAWING, LEAVING_PAGES, setting

    given = folder / "given.json"
    given.write_text(json.dumps(GENOTYPE))
    run_dir = folder / "run"
    more = [f"genotype={given}"] if words[0] == "retrain" else []
    with traced() as steps, setting(DRAWING, False), setting(LEAVING_PAGES, False):
        assert main([*words, *more, f"run_dir={run_dir}"]) == 0, words
    if words[0] == "retrain":
        metrics = json.loads((run_dir / "metrics.json").read_text())
        result = {name: round(metrics[name], 6) for name in TRAINED}
    else:
        result = json.loads((run_dir / "genotype.json").read_text())
        result.pop("provenance")
    return {"words": words, "steps": steps, "result": result}


def machine() -> dict:
    """Return what decides on the last bits: PyTorch's version, and a training of its own in plain PyTorch as a control."""
    import torch
    from torch import nn

    draw = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 2, 2), nn.Softplus(), nn.Flatten(), nn.LayerNorm(128), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    for _ in range(20):
        images = torch.randn(100, 1, 8, 8, generator=draw).exp().cumsum(-1)
        loss = nn.functional.cross_entropy(net(images.sigmoid()), torch.randint(10, (100,), generator=draw))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {"torch": torch.__version__.partition("+")[0], "processor": platform.machine(), "control": digest(net.state_dict())}


def write(folder: Path, names: Sequence[str]) -> None:
    """Do these runs in this process and write one file for each into `folder`, and machine.json."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {MACHINE: machine()}
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            found[name] = record(RUNS[name], Path(scratch))
    for name, values in found.items():
        (folder / f"{name}.json").write_text(as_text(values))


def as_text(values: dict) -> str:
    """Return JSON with one line for each key, and one for each step."""
    lines = []
    for name, value in values.items():
        rows = ",\n  ".join(json.dumps(step) for step in value) if name == "steps" else None
        lines.append(f"{json.dumps(name)}: " + (json.dumps(value, sort_keys=True) if rows is None else f"[\n  {rows}\n ]"))
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def read(folder: Path, name: str) -> dict:
    """Return one record, or machine.json, of a folder."""
    return json.loads((folder / f"{name}.json").read_text())


def make(folder: Path, names: Sequence[str] = tuple(RUNS)) -> None:
    """Write these records into `folder`, from a process of its own with pinned arithmetic."""
    command = [sys.executable, str(Path(__file__).resolve()), str(folder), *names]
    done = subprocess.run(command, env=PINNED | os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    if sys.argv[1:]:
        write(Path(sys.argv[1]), sys.argv[2:])
    else:
        make(FOLDER)
