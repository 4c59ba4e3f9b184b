"""COCO and YOLO folders: the same shapes read alike in every layout, and every way in which annotations can be wrong."""

from __future__ import annotations

import json
import logging
import shutil
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dense_folders import SIZE, coco, write_coco, write_picture, write_shapes

from lmsearch.cli import main
from lmsearch.config import compose, settings_of
from lmsearch.data import Source, build_source
from lmsearch.data.dense.coco import read_content, say_passed_over
from lmsearch.data.dense.folder import Wanted, read_dense_for_evaluation
from lmsearch.data.dense.numbers import of_coco
from lmsearch.data.dense.shapes import CLASSES, make_scene
from lmsearch.data.dense.writing import CATEGORY_IDS
from lmsearch.data.instances import Instances
from lmsearch.data.sources.dense import without_masks
from lmsearch.engine.checkpoint import ModelSpec
from lmsearch.errors import DataError
from lmsearch.settings.tasks import Evaluate
from lmsearch.tasks.evaluate import measured_on
from lmsearch.tasks.parts.readers import sample_bytes


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {format: write_shapes(tmp_path_factory.mktemp(format), format) for format in ("coco", "yolo", "masks")}


def of(folder: Path, **options: object) -> Source:
    return build_source("dense", root=str(folder), **{"img_size": list(SIZE), "in_chans": 3, **options})


def small(folder: Path, **options: object) -> Source:
    """Return the source of a folder of 6 x 8 pixels with boxes and masks."""
    return of(folder, **{"img_size": [6, 8], "in_chans": 1, "target": "instances", "val_fraction": 0.5, **options})


def pair(folder: Path, content: dict[str, Any], **options: object) -> Source:
    """Return the source of a folder whose training and validation split are both `content`."""
    return small(write_coco(write_coco(folder, content), content, split="val"), val_fraction=None, **options)


def objects(source: Source) -> Instances:
    """Return the objects of the training images as evaluation sees them."""
    targets = source.train.eval_batch(np.arange(len(source.train.part))).targets
    assert isinstance(targets, Instances)
    return targets


@pytest.mark.parametrize("format", ["coco", "yolo"])
def test_boxes_and_masks_of_objects_are_those_of_the_shapes(folders: dict[str, Path], format: str) -> None:
    source = of(folders[format], target="instances")
    assert source.info.class_names == CLASSES and source.info.target == "instances"
    assert source.info.categories == (CATEGORY_IDS if format == "coco" else (0, 1, 2, 3, 4))
    held = objects(source)
    for number in range(8):
        scene, own = make_scene(number, split="train", size=SIZE), held.of_image(number)
        assert own.masks is not None and np.array_equal(own.masks[0].numpy(), scene.masks)
        assert own.classes[0].tolist() == scene.classes.tolist() and not own.crowd.any()
        assert np.array_equal(own.boxes[0].numpy(), scene.boxes)
        told = np.array([thing.box for thing in source.train.sample(number).things]).reshape(-1, 4)
        assert np.allclose(told, scene.boxes)


def test_all_layouts_give_the_same_classes_of_pixels(folders: dict[str, Path]) -> None:
    sources = {format: of(folder) for format, folder in folders.items()}
    assert {source.info.class_names for source in sources.values()} == {("background", *CLASSES)}
    assert sources["coco"].info.categories == (None, *CATEGORY_IDS)
    batches = [source.train.eval_batch(np.arange(8)) for source in sources.values()]
    for other in batches[1:]:
        assert torch.equal(batches[0].targets, other.targets) and torch.equal(batches[0].inputs, other.inputs)
    assert len(sources["yolo"].val.part) == 2 and sources["yolo"].test is not sources["yolo"].val


def test_training_on_objects_hangs_on_seed_epoch_and_image_alone(folders: dict[str, Path]) -> None:
    train = of(folders["coco"], target="instances", img_size=16).train
    batch = train.train_batch(np.arange(8), seed=0, epoch=3)
    assert isinstance(batch.targets, Instances) and batch.targets.masks is not None
    alone = train.train_batch(np.array([5]), seed=0, epoch=3)
    assert isinstance(alone.targets, Instances)
    assert torch.equal(alone.inputs[0], batch.inputs[5]) and torch.equal(
        alone.targets.boxes[0], batch.targets.of_image(5).boxes[0]
    )
    for place in range(8):
        own = batch.targets.of_image(place)
        assert own.masks is not None
        for box, mask in zip(own.boxes[0], own.masks[0], strict=True):
            left, top, right, bottom = box.int().tolist()
            assert mask[top:bottom, left:right].sum() == mask.sum() and mask[top].any() and mask[:, right - 1].any()


def test_batches_without_masks_have_the_same_boxes_and_are_measured_alike(folders: dict[str, Path]) -> None:
    whole = of(folders["coco"], target="instances", img_size=16)
    boxed = without_masks(whole)
    assert (boxed.test is boxed.val) is (whole.test is whole.val)
    pairs = [[source.train.train_batch(np.arange(8), seed=0, epoch=3) for source in (whole, boxed)]]
    pairs += [[part.eval_batch(np.arange(2)) for part in parts] for parts in ((whole.val, boxed.val), (whole.test, boxed.test))]
    for one, other in pairs:
        assert isinstance(one.targets, Instances) and isinstance(other.targets, Instances)
        assert one.targets.masks is not None and other.targets.masks is None and torch.equal(one.inputs, other.inputs)
        for name in ("boxes", "classes", "crowd"):
            assert torch.equal(getattr(one.targets, name), getattr(other.targets, name))
        assert [place.truth.outlines for place in one.own or ()] == [place.truth.outlines for place in other.own or ()]


def test_the_fullest_image_tells_how_many_bytes_a_batch_has(folders: dict[str, Path]) -> None:
    whole, pixels = of(folders["coco"], target="instances"), of(folders["masks"])
    for source in (whole, without_masks(whole), pixels):
        batch = source.train.eval_batch(np.arange(8))
        objects = batch.targets
        labels = [objects] if isinstance(objects, torch.Tensor) else [objects.boxes, objects.classes, objects.crowd]
        labels += [objects.masks] if isinstance(objects, Instances) and objects.masks is not None else []
        assert sum(part.nbytes for part in (batch.inputs, *labels)) == 8 * sample_bytes(source)


def test_images_without_objects_stay(folders: dict[str, Path]) -> None:
    held = objects(of(folders["yolo"], target="instances"))
    counts = [len(make_scene(number, split="train", size=SIZE).classes) for number in range(8)]
    assert held.present.sum(1).tolist() == counts and 0 in counts


def test_a_crowd_is_marked_and_told_and_boxes_without_outline_have_no_masks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs = {"size": [6, 8], "counts": [0, 12, 36]}
    crowd = {"id": 2, "image_id": 5, "category_id": 7, "bbox": [0, 0, 2, 6], "iscrowd": 1, "segmentation": runs}
    content = coco()
    content["annotations"] += [crowd]
    content["annotations"][0]["ignore"] = 1
    with caplog.at_level(logging.INFO):
        source = pair(tmp_path, content)
    assert "1 of 2 objects are crowds (iscrowd 1), neither learnt nor to be found as objects; some tools" in caplog.text
    assert (
        'of several parts: set it to 0 for single objects; 1 objects have "ignore", which COCO\'s AP does not heed' in caplog.text
    )
    held = objects(source).of_image(0)
    assert held.crowd[0].tolist() == [False, True] and held.masks is not None and held.masks[0].sum((1, 2)).tolist() == [6, 12]
    own = source.train.eval_batch(np.array([0])).own
    assert own is not None and own[0].truth.crowd.tolist() == [False, True] and source.train.sample(0).id == 5
    for entry in content["annotations"]:
        entry.pop("segmentation")
    plain = pair(tmp_path, content)
    assert objects(plain).masks is None and objects(plain).boxes[0].tolist() == [[1, 2, 4, 4], [0, 0, 2, 6]]


def test_objects_that_are_listed_again_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = coco()
    content["annotations"] *= 2
    assert objects(pair(tmp_path, content)).present.sum() == 2
    assert caplog.text.count("1 of 2 objects are listed again, with the class, box and outline of one before") == 2
    caplog.clear()
    content["annotations"][1] = {**content["annotations"][0], "id": 2, "segmentation": [[1, 2, 4, 2, 4, 4]]}
    pair(tmp_path, content)
    small(write_yolo(tmp_path / "once"))
    assert "listed again" not in caplog.text
    small(write_yolo(tmp_path / "twice", "0 0.5 0.5 0.25 0.5\n" * 2))
    assert "objects are listed again" in caplog.text


@pytest.mark.parametrize(("crowds", "level"), [(0, None), (1, logging.INFO), (2, logging.WARNING)])
def test_a_large_share_of_crowds_is_a_warning(caplog: pytest.LogCaptureFixture, crowds: int, level: int | None) -> None:
    with caplog.at_level(logging.INFO):
        say_passed_over(Path("a.json"), [True] * crowds + [False] * (10 - crowds), 0)
    assert [record.levelno for record in caplog.records] == [level] * (crowds > 0)


@pytest.mark.parametrize(("id", "told"), [(0, 1), (1, 0)])
def test_an_object_that_scorers_never_count_as_found_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, id: int, told: int
) -> None:
    folder = write_coco(tmp_path, changed(id=id))
    info = small(folder).info
    (file,) = folder.rglob("*.json")
    of_coco(file, sorted(folder.rglob("*.png")), info)
    assert sum("1 annotation(s) have an id below 1" in line for line in caplog.messages) == told


@pytest.mark.parametrize(("second", "told"), [(1, 1), (2, 0)])
def test_objects_that_repeat_an_id_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture, second: int, told: int) -> None:
    (entry,) = changed(id=1)["annotations"]
    folder = write_coco(tmp_path, coco(annotations=[entry, entry | {"id": second}]))
    (file,) = folder.rglob("*.json")
    of_coco(file, sorted(folder.rglob("*.png")), small(folder).info)
    assert sum("1 annotation(s) have the id of another" in line for line in caplog.messages) == told


def test_one_class_and_gaps_in_the_ids_are_numbered_from_0(tmp_path: Path) -> None:
    listed = [{"id": 90, "name": "b"}, {"id": 7, "name": "a"}]
    assert small(write_coco(tmp_path, coco(categories=listed))).info.class_names == ("a", "b")
    assert small(write_coco(tmp_path, coco())).info.categories == (7,)


def test_categories_of_other_splits_go_by_name(tmp_path: Path) -> None:
    write_coco(tmp_path, coco(categories=[{"id": 7, "name": "square"}, {"id": 9, "name": "disc"}]))
    content = coco(categories=[{"id": 1, "name": "square"}])
    content["annotations"][0]["category_id"] = 1
    source = small(write_coco(tmp_path, content, split="val"), val_fraction=None)
    assert source.val.sample(0).things[0].label == 0
    content["categories"][0]["name"] = "star"
    with pytest.raises(DataError, match="1 categories are unknown to training: star; its classes are square, disc"):
        small(write_coco(tmp_path, content, split="val"), val_fraction=None)


def test_known_classes_keep_their_places(tmp_path: Path) -> None:
    source = pair(tmp_path, coco(), class_names=("disc", "square"), categories=(3, 7))
    assert source.info.class_names == ("disc", "square") and source.train.sample(0).things[0].label == 1
    known = {"class_names": ("background", "disc", "square"), "categories": (None, 3, 7)}
    pixels = pair(tmp_path, coco(), target="segmentation", **known)
    assert (
        pixels.info.class_names == ("background", "disc", "square") and pixels.train.eval_batch(np.array([0])).targets.max() == 2
    )


def test_classes_that_do_not_become_those_of_training_are_refused(folders: dict[str, Path]) -> None:
    known = {"class_names": ("ground", *CLASSES), "categories": (0, 1, 2, 3, 4, 5)}  # of masks
    told = "read as coco, its classes are background, ground, disc.*; those of training ground, disc.*"
    with pytest.raises(DataError, match=f"{told}; objects fit where the first class of training is 'background'"):
        of(folders["coco"], **known)


def test_masks_whose_first_class_is_the_background_and_objects_are_measured_with_each_other(folders: dict[str, Path]) -> None:
    masks = of(folders["masks"])
    for format in ("coco", "yolo"):
        objects = of(folders[format], class_names=masks.info.class_names, categories=masks.info.categories)
        assert objects.info.class_names == masks.info.class_names == ("background", *CLASSES)
        back = of(folders["masks"], class_names=objects.info.class_names, categories=objects.info.categories)
        seen = [source.test.eval_batch(np.arange(2)).targets for source in (masks, objects, back)]
        assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])
    kept = ("background", *CLASSES)  # objects may be of a class of that name
    assert of(folders["coco"], target="instances", class_names=kept, categories=tuple(range(6))).info.class_names == kept


def test_a_file_beside_its_images_is_read(tmp_path: Path) -> None:
    for split in ("Train", "valid"):
        write_coco(tmp_path, coco(), split=split)
        (tmp_path / "annotations" / f"instances_{split}.json").rename(tmp_path / split / "_annotations.coco.json")
    source = small(tmp_path, val_fraction=None)
    assert len(source.train.part) == 2 and source.val.path(0) == str(tmp_path / "valid" / "5.png")


def test_of_several_files_one_at_a_time_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Content(dict[str, Any]):
        """Knows whether it is still held."""

    read: list[weakref.ref[Content]] = []

    def watched(path: Path) -> Content:
        assert not [one for one in read if one() is not None], f"an earlier file is held when {path.name} is read"
        content = Content(read_content(path))
        read.append(weakref.ref(content))
        return content

    monkeypatch.setattr("lmsearch.data.dense.coco.read_content", watched)
    pair(tmp_path, coco())
    assert len(read) == 2


def test_a_network_is_measured_without_the_file_of_the_training_images(tmp_path: Path) -> None:
    whole = write_coco(write_coco(tmp_path, coco()), coco(), split="val")
    wanted = Wanted(class_names=("disc", "square"), categories=(3, 7))
    found = read_dense_for_evaluation(whole, format=None, wanted=wanted)
    assert found.class_names == ("disc", "square") and found.categories == (0, 7) and found.test is found.val
    assert found.val.things is not None and found.val.things.labels.tolist() == [1] and found.val.where.endswith("_val.json")
    (tmp_path / "annotations" / "instances_train.json").write_text("{")
    again = read_dense_for_evaluation(whole, format=None, wanted=wanted)
    assert again.val.names() == found.val.names() and again.categories == found.categories
    with pytest.raises(DataError, match="instances_train.json: not valid JSON"):
        read_dense_for_evaluation(whole, format=None, wanted=Wanted())
    info = small(write_coco(tmp_path / "other"), class_names=["disc", "square"], categories=[3, 7]).info
    spec = ModelSpec("local_vim_nano", (("h",),), data={"source": {"name": "dense", "root": str(whole)}})
    words = ["checkpoint=x", "data=dense", f"data.root={whole}"]
    own, aside = (settings_of(Evaluate, compose("evaluate", [*words, *more])).data for more in ([], ["data.val_digest=x"]))
    assert measured_on(own, spec, info)["root"].val.names() == found.val.names(), "of its own folder neither"
    assert measured_on(aside, spec, info)["root"] == str(whole), "training images validate"


def test_a_network_is_measured_without_the_masks_of_the_training_images(folders: dict[str, Path], tmp_path: Path) -> None:
    root, info = shutil.copytree(folders["masks"], tmp_path / "masks"), of(folders["masks"]).info
    for mask in (root / "annotations" / "train").iterdir():
        mask.unlink()
    wanted = Wanted(class_names=info.class_names, categories=info.categories, per_pixel=True)
    found = read_dense_for_evaluation(root, format=None, wanted=wanted)
    assert (len(found.val), len(found.test), found.class_names) == (2, 2, info.class_names)
    with pytest.raises(DataError, match="no mask of the same stem"):
        read_dense_for_evaluation(root, format=None, wanted=Wanted())


def test_a_yolo_folder_that_has_its_test_split_alone_is_measured(tmp_path: Path) -> None:
    text = "path: .\ntrain: train/images\nval: [val/images]\ntest: test/images\nnames: [a, b]\n"
    (write_yolo(tmp_path, description=text) / "train").rename(tmp_path / "test")
    found = read_dense_for_evaluation(tmp_path, format=None, wanted=Wanted(class_names=("b", "a")))
    assert found.test is found.val and len(found.test) == 4 and found.class_names == ("b", "a")
    with pytest.raises(DataError, match="train is 'train/images', which is not there; looked in [^ ]*$"):
        read_dense_for_evaluation(tmp_path, format=None, wanted=Wanted())


def test_small_objects_lie_on_top_of_large_ones(tmp_path: Path) -> None:
    def rectangle(id: int, left: int, right: int) -> dict[str, Any]:
        outline = [[left, 0, right, 0, right, 6, left, 6]]
        return {"id": 1, "image_id": 5, "category_id": id, "bbox": [left, 0, right - left, 6], "segmentation": outline}

    listed = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    content = coco(annotations=[rectangle(1, 2, 4), rectangle(2, 0, 7)], categories=listed)
    values = pair(tmp_path, content, target="segmentation").train.eval_batch(np.array([0])).targets[0, 0]
    assert values.tolist() == [2, 2, 1, 1, 2, 2, 2, 0]


def test_a_part_of_an_object_may_lie_outside_its_image(tmp_path: Path) -> None:
    content = changed(bbox=[1, 1, 2, 2], segmentation=[[100, 100, 110, 100, 110, 110], [1, 1, 3, 1, 3, 3, 1, 3]])
    values = pair(tmp_path, content, target="segmentation").train.eval_batch(np.array([0])).targets
    assert (values > 0).sum() == 4


def changed(**values: Any) -> dict[str, Any]:
    """Return a COCO file with other values in its annotation."""
    content = coco()
    content["annotations"][0] |= values
    return content


WRONG: list[tuple[object, str]] = [
    (changed(bbox=[9, 1, 3, 2]), "1 has a box that reaches outside its image of 6x8: left 9, top 1, right 12, bottom 3"),
    (changed(bbox=[1, 1, 0, 2]), "has a box of no area: left 1, top 1, right 1, bottom 3; data.on_error=skip leaves"),
    (changed(bbox=[8.1, 1, 0.5, 2]), "1 has a box that lies outside its image of 6x8: left 8.1, top 1, right 8.6, bottom 3"),
    (changed(segmentation=[[100, 1, 110, 1, 110, 3]]), "1 has an outline that lies outside its image of 6x8: left 100"),
    (changed(segmentation=[[1, -2, 3, -2, 3, 0], [9, 1, 12, 1, 12, 3]]), "has an outline that lies outside .*: left 1, top -2"),
    (changed(bbox=[1, 1, 2]), r"has the bbox \[1, 1, 2\]; expected \[left, top, width, height\]"),
    (changed(bbox=[1, 1, 2, 10**400]), "has the bbox"),
    (changed(segmentation=[[1, 1, 3, 3]]), r"annotation 1 has a polygon of 2 point\(s\), and a polygon has at least 3"),
    (changed(segmentation=[[1, 1, 3, 3, 5]]), "has the polygon .*; expected a list x, y, x, y"),
    (changed(segmentation={"size": [6, 8], "counts": [5, 5]}), "has run lengths of 10 pixels, its image has 48"),
    (changed(segmentation={"size": [8, 6], "counts": [48]}), r"run lengths of size \[8, 6\] for an image of 6x8"),
    (changed(segmentation={"size": [6, 8], "counts": "~"}), "damaged run lengths .'~' has no place"),
    (changed(segmentation="x"), "has the segmentation 'x'; expected polygons"),
    (changed(category_id=8), "annotation 1 has category_id 8, which is not listed; listed: 7"),
    (changed(image_id=6), "annotation 1 is of image 6, which is not listed"),
    (changed(iscrowd=3), "has iscrowd 3; expected 0 or 1"),
    (coco(images=coco()["images"][:1] * 2), "the image id is given twice: 5"),
    (coco(categories=coco()["categories"] * 2), "the category id is given twice: 7"),
    (coco(annotations=[]), "annotations is an empty list: all 2 images are empty; nothing could be learned or measured"),
    (coco(images=[]), "images is an empty list"),
    (coco(images=[{"id": "a", "file_name": "x.png"}]), "an image is .*; expected a whole number as id, and a file_name"),
    ({"images": [], "annotations": {}}, "images is an empty list"),
    ("", "not valid JSON at line 1, column 1 .*is the file complete"),
    (json.dumps(coco())[:-40], "not valid JSON at line 1, column .*is the file complete"),
    ("[1]", r"holds \[1\]; expected an object with images, annotations, categories"),
    ("[" * 100_000, "too deep"),
    ('{"images": NaN}', "NaN is no number that JSON has"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), WRONG)
def test_what_is_wrong_with_annotations_is_one_line(tmp_path: Path, content: object, message: str) -> None:
    write_coco(tmp_path, content)
    with pytest.raises(DataError, match=message) as caught:
        small(tmp_path)
    assert "\n" not in str(caught.value) and "instances_train.json" in str(caught.value)


def test_the_command_line_says_it_in_one_line_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_coco(tmp_path / "images", changed(bbox=[1, 1, 0, 2]))
    (tmp_path / "g.json").write_text('{"schema": "lmsearch.genotype", "version": 1, "layers": [{"directions": ["h"]}]}')
    words = [f"genotype={tmp_path / 'g.json'}", "data=dense", f"data.root={tmp_path / 'images'}", "model.depth=1"]
    assert main(["retrain", *words, f"run_dir={tmp_path / 'run'}"]) == 2
    err = capsys.readouterr().err
    assert "annotation 1 has a box of no area" in err and err.count("\n") == 1 and not (tmp_path / "run").exists()


def test_missing_images_are_counted_and_images_of_another_size_refused(tmp_path: Path) -> None:
    source = pair(tmp_path, coco())
    write_picture(tmp_path / "train" / "5.png", np.zeros((8, 6), dtype=np.uint8))
    with pytest.raises(DataError, match=r"5.png: the image has 8x6 pixels \(upright\), its annotations are for 6x8"):
        source.train.eval_batch(np.array([0]))
    (tmp_path / "train" / "9.png").unlink()
    with pytest.raises(DataError, match=r"instances_train.json: 1 image\(s\) are not in .*train: 9.png"):
        small(tmp_path)
    (tmp_path / "train" / "5.png").unlink()
    with pytest.raises(DataError, match="its first image '5.png' is in none of the folders looked at: annotations, train"):
        small(tmp_path)


def test_broken_objects_are_counted_where_that_is_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = changed()
    content["annotations"] += [changed(bbox=[1, 1, 0, 2])["annotations"][0]] * 2
    with caplog.at_level(logging.WARNING):
        source = small(write_coco(tmp_path, content), on_error="skip")
    assert "2 object(s) are left out, the first: " in caplog.text and len(source.train.part) == 1


def test_several_files_of_one_split_are_refused(tmp_path: Path) -> None:
    write_coco(tmp_path, coco())
    (tmp_path / "annotations" / "instances_train2.json").write_text(json.dumps(coco()))
    with pytest.raises(DataError, match="several COCO files could be the train split: annotations/instances_train.json, "):
        small(tmp_path)


def test_files_of_captions_beside_those_of_objects_are_left_out(tmp_path: Path) -> None:
    write_coco(tmp_path, coco())
    for name in ("captions_train.json", "image_info_test.json"):
        (tmp_path / "annotations" / name).write_text("{}")
    assert small(tmp_path).info.class_names == ("square",)


def test_classes_that_no_training_object_has_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    listed = [{"id": 0, "name": "things"}, {"id": 7, "name": "square"}]
    with caplog.at_level(logging.WARNING):
        small(write_coco(tmp_path, coco(categories=listed)))
    assert "instances_train.json: no object is of 1 of the 2 classes: things" in caplog.text


def test_labels_that_do_not_fit_the_target_are_refused(tmp_path: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(DataError, match="masks of classes do not tell objects apart; give COCO or YOLO labels"):
        of(folders["masks"], target="instances")
    content = changed()
    content["annotations"][0].pop("segmentation")
    with pytest.raises(
        DataError, match="a class per pixel needs the outline of every object, but 1 of 1 objects have a box only"
    ):
        small(write_coco(tmp_path, content), target="segmentation")
    with pytest.raises(DataError, match="target is 'boxes'.*accepted: segmentation, instances"):
        of(folders["masks"], target="boxes")


def write_yolo(folder: Path, labels: str | None = "0 0.5 0.5 0.25 0.5\n", *, description: str | None = None) -> Path:
    """Write a YOLO folder of four images of 6 x 8 pixels, all but the last with these labels."""
    for number in range(4):
        write_picture(folder / "train" / "images" / f"{number}.png", np.full((6, 8), 90, dtype=np.uint8))
        if labels is not None and number < 3:
            path = folder / "train" / "labels" / f"{number}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text(labels)
    (folder / "data.yaml").write_text(description or "train: ../train/images\nnc: 2\nnames: [a, b]\n")
    return folder


def test_boxes_of_yolo_are_read_in_pixels_and_a_missing_label_file_is_an_image_of_nothing(tmp_path: Path) -> None:
    source = small(write_yolo(tmp_path), val_fraction=0.25)
    held = [source.train.sample(number).things for number in range(3)] + [source.val.sample(0).things]
    assert sorted(len(things) for things in held) == [0, 1, 1, 1]
    assert next(things[0].box for things in held if things) == (3.0, 1.5, 5.0, 4.5)


@pytest.mark.parametrize(("label", "told"), [(0, 0), (1, 1)])
def test_a_yolo_folder_without_any_object_of_class_0_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, label: int, told: int
) -> None:
    small(write_yolo(tmp_path, f"{label} 0.5 0.5 0.25 0.5\n"))
    assert sum("no object is of class 0 (a)" in line for line in caplog.messages) == told


POSE = "train: train/images\nnames: [a, b]\nkpt_shape: "


@pytest.mark.parametrize(("shape", "points"), [("[2, 2]", "0.1 0.1 0.9 0.9"), ("[1, 3]", "0 0 2"), ("[1, 3]", "")])
def test_of_lines_with_key_points_the_box_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, shape: str, points: str
) -> None:
    with caplog.at_level(logging.INFO):
        source = small(write_yolo(tmp_path, f"1 0.5 0.5 0.25 0.5 {points}\n", description=f"{POSE}{shape}\n"))
    things = [thing for part in (source.train, source.val) for image in range(2) for thing in part.sample(image).things]
    assert [(thing.label, thing.box, thing.outline) for thing in things] == [(1, (3.0, 1.5, 5.0, 4.5), None)] * 3
    assert caplog.text.count(f"kpt_shape is {shape}: key points are not read, only the boxes before them") == 1
    (tmp_path / "data.yaml").write_text(f"{POSE}[2, 2]\n")
    (tmp_path / "train" / "labels" / "0.txt").write_text("0 0.1 0.1 0.5 0.5 0.9 0.9\n")
    with pytest.raises(DataError, match="line 1 has 7 numbers; expected a class and a box .5 numbers., or these and 4 of key"):
        small(tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("0 0.5 0.5 0.25\n", "0.txt: line 1 has 4 numbers; expected a class and a box"),
        ("\n0 0.1 0.1 0.5 0.5 0.9\n", "0.txt: line 2 has 6 numbers; expected"),
        ("2 0.5 0.5 0.25 0.5\n", "line 1 has class 2, which is not among the 2 of data.yaml"),
        ("0.5 0.5 0.5 0.25 0.5\n", "line 1 has class 0.5, which is not among"),
        ("0 0.5 0.5 0 0.5\n", "0.txt: line 1 has a box of no area"),
        ("0 5 3 2 4\n", "0.txt: line 1 has a box that reaches outside its image of 6x8"),
        ("0 0.1 0.1 0.5 0.5 0.9 0.9 1.9 0.1\n", "line 1 has a box that reaches outside"),
        ("0 1 0.1 1.1 0.1 1.1 0.9\n", "line 1 has a box that lies outside its image of 6x8"),
        ("a b c d e\n", "line 1 is 'a b c d e'; expected"),
        ("0 nan 0.5 0.5 0.5\n", "line 1 holds 'nan', which is no class and no share of a side"),
        ("", "all 4 images are empty; nothing could be learned or measured"),
        (None, r"none of the 4 images has a label file; the first would be .*train/labels/0.txt"),
    ],
)
def test_what_is_wrong_with_yolo_labels_is_one_line(tmp_path: Path, labels: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        small(write_yolo(tmp_path, labels))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("train: train/images\n", "data.yaml: names is None; expected a list of class names"),
        ("train: train/images\nnames: [a, a]\n", "names gives 'a' twice"),
        ("train: train/images\nnames: {0: a, 2: b}\n", "names is .*; expected a list of class names"),
        (
            "train: train/images\nnames: [yes, no]\n",
            "names holds True, which YAML does not read as text; put the name into quotes",
        ),
        ("train: train/images\nnames: [a]\nnc: 2\n", "nc is 2, but names lists 1 classes"),
        ("train: elsewhere\nnames: [a]\n", "train is 'elsewhere', which is not there; looked in"),
        (f"{POSE}[17, 4]\n", r"kpt_shape is \[17, 4\]; expected \[number of key points, 2 or 3\]"),
        (f"{POSE}17\n", "kpt_shape is 17; expected"),
        ("names: [a]\n", "names no images; expected train and val"),
        ("train: [1]\nnames: [a]\n", r"train is \[1\]; expected a folder of images"),
        ("- a\n", "holds .*; expected train, val and names"),
        ("train: [\n", "data.yaml, line .*not a readable YAML file"),
    ],
)
def test_what_is_wrong_with_data_yaml_is_one_line(tmp_path: Path, description: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        small(write_yolo(tmp_path, description=description))
    assert "\n" not in str(caught.value)


def test_a_listing_of_images_and_a_path_are_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_yolo(tmp_path / "data")
    (tmp_path / "data.yaml").write_text("path: data\ntrain: mine.txt\nval: [train/images]\ntest: none\nnames: {0: a, 1: b}\n")
    (tmp_path / "data" / "mine.txt").write_text("./train/images/0.png\ntrain/images/1.png\n\ntrain/images/0.png\n")
    source = small(tmp_path, val_fraction=None)
    assert len(source.train.part) == 2 and len(source.val.part) == 4 and source.test is source.val
    assert "data.yaml: train: 1 of 3 images are listed again and left out" in caplog.text
    assert f"{tmp_path}: 2 of 4 images of val are in train too, which flatters what is measured on them" in caplog.text


def test_files_of_coco_that_share_images_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_coco(tmp_path, coco())
    for split, ids in (("val", (5, 9)), ("test", (9, 5, 6))):
        images = [{"id": id, "file_name": f"../train/{9 if id == 6 else id}.png", "height": 6, "width": 8} for id in ids]
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(coco(images=images)))
        (folder / split).mkdir()
    small(folder, val_fraction=None)
    told = (
        "2 of 2 images of val are in train too",
        "2 of 2 images of test are in train too",
        "2 of 2 images of test are in val too",
    )
    assert f"{', '.join(told)}, which flatters" in caplog.text
    assert "instances_test.json: 1 of 3 images are listed again, each time with objects of its own" in caplog.text


def test_a_folder_of_two_layouts_needs_to_be_told_which(tmp_path: Path) -> None:
    write_coco(write_yolo(tmp_path), coco())
    with pytest.raises(DataError, match="looks like coco and yolo; data.format=coco|yolo says which to read"):
        small(tmp_path)
    assert small(tmp_path, format="coco").info.class_names == ("square",)
    with pytest.raises(DataError, match="is not laid out as data.format=masks: found annotations/"):
        small(tmp_path, format="masks")
