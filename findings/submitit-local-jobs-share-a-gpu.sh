#!/usr/bin/env bash
# Jobs that submitit runs on the machine itself, each of which asks for one GPU, all get GPU 0, even where the caller was given others.
#
# cluster="local" is the way to try a sweep before it goes to Slurm, or to fill a machine of eight GPUs. Slurm gives every job a GPU of its
# own. The local executor starts all jobs at once and writes CUDA_VISIBLE_DEVICES anew for each, counted from 0; which are taken, and what
# the variable said before, does not matter. So eight trainings share one GPU, perhaps that of somebody else, and seven rest. Without
# gpus_per_node jobs see none. visible_gpus, which could say which, AutoExecutor refuses: use LocalExecutor, one GPU for each job.
#
# Seen with submitit 1.5.4, Python 3.11 (no GPU is needed to see it); the caller has CUDA_VISIBLE_DEVICES=4,5,6,7:
# three jobs with gpus_per_node=1:                       0  0  0
# three jobs with gpus_per_node=2:                       0,1  0,1  0,1
# three jobs without it:                                 ''  ''  ''
# LocalExecutor, visible_gpus [4], [5], [6] of each job: 4  5  6
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q submitit==1.5.4
CUDA_VISIBLE_DEVICES=4,5,6,7 venv/bin/python -W ignore - <<'PY'
import os

import submitit


def visible():
    return os.environ["CUDA_VISIBLE_DEVICES"]


def told(jobs):
    """What every job sees, once all have ended."""
    return [job.result() for job in jobs]


def automatic(**parameters):
    executor = submitit.AutoExecutor(folder="jobs", cluster="local")
    executor.update_parameters(timeout_min=1, **parameters)
    return told([executor.submit(visible) for _ in range(3)])


def chosen():
    executor, jobs = submitit.LocalExecutor(folder="jobs"), []
    for gpu in (4, 5, 6):
        executor.update_parameters(timeout_min=1, gpus_per_node=1, visible_gpus=[gpu])
        jobs.append(executor.submit(visible))
    return told(jobs)


CASES = (
    ("three jobs with gpus_per_node=1:", automatic(gpus_per_node=1), ["0"] * 3),
    ("three jobs with gpus_per_node=2:", automatic(gpus_per_node=2), ["0,1"] * 3),
    ("three jobs without it:", automatic(), [""] * 3),
    ("LocalExecutor, visible_gpus [4], [5], [6] of each job:", chosen(), ["4", "5", "6"]),
)
for name, seen, expected in CASES:
    print(f"{name:54} {'  '.join(gpus or repr(gpus) for gpus in seen)}")
    assert seen == expected, "local jobs get other GPUs now"
PY
