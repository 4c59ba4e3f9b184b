"""Vim's and VMamba's released layouts: networks written once more under their names compute what ours do, and go round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from naive_localmamba import (
    D_STATE,
    layer_norm,
    patch_merging,
    random_state_dict,
    recurrence,
    rms_norm,
    rope_tables,
    rotate,
    silu,
    vmamba_op,
)
from torch import Tensor

from lmsearch.cli import main
from lmsearch.errors import CheckpointError, ModelError
from lmsearch.interop.key_names import names_for
from lmsearch.interop.localmamba import beyond_released, load_official_state_dict, to_official_state_dict
from lmsearch.models import create_model
from lmsearch.models.complexity import complexity, released_count

DIM, SIDE, CLASSES = 16, 4, 3  # channels, patches along a side, classes
VIM = {"embed_dim": DIM, "depth": 2, "patch_size": 2, "img_size": 2 * SIDE, "num_classes": CLASSES}
MIDDLE = {"middle_cls_token": True, "use_rope": False}
VMAMBA = {"dims": (8, 16), "depths": (1, 1), "patch_size": 2, "img_size": 2 * SIDE, "num_classes": CLASSES}
COUNTED = {  # parameters; those of the text: 7M and 26M (Vim), 22M and 44M (VMamba)
    "vim_tiny": 7_147_624,
    "vim_small": 25_795_816,
    "vmamba_tiny": 22_893_448,
    "vmamba_small": 44_417_416,
}
PRINTED = {"vim_tiny": "1.5", "vim_small": "5.1", "vmamba_tiny": "5.6", "vmamba_small": "11.2"}  # "GFLOPs"


def vim_shapes(*, cls: bool, rope: bool) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of Vim's code for two layers."""
    e, rank, tokens = 2 * DIM, 1, SIDE * SIDE
    shapes = {"pos_embed": (1, tokens + cls, DIM), "patch_embed.proj.weight": (DIM, 3, 2, 2), "patch_embed.proj.bias": (DIM,)}
    shapes |= {"cls_token": (1, 1, DIM)} if cls else {}
    shapes |= {"rope.freqs_cos": (tokens, DIM), "rope.freqs_sin": (tokens, DIM)} if rope else {}
    shapes |= {"norm_f.weight": (DIM,), "head.weight": (CLASSES, DIM), "head.bias": (CLASSES,)}
    for b in range(2):
        mixer = f"layers.{b}.mixer."
        shapes |= {f"layers.{b}.norm.weight": (DIM,), mixer + "in_proj.weight": (2 * e, DIM), mixer + "out_proj.weight": (DIM, e)}
        for back in ("", "_b"):
            shapes |= {
                f"{mixer}A{back}_log": (e, D_STATE), f"{mixer}D{back}": (e,), f"{mixer}conv1d{back}.weight": (e, 1, 4),
                f"{mixer}conv1d{back}.bias": (e,), f"{mixer}x_proj{back}.weight": (rank + 2 * D_STATE, e),
                f"{mixer}dt_proj{back}.weight": (e, rank), f"{mixer}dt_proj{back}.bias": (e,),
            }  # fmt: skip
    return shapes


def vmamba_shapes() -> dict[str, tuple[int, ...]]:
    """Keys and shapes of VMamba's first code for two stages of one block."""
    shapes: dict[str, tuple[int, ...]] = {"patch_embed.proj.weight": (8, 3, 2, 2), "patch_embed.proj.bias": (8,)}
    shapes |= {f"patch_embed.norm.{part}": (8,) for part in ("weight", "bias")}
    for s, c in enumerate((8, 16)):
        e, block = 2 * c, f"layers.{s}.blocks.0."
        op = block + "self_attention."
        shapes |= {block + f"ln_1.{part}": (c,) for part in ("weight", "bias")}
        shapes |= {op + f"out_norm.{part}": (e,) for part in ("weight", "bias")}
        shapes |= {
            op + "x_proj_weight": (4, 1 + 2 * D_STATE, e), op + "dt_projs_weight": (4, e, 1), op + "dt_projs_bias": (4, e),
            op + "A_logs": (4 * e, D_STATE), op + "Ds": (4 * e,), op + "in_proj.weight": (2 * e, c),
            op + "conv2d.weight": (e, 1, 3, 3), op + "conv2d.bias": (e,), op + "out_proj.weight": (c, e),
        }  # fmt: skip
    shapes |= {"layers.0.downsample.reduction.weight": (16, 32), "layers.0.downsample.norm.weight": (32,)}
    shapes |= {"layers.0.downsample.norm.bias": (32,), "norm.weight": (16,), "norm.bias": (16,)}
    return shapes | {"head.weight": (CLASSES, 16), "head.bias": (CLASSES,)}


def naive_vim(sd: dict[str, Tensor], images: Tensor, *, cls: bool) -> Tensor:
    """Vim: both directions run over the whole sequence, the class token in its middle; with one, half of their sum is taken."""
    x = F.conv2d(images, sd["patch_embed.proj.weight"], sd["patch_embed.proj.bias"], stride=2).flatten(2).transpose(1, 2)
    middle = SIDE * SIDE // 2
    if cls:
        x = torch.cat([x[:, :middle], sd["cls_token"].expand(len(x), -1, -1), x[:, middle:]], dim=1)
    hidden, residual = x + sd["pos_embed"], None
    tables = None if cls else rope_tables(DIM, SIDE, SIDE, x.dtype)
    for b in range(2):
        if tables is not None:
            hidden, residual = rotate(hidden, *tables), None if residual is None else rotate(residual, *tables)
        residual = hidden if residual is None else residual + hidden
        mixer = f"layers.{b}.mixer."
        xz = rms_norm(residual, sd[f"layers.{b}.norm.weight"]) @ sd[mixer + "in_proj.weight"].T
        summed = naive_scan(sd, mixer, "", xz) + naive_scan(sd, mixer, "_b", xz.flip(1)).flip(1)
        hidden = (summed / 2 if cls else summed) @ sd[mixer + "out_proj.weight"].T
    out = rms_norm(hidden + residual, sd["norm_f.weight"])
    return (out[:, middle] if cls else out.mean(1)) @ sd["head.weight"].T + sd["head.bias"]


def naive_scan(sd: dict[str, Tensor], mixer: str, back: str, xz: Tensor) -> Tensor:
    """One direction over the sequence as it stands."""
    x, z = xz.chunk(2, dim=-1)
    padded = F.pad(x.transpose(1, 2), (3, 0))
    u = silu(F.conv1d(padded, sd[f"{mixer}conv1d{back}.weight"], sd[f"{mixer}conv1d{back}.bias"], groups=x.shape[-1]))
    u = u.transpose(1, 2)
    dt, B, C = (u @ sd[f"{mixer}x_proj{back}.weight"].T).split([1, D_STATE, D_STATE], dim=-1)
    dt = F.softplus(dt @ sd[f"{mixer}dt_proj{back}.weight"].T + sd[f"{mixer}dt_proj{back}.bias"])
    return recurrence(u, dt, -torch.exp(sd[f"{mixer}A{back}_log"]), B, C, sd[f"{mixer}D{back}"]) * silu(z)


def naive_vmamba(sd: dict[str, Tensor], images: Tensor) -> Tensor:
    """VMamba's first version: rows, columns, and both backwards, in this order."""
    x = F.conv2d(images, sd["patch_embed.proj.weight"], sd["patch_embed.proj.bias"], stride=2).permute(0, 2, 3, 1)
    x = layer_norm(x, sd["patch_embed.norm.weight"], sd["patch_embed.norm.bias"])
    for s in range(2):
        block = f"layers.{s}.blocks.0."
        normed = layer_norm(x, sd[block + "ln_1.weight"], sd[block + "ln_1.bias"])
        options = {"search": False, "window_padding": "zeros", "attention": "none"}
        x = x + vmamba_op(sd, block + "self_attention.", normed, directions=["h", "v", "h_flip", "v_flip"], **options)
        x = patch_merging(sd, "layers.0.downsample.", x) if s == 0 else x
    return layer_norm(x, sd["norm.weight"], sd["norm.bias"]).mean((1, 2)) @ sd["head.weight"].T + sd["head.bias"]


CASES = {
    "vim": ("vim_tiny", VIM, vim_shapes(cls=False, rope=True), lambda sd, x: naive_vim(sd, x, cls=False)),
    "vim, class token": ("vim_small", VIM | MIDDLE, vim_shapes(cls=True, rope=False), lambda sd, x: naive_vim(sd, x, cls=True)),
    "vmamba": ("vmamba_tiny", VMAMBA, vmamba_shapes(), naive_vmamba),
}


@pytest.mark.parametrize("case", CASES)
def test_released_weights_compute_the_same_in_our_networks_and_go_round(case: str) -> None:
    name, options, shapes, naive = CASES[case]
    weights = random_state_dict(shapes, grid=(SIDE, SIDE), dtype=torch.float64)
    model = create_model(name, **options).double().eval()
    load_official_state_dict(model, weights, names_for(name))
    images = torch.randn(2, 3, 2 * SIDE, 2 * SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = model(images), naive(weights, images)
    assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-10) and beyond_released(model, names_for(name)) == []
    again = to_official_state_dict(model, names_for(name))
    assert again.keys() == weights.keys()
    assert all(torch.allclose(again[key], weights[key], rtol=0, atol=1e-6 if "rope" in key else 0.0) for key in weights)


@pytest.mark.parametrize("name", COUNTED)
def test_parameters_and_multiplications_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    report = complexity(model)
    assert report.parameters == COUNTED[name]
    assert f"{released_count(model, report, norms=name.startswith('vim')).total / 1e9:.1f}" == PRINTED[name]


LATER = [  # project's model, a key that is added, what is said
    ("vmamba_tiny", VMAMBA, "layers.0.blocks.0.mlp.fc1.weight", "of a later VMamba, with an MLP in every block and no gate"),
    ("vmamba_tiny", VMAMBA, "layers.0.blocks.0.op.in_proj.weight", "of a later VMamba, whose blocks have other names"),
    ("vmamba_tiny", VMAMBA, "patch_embed.5.weight", "of a later VMamba, with two convolutions before"),
    ("vim_tiny", VIM, "cls_token_head", "of Vim with two class tokens"),
    ("vim_tiny", VIM, "layers.0.mixer.gamma", "of Vim with a learned scale of every layer"),
    ("vim_tiny", VIM, "cls_token", "of Vim with a class token before the patches and rotary positions"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "key", "message"), LATER)
def test_what_other_versions_have_is_refused_by_name(name: str, options: dict, key: str, message: str) -> None:
    shapes = vmamba_shapes() if name == "vmamba_tiny" else vim_shapes(cls=False, rope=True)
    weights = random_state_dict(shapes, grid=(SIDE, SIDE)) | {key: torch.zeros(1, 1, DIM)}
    with pytest.raises(CheckpointError, match=message):
        load_official_state_dict(create_model(name, **options), weights, names_for(name, weights))


def later_name(key: str) -> str:
    """Return VMamba's name of a tensor since the end of January 2024."""
    changed = {"patch_embed.proj.": "patch_embed.0.", "patch_embed.norm.": "patch_embed.2.", ".ln_1.": ".norm."}
    for before, after in (changed | {".self_attention.": ".op."}).items():
        key = key.replace(before, after)
    return f"classifier.{key}" if key.startswith(("norm.", "head.")) else key


def test_vmambas_first_network_is_read_by_its_later_names_too_but_not_one_without_a_gate() -> None:
    first = random_state_dict(vmamba_shapes(), grid=(SIDE, SIDE))
    later = {later_name(key): weight for key, weight in first.items()}
    models = [create_model("vmamba_tiny", **VMAMBA) for _ in range(2)]
    for model, weights in zip(models, (first, later), strict=True):
        load_official_state_dict(model, weights, names_for("vmamba_tiny", weights))
    one, other = (model.state_dict() for model in models)
    assert all(torch.equal(one[key], other[key]) for key in one)
    ungated = {key: weight[: len(weight) // 2] if "in_proj" in key else weight for key, weight in later.items()}
    with pytest.raises(CheckpointError, match="whose blocks have other names and options"):
        load_official_state_dict(models[0], ungated, names_for("vmamba_tiny", ungated))


def test_a_class_token_in_the_middle_of_an_odd_number_of_patches_is_refused() -> None:
    weights = {"cls_token": torch.zeros(1, 1, DIM), "pos_embed": torch.zeros(1, 10, DIM)}
    with pytest.raises(CheckpointError, match="pos_embed is of 9 patches, an odd number"):
        load_official_state_dict(create_model("vim_tiny", **VIM | MIDDLE), weights, names_for("vim_tiny"))


def test_other_directions_have_no_names_or_are_said_to_be_beyond_the_released_code() -> None:
    with pytest.raises(ModelError, match="Vim has names for 2 directions of a layer, this network has 4"):
        to_official_state_dict(create_model("vim_tiny", **VIM | {"directions": ["h", "v", "w2", "snake"]}), names_for("vim_tiny"))
    model = create_model("vim_tiny", **VIM | {"directions": ["h", "v"]})
    assert beyond_released(model, names_for("vim_tiny")) == ["directions, which are not h, h_flip"]
    assert names_for("local_vim_tiny").project == "LocalMamba"


def test_convert_reads_vims_second_version_and_writes_it_again(tmp_path: Path) -> None:
    weights = random_state_dict(vim_shapes(cls=True, rope=False))
    torch.save({"model": weights}, tmp_path / "vim.pth")
    sizes = [f"model.{key}={VIM[key]}" for key in ("embed_dim", "depth", "patch_size")]
    words = ["convert", "model=vim_tiny", *sizes, f"source={tmp_path / 'vim.pth'}", f"img_size={2 * SIDE}"]
    assert main([*words, f"out={tmp_path / 'ours'}"]) == 0
    genotype = json.loads((tmp_path / "ours" / "genotype.json").read_text())
    assert [layer["directions"] for layer in genotype["layers"]] == [["h", "h_flip"]] * 2
    assert main(["convert", "to=official", f"source={tmp_path / 'ours'}", f"out={tmp_path / 'again.pth'}"]) == 0
    again = torch.load(tmp_path / "again.pth", weights_only=True)["model"]
    assert again.keys() == weights.keys() and all(torch.equal(again[key], weights[key]) for key in weights)
