"""Transforms of images, RandAugment, random erasing, mixup and cutmix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from lmsearch.data import DataInfo, mixup_cutmix
from lmsearch.data.keyed import keyed_rng
from lmsearch.data.randaugment import OPERATIONS, SETS, rand_augment
from lmsearch.data.reading import read_image
from lmsearch.data.transforms import TrainTransform, eval_image, random_crop_box, random_erase, to_tensor
from lmsearch.errors import DataError

INFO = DataInfo("test", 2, ("a", "b"), (16, 16), 3, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def picture(width=20, height=14, mode="RGB", seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)).convert(mode)


def test_to_tensor_scales_and_normalises_each_channel():
    image = Image.new("RGB", (3, 2), (255, 0, 51))
    tensor = to_tensor(image, (0.5, 0.5, 0.1), (0.5, 0.25, 0.1))
    assert tensor.shape == (3, 2, 3) and torch.allclose(tensor[:, 0, 0], torch.tensor([1.0, -2.0, 1.0]))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_to_tensor_is_the_arithmetic_of_every_pixel_to_the_last_bit(mode):
    rng = np.random.default_rng(3)
    levels = np.stack([rng.permutation(256).reshape(16, 16).astype(np.uint8) for _ in range(3)], axis=2)
    image = Image.fromarray(levels if mode == "RGB" else levels[..., 0])
    chans = len(image.getbands())
    for mean, std in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.5, 0.1307, 0.0), (0.5, 1e-6, 3.0)):
        values = np.asarray(image, dtype=np.float32).reshape(16, 16, chans).transpose(2, 0, 1) / 255
        shift, scale = (np.asarray(part[:chans], dtype=np.float32)[:, None, None] for part in (mean, std))
        assert torch.equal(to_tensor(image, mean[:chans], std[:chans]), torch.from_numpy((values - shift) / scale))


@pytest.mark.parametrize("size", [(16, 16), (500, 37), (37, 500), (3, 9), (256, 224)])
@pytest.mark.parametrize("img_size", [(16, 16), (8, 24)])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875])
def test_eval_image_has_the_size_asked_for_and_no_border(size, img_size, crop_pct):
    image = eval_image(Image.new("L", size, 200), img_size, crop_pct)
    assert image.size == (img_size[1], img_size[0]) and image.getextrema() == (200, 200)


def test_eval_image_crops_the_centre_without_distortion():
    image = Image.new("L", (64, 32))
    image.paste(255, (24, 8, 40, 24))  # a square in the centre
    pixels = np.asarray(eval_image(image, (28, 28), 0.875))  # shorter side 32: no scaling at all
    assert np.array_equal(np.argwhere(pixels == 255).min(0), [6, 6]) and (pixels == 255).sum() == 256


def test_an_image_of_the_right_size_is_not_resampled():
    image = picture(16, 16)
    assert np.array_equal(np.asarray(eval_image(image, (16, 16), 1.0)), np.asarray(image))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK", "LA", "I;16"])
@pytest.mark.parametrize("in_chans", [1, 3])
def test_every_mode_of_image_is_read_with_the_channels_asked_for(tmp_path, mode, in_chans):
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    if mode == "I;16":
        Image.fromarray(np.asarray(picture(mode="L")).astype(np.uint16) * 257).save(path)
    else:
        picture().convert(mode).save(path)
    image = read_image(path, in_chans)
    assert image.mode == {1: "L", 3: "RGB"}[in_chans] and image.size == (20, 14)
    assert np.abs(np.asarray(image, dtype=float).mean() - 127) < 20


def test_sixteen_bit_grey_keeps_its_levels(tmp_path):
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(levels * 257).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png", 1)), levels)


def test_random_crop_boxes_keep_to_area_and_aspect():
    rng = keyed_rng("test")
    boxes = np.array([random_crop_box(200, 300, rng, scale=(0.2, 0.5), ratio=(0.5, 2.0)) for _ in range(500)])
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    share = width * height / 60000
    assert (boxes >= 0).all() and (boxes[:, 2] <= 300).all() and (boxes[:, 3] <= 200).all()
    assert 0.19 < share.min() < 0.23 and 0.47 < share.max() < 0.51
    assert 0.49 < (width / height).min() < 0.6 and 1.7 < (width / height).max() < 2.02


def test_random_crop_of_a_sliver_is_the_largest_centred_box_of_an_allowed_aspect():
    assert random_crop_box(10, 1000, keyed_rng("test"), scale=(1.0, 1.0), ratio=(0.75, 4 / 3)) == (493, 0, 506, 10)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("operation", dict.fromkeys(op for known in SETS.values() for op in known), ids=lambda op: op.__name__)
def test_every_operation_keeps_size_and_mode(operation, mode):
    fill = (124, 116, 104) if mode == "RGB" else (128,)
    for strength in (0.0, 0.9, 1.0):
        for sign in (-1, 1):
            result = operation(picture(mode=mode), strength, sign, fill)
            assert result.size == (20, 14) and result.mode == mode


GRADED = [op for op in OPERATIONS if op.__name__ not in ("auto_contrast", "equalize", "invert")]


@pytest.mark.parametrize("operation", GRADED, ids=lambda op: op.__name__)
def test_graded_operations_do_nothing_at_zero_and_more_at_nine_than_at_three(operation):
    blurred = picture(5, 4).resize((40, 32), Image.Resampling.BICUBIC)
    original = np.asarray(blurred, dtype=float)
    change = [np.abs(np.asarray(operation(blurred, s, 1, (124, 116, 104)), dtype=float) - original).mean() for s in (0, 0.3, 0.9)]
    assert change[0] == 0 and change[1] < change[2]


def test_localmambas_operations_are_those_of_its_code_at_its_magnitude():
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (8, 1)))
    found = [np.asarray(operation(ramp, 0.9, 1, (0,)))[4].astype(int) for operation in SETS["localmamba"]]
    zoomed, posterized, solarized, brighter = (found[place] for place in (1, 8, 9, 13))
    assert len(found) == 19 and len(set(posterized)) == 8 and (solarized != np.arange(256)).sum() == 26
    assert brighter[100] == 172 and (zoomed[:82] == 0).all() and (zoomed[84:172] > 0).all() and (zoomed[174:] == 0).all()


def test_rand_augment_is_keyed_and_uses_every_operation(monkeypatch):
    used = []
    monkeypatch.setattr("lmsearch.data.randaugment.OPERATIONS", tuple(
        lambda image, strength, sign, fill, n=n: used.append((n, strength, sign)) or image for n in range(len(OPERATIONS))
    ))  # fmt: skip
    for i in range(600):
        rand_augment(picture(), keyed_rng(i), num_ops=2, op_prob=0.5, fill=(0, 0, 0))
    numbers, strengths, signs = map(np.array, zip(*used, strict=True))
    assert len(OPERATIONS) == 15 and set(numbers) == set(range(15)) and set(signs) == {-1, 1}
    assert abs(len(used) - 600) < 60 and abs(strengths.mean() - 0.9) < 0.01 and 0.03 < strengths.std() < 0.06


def test_the_training_transform_is_a_function_of_its_key():
    transform = TrainTransform(INFO)
    first, again, other = (transform(picture(40, 30), keyed_rng(k)) for k in (0, 0, 1))
    assert first.shape == (3, 16, 16) and torch.equal(first, again) and not torch.equal(first, other)


def test_a_training_transform_with_everything_off_is_a_plain_resize():
    off = TrainTransform(INFO, scale=(1, 1), ratio=(1, 1), flip_prob=0, randaugment_ops=0, erasing_prob=0)
    image = picture(32, 32)
    expected = to_tensor(image.resize((16, 16), Image.Resampling.BICUBIC), INFO.mean, INFO.std)
    assert torch.equal(off(image, keyed_rng(0)), expected)
    flipped = TrainTransform(INFO, scale=(1, 1), ratio=(1, 1), flip_prob=1, randaugment_ops=0, erasing_prob=0)
    assert torch.equal(flipped(image, keyed_rng(0)), expected.flip(2))


def test_random_erase_puts_noise_in_one_box_of_the_right_area():
    shares = []
    for i in range(400):
        image = torch.full((3, 32, 24), 7.0)
        erased = random_erase(image, keyed_rng(i), prob=0.5)
        changed = (erased != image).all(0)
        assert (image == 7).all() and torch.equal(changed, (erased != image).any(0))
        if changed.any():
            rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
            assert changed.sum() == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
            assert abs(erased[:, changed].mean()) < 1.5
            shares.append(changed.float().mean().item())
    assert abs(len(shares) / 400 - 0.5) < 0.1 and 0.01 < min(shares) < 0.06 and 0.25 < max(shares) < 0.36


def mixed(seed=0, generator=None, **options):
    images = torch.arange(4.0)[:, None, None, None].expand(4, 3, 10, 10).clone()
    generator = np.random.default_rng(seed) if generator is None else generator
    result = mixup_cutmix(images, torch.tensor([0, 1, 2, 4]), num_classes=5, generator=generator, **options)
    assert torch.equal(images[:, 0, 0, 0], torch.arange(4.0))
    return images, *result


def test_without_mixing_targets_are_smoothed_one_hot():
    images, same, soft = mixed(prob=0.0, smoothing=0.1)
    assert torch.equal(images, same) and torch.allclose(soft[3], torch.tensor([0.02, 0.02, 0.02, 0.02, 0.92]))
    images, same, soft = mixed(mixup_alpha=0, cutmix_alpha=0, smoothing=0)
    assert torch.equal(images, same) and torch.equal(soft.argmax(1), torch.tensor([0, 1, 2, 4])) and soft.sum() == 4


@pytest.mark.parametrize("seed", range(5))
def test_mixup_mixes_images_and_targets_by_the_same_share(seed):
    _, result, soft = mixed(seed, mixup_alpha=1.0, cutmix_alpha=0, smoothing=0)
    lam = soft[0, 0].item()
    assert torch.allclose(soft[0], torch.tensor([lam, 0, 0, 0, 1 - lam]))
    assert torch.allclose(result[0], torch.full((3, 10, 10), 3 * (1 - lam)), atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_cutmix_targets_follow_the_area_that_was_pasted(seed):
    _, result, soft = mixed(seed, mixup_alpha=0, cutmix_alpha=1.0, smoothing=0)
    pasted = (result[0] == 3).float().mean().item()
    assert set(result[0].unique().tolist()) <= {0.0, 3.0}
    assert torch.allclose(soft[0], torch.tensor([1 - pasted, 0, 0, 0, pasted]), atol=1e-6)


def test_kinds_are_switched_and_skipped_with_the_given_probabilities():
    kinds = []
    for seed in range(400):
        images, result, soft = mixed(seed, mixup_alpha=0.8, cutmix_alpha=1.0, prob=0.75, switch_prob=0.25, smoothing=0.1)
        assert torch.allclose(soft.sum(1), torch.ones(4))
        kinds.append("none" if result is images else "cutmix" if result[0].unique().tolist() in ([0], [3], [0, 3]) else "mixup")
    shares = {kind: kinds.count(kind) / 400 for kind in ("none", "cutmix", "mixup")}
    assert abs(shares["none"] - 0.25) < 0.07 and abs(shares["cutmix"] - 0.1875) < 0.07 and abs(shares["mixup"] - 0.5625) < 0.08


def test_mixing_share_has_the_mean_and_spread_of_its_beta():
    lams = np.array([mixed(s, mixup_alpha=0.2, cutmix_alpha=0, smoothing=0)[2][0, 0].item() for s in range(600)])
    assert abs(lams.mean() - 0.5) < 0.06 and abs(lams.var() - 0.25 / 1.4) < 0.02


def test_a_torch_generator_gives_equal_results_for_equal_states():
    first, second = (mixed(generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first[1], second[1]) and torch.equal(first[2], second[2])
    generator = torch.Generator().manual_seed(3)
    mixed(generator=generator)
    assert not torch.equal(mixed(generator=generator)[2], first[2])


@pytest.mark.parametrize(("options", "message"), [({"mixup_alpha": -1}, "mixup_alpha is -1"), ({"prob": 1.5}, "prob is 1.5")])
def test_wrong_mixing_options_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        mixed(**options)


def test_dense_targets_cannot_be_mixed():
    with pytest.raises(DataError, match="one class label per image"):
        mixup_cutmix(torch.zeros(2, 1, 4, 4), torch.zeros(2, 16, 1), num_classes=1, generator=np.random.default_rng(0))
