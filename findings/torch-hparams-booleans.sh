#!/usr/bin/env bash
# Hyperparameters written for TensorBoard from PyTorch lose their types: true is stored as the number 1, though bool has a branch of
# its own, and a float64 of NumPy is taken while a float32 or an int64 is refused.
#
# hparams() asks for int and float before it asks for bool, and in Python True is an int. So a table of runs shows 1.0 where a switch
# was on, and a filter by true finds none. NumPy's float64 is a float of Python's, its other numbers are not. Convert first: switches
# to text, numbers to Python's own.
#
# Seen with PyTorch 2.13.0, tensorboard 2.21.0, Python 3.11:
# True             stored as number_value: 1
# "true"           stored as string_value: "true"
# numpy.float64(1) stored as number_value: 1
# numpy.float32(1) refused: value should be one of int, float, str, bool, or torch.Tensor
# numpy.int64(1)   refused: value should be one of int, float, str, bool, or torch.Tensor
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 tensorboard==2.21.0
venv/bin/python - <<'PY'
import numpy as np
from tensorboard.plugins.hparams import plugin_data_pb2
from torch.utils.tensorboard.summary import hparams


def stored(value):
    """Return what is written for a hyperparameter, or why it is refused."""
    try:
        start = hparams({"x": value}, {"score": 0.5})[1].value[0]
    except ValueError as error:
        return f"refused: {error}"
    content = plugin_data_pb2.HParamsPluginData.FromString(start.metadata.plugin_data.content)
    return f"stored as {str(content.session_start_info.hparams['x']).strip()}"


cases = {"True": True, '"true"': "true", "numpy.float64(1)": np.float64(1), "numpy.float32(1)": np.float32(1), "numpy.int64(1)": np.int64(1)}
found = {name: stored(value) for name, value in cases.items()}
for name, how in found.items():
    print(f"{name:16} {how}")
assert found["True"] == "stored as number_value: 1", "a switch keeps its type now"
assert found["numpy.float64(1)"].startswith("stored") and found["numpy.float32(1)"].startswith("refused"), "NumPy's numbers are alike now"
PY
