#!/usr/bin/env bash
# AutoBackbone cannot read the folder that a backbone has just been saved to; the backbone's own class can.
#
# Every other Auto class of Transformers takes a folder or the name of a repository. AutoBackbone.from_pretrained asks the hub first
# whether the name is a repository there, and takes what is none for a model of timm: a path with a slash in front is refused as
# a malformed name, before anything is looked up. A backbone that is saved with save_pretrained is read with its own class, or inside
# a whole model.
#
# Seen with Transformers 5.24.0, PyTorch 2.13.0, Python 3.11:
# AutoBackbone.from_pretrained(folder)    HFValidationError: Repo id must be in the form 'repo_name' or 'na
# AutoModel.from_pretrained(folder)       ResNetModel
# ResNetBackbone.from_pretrained(folder)  ResNetBackbone
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 transformers==5.24.0
HF_HUB_OFFLINE=1 venv/bin/python - "$work/saved" <<'PY'
import sys

from transformers import AutoBackbone, AutoModel, ResNetBackbone, ResNetConfig
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
folder = sys.argv[1]
ResNetBackbone(ResNetConfig(embedding_size=4, hidden_sizes=[4, 4], depths=[1, 1])).save_pretrained(folder)
for reader, expected in ((AutoBackbone, "HFValidationError"), (AutoModel, "ResNetModel"), (ResNetBackbone, "ResNetBackbone")):
    try:
        seen = type(reader.from_pretrained(folder)).__name__
    except Exception as error:
        seen = f"{type(error).__name__}: {str(error)[:46]}"
    print(f"{reader.__name__ + '.from_pretrained(folder)':39} {seen}")
    assert seen.startswith(expected), "folders of backbones are read otherwise now"
PY
