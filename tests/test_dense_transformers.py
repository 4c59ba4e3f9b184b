"""Heads of Transformers with our backbones: sizes, losses per image, and the traps on the way."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lmsearch import create_model
from lmsearch.data import Batch
from lmsearch.data.instances import Instances
from lmsearch.engine.checkpoint import ModelSpec, load_model, read_model, save_model
from lmsearch.engine.objectives import objective_for
from lmsearch.engine.randomness import by_sample
from lmsearch.engine.run_dir import RunDir
from lmsearch.engine.train import Precision
from lmsearch.errors import ModelError
from lmsearch.models.complexity import complexity
from lmsearch.models.dense import HEADS, DenseNet
from lmsearch.models.dense.handed import heads_for
from lmsearch.models.dense.outputs import VOID, boxes_of, learnable
from lmsearch.tasks.parts.memory import check_memory

VIM = ("local_vim", {"embed_dim": 8, "depth": 1, "patch_size": 4})
VMAMBA = ("local_vmamba", {"dims": (8, 16), "depths": (1, 1)})
WITH_EXTRA = [name for name, kind in HEADS.items() if kind.extra]
OF_OBJECTS = [name for name, kind in HEADS.items() if kind.objects]
SIZES = [(16, 16), (24, 32), (13, 22)]
CLASSES = 3


def build(head: str, family: tuple = VIM, **options) -> DenseNet:
    torch.manual_seed(0)
    name, own = family
    fixed = {"directions": ["h"], "img_size": 16, "backend": "reference", "num_classes": CLASSES, "head": head}
    return create_model(name, **fixed | own | options)


def objects(masks: bool = True, size: tuple[int, int] = (13, 22)) -> Instances:
    """Return the objects of three images: two of them with a crowd and padding, one in a corner, none."""
    boxes = torch.zeros(3, 4, 4)
    boxes[0, :3] = torch.tensor([[2, 3, 8, 9], [10, 1, 20, 12], [0, 0, 5, 5]])
    boxes[1, 0] = torch.tensor([16, 9, 22, 13])
    classes = torch.tensor([[0, 2, 1, -1], [1, -1, -1, -1], [-1, -1, -1, -1]])
    crowd = torch.zeros(3, 4, dtype=torch.bool)
    crowd[0, 2] = True
    painted = torch.zeros(3, 4, *size, dtype=torch.bool)
    for image, place in ((0, 0), (0, 1), (0, 2), (1, 0)):
        x0, y0, x1, y1 = boxes[image, place].int().tolist()
        painted[image, place, y0:y1, x0:x1] = True
    return Instances(boxes, classes, crowd, painted if masks else None)


def pixels(size: tuple[int, int] = (13, 22)) -> Tensor:
    """Return classes of pixels (3, h, w): of two images some are void, of the third all."""
    classes = torch.randint(CLASSES, (3, *size), generator=torch.Generator().manual_seed(0))
    classes[:, :3] = VOID
    classes[2] = VOID
    return classes


def images(number: int = 3, size: tuple[int, int] = (13, 22)) -> Tensor:
    return torch.randn(number, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def nets() -> dict[str, DenseNet]:
    return {head: build(head) for head in WITH_EXTRA}


@pytest.mark.parametrize("head", WITH_EXTRA)
@pytest.mark.parametrize("family", [VIM, VMAMBA], ids=["vim", "vmamba"])
def test_answers_have_the_size_of_the_image(head: str, family: tuple) -> None:
    net = build(head, family).eval()
    for size in SIZES:
        found = net(images(2, size))
        if not HEADS[head].objects:
            assert found.shape == (2, CLASSES, *size)
            continue
        height, width = size
        for image in found.detections(most=7):
            number = len(image.scores)
            assert number <= 7 and image.boxes.shape == (number, 4) and image.classes.shape == (number,)
            assert (image.boxes >= 0).all() and (image.boxes <= image.boxes.new_tensor([width, height] * 2)).all()
            assert image.masks is None or image.masks.shape == (number, *size)  # not Transformers' 384 x 384
            assert torch.equal(image.scores, image.scores.sort(descending=True).values)
        if hasattr(found, "semantic"):
            assert found.semantic().shape == (2, CLASSES, *size)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("head", HEADS)
def test_weights_of_another_dtype_answer_and_learn(head: str, dtype: torch.dtype) -> None:
    net = build(head).train()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(images())  # weights in float32, which stay so
    found = net.to(dtype)(images().to(dtype))
    if isinstance(found, Tensor):
        assert found.dtype == dtype
        return
    wide = torch.promote_types(dtype, torch.float32)
    assert (rounded.classes.dtype, found.classes.dtype) == (torch.float32, wide)
    losses = found.losses(objects())
    losses.sum().backward()
    assert losses.isfinite().all() and len(found.detections(most=7)) == 3


@pytest.mark.parametrize("head", WITH_EXTRA)
def test_every_weight_of_net_and_head_learns(head: str) -> None:
    net = build(head, VMAMBA, merge="weighted", directions=["h", "v"]).train()
    found = net(images(2))
    loss = found.square().mean() if isinstance(found, Tensor) else found.losses(objects()[:2]).mean()
    loss.backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None]


@pytest.mark.parametrize("head", WITH_EXTRA)
def test_an_image_is_answered_alike_in_any_batch_in_training_too(head: str, nets: dict[str, DenseNet]) -> None:
    net, x = nets[head].train(), images()
    for alone in (0, 2):
        whole, one = net(x), net(x[alone : alone + 1])
        if isinstance(whole, Tensor):
            torch.testing.assert_close(one[0], whole[alone], rtol=1e-4, atol=1e-5)
        else:
            targets = objects()
            here = one.losses(targets[[alone]])
            torch.testing.assert_close(here[0], whole.losses(targets)[alone], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", OF_OBJECTS)
def test_an_image_without_objects_and_a_batch_of_none_have_finite_losses(head: str, nets: dict[str, DenseNet]) -> None:
    losses = nets[head](images()).losses(objects())
    assert losses.shape == (3,) and losses.dtype == torch.float32 and losses.isfinite().all()
    nothing = Instances(
        torch.zeros(3, 0, 4), torch.zeros(3, 0).long(), torch.zeros(3, 0).bool(), torch.zeros(3, 0, 13, 22).bool()
    )
    assert nets[head](images()).losses(nothing).isfinite().all()
    outputs = nets[head](images())
    assert not outputs.detach().losses(objects()).requires_grad and outputs.losses(objects()).requires_grad


@pytest.mark.parametrize("head", OF_OBJECTS)
def test_crowds_and_objects_of_no_area_are_not_learnt_from(head: str, nets: dict[str, DenseNet]) -> None:
    targets, other = objects(), objects()
    assert learnable(targets, 0).tolist() == [True, True, False, False]
    other.boxes[0, 2] = torch.tensor([1.0, 1.0, 1.0, 9.0])
    other.classes[0, 2], other.crowd[0, 2] = 0, False
    other.masks[0, 2] = False
    outputs = nets[head](images())
    assert torch.equal(outputs.losses(targets), outputs.losses(other))


def test_weights_that_diverged_give_a_loss_that_says_so(nets: dict[str, DenseNet]) -> None:
    broken = images()
    broken[1] = torch.nan
    for head in OF_OBJECTS:
        assert nets[head](broken).losses(objects()).isfinite().tolist() == [True, False, True]


@pytest.mark.parametrize("head", ["upernet", "mask2former"])
def test_images_without_a_labelled_pixel_cost_nothing(head: str, nets: dict[str, DenseNet]) -> None:
    objective = objective_for("segmentation")
    outputs = nets[head].train()(images())
    losses = objective.losses(outputs, pixels())
    assert losses[2] == 0 and (losses[:2] > 0).all()
    void = torch.full_like(pixels(), VOID)
    assert torch.equal(objective.losses(outputs, void), torch.zeros(3))


def test_losses_of_boxes_are_those_of_transformers_image_by_image(nets: dict[str, DenseNet]) -> None:
    outputs, targets = nets["deformable_detr"](images()), objects(masks=False)
    head, leaves = outputs.model, (outputs.classes, outputs.boxes)

    def theirs(image: int) -> Tensor:
        learnt = learnable(targets, image)
        x0, y0, x1, y1 = (targets.boxes[image][learnt] / torch.tensor([24.0, 16.0, 24.0, 16.0])).unbind(1)  # of the padded image
        truth = [
            {
                "class_labels": targets.classes[image][learnt],
                "boxes": torch.stack([x0 + x1, y0 + y1, 2 * (x1 - x0), 2 * (y1 - y0)], 1) / 2,
            }
        ]
        classes, boxes = (part[:, image : image + 1] for part in leaves)
        loss, parts, _ = head.loss_function(classes[-1], truth, "cpu", boxes[-1], head.config, classes, boxes)
        return loss + sum(part for name, part in parts.items() if name.startswith("loss_ce"))  # classes count twice

    ours, wanted = outputs.losses(targets), torch.stack([theirs(image) for image in range(3)])
    torch.testing.assert_close(ours, wanted)
    weights = torch.tensor([1.0, -2.0, 0.5])
    for mine, its in zip(
        *(torch.autograd.grad(loss @ weights, leaves, retain_graph=True) for loss in (ours, wanted)), strict=True
    ):
        torch.testing.assert_close(mine, its)


def test_an_image_whose_answers_are_not_finite_spoils_no_other(nets: dict[str, DenseNet]) -> None:
    outputs, targets = nets["deformable_detr"](images()).detach(), objects(masks=False)
    before = outputs.losses(targets)
    outputs.boxes[0, 1, 2, 3] = torch.nan
    after = outputs.losses(targets)
    assert after[1].isnan() and torch.equal(after[[0, 2]], before[[0, 2]])
    none = objects(masks=False)
    none.classes[:] = -1
    assert (nets["deformable_detr"](images()).losses(none) > 0).all()


def test_void_is_no_class_of_mask2former(nets: dict[str, DenseNet]) -> None:
    outputs, targets = nets["mask2former"](images()), pixels()
    masks = torch.stack([targets[0] == k for k in range(CLASSES)])[None]
    same = Instances(boxes_of(masks[0])[None], torch.arange(CLASSES)[None], torch.zeros(1, CLASSES).bool(), masks)
    one = nets["mask2former"](images()[:1])
    torch.testing.assert_close(outputs.losses(targets)[0], one.losses(same)[0], rtol=1e-4, atol=1e-4)


def test_points_of_a_mask_follow_from_the_sample_in_training(nets: dict[str, DenseNet]) -> None:
    net, x = nets["mask2former"].train(), images()

    def losses(epoch: int, numbers: list[int]) -> Tensor:
        places = torch.tensor(numbers)
        with by_sample(Batch(x[places], places, places), seed=0, epoch=epoch):
            outputs = net(x[places])
        torch.rand(3)  # whatever else draws
        return outputs.losses(objects()[places])

    whole = losses(0, [0, 1, 2])
    torch.testing.assert_close(losses(0, [1, 0]), whole[[1, 0]], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(losses(1, [0, 1, 2])[:2], whole[:2], rtol=1e-4)
    before = torch.get_rng_state()
    net.eval()(x).losses(objects())
    assert torch.equal(torch.get_rng_state(), before)


def test_no_norm_of_a_batch_is_left_and_none_is_frozen(nets: dict[str, DenseNet]) -> None:
    for net in nets.values():
        assert not [m for m in net.modules() if "BatchNorm" in type(m).__name__]
        assert all(p.requires_grad for p in net.parameters())


def test_boxes_start_small_and_improbable_where_their_queries_look() -> None:
    found = build("deformable_detr").eval()(images()).detach()
    assert found.classes.sigmoid().mean().item() == pytest.approx(0.01, rel=0.5)
    assert torch.allclose(found.boxes[..., 2:], torch.sigmoid(torch.tensor(-2.0)))
    assert all(image.scores.max() < 0.05 for image in found.detections())


def test_queries_start_far_apart_and_attention_looks_all_around() -> None:
    net = build("deformable_detr", (VIM[0], VIM[1] | {"embed_dim": 32})).eval()
    centres = net(images()).boxes[-1, 0, :, :2].detach()
    assert centres.std(0).min() > 0.15  # 0.01 as Transformers draws them
    for name, bias in net.named_parameters():
        if name.endswith("sampling_offsets.bias"):
            x, y = bias.detach().view(-1, 2).T
            assert min(x.max(), -x.min(), y.max(), -y.min()) >= 1.0, name


@pytest.mark.parametrize("width", [32, 64, 96, 128, 160, 256])
def test_attention_has_eight_heads_or_more_of_a_power_of_two(width: int) -> None:
    heads = heads_for(width)
    assert heads >= 8 and width % heads == 0
    assert (width // heads).bit_count() == 1


def test_boxes_are_told_in_pixels_of_the_input(nets: dict[str, DenseNet]) -> None:
    outputs = nets["deformable_detr"].eval()(images())
    outputs.boxes[-1, 0] = torch.tensor([0.5, 0.5, 0.5, 0.5])  # of the 16 x 24 pixels that the network saw
    assert outputs.detections(most=1)[0].boxes.tolist() == [[6.0, 4.0, 18.0, 12.0]]


def test_the_box_around_a_mask_ends_after_its_last_pixel() -> None:
    masks = torch.zeros(2, 5, 7, dtype=torch.bool)
    masks[0, 1:3, 2:6] = True
    masks[1, 4, 6] = True
    assert boxes_of(masks).tolist() == [[2.0, 1.0, 6.0, 3.0], [6.0, 4.0, 7.0, 5.0]]
    assert boxes_of(masks[:0]).shape == (0, 4)


@pytest.mark.parametrize(
    ("head", "targets", "needle"),
    [
        ("mask2former", objects(masks=False), "learns from masks.*take head=deformable_detr"),
        ("deformable_detr", pixels(), "learns from boxes"),
    ],
    ids=["boxes for masks", "pixels for boxes"],
)
def test_targets_that_a_head_cannot_learn_from_are_told(head: str, targets: object, needle: str, nets: dict) -> None:
    with pytest.raises(ModelError, match=needle):
        nets[head](images()).losses(targets)


@pytest.mark.parametrize("head", WITH_EXTRA)
def test_a_net_is_stored_and_read_with_its_head(head: str, tmp_path: Path) -> None:
    options = {"embed_dim": 8, "depth": 1, "patch_size": 4, "img_size": [16, 16], "num_classes": CLASSES, "head": head}
    spec = ModelSpec("local_vim", (("h",),), options=options)
    net = spec.build(backend="reference").eval()
    run_dir = RunDir(tmp_path)
    with run_dir.owned():
        save_model(run_dir, spec, net.state_dict())
    again = load_model(*read_model(tmp_path), source="test", backend="reference").eval()
    x = images()
    for a, b in zip(_tensors(net(x)), _tensors(again(x)), strict=True):
        assert torch.equal(a, b)


def _tensors(outputs: object) -> list[Tensor]:
    found = [outputs] if isinstance(outputs, Tensor) else list(vars(outputs).values())
    return [value for value in found if isinstance(value, Tensor)]


@pytest.mark.parametrize("head", WITH_EXTRA)
def test_memory_is_told_of_every_head(head: str, caplog: pytest.LogCaptureFixture) -> None:
    options = {"embed_dim": 8, "depth": 1, "patch_size": 4, "img_size": [13, 22], "num_classes": CLASSES, "head": head}
    spec = ModelSpec("local_vim", (("h",),), options=options)
    with caplog.at_level("INFO"):
        check_memory(2, spec, Precision(torch.device("cpu")))
    assert ("without head" in caplog.text) == (not HEADS[head].counted) and "24 tokens" not in caplog.text
    if not HEADS[head].counted:
        with pytest.raises(ModelError, match=f"head={head} cannot be counted"):
            complexity(spec.build())


def test_an_extra_that_is_not_installed_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "transformers" else real(name, *rest))
    with pytest.raises(ModelError, match="head=upernet needs Transformers.*python -m pip install 'transformers>=5.24,<6'"):
        build("upernet")
    assert isinstance(build("plain"), nn.Module)
