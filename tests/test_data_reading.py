"""What is read of an image file is what a viewer shows: every format, mode and tag, against pixels worked out independently."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from lmsearch.data import reading
from lmsearch.data.reading import image_size, read_image
from lmsearch.errors import DataError

H, W = 12, 16
ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
GREY16 = ("I;16", "I;16L", "I;16B", "I;16N")
NO_ALPHA = {"BMP", "DIB", "PPM"}  # written without it
WIDE = (*GREY16, "I", "F")
CLIPPED = {("GIF", mode) for mode in (*WIDE, *ALPHA)} | {(kind, mode) for kind in ("AVIF", "WEBP") for mode in WIDE}  # by Pillow
OPTIONS = {
    "WEBP": {"lossless": True, "exact": True},
    "JPEG": {"quality": 100, "subsampling": 0},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "ICO": {"sizes": [(W, H)]},
}
REFUSED = {  # (format, mode): part of the message
    **{("SPIDER", mode): "mode F with values from" for mode in Image.MODES if mode != "F"},
    ("TIFF", "I"): "mode I with signed samples",
    ("TIFF", "RGBX"): "4 samples per pixel, of which 3",
    ("IM", "I"): "mode I of IM",
}
LEFT_OUT = {"PALM", "PDF", "BUFR", "GRIB", "HDF5", "WMF", "EPS", "BLP", "MPO", "ICNS"}  # not read by Pillow, or tested below


def smooth(seed=0):
    """Return a picture (H, W, 4) whose neighbours differ little, so that lossy formats keep it."""
    y, x = np.mgrid[:H, :W]
    planes = [20 + 12 * x, 230 - 15 * y, 40 + 6 * x + 8 * y, 255 - 10 * x]
    return np.stack(planes, -1).astype(np.uint8)


def on_white(colour, alpha):
    """Return colour (H, W, C) seen on white through alpha (H, W)."""
    a = alpha[..., None] / 255
    return colour * a + 255 * (1 - a)


def written(mode):
    """Return an image of `mode` and the RGB picture (H, W, 3) that a viewer shows of it."""
    rgba = smooth()
    grey, colour, alpha = rgba[..., 0].astype(float), rgba[..., :3].astype(float), rgba[..., 3]
    three = np.repeat(grey[..., None], 3, -1)
    if mode == "1":
        return Image.fromarray(grey > 128), np.where(three > 128, 255.0, 0.0)
    if mode == "L":
        return Image.fromarray(rgba[..., 0]), three
    if mode in ("LA", "La"):
        image = Image.fromarray(np.stack([rgba[..., 0], alpha], -1), "LA")
        return (image if mode == "LA" else image.convert("La")), on_white(three, alpha)
    if mode in ("P", "PA"):
        palette = np.random.default_rng(0).integers(256, size=(256, 3), dtype=np.uint8)
        image = Image.fromarray(rgba[..., 2] % 16, "P")
        image.putpalette(palette.tobytes())
        shown = palette[rgba[..., 2] % 16].astype(float)
        if mode == "P":
            return image, shown
        image = image.convert("PA")
        image.putalpha(Image.fromarray(alpha))
        return image, on_white(shown, alpha)
    if mode in ("RGBA", "RGBa"):
        image = Image.fromarray(rgba, "RGBA")
        return (image if mode == "RGBA" else image.convert("RGBa")), on_white(colour, alpha)
    if mode in GREY16:
        values = (grey * 257).astype(np.uint16)
        raw = {"I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2", "I;16N": "=u2"}[mode]
        return Image.frombytes(mode, (W, H), values.astype(raw).tobytes()), three
    if mode == "I":
        return Image.fromarray(grey.astype(np.int32) * 257), three
    if mode == "F":
        return Image.fromarray((grey / 255).astype(np.float32)), three
    if mode == "CMYK":
        return Image.fromarray(rgba, "CMYK"), (255 - colour) * (255 - alpha[..., None].astype(float)) / 255
    picture = Image.fromarray(rgba[..., :3])
    if mode == "LAB":
        lab = np.zeros((H, W, 3), np.uint8)
        lab[..., 0] = rgba[..., 0]  # lightness; a = b = 0 is grey
        lightness = grey / 255 * 100
        linear = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
        srgb = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
        return Image.frombytes("LAB", (W, H), lab.tobytes()), np.repeat(255 * srgb[..., None], 3, -1)
    return picture.convert(mode), colour


def saved(image, kind):
    """Return the bytes of the image, None where Pillow does not write this mode."""
    file = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.save(file, kind, **OPTIONS.get(kind, {}))
    except (OSError, ValueError, KeyError):
        return None
    return file.getvalue()


Image.init()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # formats on their way out of Pillow
@pytest.mark.parametrize("kind", sorted(set(Image.SAVE) - LEFT_OUT))
def test_every_mode_that_pillow_writes_is_read_as_shown_or_refused(kind, tmp_path):
    tried = 0
    for mode in sorted(Image.MODES):
        image, expected = written(mode)
        content = saved(image, kind)
        if content is None or (kind, mode) in CLIPPED:
            continue
        tried += 1
        path = tmp_path / "image"
        path.write_bytes(content)
        if (kind, mode) in REFUSED:
            with pytest.raises(DataError, match=REFUSED[kind, mode]):
                read_image(path, 3)
            continue
        if kind in NO_ALPHA and mode == "RGBA":
            expected = smooth()[..., :3].astype(float)
        most = 6 if mode in ("YCbCr", "HSV") or kind in ("JPEG", "AVIF") else 2  # rounding of colour spaces, compression
        found = np.asarray(read_image(path, 3), dtype=float)
        assert found.shape == expected.shape and image_size(path) == expected.shape[:2], mode
        assert np.abs(found - expected).max() <= most, mode
        grey = np.asarray(read_image(path, 1), dtype=float)
        assert np.abs(grey - expected @ [0.299, 0.587, 0.114]).max() <= most + 1, mode
    assert tried


def upright_and_stored(orientation):
    """Return a picture (H, W, 3) and how a camera that was turned stores it."""
    upright = smooth()[..., :3]
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }
    return upright, np.ascontiguousarray(turned[orientation])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_read_upright(orientation, tmp_path):
    upright, stored = upright_and_stored(orientation)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO"):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / kind
        Image.fromarray(stored).save(path, kind, exif=exif, **OPTIONS.get("JPEG" if kind == "MPO" else kind, {}))
        found = np.asarray(read_image(path, 3), dtype=float)
        assert image_size(path) == (H, W) and found.shape == (H, W, 3), kind
        assert np.abs(found - upright).max() <= 6, kind


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_leaves_the_picture_as_it_is_stored(tmp_path):
    Image.fromarray(smooth()[..., :3]).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f", **OPTIONS["JPEG"])
    assert np.abs(np.asarray(read_image(tmp_path / "a.jpg", 3), dtype=float) - smooth()[..., :3]).max() <= 3
    assert image_size(tmp_path / "a.jpg") == (H, W)


def tiff(path, samples, *, bits=8, photometric=1, extra=(), sample_format=1, big=False, planar=False, geo=False, sparse=False):
    """Write an uncompressed TIFF by hand: samples (H, W, S) in the type that they are stored as."""
    order = ">" if big else "<"
    height, width, count = samples.shape
    planes = [samples[..., s] for s in range(count)] if planar else [samples]
    strips = [plane.astype(plane.dtype.newbyteorder(order)).tobytes() for plane in planes]
    offsets = [8 + sum(map(len, strips[:i])) for i in range(len(strips))]
    tags = {
        256: (3, [width]), 257: (3, [height]), 258: (3, [bits] * count), 259: (3, [1]), 262: (3, [photometric]),
        273: (4, offsets), 277: (3, [count]), 278: (3, [height]), 279: (4, [len(s) for s in strips]),
        284: (3, [2 if planar else 1]), 339: (3, [sample_format] * count),
    }  # fmt: skip
    if geo:
        tags[34735] = (3, [1, 1, 0, 0])  # a GeoTIFF's list of keys, empty
    if sparse:
        tags[273], tags[279] = (4, [0]), (4, [0])
    if extra:
        tags[338] = (3, list(extra))
    body = struct.pack(order + ("2sHI"), b"MM" if big else b"II", 42, 8 + sum(map(len, strips))) + b"".join(strips)
    after = len(body) + 2 + 12 * len(tags) + 4
    entries, data = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            field = struct.pack(order + "I", after + len(data))
            data += packed
        else:
            field = packed.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + field
    path.write_bytes(body + struct.pack(order + "H", len(tags)) + entries + b"\0\0\0\0" + data)


GREY = smooth()[..., :1]
WIDE_GREY, UNIT_GREY = GREY.astype(np.uint16) * 257, GREY.astype(np.float32) / 255
THREE = np.repeat(GREY, 3, -1).astype(float)
SHOWN = {
    "white is zero": (GREY, {"photometric": 0}, 255 - THREE),
    "16 bits": (WIDE_GREY, {"bits": 16}, THREE),
    "16 bits, big-endian": (WIDE_GREY, {"bits": 16, "big": True}, THREE),
    "16 bits, white is zero": (WIDE_GREY, {"bits": 16, "photometric": 0}, 255 - THREE),
    "float": (UNIT_GREY, {"bits": 32, "sample_format": 3}, THREE),
    "float, big-endian": (UNIT_GREY, {"bits": 32, "sample_format": 3, "big": True}, THREE),
    "float, white is zero": (UNIT_GREY, {"bits": 32, "sample_format": 3, "photometric": 0}, 255 - THREE),
    "colour of 16 bits": (smooth()[..., :3].astype(np.uint16) * 257, {"bits": 16, "photometric": 2}, smooth()[..., :3]),
    "colour of 16 bits, big-endian": (
        smooth()[..., :3].astype(np.uint16) * 257,
        {"bits": 16, "photometric": 2, "big": True},
        smooth()[..., :3],
    ),
    "planes one after the other": (smooth()[..., :3], {"photometric": 2, "planar": True}, smooth()[..., :3]),
    "grey with alpha": (smooth()[..., [0, 3]], {"extra": [2]}, on_white(THREE, smooth()[..., 3])),
    "colour with alpha": (smooth(), {"photometric": 2, "extra": [2]}, on_white(smooth()[..., :3], smooth()[..., 3])),
    "georeferenced with alpha": (
        np.dstack([smooth()[..., :3], np.where(GREY > 90, 255, 0)]).astype(np.uint8),
        {"photometric": 2, "extra": [2], "geo": True},
        on_white(smooth()[..., :3], np.where(GREY > 90, 255, 0)[..., 0]),
    ),
    "georeferenced, half transparent all over": (
        np.dstack([smooth()[..., :3], np.full_like(GREY, 128)]),
        {"photometric": 2, "extra": [2], "geo": True},
        on_white(smooth()[..., :3], np.full_like(GREY, 128)[..., 0]),
    ),
    "premultiplied": (
        np.dstack([(smooth()[..., :3] * (smooth()[..., 3:] / 255)).round().astype(np.uint8), smooth()[..., 3]]),
        {"photometric": 2, "extra": [1]},
        on_white(smooth()[..., :3], smooth()[..., 3]),
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_tags_of_a_tiff_are_followed(name, tmp_path):
    samples, options, expected = SHOWN[name]
    tiff(tmp_path / "a.tif", samples, **options)
    assert np.abs(np.asarray(read_image(tmp_path / "a.tif", 3), dtype=float) - expected).max() <= 2


@pytest.mark.parametrize("mode", ["1", "L"])
def test_white_is_zero_is_followed_in_compressed_files_too(mode, tmp_path):
    image, expected = written(mode)
    image.save(tmp_path / "a.tif", tiffinfo={262: 0}, compression="tiff_adobe_deflate")  # Pillow turns the values as well
    with Image.open(tmp_path / "a.tif") as stored:
        assert stored.tag_v2[262] == 0
    assert np.array_equal(read_image(tmp_path / "a.tif", 3), expected)


def test_twelve_bits_are_spread_over_the_full_range(tmp_path):
    values = np.arange(0, 4096, 4096 // 16)[:16]  # two pixels in three bytes
    pairs = values.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], -1).astype(np.uint8)
    tiff(tmp_path / "a.tif", packed.reshape(1, -1, 1), bits=12)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    width = content.index(struct.pack("<HHI", 256, 3, 1)) + 8
    content[width : width + 2] = struct.pack("<H", 16)
    (tmp_path / "a.tif").write_bytes(content)
    assert np.abs(np.asarray(read_image(tmp_path / "a.tif", 1), dtype=float) - values * 255 / 4095).max() <= 0.51


def test_a_tiff_whose_rows_are_pages_is_refused_and_a_stack_of_slices_is_not(tmp_path):
    images, stacks = ((20, 20, 5), (8, 9, 2)), ((19, 20, 5), (3, 20, 5), (3, 5, 20), (2, 1000, 250))
    for sides, refused in [*((sides, True) for sides in images), *((sides, False) for sides in stacks)]:
        pages = [Image.new("L", sides[:0:-1], 90) for _ in range(sides[0])]
        described = {270: f'{{"shape": {list(sides)}}}'}  # as tifffile describes an array that is neither grey nor RGB
        pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], tiffinfo=described)
        if refused:
            with pytest.raises(DataError, match=f"{sides[0]}x{sides[1]} pixels of {sides[2]} bands, each row a page of its own"):
                read_image(tmp_path / "a.tif", 1)
        else:
            assert read_image(tmp_path / "a.tif", 1).size == sides[:0:-1]


REFUSALS = {
    "two grey samples": (smooth()[..., :2], {"extra": [0]}, "2 samples per pixel"),
    "two grey samples without a word": (smooth()[..., :2], {}, "2 samples per pixel"),
    "colour and one more": (smooth(), {"photometric": 2, "extra": [0]}, "4 samples per pixel, of which 3 would be read as RGB"),
    "five": (np.dstack([smooth(), GREY]), {"photometric": 2, "extra": [0, 0]}, "5 samples per pixel"),
    "five grey": (np.dstack([smooth(), GREY]), {}, "5 samples per pixel"),
    "six": (np.dstack([smooth(), smooth()[..., :2]]), {"photometric": 2, "extra": [0, 0, 0]}, "6 samples per pixel"),
    "six with alpha": (np.dstack([smooth(), smooth()[..., :2]]), {"photometric": 2, "extra": [2, 0, 0]}, "6 samples per pixel"),
    "near-infrared": (
        np.dstack([smooth()[..., :3], GREY]),
        {"photometric": 2, "extra": [2], "geo": True},
        "mode RGBA of a georeferenced TIFF: its last band is tagged as alpha, but looks like another one",
    ),
    "sparse": (GREY, {"sparse": True}, "a sparse TIFF, of which some parts are not stored"),
    "signed bytes": (GREY.astype(np.int8), {"sample_format": 2}, "mode L with signed samples"),
    "signed 16 bits": (WIDE_GREY.astype(np.int16), {"bits": 16, "sample_format": 2}, "mode I with signed samples"),
    "32 bits": (WIDE_GREY.astype(np.uint32), {"bits": 32}, "mode I of TIFF: which value is white is not said"),
    "float up to 255": (GREY.astype(np.float32), {"bits": 32, "sample_format": 3}, "mode F with values from 20 to 200"),
    "not a number": (np.full_like(UNIT_GREY, np.nan), {"bits": 32, "sample_format": 3}, "mode F with values from nan to nan"),
    "float colour": (np.repeat(UNIT_GREY, 3, -1), {"bits": 32, "sample_format": 3, "photometric": 2}, "3 samples per pixel with"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_tiff_without_an_agreed_appearance_is_refused_in_one_line(name, tmp_path):
    samples, options, message = REFUSALS[name]
    tiff(tmp_path / "a.tif", samples, **options)
    with pytest.raises(DataError, match=message) as caught:
        read_image(tmp_path / "a.tif", 3)
    assert str(tmp_path / "a.tif") in str(caught.value) and "\n" not in str(caught.value)


def png(path, depth, kind, row, *, transparent=None):
    """Write a PNG of one row of pixels by hand; kind 0 is grey, 2 colour."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    width = len(row) * 8 // depth // (3 if kind == 2 else 1)
    trns = b"" if transparent is None else chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, kind, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + trns + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b""))


@pytest.mark.parametrize(
    ("depth", "row", "transparent", "expected"),
    [
        (1, b"\x50", 1, [0, 255, 0, 255, 0, 0, 0, 0]),
        (1, b"\x50", 0, [255] * 8),
        (2, b"\x1b", 2, [0, 85, 255, 255]),
        (4, b"\x5a", 5, [255, 170]),
        (8, b"\x05\x55", 5, [255, 85]),
        (16, struct.pack(">3H", 1000, 1001, 51400), 1000, [255, 4, 200]),
    ],
)
def test_a_transparent_grey_level_is_seen_on_white(depth, row, transparent, expected, tmp_path):
    png(tmp_path / "a.png", depth, 0, row, transparent=(transparent,))
    assert np.asarray(read_image(tmp_path / "a.png", 1)).ravel().tolist() == expected


def test_a_transparent_colour_is_seen_on_white_or_refused(tmp_path):
    png(tmp_path / "a.png", 8, 2, bytes([9, 8, 7, 9, 8, 6]), transparent=(9, 8, 7))
    assert np.asarray(read_image(tmp_path / "a.png", 3)).tolist() == [[[255] * 3, [9, 8, 6]]]
    png(tmp_path / "b.png", 16, 2, struct.pack(">6H", 900, 800, 700, 900, 800, 701), transparent=(900, 800, 700))
    with pytest.raises(DataError, match="mode RGB of 16 bits with a transparent colour"):
        read_image(tmp_path / "b.png", 3)


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_a_transparent_palette_entry_is_seen_on_white(kind, tmp_path):
    image = Image.new("P", (4, 2), 1)
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "a", kind, transparency=1)
    expected = np.full((2, 4, 3), 255)
    expected[0, 0] = (10, 20, 30)
    assert np.array_equal(read_image(tmp_path / "a", 3), expected)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_read_and_that_is_said_once(kind, tmp_path, caplog):
    caplog.set_level("INFO")
    reading._say_first_frame.cache_clear()
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue", "lime")]
    options = OPTIONS["WEBP"] if kind == "WEBP" else {}
    frames[0].save(tmp_path / "a", kind, save_all=True, append_images=frames[1:], **options)
    for _ in range(2):
        assert read_image(tmp_path / "a", 3).getpixel((3, 3)) == (255, 0, 0)
    assert caplog.text.count(f"of {kind} files with several frames or pages, the first is read") == 1


def test_icons_give_their_largest_picture(tmp_path):
    Image.new("RGBA", (16, 16), (200, 100, 50, 128)).save(tmp_path / "a.icns")
    found = np.asarray(read_image(tmp_path / "a.icns", 3), dtype=float)
    assert np.abs(found - [227, 177, 152]).max() <= 1


def test_a_file_is_known_by_its_content_and_programs_are_not_started_for_it(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match="a.jpg: not a readable image .of no format that is read here."):
        read_image(tmp_path / "a.jpg", 3)
    Image.new("RGB", (4, 4), "red").save(tmp_path / "b.jpg", "PNG")
    assert read_image(tmp_path / "b.jpg", 3).getpixel((0, 0)) == (255, 0, 0)


def test_a_name_with_a_line_break_is_one_line(tmp_path):
    (tmp_path / "a\nb.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        read_image(tmp_path / "a\nb.png", 3)
    assert r"a\nb.png: not a readable image (the file is empty)" in str(caught.value)


@pytest.mark.parametrize(("top", "said"), [(255, 0), (1000, 1), (4095, 1), (4096, 0), (65535, 0)])
def test_twelve_bits_stored_as_sixteen_are_pointed_out_once(top, said, tmp_path, caplog):
    for name in ("a.png", "b.png"):
        Image.fromarray(np.linspace(0, top, 24).astype(np.uint16).reshape(4, 6)).save(tmp_path / name)
        assert np.asarray(read_image(tmp_path / name, 1)).max() == round(top / 257)
    assert caplog.text.count("nearly black; if they have 10 or 12 bits") == said
