"""Which files of a folder are images, what is left out and said, and classes that go by their names."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmsearch.data import build_source
from lmsearch.data.listing import find_images, inside, list_classes
from lmsearch.data.reading import readable_endings
from lmsearch.errors import DataError


def put(path, *, colour="red"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path, "PNG")  # readers go by the content


@pytest.fixture
def split(tmp_path):
    for name in ("across", "down"):
        for i in range(4):
            put(tmp_path / "train" / name / f"{i}.png")
            put(tmp_path / "val" / name / f"{i}.png")
    return tmp_path


def test_files_that_are_not_read_are_counted_per_ending(split, caplog):
    for i in range(6):
        put(split / "train" / "across" / f"{i}.heic")
    put(split / "train" / "down" / "notes.TXT")
    put(split / "train" / "down" / "README")
    list_classes(split / "train")
    assert f"{split / 'train'}: left out, since Pillow reads no such files here: 6 .heic, 1 .txt, 1 without ending" in caplog.text
    assert "class 'across' keeps only 4 of 10 files (left out: 6 .heic)" in caplog.text
    assert "'down' keeps" not in caplog.text


def test_system_litter_is_neither_read_nor_said(split, caplog):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.png", "__MACOSX/0.png", ".cache/0.png"):
        put(split / "train" / "across" / name)
        put(split / "train" / name)
    assert {name: len(files) for name, files in list_classes(split / "train").items()} == {"across": 4, "down": 4}
    assert not caplog.records


def test_every_ending_that_pillow_decodes_is_an_image_and_containers_are_not(tmp_path):
    for ending in (".jfif", ".AVIF", ".jp2", ".tga", ".apng", ".h5", ".mpg", ".eps", ".pdf"):
        put(tmp_path / f"a{ending}")
    found = find_images(tmp_path)
    assert [path.suffix for path in found.images] == [".AVIF", ".apng", ".jfif", ".jp2", ".tga"]
    assert found.left_out == {".h5": 1, ".mpg": 1, ".eps": 1, ".pdf": 1}


def test_a_plugin_that_registers_a_format_makes_its_ending_an_image(tmp_path, monkeypatch):
    put(tmp_path / "a.heic")
    assert not find_images(tmp_path).images
    monkeypatch.setitem(Image.EXTENSION, ".heic", "PNG")
    assert ".heic" in readable_endings() and len(find_images(tmp_path).images) == 1


def test_images_beside_the_class_folders_are_said(split, caplog):
    put(split / "train" / "loose.png")
    list_classes(split / "train")
    assert "1 image(s) lie outside the class folders" in caplog.text


def test_a_link_back_up_does_not_count_images_twice(split):
    os.symlink(split / "train", split / "train" / "across" / "up")
    assert len(find_images(split / "train").images) == 8


def test_a_folder_that_cannot_be_listed_is_not_skipped(split, monkeypatch):
    scandir = os.scandir

    def guarded(path):
        if str(path).endswith("down"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(DataError, match="down: this folder cannot be read .Permission denied"):
        find_images(split / "train")


@pytest.mark.parametrize("empty", [True, False])
def test_a_test_set_that_lacks_a_class_keeps_the_labels_of_training(split, caplog, empty):
    for i in range(3):
        put(split / "test" / "down" / f"{i}.png")
    if empty:
        (split / "test" / "across").mkdir()
    source = build_source("imagefolder", root=split, img_size=8)
    assert source.test.labels.tolist() == [1, 1, 1] and source.info.class_names == ("across", "down")
    assert f"{split / 'test'}: has no images of 1 of the 2 classes ('across'); the others keep their labels" in caplog.text


def test_given_class_names_decide_the_labels(split, caplog):
    source = build_source("imagefolder", root=split, img_size=8, class_names=["down", "lost", "across"])
    assert source.info.class_names == ("down", "lost", "across")
    assert np.unique(source.val.labels).tolist() == [0, 2] and "('lost')" in caplog.text
    assert "across" in source.val.path(int(np.flatnonzero(source.val.labels == 2)[0]))
    with pytest.raises(DataError, match="unknown to training: 'down'; its classes are 'across'"):
        build_source("imagefolder", root=split, img_size=8, class_names=["across"])


def test_training_classes_without_images_are_refused(split):
    (split / "train" / "nothing").mkdir()
    with pytest.raises(DataError, match="nothing: holds no images; accepted: .jpg, .png"):
        build_source("imagefolder", root=split, img_size=8)


def test_many_classes_that_lose_files_are_not_listed_one_by_one(tmp_path, caplog):
    for c in range(9):
        for name in ("a.png", "b.heic", "c.heic"):
            put(tmp_path / f"class {c}" / name)
    with caplog.at_level(logging.WARNING):
        list_classes(tmp_path)
    assert len(caplog.records) == 7 and "so do 4 more" in caplog.text


def test_images_are_in_the_order_of_paths_part_by_part_and_known_by_where_they_lie_inside(tmp_path, monkeypatch):
    names = ["a/x.png", "a-b/x.png", "a b/y.png", "a/10.png", "a/9.png", "a.png", "a/b/z.png", "ä/x.png", "Z.png", "a/b.png"]
    for name in names:
        put(tmp_path / "train" / "c" / name)
    images = find_images(tmp_path / "train" / "c").images
    assert images == sorted(tmp_path / "train" / "c" / name for name in names) and images != sorted(images, key=str)
    monkeypatch.chdir(tmp_path / "train")
    for folder in (tmp_path, Path(), Path("c"), Path("c", "a")):
        found = find_images(folder).images
        assert inside(folder, found) == [os.fsencode(path.relative_to(folder)) for path in found] and found == sorted(found)
    assert inside(Path("/"), images) == [os.fsencode(path.relative_to("/")) for path in images]
