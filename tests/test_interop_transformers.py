"""Both families as models of Transformers: what is saved is read to the bit, and their backbones serve its heads."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lmsearch import create_model
from lmsearch.api.transformers import backbone_of, classifier_of
from lmsearch.data import DataInfo
from lmsearch.engine.checkpoint import ModelSpec, load_model, read_model, save_model
from lmsearch.engine.run_dir import RunDir
from lmsearch.errors import CheckpointError, ModelError
from lmsearch.interop import transformers as registered
from lmsearch.models.factory import FAMILIES, PRESETS

SMALL = {
    "local_vim": {"embed_dim": 8, "depth": 2, "patch_size": 4, "img_size": 16, "d_state": 4},
    "local_vmamba": {"dims": [8, 16], "depths": [1, 1], "img_size": 16, "d_state": 4},
}
INFO = DataInfo("pets", 3, ("cat", "dog", "eel"), (16, 16), 3, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))


def images(number: int, size: tuple[int, int]) -> Tensor:
    return torch.randn(number, 3, *size, generator=torch.Generator().manual_seed(1))


def config_of(family: str, **options):
    config = {"local_vim": registered.LocalVimConfig, "local_vmamba": registered.LocalVMambaConfig}[family]
    return config(**SMALL[family] | {"directions": [["h", "v_flip"], ["w2", "h"]], "num_labels": 3} | options)


@pytest.fixture(scope="module")
def auto():
    """Return Transformers with both families registered."""
    registered.register()
    registered.register()
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return transformers


@pytest.mark.parametrize("family", SMALL)
def test_a_configuration_has_the_defaults_of_create_model(family: str) -> None:
    empty = {"local_vim": registered.LocalVimConfig, "local_vmamba": registered.LocalVMambaConfig}[family]()
    signature = inspect.signature(FAMILIES[family]).parameters.values()
    expected = {p.name: p.default for p in signature if p.name not in ("mixer", "directions", "num_classes", "img_size")}
    expected |= {name: value for name, value in PRESETS[family].items() if name not in ("family", "directions")}
    options = empty.options()
    assert {name: options[name] for name in expected} == expected
    assert all(tuple(names) == PRESETS[family]["directions"] for names in options["directions"])
    with torch.device("meta"):
        ours, theirs = create_model(family, num_classes=2), create_model(family, **options)
    assert [m.options for m in ours.mixers()] == [m.options for m in theirs.mixers()]


def test_a_configuration_takes_numbers_of_numpy_and_is_written_as_json() -> None:
    own = {"local_vim": {"depth": np.int64(2), "img_size": np.array([8, 16])}, "local_vmamba": {"depths": np.array([1, 1])}}
    plain = {"local_vim": {"depth": 2, "img_size": [8, 16]}, "local_vmamba": {"depths": [1, 1]}}
    for family, options in own.items():
        chosen = config_of(family, **options, out_indices=np.array([1]))
        assert chosen.to_json_string() == config_of(family, **plain[family], out_indices=[1]).to_json_string()


@pytest.mark.parametrize("merge", ["sum", "weighted"])
@pytest.mark.parametrize("family", SMALL)
def test_what_is_saved_is_read_to_the_bit(family: str, merge: str, auto, tmp_path: Path) -> None:
    config, x = config_of(family, merge=merge, genotype={"keep": 2}), images(2, (16, 16))
    torch.manual_seed(0)
    model = auto.AutoModelForImageClassification.from_config(config).eval()
    torch.manual_seed(0)
    assert _same(create_model(family, **config.options()).state_dict(), model.model.state_dict())
    model.save_pretrained(tmp_path)
    again = auto.AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    assert _same(again.state_dict(), model.state_dict()) and torch.equal(again(x).logits, model(x).logits)
    assert again.config.directions == [["h", "v_flip"], ["w2", "h"]] and again.config.genotype == {"keep": 2}
    loss = again(x, labels=torch.tensor([0, 2])).loss
    assert torch.equal(loss, nn.functional.cross_entropy(again(x).logits, torch.tensor([0, 2])))
    many = auto.AutoModelForImageClassification.from_pretrained(tmp_path, problem_type="multi_label_classification").eval()
    shown = torch.tensor([[1.0, 0, 1], [0, 0, 1]])
    expected = nn.functional.binary_cross_entropy_with_logits(many(x).logits, shown)
    assert torch.equal(many(x, labels=shown).loss, expected)


@pytest.mark.parametrize("family", SMALL)
def test_a_backbone_is_read_from_its_own_folder_and_from_a_classifiers(family: str, auto, tmp_path: Path) -> None:
    config, x = config_of(family), images(2, (13, 22))
    config.out_indices = list(range(config.stages()))
    backbone = auto.AutoBackbone.from_config(config).eval()
    maps = backbone(x).feature_maps
    assert [m.shape[1] for m in maps] == backbone.channels and len(maps) == config.stages()
    assert [tuple(m.shape[2:]) for m in maps[:2]] == [(4, 6), (2, 3)]
    backbone.save_pretrained(tmp_path / "backbone")
    again = type(backbone).from_pretrained(tmp_path / "backbone").eval()
    assert all(torch.equal(a, b) for a, b in zip(again(x).feature_maps, maps, strict=True))
    classifier = auto.AutoModelForImageClassification.from_config(config)
    classifier.save_pretrained(tmp_path / "classifier")
    mixed = type(backbone).from_pretrained(tmp_path / "classifier")
    assert all(torch.equal(v, classifier.state_dict()[k]) for k, v in mixed.state_dict().items() if k.startswith("model."))
    fresh = mixed.neck.state_dict()  # in no file: what a new one has, not what lay in memory
    assert all(torch.equal(value, torch.full_like(value, float(name.endswith("weight")))) for name, value in fresh.items())


@pytest.mark.parametrize("family", SMALL)
def test_a_backbone_in_bfloat16_gives_maps_in_bfloat16(family: str, auto) -> None:
    backbone = auto.AutoBackbone.from_config(config_of(family)).bfloat16()
    assert {m.dtype for m in backbone(images(2, (16, 16)).bfloat16()).feature_maps} == {torch.bfloat16}


def test_some_maps_of_a_backbone_are_chosen_by_name(auto) -> None:
    config = config_of("local_vim", out_features=["stage2", "stage4"])
    backbone = auto.AutoBackbone.from_config(config)
    found = backbone(images(1, (16, 16)), output_hidden_states=True)
    assert [m.shape[2] for m in found.feature_maps] == [2, 1] and len(found.hidden_states) == 4 and config.out_indices == [1, 3]
    assert len(backbone(images(1, (16, 16)), return_dict=False)[0]) == 2


@pytest.mark.parametrize("family", SMALL)
def test_auto_backbone_serves_upernet_and_a_detector_of_transformers(family: str, auto) -> None:
    config = config_of(
        family, **({} if family == "local_vim" else {"dims": [8, 16, 32, 64], "depths": [1] * 4, "directions": ["h"]})
    )
    config.out_indices = [0, 1, 2, 3]
    segmenter = auto.UperNetForSemanticSegmentation(
        auto.UperNetConfig(backbone_config=config, hidden_size=8, auxiliary_channels=8, num_labels=3)
    )
    found = segmenter(images(2, (16, 24)), labels=torch.randint(3, (2, 16, 24)))
    assert found.logits.shape == (2, 3, 16, 24) and found.loss.isfinite()
    detector = auto.DeformableDetrForObjectDetection(
        auto.DeformableDetrConfig(
            use_timm_backbone=False,
            backbone_config=config,
            num_labels=3,
            d_model=32,
            encoder_layers=1,
            decoder_layers=2,
            num_queries=5,
            encoder_attention_heads=1,
            decoder_attention_heads=1,
        )  # fmt: skip
    )
    assert detector(images(2, (16, 24))).pred_boxes.shape == (2, 5, 4)
    backbone = detector.model.backbone
    assert all(p.requires_grad for p in backbone.parameters())  # no BatchNorm of ours that a DETR would freeze
    assert not [m for m in backbone.modules() if "BatchNorm" in type(m).__name__]


def test_mixers_are_recomputed_where_transformers_asks_for_it(auto) -> None:
    model = auto.AutoModelForImageClassification.from_config(config_of("local_vim"))
    model.activation_checkpointing_enable()
    assert all(mixer.grad_checkpointing for mixer in model.model.mixers())
    model.activation_checkpointing_disable()
    assert not any(mixer.grad_checkpointing for mixer in model.model.mixers())


def store(folder: Path, **options) -> ModelSpec:
    """Write a run folder's model.safetensors of random weights."""
    own = {"embed_dim": 8, "depth": 1, "patch_size": 4, "img_size": [16, 16], "num_classes": 3, "in_chans": 3}
    spec = ModelSpec("local_vim_nano", (("h", "v"),), options=own | options, data={"info": asdict(INFO)})
    with RunDir(folder).owned():
        save_model(RunDir(folder), spec, spec.build().state_dict())
    return spec


def test_a_run_folder_becomes_a_classifier_with_the_names_of_its_classes(auto, tmp_path: Path) -> None:
    spec = store(tmp_path / "run")
    model, x = classifier_of(tmp_path / "run"), images(2, (16, 16))
    ours = load_model(spec, read_model(tmp_path / "run")[1], source="run").eval()
    assert torch.equal(model(x).logits, ours(x)) and model.config.id2label == {0: "cat", 1: "dog", 2: "eel"}
    assert model.config.image_mean == [0.5, 0.4, 0.3] and model.config.window_padding == "none"
    model.save_pretrained(tmp_path / "saved")
    again = auto.AutoModelForImageClassification.from_pretrained(tmp_path / "saved").eval()
    assert torch.equal(again(x).logits, ours(x)) and again.config.label2id["eel"] == 2


@pytest.mark.parametrize("head", ["plain", "upernet", None])
def test_a_run_folder_becomes_a_backbone_whatever_it_was_trained_for(head: str | None, tmp_path: Path, caplog) -> None:
    spec = store(tmp_path, **({} if head is None else {"head": head}))
    net = load_model(spec, read_model(tmp_path)[1], source="run")
    model = backbone_of(tmp_path)
    assert _same(
        model.model.state_dict(), {k: v for k, v in getattr(net, "backbone", net).state_dict().items() if "head." not in k}
    )
    assert ("starts fresh" in caplog.text) == (head != "upernet")
    if head is not None:
        with pytest.raises(CheckpointError, match=f"head={head} and classifies no images; take backbone_of"):
            classifier_of(tmp_path)


def test_without_transformers_registering_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    for use in (registered.register, lambda: registered.LocalVimConfig):
        with pytest.raises(ModelError, match="python -m pip install 'transformers>=5.24,<6'"):
            use()
    with pytest.raises(AttributeError, match="LocalSwin"):
        registered.LocalSwin  # noqa: B018 # looked up for its error


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


IN_ANOTHER_PROCESS = """
import sys, torch
from lmsearch.interop import transformers as ours
ours.register()
from transformers import AutoModelForImageClassification
folder, kind = sys.argv[1:]
model = (AutoModelForImageClassification if kind == "classifier" else getattr(ours, kind)).from_pretrained(folder)
found = model.eval()(torch.load(f"{folder}/images.pt"))
torch.save([found.logits] if kind == "classifier" else list(found.feature_maps), f"{folder}/found.pt")
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classifier", "backbone"])
@pytest.mark.parametrize("merge", ["sum", "weighted"])
@pytest.mark.parametrize("family", SMALL)
def test_a_fresh_process_reads_the_same_network(family: str, merge: str, kind: str, auto, tmp_path: Path) -> None:
    config, x = config_of(family, merge=merge), images(2, (13, 22))
    config.out_indices = list(range(config.stages()))
    factory = auto.AutoModelForImageClassification if kind == "classifier" else auto.AutoBackbone
    model = factory.from_config(config).eval()
    with torch.no_grad():
        found = model(x)
    model.save_pretrained(tmp_path)
    torch.save(x, tmp_path / "images.pt")
    name = "classifier" if kind == "classifier" else type(model).__name__
    subprocess.run([sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path), name], check=True, capture_output=True, text=True)
    expected = list(found.feature_maps) if kind == "backbone" else [found.logits]
    again = torch.load(tmp_path / "found.pt")
    assert len(again) == len(expected) and all(torch.equal(a, b) for a, b in zip(again, expected, strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_trainer_of_transformers_runs_twenty_steps(auto, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = auto.AutoModelForImageClassification.from_config(config_of("local_vim"))
    classes = torch.arange(24) % 3
    pictures = torch.randn(24, 3, 16, 16) * 0.1
    for number, k in enumerate(classes.tolist()):
        pictures[number, k] += 1.0
    samples = [{"pixel_values": x, "labels": k} for x, k in zip(pictures, classes, strict=True)]
    arguments = auto.TrainingArguments(
        output_dir=str(tmp_path), max_steps=20, per_device_train_batch_size=8, learning_rate=5e-3, report_to=[], use_cpu=True,
        gradient_accumulation_steps=2, save_strategy="no", disable_tqdm=True, logging_steps=1, seed=0,
    )  # fmt: skip
    trainer = auto.Trainer(model=model, args=arguments, train_dataset=samples)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 20 and losses[-1] < 0.8 * losses[0]
    assert losses[0] == pytest.approx(1.1, abs=0.3)  # a mean over accumulated batches, not their sum
