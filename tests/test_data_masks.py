"""Images with mask files: integers, palettes and colours, void values, layouts, and every way in which they can be wrong."""

from __future__ import annotations

import json
import logging
import struct
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from dense_folders import SIZE, rows, write_pairs, write_picture, write_shapes
from PIL import Image

from lmsearch.data import DataInfo, Source, build_loaders, build_source
from lmsearch.data.dense import masks
from lmsearch.data.dense.folder import Wanted, read_dense_for_evaluation
from lmsearch.data.dense.masks import NEVER, MaskClasses
from lmsearch.data.dense.shapes import CLASSES, make_scene
from lmsearch.data.info import VOID
from lmsearch.errors import DataError, SourceError


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes, a=b"), "masks")


def of_masks(folder: Path, **options: object) -> Source:
    """Return the source of a folder whose images keep their size."""
    return build_source("dense", root=str(folder), **{"img_size": [6, 8], **options})


def seen(source: Source, index: int = 0) -> list[list[int]]:
    """Return the distinct classes of every row of a training mask, as evaluation sees it."""
    (target,) = source.train.eval_batch(np.array([index])).targets
    return [row.unique().tolist() for row in target]


def test_masks_are_the_classes_of_pixels(shapes: Path) -> None:
    source = build_source("dense", root=str(shapes), img_size=list(SIZE))
    assert source.info.class_names == ("background", *CLASSES) and source.info.categories == (0, 1, 2, 3, 4, 5)
    assert source.info.target == "segmentation" and [len(part.part) for part in (source.train, source.val, source.test)] == [
        8,
        2,
        2,
    ]
    batch = source.train.eval_batch(np.arange(8))
    assert batch.inputs.shape == (8, 3, *SIZE) and batch.targets.dtype == torch.int64
    truth = [make_scene(number, split="train", size=SIZE).class_map for number in range(8)]
    assert torch.equal(batch.targets, torch.from_numpy(np.stack(truth)).long())


def test_the_description_survives_json(shapes: Path) -> None:
    info = build_source("dense", root=str(shapes)).info
    assert DataInfo.from_dict(json.loads(json.dumps(asdict(info)))) == info
    with pytest.raises(DataError, match="categories lists 5, num_classes is 6"):
        DataInfo.from_dict(asdict(info) | {"categories": [0, 1, 2, 3, 4]})


def test_training_batches_hang_on_seed_epoch_and_image_alone(shapes: Path) -> None:
    source = build_source("dense", root=str(shapes), img_size=16)
    loader = build_loaders(source, batch_size=4, seed=1).train
    first, again = list(loader), list(loader)
    loader.set_epoch(1)
    later = list(loader)
    assert all(torch.equal(x.targets, y.targets) and torch.equal(x.inputs, y.inputs) for x, y in zip(first, again, strict=True))
    assert first[0].targets.shape == (4, 16, 16) and not torch.equal(first[0].inputs, later[0].inputs)
    alone = source.train.train_batch(first[0].indices[2:3].numpy(), seed=1, epoch=0)
    assert torch.equal(alone.inputs[0], first[0].inputs[2]) and torch.equal(alone.targets[0], first[0].targets[2])


def test_images_of_other_shapes_are_padded_with_void(tmp_path: Path) -> None:
    source = of_masks(write_pairs(tmp_path, [rows(0, 1)] * 2), img_size=[8, 8], val_fraction=0.5)
    assert seen(source) == [[0]] * 3 + [[1]] * 3 + [[VOID]] * 2
    assert (source.train.eval_batch(np.array([0])).inputs[0, :, 6:] == 0).all()


@pytest.mark.parametrize(
    ("options", "expected", "categories"),
    [
        ({}, [0, 1, VOID], (0, 3)),
        ({"ignore_index": -1}, [0, 1, 2], (0, 3, 255)),
        ({"ignore_index": 3}, [0, VOID, 1], (0, 255)),
        ({"ignore_index": -1, "reduce_zero_label": True}, [VOID, 0, 1], (3, 255)),
    ],
)
def test_values_without_a_class_are_void(tmp_path: Path, options: dict, expected: list[int], categories: tuple) -> None:
    source = of_masks(write_pairs(tmp_path, [rows(0, 3, 255)] * 2), **options)
    assert seen(source) == [[value] for value in expected for _ in range(2)]
    assert source.info.categories == categories and source.info.class_names == tuple(map(str, categories))


def test_a_palette_mask_is_read_by_its_numbers_not_by_its_colours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pairs(tmp_path, [rows(0, 1)] * 2)

    def write(number: int, palette: list[int]) -> None:
        mask = Image.fromarray(rows(0, 1, 2))
        mask.putpalette(palette)
        mask.save(tmp_path / "annotations" / "train" / f"{number}.png")

    write(0, [255, 0, 0, 0, 0, 0, 9, 9, 9])
    write(1, [255, 0, 0, 0, 0, 0, 9, 9, 9, 1, 1, 1])
    assert seen(of_masks(tmp_path)) == [[0], [0], [1], [1], [2], [2]] and "palettes" not in caplog.text
    only = Image.fromarray(rows(0, 1))
    only.putpalette([255, 0, 0, 0, 0, 0])
    only.save(tmp_path / "annotations" / "train" / "1.png", "TIFF")  # filled with black up to 256 colours
    assert seen(of_masks(tmp_path))[0] == [0] and "palettes" not in caplog.text
    write(1, [255, 0, 0, 9, 9, 9, 0, 0, 0])  # as an optimiser sorts it
    assert seen(of_masks(tmp_path)) == [[0], [0], [1], [1], [2], [2]]
    assert "1.png: palettes differ: 1 is #000000 in 0.png and #090909 in 1.png; masks go by numbers" in caplog.text


def test_masks_of_16_bits_and_grey_ones_saved_as_colours_are_numbers(tmp_path: Path) -> None:
    write_pairs(tmp_path, [rows(0, 7), rows(0, 7)])
    write_picture(tmp_path / "annotations" / "train" / "0.png", rows(0, 7).astype(np.uint16))
    write_picture(tmp_path / "annotations" / "train" / "1.png", rows(0, 7)[..., None].repeat(3, axis=2))
    source = of_masks(tmp_path, val_fraction=0.5)
    assert seen(source) == [[0]] * 3 + [[1]] * 3 and source.val.eval_batch(np.array([0])).targets.unique().tolist() == [0, 1]


@pytest.mark.parametrize(("name", "kind"), [("a.png", np.uint8), ("a.png", np.uint16), ("a.tif", np.int32)])
@pytest.mark.parametrize("void", [(9, 255), (), (7, 70_000)])
def test_values_become_the_same_classes_however_they_are_stored(
    tmp_path: Path, name: str, kind: type[np.generic], void: tuple[int, ...]
) -> None:
    values = (0, 7, NEVER, 200, NEVER, 300)
    classes = MaskClasses(tuple("abcdef"), values, void)
    levels = np.array([value for value in (*values, *void) if 0 <= value <= min(np.iinfo(kind).max, 65_535)])
    held = np.random.default_rng(0).choice(levels, (6, 8)).astype(kind)
    Image.fromarray(held).save(tmp_path / name)
    expected = [[values.index(value) if value in values else VOID for value in row] for row in held.tolist()]
    read = classes.read(tmp_path / name)
    assert read.tolist() == expected and read.dtype == np.uint8
    held[1, 2], held[3, 3], held[4, 4] = 17, 11, 17
    Image.fromarray(held).save(tmp_path / name)
    with pytest.raises(DataError, match=r"holds 2 value\(s\) without a class: 11, 17; the classes are 0 a, 7 b, 200 d, 300 f$"):
        classes.read(tmp_path / name)


def test_the_search_for_classes_tells_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(masks, "LOG_EVERY_S", 0.0)
    with caplog.at_level(logging.INFO):
        of_masks(write_pairs(tmp_path, [rows(0, 1)] * 3))
    told = [line for line in caplog.messages if line.endswith("/3 masks")]
    assert len(told) == 6 and told[-1].endswith(": looking for the values that are classes, 2/3 masks")


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_levels_of_few_bits_are_the_numbers_of_the_file(tmp_path: Path, bits: int) -> None:
    folder = write_pairs(tmp_path, [rows(0, 1)] * 2) / "annotations" / "train"
    (folder / "0.png").write_bytes(grey_png(rows(0, 1, 3), bits))
    (folder / "1.png").write_bytes(b"P5 8 6 %d\n" % (2**bits + 3) + rows(0, 1, 3).tobytes())  # PGM, known by its content
    assert of_masks(tmp_path).info.categories == (0, 1, 3) and seen(of_masks(tmp_path)) == [[0], [0], [1], [1], [2], [2]]


def grey_png(values: np.ndarray, bits: int) -> bytes:
    """Return a grey PNG whose samples have 2 or 4 bits, as Pillow does not write them."""
    height, width = values.shape
    each = (values[..., None] >> np.arange(bits)[::-1]) & 1
    return png(np.packbits(each.reshape(height, width * bits), axis=1), width, bits=bits, kind=0)


def png(lines: np.ndarray, width: int, *, bits: int, kind: int) -> bytes:
    """Return a PNG of these lines of bytes (H, bytes); `kind` is PNG's own: 0 grey, 2 colour."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(lines), bits, kind, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines)))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def test_numbers_in_colour_of_16_bits_are_refused(tmp_path: Path) -> None:
    levels = np.array([[0, 0, 0, 2, 2, 2]], dtype=">u2").view(np.uint8)
    (tmp_path / "a.png").write_bytes(png(levels, 2, bits=16, kind=2))
    with pytest.raises(DataError, match="a.png: not a readable mask .16 bits per channel, of which 8 would be read"):
        masks.read_values(tmp_path / "a.png", colour=False)
    assert masks.read_values(tmp_path / "a.png", colour=True).tolist() == [[0, 0]]
    (tmp_path / "b.ppm").write_bytes(b"P6 1 1 1023\n" + np.array([0, 512, 1023], dtype=">u2").tobytes())
    assert masks.read_values(tmp_path / "b.ppm", colour=True).tolist() == [[0x0080FF]], "colours are those that are seen"


def test_one_colour_per_class_is_read_by_a_table_or_as_found(tmp_path: Path) -> None:
    colours = np.array([[200, 0, 0], [0, 0, 90], [0, 0, 0]], dtype=np.uint8)
    write_pairs(tmp_path, [colours[rows(0, 1, 2)]] * 2)
    found = of_masks(tmp_path)
    assert found.info.class_names == ("#000000", "#00005a", "#c80000") == found.info.categories
    assert seen(found) == [[2], [2], [1], [1], [0], [0]]
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nroad,200,0,0\nsky, 0, 0, 90\nVoid,0,0,0\n")
    listed = of_masks(tmp_path)
    assert listed.info.class_names == ("road", "sky") and listed.info.categories == ("#c80000", "#00005a")
    assert seen(listed) == [[0], [0], [1], [1], [VOID], [VOID]]


def test_the_first_line_names_0_or_with_reduce_zero_label_1(tmp_path: Path) -> None:
    write_pairs(tmp_path, [rows(0, 1, 2)] * 2)
    (tmp_path / "classes.txt").write_text("wall\nsky\n")
    with pytest.raises(DataError, match=r"the mask holds 1 value\(s\) without a class: 2; the classes are 0 wall, 1 sky"):
        seen(of_masks(tmp_path))
    reduced = of_masks(tmp_path, reduce_zero_label=True)
    assert reduced.info.categories == (1, 2) and seen(reduced) == [[VOID]] * 2 + [[0]] * 2 + [[1]] * 2


@pytest.mark.parametrize(
    "images, masks", [("Train/images", "Train/masks"), ("images/Training", "annotations/training"), ("images", "masks")]
)
def test_layouts_of_masks_are_recognised(tmp_path: Path, images: str, masks: str) -> None:
    for number in range(4):
        write_picture(tmp_path / images / f"{number}.jpg", np.full((6, 8), 90, dtype=np.uint8))
        write_picture(tmp_path / masks / f"{number}.png", rows(0, 1))
    source = of_masks(tmp_path, val_fraction=0.25)
    assert [len(source.train.part), len(source.val.part)] == [3, 1] and source.test is source.val


def test_known_classes_are_used_as_they_are(tmp_path: Path) -> None:
    write_pairs(tmp_path, [rows(0, 4)] * 2)
    source = of_masks(tmp_path, class_names=("a", "b", "c"), categories=(4, 0, 9))
    assert source.info.class_names == ("a", "b", "c") and seen(source) == [[1]] * 3 + [[0]] * 3


def test_known_classes_go_by_the_names_that_a_folder_lists(tmp_path: Path) -> None:
    colours = np.array([[200, 0, 0], [0, 0, 90], [0, 0, 0]], dtype=np.uint8)
    write_pairs(tmp_path, [colours[rows(0, 1, 2)]] * 2)
    (tmp_path / "class_dict.csv").write_text("road,200,0,0\nsky,0,0,90\nvoid,0,0,0\n")
    known = {"class_names": ("sky", "wall", "road"), "categories": (None, 3, 4)}
    assert seen(of_masks(tmp_path, **known)) == [[2], [2], [0], [0], [VOID], [VOID]]
    with pytest.raises(DataError, match="1 classes are unknown to training: road; its classes are sky, wall"):
        of_masks(tmp_path, class_names=("sky", "wall"), categories=(1, 2))
    (tmp_path / "class_dict.csv").unlink()
    with pytest.raises(DataError, match="which value of a mask is which class of training cannot be told; list the classes in"):
        of_masks(tmp_path, **known)


def test_the_images_that_validate_are_recorded_and_others_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path, [rows(0, 1)] * 5)
    with pytest.raises(DataError, match=r"no longer those of which some were set aside.*val_digest is 12ab, now [0-9a-f]{16}"):
        of_masks(tmp_path, val_digest="12ab")


def spoil_size(folder: Path) -> None:
    write_picture(folder / "annotations" / "train" / "0.png", rows(0, 1, size=(4, 8)))


def spoil_stem(folder: Path) -> None:
    for number in (1, 2):
        (folder / "annotations" / "train" / f"{number}.png").unlink()


def spoil_value(folder: Path) -> None:
    (folder / "classes.txt").write_text("ground\nthing\n")
    write_picture(folder / "annotations" / "train" / "0.png", rows(0, 1, 9))


def spoil_file(folder: Path) -> None:
    (folder / "annotations" / "train" / "0.png").write_bytes(b"nothing")


def spoil_listing(folder: Path) -> None:
    (folder / "classes.txt").write_text("ground\nthing\nground\n")


def spoil_colours(folder: Path) -> None:
    (folder / "class_dict.csv").write_text("name,r,g,b\nroad,200,0\n")


def spoil_jpeg(folder: Path) -> None:
    (folder / "annotations" / "train" / "0.png").unlink()
    write_picture(folder / "annotations" / "train" / "0.jpg", rows(0, 1))


def spoil_tiff(folder: Path) -> None:
    (folder / "annotations" / "train" / "0.png").unlink()
    Image.fromarray(rows(0, 1)).save(folder / "annotations" / "train" / "0.tif", compression="jpeg")


def spoil_binary(folder: Path) -> None:
    for path in (folder / "annotations" / "train").iterdir():
        write_picture(path, rows(0, 255))


def spoil_binary_with_names(folder: Path) -> None:
    spoil_binary(folder)
    (folder / "classes.txt").write_text("ground\nthing\n")


def spoil_masks(folder: Path) -> None:
    (folder / "annotations" / "train").rename(folder / "annotations" / "tarin")


def spoil_void(folder: Path) -> None:
    write_picture(folder / "annotations" / "val" / "0.png", rows(255))


def spoil_twins(folder: Path) -> None:
    write_picture(folder / "images" / "train" / "0.jpg", rows(9))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_size, "0.png: the mask has 4x8 pixels, the image 6x8 .upright.; both must be of one size"),
        (spoil_stem, r"annotations/train: 2 image\(s\) have no mask of the same stem: 1, 2"),
        (spoil_value, r"0.png: the mask holds 1 value\(s\) without a class: 9; the classes are 0 ground, 1 thing"),
        (spoil_file, "0.png: not a readable mask"),
        (spoil_listing, "classes.txt: the class 'ground' is given twice"),
        (spoil_colours, "class_dict.csv: line 2 is 'road,200,0'; expected name,r,g,b with 0 to 255"),
        (spoil_jpeg, "0.jpg: JPEG, JPEG 2000, WebP and AVIF change the values of a mask; save masks as PNG"),
        (spoil_tiff, "0.tif: not a readable mask .a TIFF compressed as jpeg, which changes the values of a mask; save"),
        (spoil_binary, r"the masks hold no two classes: 0, beside void \(255\); data.ignore_index=-1 makes 255 a class"),
        (
            spoil_binary_with_names,
            r"images/train: all pixels of its 4 mask\(s\) that have a class are of 'ground' \(void: 255\); expected two .*"
            "they hold 255, which has no class: if it stands for thing, list thing,255,255,255 in class_dict.csv, or give"
            " data.ignore_index=-1 without classes.txt",
        ),
        (spoil_masks, "annotations/train: no such folder; .*images/train needs masks of the same stems there"),
        (spoil_void, r"images/val: no pixel of its 1 mask.s. has a class .void: 255.; nothing could be learned or measured"),
        (spoil_twins, "0.png: 0.jpg has the same stem"),
    ],
)
def test_what_is_wrong_with_masks_is_one_line(tmp_path: Path, spoil, message: str) -> None:
    folder = write_pairs(write_pairs(tmp_path, [rows(0, 1)] * 4), [rows(0, 1)], split="val")
    spoil(folder)
    with pytest.raises(DataError, match=message) as caught:
        seen(of_masks(folder, on_error="skip" if spoil in (spoil_void, spoil_binary_with_names) else "raise"))
    assert "\n" not in str(caught.value)


def test_masks_of_0_and_255_have_two_classes_as_is_advised(tmp_path: Path) -> None:
    spoil_binary_with_names(write_pairs(tmp_path, [rows(0, 1)] * 2))
    (tmp_path / "class_dict.csv").write_text("ground,0,0,0\nthing,255,255,255\n")
    assert of_masks(tmp_path).info.class_names == ("ground", "thing") and seen(of_masks(tmp_path)) == [[0]] * 3 + [[1]] * 3
    for name in ("class_dict.csv", "classes.txt"):
        (tmp_path / name).unlink()
    assert seen(of_masks(tmp_path, ignore_index=-1)) == [[0]] * 3 + [[1]] * 3


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_classes_that_no_mask_shows_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture, on_error: str) -> None:
    write_pairs(write_pairs(tmp_path, [rows(0, 1, 255)] * 3), [rows(0, 255)], split="val")
    (tmp_path / "classes.txt").write_text("ground\nroad\nthing\n")
    of_masks(tmp_path, on_error=on_error)
    told = "images/train: no pixel of its 3 mask(s) is of 1 of the 3 classes (thing); they hold 255, which has no class: if it"
    assert told in caplog.text and "thing,255,255,255" in caplog.text
    val = (
        f"{tmp_path}/images/val: no pixel of its 1 mask(s) is of 1 of the {{}} classes (road); they hold 255, which has no class"
    )
    assert val.format(3) in caplog.messages
    caplog.clear()
    wanted = Wanted(on_error=on_error, class_names=("ground", "road"), categories=(0, 1))
    (tmp_path / "classes.txt").unlink()
    read_dense_for_evaluation(tmp_path, format=None, wanted=wanted)
    assert caplog.messages == [val.format(2)]


def test_a_broken_mask_is_skipped_where_that_is_asked_for(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path, [rows(0, 1)] * 4)
    source = of_masks(folder, on_error="skip", val_fraction=0.25)
    Path(source.train.part.mask_path(0)).write_bytes(b"nothing")
    trained = source.train.train_batch(np.arange(3), seed=0, epoch=0)
    assert len(trained.inputs) == 3 and len(trained.skipped) == 1 and "not a readable mask" in trained.skipped[0]
    assert source.train.eval_batch(np.arange(3)).indices.tolist() == [1, 2]


def test_masks_without_image_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_picture(write_pairs(tmp_path, [rows(0, 1)] * 3) / "annotations" / "train" / "9.png", rows(0, 1))
    with caplog.at_level(logging.WARNING):
        of_masks(tmp_path)
    assert "1 mask(s) belong to no image and are left out" in caplog.text


def test_a_layout_that_is_not_known_shows_what_was_found_and_what_is_accepted(tmp_path: Path) -> None:
    write_picture(tmp_path / "cats" / "a.png", rows(0))
    (tmp_path / "notes.txt").write_text("")
    accepted = r"found cats/ \(1 files\), notes.txt; accepted: images/train \+ annotations/train .*data.yaml"
    with pytest.raises(DataError, match=accepted):
        of_masks(tmp_path)
    with pytest.raises(SourceError, match="no such folder; accepted: images/train"):
        of_masks(tmp_path / "none")
