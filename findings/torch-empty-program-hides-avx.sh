#!/usr/bin/env bash
# One empty file that a power cut leaves makes torch.compile take a CPU with AVX for one without any vectors, for good and without a word.
#
# PyTorch's compiler finds out what a CPU can do by a trial: it compiles a small program, keeps it in TORCHINDUCTOR_CACHE_DIR, and loads it
# in a process of its own. The linker writes the program in place; what is there counts as finished at the next start. If the machine goes
# down, or the disk fills up, in between, an empty .so stays. It cannot be loaded, which is read as "this CPU cannot do that": programs
# are then made without vectors, at every start, until somebody deletes the folder. An empty program of the network itself is told at
# least: "ImportError: file too short". Delete the folder after a crash, or look for empty files in it.
#
# Seen with PyTorch 2.13.0, Python 3.11, g++ 12.2, a CPU with AVX-512:
# a new folder          avx512 avx512_vnni
# the same, again       avx512 avx512_vnni
# its trials are empty  INVALID_VEC_ISA
# the same, again       INVALID_VEC_ISA
# a new folder          avx512 avx512_vnni
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/python - <<'PY'
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = "from torch._inductor.cpu_vec_isa import pick_vec_isa; print(pick_vec_isa())"


def vectors(label, folder):
    """Return what a new process takes the CPU for."""
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": folder}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment)
    print(f"{label:21} {done.stdout.strip()}{done.stderr.strip()}", flush=True)  # nothing is said on stderr either
    return done.stdout.strip()


able = vectors("a new folder", "one")
assert able != "INVALID_VEC_ISA", "this needs a CPU with AVX2 and g++"
assert vectors("the same, again", "one") == able
for trial in Path("one").rglob("*.so"):
    trial.write_bytes(b"")
for label in ("its trials are empty", "the same, again"):
    assert vectors(label, "one") == "INVALID_VEC_ISA", "empty programs are noticed now"
assert vectors("a new folder", "two") == able
PY
