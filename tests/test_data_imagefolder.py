"""Image folders: equal batches for any number of workers, broken files, and every way in which a folder can be wrong."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_data_loaders import Rank
from test_distributed import Meeting

from lmsearch.data import Batch, EvalLoader, as_arrays, build_loaders, build_source, fetching, load_images, search_loaders, spread
from lmsearch.data.broken import refilled
from lmsearch.data.fetching import killed_worker
from lmsearch.engine.distributed import SINGLE
from lmsearch.engine.objectives import objective_for
from lmsearch.engine.train import Precision, evaluate
from lmsearch.errors import DataError, SourceError
from lmsearch.interrupts import SIGNALS
from lmsearch.trials.storage import _born

CLASSES = ("a cat", "dog, big", "x=y")
SUFFIXES = (".png", ".jpg", ".JPEG", ".bmp", ".webp")


def write_image(path, seed, *, size=(24, 20), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def make_folder(root, *, per_class=5, splits=("train", "val")):
    for s, split in enumerate(splits):
        for c, name in enumerate(CLASSES):
            for i in range(per_class):
                write_image(root / split / name / f"img {i}, n={i}{SUFFIXES[i % 5]}", 100 * s + 10 * c + i)
            (root / split / name / "notes.txt").write_text("not an image")
            (root / split / name / "._img.jpg").write_bytes(b"resource fork")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data set, a=b"))


@pytest.fixture
def own_folder(tmp_path):
    return make_folder(tmp_path / "images")


def epoch_of(loader, epoch):
    loader.set_epoch(epoch)
    return list(loader)


def assert_equal(first, second):
    assert len(first) == len(second)
    for x, y in zip(first, second, strict=True):
        assert torch.equal(x[0], y[0]) and torch.equal(x[1], y[1])


def test_classes_are_the_sorted_folder_names_and_other_files_are_ignored(folder):
    source = build_source("imagefolder", root=str(folder), img_size=16)
    assert source.info.class_names == CLASSES and source.info.num_classes == 3
    assert source.train.epoch_size(4) == 15 and source.train.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert source.test is source.val
    assert (source.info.in_chans, source.info.img_size, source.val.epoch_size(4)) == (3, (16, 16), 15)


def test_batches_are_equal_for_any_number_of_workers_and_order_of_epochs_and_in_pieces(folder, monkeypatch):
    source = build_source("imagefolder", root=folder, img_size=16)
    alone = build_loaders(source, batch_size=4, seed=3).train
    whole = epoch_of(alone, 1)
    monkeypatch.setattr(fetching, "PIECE", 3)
    assert_equal(whole, epoch_of(alone, 1))
    workers = build_loaders(source, batch_size=4, seed=3, num_workers=2)
    for epoch in (0, 1):
        assert_equal(epoch_of(alone, epoch), epoch_of(workers.train, epoch))
    next(iter(workers.train))  # left in the middle
    fresh = build_loaders(source, batch_size=4, seed=3).train
    assert_equal(epoch_of(fresh, 3), epoch_of(workers.train, 3))
    assert_equal(list(build_loaders(source, batch_size=4, seed=0).val), list(workers.val))
    workers.train.close()


def test_batches_for_a_gpu_are_pinned_once_also_those_of_several_pieces(folder, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(Batch, "pin_memory", lambda batch: pinned.append(len(batch.inputs)) or batch)
    monkeypatch.setattr("lmsearch.data.batch._joined_pinned", lambda parts: pinned.append(f"of {len(parts)}") or torch.cat(parts))
    loader = build_loaders(build_source("imagefolder", root=folder, img_size=16), batch_size=4, seed=3, pin_memory=True).train
    whole = epoch_of(loader, 1)
    assert pinned == [4, 4, 4]
    pinned.clear()
    monkeypatch.setattr(fetching, "PIECE", 3)
    assert_equal(whole, epoch_of(loader, 1))
    assert pinned == ["of 2"] * 6, "inputs and targets of three batches"


# PyTorch's signal handler may raise while PyTorch itself opens files to count how many are left.
@pytest.mark.filterwarnings("ignore:.*unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("part", ["train", "val"])
def test_a_killed_worker_is_one_clear_line_and_the_next_pass_is_whole(folder, part):
    source = build_source("imagefolder", root=folder, img_size=16)
    loader = getattr(build_loaders(source, batch_size=1, seed=3, num_workers=2), part)
    whole = list(build_loaders(source, batch_size=1, seed=3).train if part == "train" else loader)
    batches = iter(loader)
    next(batches)
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(DataError, match=r"set: a process that reads images was killed.*lower num_workers") as raised:
        list(batches)
    assert "\n" not in str(raised.value)
    assert_equal(whole, list(loader))
    if part == "train":
        loader.close()


def test_a_worker_that_is_killed_between_two_passes_is_one_clear_line_wherever_that_is_seen(folder):
    source = build_source("imagefolder", root=folder, img_size=16)
    train = build_loaders(source, batch_size=5, seed=3, num_workers=1).train
    epoch_of(train, 0)
    (child,) = multiprocessing.active_children()
    with pytest.raises(DataError, match="killed by signal|exited unexpectedly"), killed_worker():
        os.kill(child.pid, signal.SIGKILL)
        for _ in range(1000):  # PyTorch raises in whatever runs when the news arrives
            time.sleep(0.01)
    train.close()


def test_signals_to_a_whole_group_leave_processes_that_read_images_at_work(folder):
    source = build_source("imagefolder", root=folder, img_size=8)
    whole = list(build_loaders(source, batch_size=1, seed=3).train)
    train = build_loaders(source, batch_size=1, seed=3, num_workers=2).train
    batches = iter(train)
    first = next(batches)
    group, other = (child.pid for child in multiprocessing.active_children())
    for child in (group, other):
        os.setpgid(child, group)
    for number in SIGNALS:  # not from here: who started them may end them
        subprocess.run(["sh", "-c", f"kill -{number} -{group}"], check=True)
    time.sleep(0.1)
    assert_equal(whole, [first, *batches])
    assert {child.pid for child in multiprocessing.active_children()} == {group, other}
    train.close()


def test_a_process_that_reads_images_is_ended_by_the_one_that_started_it(folder):
    train = build_loaders(build_source("imagefolder", root=folder, img_size=8), batch_size=5, seed=3, num_workers=1).train
    epoch_of(train, 0)
    (child,) = multiprocessing.active_children()
    child.terminate()  # as Python does when it ends, and then waits
    child.join(20)
    assert child.exitcode == 0
    train.close()


def read_until_killed(folder, pipe):
    """Begin a pass with processes that read, tell which they are, and wait."""
    train = build_loaders(build_source("imagefolder", root=folder, img_size=8), batch_size=5, seed=3, num_workers=2).train
    batches = iter(train)
    next(batches)
    pipe.send([child.pid for child in multiprocessing.active_children()])
    time.sleep(60)


def test_processes_that_read_images_end_with_a_killed_parent(folder):
    ours, theirs = multiprocessing.Pipe()
    parent = multiprocessing.get_context("fork").Process(target=read_until_killed, args=(folder, theirs))
    parent.start()
    readers = ours.recv()
    assert len(readers) == 2 and all(map(_born, readers))
    parent.kill()
    parent.join()
    for _ in range(200):
        if not any(map(_born, readers)):
            return
        time.sleep(0.1)
    pytest.fail("processes that read images are left behind")


def test_a_pass_of_few_batches_starts_no_more_processes_than_have_one_and_none_for_a_single_one(folder):
    source = build_source("imagefolder", root=folder, img_size=8)
    alone = build_loaders(source, batch_size=1, seed=0).val
    for places, expected in ((np.arange(1), 0), (np.arange(2), 2)):
        batches = iter(build_loaders(source, batch_size=1, seed=0, num_workers=5).val.at(places))
        first = next(batches)
        assert len(multiprocessing.active_children()) == expected
        assert_equal(list(alone.at(places)), [first, *batches])


def test_global_random_state_is_left_alone_by_workers(folder):
    state = torch.get_rng_state()
    train = build_loaders(build_source("imagefolder", root=folder, img_size=8), batch_size=5, seed=0, num_workers=1).train
    assert len(list(train)) == 3
    train.close()
    assert torch.equal(state, torch.get_rng_state())


def test_epochs_are_augmented_differently_and_evaluation_is_not(folder):
    source = build_source("imagefolder", root=folder, img_size=16)
    indices = np.arange(15)
    first, second = (source.train.train_batch(indices, seed=0, epoch=e).inputs for e in (0, 1))
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(source.train.eval_batch(indices).inputs, source.train.eval_batch(indices).inputs)


def test_augmentation_belongs_to_the_sample_not_to_its_batch(folder):
    train = build_source("imagefolder", root=folder, img_size=16).train
    whole = train.train_batch(np.arange(15), seed=1, epoch=2)
    some = train.train_batch(np.array([9, 2]), seed=1, epoch=2)
    assert torch.equal(some.inputs, whole.inputs[[9, 2]]) and some.targets.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("in_chans", "img_size", "shape"), [(1, 16, (1, 16, 16)), (3, (12, 20), (3, 12, 20)), (1, [9, 8], (1, 9, 8))]
)
def test_channels_and_size_are_as_asked(folder, in_chans, img_size, shape):
    source = build_source("imagefolder", root=folder, img_size=img_size, in_chans=in_chans)
    loaders = build_loaders(source, batch_size=3, seed=0)
    for images, targets, *_ in (next(iter(loaders.train)), next(iter(loaders.val))):
        assert images.shape == (3, *shape) and images.dtype == torch.float32 and targets.dtype == torch.int64
    assert len(source.info.mean) == len(source.info.std) == in_chans


def test_a_test_folder_is_used_where_there_is_one(tmp_path):
    source = build_source("imagefolder", root=make_folder(tmp_path, per_class=1, splits=("train", "val", "test")), img_size=8)
    assert source.test is not source.val
    assert not torch.equal(source.test.eval_batch(np.arange(3)).inputs, source.val.eval_batch(np.arange(3)).inputs)


def test_search_parts_are_disjoint_and_stratified(folder):
    source = build_source("imagefolder", root=folder, img_size=8)
    loaders = search_loaders(source, holdout=0.4, batch_size=1, seed=0)
    weights, alphas = (part.epoch_indices(0) for part in loaders[:2])
    assert sorted([*weights, *alphas]) == list(range(15))
    assert source.train.labels[alphas].tolist().count(0) == 2 and len(alphas) == 6
    assert len(list(loaders.holdout)) == 6


def test_as_arrays_flattens_small_folders(folder):
    source = build_source("imagefolder", root=folder, img_size=8)
    x, y, x_test, y_test = as_arrays(source)
    assert x.shape == x_test.shape == (15, 192) and y.tolist() == y_test.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert as_arrays(source, limit=14) is None


def test_the_dataset_can_be_sent_to_another_process(folder):
    train = build_source("imagefolder", root=folder, img_size=8).train
    copy = pickle.loads(pickle.dumps(train))
    there, here = (part.train_batch(np.arange(3), seed=0, epoch=0) for part in (copy, train))
    assert torch.equal(there.inputs, here.inputs)


BROKEN = {
    "text": lambda path: path.write_text("hello"),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:300]),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_broken_image_is_one_clear_line_that_names_it(own_folder, kind, num_workers):
    broken = own_folder / "train" / CLASSES[1] / "img 0, n=0.png"
    BROKEN[kind](broken)
    source = build_source("imagefolder", root=own_folder, img_size=8)
    loader = build_loaders(source, batch_size=15, seed=0, num_workers=num_workers).train
    others = {*multiprocessing.active_children()}
    with pytest.raises(SourceError, match="img 0, n=0.png: not a readable image") as caught:
        list(loader)
    loader.close()
    assert {*multiprocessing.active_children()} <= others, "the error knows them still"
    assert "\n" not in str(caught.value) and str(broken) in str(caught.value) and "data.on_error=skip" in str(caught.value)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_broken_image_can_be_skipped_and_is_counted_every_epoch_and_logged_once(own_folder, num_workers, caplog):
    for split in ("train", "val"):
        BROKEN["truncated"](own_folder / split / CLASSES[0] / "img 1, n=1.jpg")
        BROKEN["text"](own_folder / split / CLASSES[2] / "img 3, n=3.bmp")
    source = build_source("imagefolder", root=own_folder, img_size=8, on_error="skip")
    loaders = build_loaders(source, batch_size=5, seed=0, num_workers=num_workers)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        for epoch in range(2):
            assert [len(batch.inputs) for batch in epoch_of(loaders.train, epoch)] == [5, 5, 5]
            assert len(loaders.train.skipped) == 2
    assert len(caplog.records) == 1 and "epoch 0: 2 unreadable image(s) skipped" in caplog.text
    assert sum(len(batch.inputs) for batch in loaders.val) == 13 and len(loaders.val.skipped) == 2
    loaders.train.close()


def test_a_refilled_batch_holds_only_its_own_samples(own_folder):
    BROKEN["text"](own_folder / "train" / CLASSES[0] / "img 1, n=1.jpg")
    train = build_source("imagefolder", root=own_folder, img_size=8, on_error="skip").train
    batch = train.train_batch(np.array([1, 12]), seed=0, epoch=0)
    assert batch.targets.tolist() == [2, 2] and not torch.equal(batch.inputs[0], batch.inputs[1])


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_batch_of_broken_images_takes_the_next_one_that_can_be_read(own_folder, ranks):
    for path in (own_folder / "train" / CLASSES[1]).glob("img*"):
        BROKEN["text"](path)
    source = build_source("imagefolder", root=own_folder, img_size=8, on_error="skip")
    for rank in range(ranks):
        loader = build_loaders(source, batch_size=ranks, seed=0, world=Rank(rank, ranks)).train
        whole = list(loader)
        assert [len(batch.inputs) for batch in whole] == [1] * (15 // ranks) and len(set(loader.skipped)) == len(loader.skipped)
        for batch, index in zip(whole, loader.epoch_indices(0), strict=True):
            assert batch.targets.tolist() == [2 if 5 <= index < 10 else source.train.labels[index]]
            assert batch.indices.tolist() == [index]
        loader.set_epoch(0, start_batch=2)
        assert_equal(list(loader), whole[2:])


def test_what_takes_the_place_of_broken_images_is_of_the_same_part_and_of_the_same_number(own_folder):
    for path in (own_folder / "train" / CLASSES[0]).glob("img*"):
        BROKEN["text"](path)
    train = build_source("imagefolder", root=own_folder, img_size=8, on_error="skip").train
    read, pool = partial(train.train_batch, seed=0, epoch=0), np.array([0, 3, 4, 13])
    batch = refilled(read, np.array([3, 0]), pool)
    assert batch.targets.tolist() == [2, 2] and batch.indices.tolist() == [3, 0] and len(batch.skipped) == 3
    assert torch.equal(batch.inputs, read(np.array([3, 0, 13])).inputs[:2]) and not torch.equal(*batch.inputs)
    with pytest.raises(DataError, match="none of 2 samples can be read, first: .*not a readable image"):
        refilled(read, np.array([1]), np.array([1, 2]))


def test_a_process_that_can_read_nothing_takes_part_in_an_evaluation(own_folder):
    for number in (0, 2, 4):
        BROKEN["text"](next((own_folder / "val" / CLASSES[0]).glob(f"img {number},*")))
    source = build_source("imagefolder", root=own_folder, img_size=8, on_error="skip")
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))

    def scored(world):
        loader = EvalLoader(source.val, batch_size=2, indices=np.arange(5), world=world)  # those of the first are broken
        scores = evaluate(net, loader, objective_for("class"), Precision(torch.device("cpu")))
        return scores.losses.tolist(), scores.sums.tolist(), spread(loader, 5).indices.tolist()

    alone = scored(SINGLE)
    assert Meeting(2).run(scored) == [alone] * 2 and len(alone[0]) == 2 and alone[2] == [1, 3]


def test_an_evaluation_of_which_nothing_can_be_read_is_one_line(own_folder):
    for path in (own_folder / "val" / CLASSES[0]).glob("img*"):
        BROKEN["text"](path)
    loader = EvalLoader(
        build_source("imagefolder", root=own_folder, img_size=8, on_error="skip").val, batch_size=2, indices=np.arange(5)
    )
    with pytest.raises(SourceError, match="none of the test samples can be read"):
        evaluate(torch.nn.Flatten(), loader, objective_for("class"), Precision(torch.device("cpu")), what="test")
    with pytest.raises(SourceError, match="none of 3 samples that were picked can be read"):
        spread(loader, 3)


def remove(path):
    for child in sorted(path.rglob("*"), reverse=True):
        child.rmdir() if child.is_dir() else child.unlink()
    path.rmdir()


WRONG = {
    "no root": (lambda root: remove(root), "no such folder; root must hold"),
    "no train": (
        lambda root: remove(root / "train"),
        "train: no such folder, but val/ there is taken for a split; expected train/<class>/",
    ),
    "a class called as a split": (
        lambda root: [remove(root / "train"), (root / "val").rename(root / "valid")],
        "train: no such folder, but valid/ there is taken for a split.* called train, training, val, .* are no classes",
    ),
    "no classes": (lambda root: [remove(root / "train" / c) for c in CLASSES], "train: holds no class folders"),
    "no images": (
        lambda root: [p.unlink() for p in (root / "train" / CLASSES[1]).glob("img*")],
        "dog, big: holds no images; accepted: .jpg",
    ),
    "val class unknown": (
        lambda root: write_image(root / "val" / "cow" / "a.png", 0),
        "val: 1 class folder.s. are unknown to training: 'cow'; its classes are 'a cat', 'dog, big', 'x=y'",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_folder_is_refused_with_one_clear_line(own_folder, kind):
    spoil, message = WRONG[kind]
    spoil(own_folder)
    with pytest.raises(SourceError, match=message) as caught:
        build_source("imagefolder", root=own_folder)
    assert "\n" not in str(caught.value)


def test_a_folder_beside_train_that_is_not_read_is_told(own_folder, caplog):
    (own_folder / "notes").mkdir()
    (own_folder / "val").rename(own_folder / "holdout")
    build_source("imagefolder", root=own_folder)
    told = [record.message for record in caplog.records if "not read" in record.message]
    assert len(told) == 1 and "classes of train/ are in holdout/ too, which is not read; a folder that validates" in told[0]
    caplog.clear()
    (own_folder / "holdout").rename(own_folder / "Dev")
    assert "Dev" in Path(build_source("imagefolder", root=own_folder).val.path(0)).parts and "not read" not in caplog.text


@pytest.mark.parametrize(("options", "message"), [
    ({"in_chans": 2}, "in_chans is 2"),
    ({"img_size": 0}, "img_size is 0"),
    ({"img_size": "224"}, "img_size is '224'"),
    ({"mean": [0.5, 0.5]}, "mean is \\[0.5, 0.5\\]; expected 3 number"),
    ({"std": 0}, "std is 0"),
    ({"mean": 127.5, "std": 127.5}, r"mean is 127.5; expected values of 0 to 1, of images scaled to \[0, 1\] \(divide by 255\)"),
    ({"std": [0.2, 58, 0.2]}, r"std is 58; expected values of 1e-06 to 1, .*\(divide by 255\)"),
    ({"scale": [1, 0.5]}, "scale is .*lower bound first"),
    ({"erasing_prob": 2}, "erasing_prob is 2; expected a number in \\[0, 1\\]"),
    ({"on_error": "ignore"}, "on_error is 'ignore'"),
])  # fmt: skip
def test_wrong_options_are_refused(folder, options, message):
    with pytest.raises(DataError, match=message):
        build_source("imagefolder", root=folder, **options)


def test_predicted_images_are_prepared_as_in_evaluation(folder):
    source = build_source("imagefolder", root=folder, img_size=16)
    found = list(load_images(folder / "val", source.info))
    assert [path for path, _ in found] == [type(folder)(source.val.path(i)) for i in range(15)]
    assert torch.equal(torch.stack([image for _, image in found]), source.val.eval_batch(np.arange(15)).inputs)
    path, image = next(load_images([found[3][0]], replace(source.info, in_chans=1, mean=(0.5,), std=(0.5,))))
    assert path == found[3][0] and image.shape == (1, 16, 16)


def test_predicting_says_what_is_wrong_with_a_path(own_folder, caplog):
    info = build_source("imagefolder", root=own_folder, img_size=16).info
    (own_folder / "none").mkdir()
    for path, message in (
        (own_folder / "nowhere.png", "no such file or folder"),
        (own_folder / "none", "holds no images"),
    ):
        with pytest.raises(DataError, match=message):
            load_images(path, info)
    with pytest.raises(DataError, match="1 .grey. or 3"):
        load_images(own_folder, replace(info, in_chans=2))
    BROKEN["empty"](own_folder / "val" / CLASSES[0] / "img 0, n=0.png")
    with pytest.raises(DataError, match="img 0, n=0.png: not a readable image"):
        list(load_images(own_folder / "val", info))
    assert len(list(load_images(own_folder / "val", info, on_error="skip"))) == 14 and "left out" in caplog.text
