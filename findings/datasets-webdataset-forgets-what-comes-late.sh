#!/usr/bin/env bash
# Masks that the first five samples of a WebDataset lack are dropped from all others, by the loader of Hugging Face datasets, without a word.
#
# Its WebDataset loader takes the columns from the first five samples of the first archive. What a later sample has besides, a mask of the
# few images that have one, or a key inside its JSON, is not read: no error, no warning, and streaming is the same. The webdataset
# library itself gives every sample what lies in the archive. Give features= to load_dataset. (A mask that one of the first five alone has
# is an error, so that a small sample of the data may be refused and the whole be read with losses.)
#
# Seen with datasets 5.2.0, webdataset 1.0.2, Python 3.11; twelve samples, of which the last seven have a mask and the key "hard":
# reader                       samples with a mask   samples with the key
# datasets                     0 of 7                0 of 7
# datasets, streaming          0 of 7                0 of 7
# datasets, features given     7 of 7                7 of 7
# webdataset                   7 of 7                7 of 7
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q datasets==5.2.0 pyarrow==26.0.1 numpy==2.4.6 pillow==13.0.0 webdataset==1.0.2 braceexpand==0.1.7
export HF_HOME="$work/home" HF_HUB_OFFLINE=1
venv/bin/python -W ignore - <<'PY'
import io
import json
import tarfile

import datasets
import numpy as np
import webdataset
from PIL import Image

datasets.disable_progress_bars()
NUMBER, LATE = 12, 5


def write(name, rich):
    """Write an archive; the samples in `rich` have a mask and one key more."""

    def add(path, content):
        told = tarfile.TarInfo(path)
        told.size = len(content)
        archive.addfile(told, io.BytesIO(content))

    def png(value):
        file = io.BytesIO()
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(file, "PNG")
        return file.getvalue()

    with tarfile.open(name, "w") as archive:
        for sample in range(NUMBER):
            facts = {"id": sample} | ({"hard": True} if sample in rich else {})
            add(f"{sample:04}.png", png(sample))
            add(f"{sample:04}.json", json.dumps(facts).encode())
            if sample in rich:
                add(f"{sample:04}.mask.png", png(200))


def of_datasets(name, **how):
    """Return the mask and the facts of every sample."""
    found = list(datasets.load_dataset("webdataset", data_files={"train": name}, split="train", **how))
    assert len(found) == NUMBER
    return [(sample.get("mask.png"), sample["json"]) for sample in found]


def of_webdataset(name):
    return [(sample.get("mask.png"), json.loads(sample["json"])) for sample in webdataset.WebDataset(name, shardshuffle=False)]


late = set(range(LATE, NUMBER))
write("late.tar", late)
try:
    write("early.tar", late | {0})
    of_datasets("early.tar")
except ValueError as error:
    assert "don't share" in str(error)
else:
    raise AssertionError("an early mask is read now")
text, facts = datasets.Value("string"), {"id": datasets.Value("int64"), "hard": datasets.Value("bool")}
given = {"__key__": text, "__url__": text, "png": datasets.Image(), "mask.png": datasets.Image(), "json": facts}
cases = (
    ("datasets", of_datasets("late.tar"), 0),
    ("datasets, streaming", of_datasets("late.tar", streaming=True), 0),
    ("datasets, features given", of_datasets("late.tar", features=datasets.Features(given)), 7),
    ("webdataset", of_webdataset("late.tar"), 7),
)
print("reader                       samples with a mask   samples with the key")
for name, samples, expected in cases:
    masks = sum(mask is not None for mask, _ in samples)
    keys = sum(facts.get("hard") is not None for _, facts in samples)
    print(f"{name:28} {masks} of {len(late):<16} {keys} of {len(late)}")
    assert (masks, keys) == (expected, expected), "late columns are read otherwise now"
PY
