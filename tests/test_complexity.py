"""Counting: against PyTorch's FLOP counter, a scan of counting numbers, the tensors that autograd keeps, and the paper."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lmsearch.config import compose
from lmsearch.errors import ConfigError, LmsearchError, ModelError
from lmsearch.kernels import native
from lmsearch.kernels.reference import whole_delta
from lmsearch.models import create_model, local_vim, mixer
from lmsearch.models.complexity import Cost, complexity, own_count, released_count
from lmsearch.tasks import complexity as task

FOUR = ["h", "w2_flip", "v", "w7"]
# name: family, options; windows are padded on these grids; dt_rank is 2, as PyTorch does not count products with one column
MODELS = {
    "vim": ("local_vim", {"img_size": 64, "patch_size": 8, "embed_dim": 32, "depth": 2}),
    "vim, conv stem": ("local_vim", {"img_size": 60, "patch_size": 8, "embed_dim": 32, "depth": 1, "stem": "conv"}),
    "vim, supernet": ("local_vim", {"img_size": 56, "patch_size": 8, "embed_dim": 32, "depth": 2, "merge": "weighted"}),
    "vim, class token": (
        "local_vim",
        {"img_size": 64, "patch_size": 8, "embed_dim": 32, "depth": 1, "middle_cls_token": True, "use_rope": False},
    ),
    "vim, spatial attention": (
        "local_vim",
        {"img_size": 64, "patch_size": 8, "embed_dim": 32, "depth": 1, "attention": "spatial_channel", "window_padding": "none"},
    ),
    "vim, no attention": ("local_vim", {"img_size": 60, "patch_size": 8, "embed_dim": 32, "depth": 1, "attention": "none"}),
    "vmamba": ("local_vmamba", {"img_size": 60, "dims": [32, 64], "depths": [1, 1]}),
    "vmamba, supernet": ("local_vmamba", {"img_size": 56, "dims": [32, 64], "depths": [1, 2], "merge": "weighted"}),
}


def build(name: str, **changes):
    family, options = MODELS[name]
    return create_model(family, **({"directions": FOUR, "num_classes": 5} | options | changes))


@pytest.fixture
def only_linear_and_convolution(monkeypatch):
    """Replace the scan operators by ones that do not compute, so that a FLOP counter sees the rest."""
    monkeypatch.setattr(mixer, "directional_scan", lambda *, delta, delta_weight, **others: whole_delta(delta, delta_weight))
    monkeypatch.setattr(
        local_vim, "directional_conv", lambda x, weight, *args, **kwargs: x.unsqueeze(1).expand(-1, len(weight), -1, -1)
    )


@pytest.mark.parametrize("name", MODELS)
def test_linear_and_convolution_flops_are_those_of_the_flop_counter(name, only_linear_and_convolution):
    model = build(name, backend="reference").eval()  # whose merge is made of operators that the counter knows
    report = complexity(model)
    vim_conv = 0 if name.startswith("vmamba") else sum(d.conv.flops for layer in report.layers for d in layer.directions)
    expected = report.total.flops - sum(d.scan.flops for layer in report.layers for d in layer.directions) - vim_conv
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(2, 3, *report.img_size))
    assert counter.get_total_flops() == 2 * expected  # two images


class Counting(float):
    """A number that counts what is done with it."""

    tally = {"*": 0, "+": 0, "exp": 0}

    def __mul__(self, other):
        self.tally["*"] += 1
        return Counting(float(self) * float(other))

    def __add__(self, other):
        self.tally["+"] += 1
        return Counting(float(self) + float(other))

    def exp(self):
        self.tally["exp"] += 1
        return Counting(math.exp(self))


@pytest.mark.parametrize("gated", [True, False])
def test_scan_cost_is_what_a_scan_of_counting_numbers_counts(gated, monkeypatch):
    monkeypatch.setattr(Counting, "tally", {"*": 0, "+": 0, "exp": 0})
    name = "vim" if gated else "vmamba"
    model = build(name, directions=["w7"])
    cost = complexity(model).layers[0].directions[0]
    channels, states = 3, 16
    one = Counting(0.5)
    for _ in range(cost.tokens):
        for _ in range(channels):
            h = [Counting(0.0)] * states
            du = one * one
            y = one * one  # D * u
            for n in range(states):
                h[n] = (one * one).exp() * h[n] + du * one
                y = y + h[n] * one
            if gated:
                y = y * one
    scale = model.get_submodule(complexity(model).layers[0].name).mixer.d_inner / channels
    assert cost.scan.macs == Counting.tally["*"] * scale
    # the naive loop starts the sum at D * u, so it needs no addition for the first state; the count has one per state and D
    additions = Counting.tally["+"] + cost.tokens * channels
    assert cost.scan.flops == (Counting.tally["*"] + additions + Counting.tally["exp"]) * scale


@pytest.mark.parametrize("name", MODELS)
def test_parameters_add_up_over_layers_and_directions(name):
    model = build(name)
    report = complexity(model)
    assert report.parameters == sum(p.numel() for p in model.parameters())
    for layer in report.layers:
        block = model.get_submodule(layer.name)
        assert layer.parameters == sum(p.numel() for p in block.parameters())
        stacked = [p for n, p in block.mixer.named_parameters(recurse=False)]
        assert sum(d.parameters for d in layer.directions) == sum(p.numel() for p in stacked)


def test_every_direction_counts_its_own_convolution_projections_and_scan():
    one, three = (complexity(build("vim", directions=d, depth=1)).layers[0] for d in (["h"], ["h", "v", "h_flip"]))
    for part in ("conv", "x_proj", "dt_proj", "scan"):
        assert sum(getattr(d, part).macs for d in three.directions) == 3 * getattr(one.directions[0], part).macs > 0
    assert three.shared.macs == one.shared.macs


def test_pads_are_scanned_and_counted_and_dropped_ones_are_not():
    def tokens(padding):
        report = complexity(build("vim, class token", window_padding=padding))
        return {d.direction: d.tokens for d in report.layers[0].directions}

    assert tokens("zeros") == {"h": 65, "w2_flip": 65, "v": 65, "w7": 197}
    assert set(tokens("none").values()) == {65}


def kept_bytes(model, images) -> int:
    """Bytes of the distinct storages that autograd keeps, parameters left out."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(t):
        storage = t.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = t  # holding it keeps the address unique
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        model(images)
    return sum(t.untyped_storage().nbytes() for t in kept.values())


@pytest.mark.skipif(native.unavailable_reason(torch.device("cpu")) is not None, reason="needs the native kernels")
@pytest.mark.parametrize("name", MODELS)
def test_activation_bytes_are_what_autograd_keeps_with_the_native_kernels(name):
    model = build(name, backend="native").train()
    report = complexity(model)
    measured = kept_bytes(model, torch.randn(8, 3, *report.img_size)) / 8
    assert 0.85 <= report.total.activation_bytes / measured <= 1.1


@pytest.mark.parametrize(
    "name, parameters, flops",
    [
        ("local_vim_tiny", 8, 1.5),
        ("local_vim_small", 28, 4.8),
        ("local_vmamba_tiny", 26, 5.7),
        ("local_vmamba_small", 50, 11.4),
    ],
)
def test_the_released_rules_give_the_figures_of_the_paper_and_the_parts_explain_ours(name, parameters, flops):
    with torch.device("meta"):
        model = create_model(name)
    report = complexity(model)
    ours, theirs = own_count(report), released_count(model, report)
    assert round(report.parameters / 1e6) == parameters
    assert round(theirs.total / 1e9, 1) == flops
    assert ours.total == report.total.macs
    if name == "local_vim_tiny":
        assert (ours.projections - theirs.projections) / 1e9 == pytest.approx(0.27, abs=0.005)


def test_cost_grows_with_the_image_linearly_in_its_tokens_where_nothing_is_padded():
    with torch.device("meta"):
        model = create_model("local_vim_tiny")
    small, large = complexity(model), complexity(model, 448)
    fixed = model.num_features * model.num_classes
    gates = sum(d.attention.macs for layer in small.layers for d in layer.directions)
    assert large.total.macs - fixed - gates == 4 * (small.total.macs - fixed - gates)
    assert complexity(model, (224, 448)).layers[0].grid == (14, 28)
    assert 1.9 < small.total.activation_bytes / complexity(model, bytes_per_value=2).total.activation_bytes < 2.1
    assert complexity(model, chunk=8).total.activation_bytes > small.total.activation_bytes


def test_costs_add():
    assert Cost(1, 2, 3) + Cost(10, 20, 30) == Cost(11, 22, 33)


def test_bad_models_and_sizes_are_refused():
    with pytest.raises(ModelError, match="Linear cannot be counted"):
        complexity(torch.nn.Linear(1, 1))
    with pytest.raises(ModelError, match="img_size=0x5"):
        complexity(build("vim"), (0, 5))
    with pytest.raises(ModelError, match="img_size=3x3 is smaller than one patch of 4"):
        complexity(build("vmamba"), 3)
    for wrong in ("64", 64.0, (64,), (64, "64"), True):
        with pytest.raises(ModelError, match=r"img_size=.* is not accepted; expected one side, or \(height, width\)"):
            complexity(build("vim"), wrong)


def test_a_size_may_be_a_number_of_numpy():
    model = build("vim")
    assert (
        complexity(model, np.int64(8)) == complexity(model, np.array([8, 8])) == complexity(model, [8, 8]) == complexity(model, 8)
    )


# ---------------------------------------------------------------- the task
def run(*words: str) -> int:
    return task.run(compose("complexity", words))


@pytest.mark.parametrize("detail", ["layers", "directions", "none"])
def test_the_task_prints_a_model_and_writes_its_figures(tmp_path, capsys, detail):
    file = tmp_path / "deep" / "cost.json"
    assert run("model=local_vmamba_nano", f"detail={detail}", "sizes=[8,16]", "num_classes=3", f"out={file}") == 0
    out = capsys.readouterr().out
    assert "16x16" in out and ("stages.0.blocks.1" in out) == (detail != "none")
    content = json.loads(file.read_text())["local_vmamba_nano"]
    model = create_model("local_vmamba_nano", num_classes=3)
    assert content[0]["parameters"] == sum(p.numel() for p in model.parameters())
    assert [entry["img_size"] for entry in content] == [[8, 8], [8, 8], [16, 16]]


def test_the_task_takes_a_genotype_and_counts_a_supernet(tmp_path, capsys):
    assert run("model=local_vim_small", "genotype=localmamba/local_vim_small_wo_search") == 0
    assert "layers.19: h, h_flip, w2, w2_flip" in " ".join(capsys.readouterr().out.split())
    words = ("model=local_vim_nano", "merge=weighted", "detail=none", f"out={tmp_path / 'c.json'}")
    assert run(*words) == 0
    with pytest.raises(ConfigError, match="exists already; name another file, or set overwrite=true"):
        run(*words)
    assert run(*words, "overwrite=true") == 0
    supernet = create_model("local_vim_nano", merge="weighted")
    counted = json.loads((tmp_path / "c.json").read_text())["local_vim_nano"][0]["parameters"]
    assert counted == sum(p.numel() for p in supernet.parameters())


def test_the_published_table_stands_beside_the_paper(capsys):
    assert run("published=true") == 0
    out = capsys.readouterr().out
    for text in ("7,994,152", "27,783,784", "25,527,160", "49,748,536", "1.482", "+0.271", "11.4G"):
        assert text in out


@pytest.mark.parametrize(
    "words, needle",
    [
        ([], "needs model="),
        (["model=local_vim_nano", "detail=all"], "detail='all' is not accepted"),
        (["model=local_vim_nano", "img_size=[8]"], "image size [8]"),
        (["model=local_vim_nano", "sizes=[0]"], "image size 0"),
        (["model=local_vim_nano", "genotype=localmamba/local_vim_tiny"], "20 layers"),
        (["model=local_vim_nano", "merge=product"], "merge='product'"),
    ],
)
def test_bad_input_to_the_task_is_one_clear_line(words, needle):
    with pytest.raises(LmsearchError) as caught:
        run(*words)
    assert needle in str(caught.value) and "\n" not in str(caught.value)
