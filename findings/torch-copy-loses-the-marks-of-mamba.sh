#!/usr/bin/env bash
# The marks that keep A and D of a Vision Mamba from weight decay are gone in every copy of the network, an average of its weights among them.
#
# Mamba's code sets an attribute on such parameters, _no_weight_decay, and who makes the optimizer sorts parameters by it. PyTorch copies a
# parameter without its attributes, while pickling, .to() and .bfloat16() keep them. So a network that was copied (for each arm of a
# comparison, for a member of an ensemble, for a second stage that starts from averaged weights) trains with log A drawn to 0, so that all
# states forget alike, and nothing is said. Set the marks anew after copying, or go by names.
#
# Seen with mambapy 1.2.0, PyTorch 2.13.0, Python 3.11; marked parameters of a network of one layer that scans both ways:
# new network        A_log, A_log_b, D, D_b
# pickled and read   A_log, A_log_b, D, D_b
# in bfloat16        A_log, A_log_b, D, D_b
# deepcopy           none
# AveragedModel      none
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/pip install -q --no-deps mambapy==1.2.0
venv/bin/python -W ignore - <<'PY'
import copy
import io

import torch
from mambapy.vim import MambaConfig, VMamba
from torch.optim.swa_utils import AveragedModel


def pickled(net):
    """What comes back from a file of the whole network."""
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def marked(net):
    """The last parts of the names of marked parameters."""
    return sorted(name.rpartition(".")[2] for name, weight in net.named_parameters() if getattr(weight, "_no_weight_decay", False))


WAYS = (
    ("new network", lambda net: net, True),
    ("pickled and read", pickled, True),
    ("in bfloat16", lambda net: net.bfloat16(), True),
    ("deepcopy", copy.deepcopy, False),
    ("AveragedModel", AveragedModel, False),
)
for label, way, kept in WAYS:
    found = marked(way(VMamba(MambaConfig(d_model=8, n_layers=1, d_state=4))))
    print(f"{label:18} {', '.join(found) or 'none'}")
    assert found == (["A_log", "A_log_b", "D", "D_b"] if kept else []), "marks are copied otherwise now"
PY
