"""The digits, the registry of sources and the description that travels with the weights."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from lmsearch.data import SOURCES, DataInfo, as_arrays, build_source
from lmsearch.data.checks import shares, size2d
from lmsearch.data.sources.digits import split_indices
from lmsearch.data.splitting import stratified_split
from lmsearch.errors import DataError


@pytest.fixture(scope="module")
def digits():
    return build_source("digits")


def test_digits_split_is_disjoint_stratified_and_covers_all_images():
    labels = np.random.default_rng(0).integers(10, size=1797)
    parts = split_indices(labels)
    assert [len(p) for p in parts] == [1079, 359, 359]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(1797))
    shares = [np.bincount(labels[p], minlength=10) / np.bincount(labels, minlength=10) for p in parts]
    for share, expected in zip(shares, (0.6, 0.2, 0.2), strict=True):
        assert np.abs(share - expected).max() < 0.02


def test_digits_split_never_changes(digits):
    sums = [
        int((part.targets * torch.arange(1, len(part.targets) + 1)).sum()) for part in (digits.train, digits.val, digits.test)
    ]
    assert sums == [2610268, 291824, 294224]


def test_digits_are_images_in_zero_to_one_normalised_by_their_training_set(digits):
    assert digits.info.img_size == (8, 8) and digits.info.in_chans == 1 and digits.info.num_classes == 10
    assert digits.train.images.min() == 0 and digits.train.images.max() == 1
    images = digits.train.eval_batch(np.arange(1079)).inputs
    assert abs(images.mean().item()) < 1e-3 and abs(images.std().item() - 1) < 1e-3


def test_nearest_neighbour_on_digits_arrays_reaches_its_known_accuracy(digits):
    x, y, x_test, y_test = as_arrays(digits)
    nearest = np.square(x_test[:, None] - x).sum(-1).argmin(1)
    assert x.shape == (1079, 64) and 0.975 < (y[nearest] == y_test).mean() < 1


def test_as_arrays_is_none_where_there_is_nothing_to_classify_or_too_much(digits):
    assert as_arrays(digits, limit=1000) is None
    assert as_arrays(build_source("planted", num_train=16, val_size=8, test_size=8)) is None


def test_data_info_survives_json(digits):
    info = replace(digits.info, class_names=tuple("abcdefghij"))
    assert DataInfo.from_dict(json.loads(json.dumps(asdict(info)))) == info


@pytest.mark.parametrize(("change", "message"), [({"nme": 1}, "'nme' is not a known key"), ({"std": None}, "missing: std")])
def test_data_info_with_wrong_keys_is_refused(digits, change, message):
    values = {k: v for k, v in (asdict(digits.info) | change).items() if v is not None}
    with pytest.raises(DataError, match=message):
        DataInfo.from_dict(values)


@pytest.mark.parametrize(("name", "options", "message"), [
    ("digit", {}, "'digit' is not a data source; did you mean digits"),
    ("digits", {"shfit": 1}, "no option 'shfit'; did you mean shift"),
    ("imagefolder", {}, "needs the option 'root'"),
    ("idx", {}, "needs the option 'root'"),
    ("idx", {"root": "x", "zoom": 1.0}, "zoom is 1.0; expected a number in \\[0, 0.9\\]"),
    ("idx", {"root": "x"}, "x: no such folder; data.root must hold train-images-idx3-ubyte"),
    ("dense", {}, "needs the option 'root'"),
    ("dense", {"root": "x", "on_error": "stop"}, "on_error is 'stop'"),
    ("dense", {"root": "x", "ignore_index": None}, "ignore_index is None; expected a whole number of at least -1"),
    ("digits", {"shift": -1}, "shift is -1; expected a whole number of at least 0"),
    ("digits", {"shift": True}, "shift is True"),
    ("digits", {"rotate_degrees": "abc"}, "rotate_degrees is 'abc'"),
    ("digits", {"scale": float("nan")}, "scale is nan"),
    ("planted", {"task": "decaying"}, "task is 'decaying'"),
    ("planted", {"direction": "w"}, "'w' is not a scan direction"),
    ("planted", {"grid": [8, 8, 8]}, "grid is \\[8, 8, 8\\]; expected one side or"),
    ("planted", {"grid": 2}, "take a larger grid"),
])  # fmt: skip
def test_wrong_options_are_refused_with_one_clear_line(name, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        build_source(name, **options)
    assert "\n" not in str(caught.value)


def test_options_of_several_numbers_are_taken_from_arrays():
    assert size2d("img_size", np.array([8, 6])) == (8, 6) and size2d("img_size", np.int64(8)) == (8, 8)
    assert shares("mean", np.array([0.25, 0.5, 0.75]), count=3) == (0.25, 0.5, 0.75)


def test_every_source_is_a_function_with_keyword_options_only():
    assert set(SOURCES) == {"dense", "digits", "idx", "imagefolder", "planted"}
    for build in SOURCES.values():
        with pytest.raises(TypeError):
            build("positional")


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.9])
def test_stratified_split_gives_every_class_its_share(fraction):
    labels = np.repeat(np.arange(7), [1, 3, 10, 11, 40, 100, 5])
    rest, part = stratified_split(labels, fraction, "a", 0)
    assert len(part) == int(len(labels) * fraction + 1e-9)
    assert np.array_equal(np.sort(np.concatenate([rest, part])), np.arange(len(labels)))
    counts, all_counts = np.bincount(labels[part], minlength=7), np.bincount(labels)
    assert np.abs(counts - fraction * all_counts).max() < 1


def test_stratified_split_depends_on_its_address_only():
    labels = np.repeat(np.arange(5), 20)
    first, again, other = (stratified_split(labels, 0.5, "a", seed)[1] for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
