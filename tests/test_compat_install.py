"""How lmsearch.compat is installed and taken away: what it serves, what it leaves alone, and what it says."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lmsearch import compat
from lmsearch.compat.finder import StandInFinder
from lmsearch.compat.names import STAND_INS
from lmsearch.kernels import choose_backend, mamba_ssm

NAMES = [(module, name) for package in STAND_INS.values() for module, names in package.modules.items() for name in names]
SCAN = "u delta A B C D=None z=None delta_bias=None delta_softplus=False return_last_state=False"
PROJECTED = "xz conv1d_weight conv1d_bias x_proj_weight delta_proj_weight"
OPTIONAL = "B=None C=None D=None delta_bias=None B_proj_bias=None C_proj_bias=None delta_softplus=True"
NORMED = (
    "x weight bias residual=None x1=None weight1=None bias1=None eps=1e-06 dropout_p=0.0 rowscale=None prenorm=False"
    " residual_in_fp32=False"
)
BACKWARD = "u delta A B C D delta_bias dout x delta_softplus nrows"
# As the sources read, positional order and defaults: versions are named where each function is written anew.
SIGNATURES = {
    "mamba_ssm.ops.selective_scan_interface": {
        "selective_scan_fn": SCAN,
        "selective_scan_ref": SCAN,
        "mamba_inner_fn": f"{PROJECTED} out_proj_weight out_proj_bias A {OPTIONAL} checkpoint_lvl=1 b_rms_weight=None"
        " c_rms_weight=None dt_rms_weight=None b_c_dt_rms_eps=1e-06",
        "mamba_inner_fn_no_out_proj": f"{PROJECTED} A {OPTIONAL}",
        "bimamba_inner_fn": f"{PROJECTED} out_proj_weight out_proj_bias A A_b {OPTIONAL}",
    },
    "mamba_ssm.ops.triton.layer_norm": {
        "layer_norm_fn": f"{NORMED} is_rms_norm=False return_dropout_mask=False",
        "rms_norm_fn": f"{NORMED} return_dropout_mask=False",
        "RMSNorm": "hidden_size eps=1e-05 dropout_p=0.0 device=None dtype=None",
    },
    "mamba_ssm.ops.triton.layernorm": {
        "layer_norm_fn": "x weight bias residual=None eps=1e-06 prenorm=False residual_in_fp32=False is_rms_norm=False",
        "rms_norm_fn": "x weight bias residual=None prenorm=False residual_in_fp32=False eps=1e-06",
        "RMSNorm": "hidden_size eps=1e-05 device=None dtype=None",
    },
    "mamba_ssm.ops.triton.selective_state_update": {
        "selective_state_update": "state x dt A B C D=None z=None dt_bias=None dt_softplus=False state_batch_indices=None",
    },
    "mamba_ssm.modules.mamba_simple": {
        "Mamba": "d_model d_state=16 d_conv=4 expand=2 dt_rank='auto' dt_min=0.001 dt_max=0.1 dt_init='random' dt_scale=1.0"
        " dt_init_floor=0.0001 conv_bias=True bias=False use_fast_path=True layer_idx=None device=None dtype=None"
        " bimamba_type='none' if_divide_out=False init_layer_scale=None bimamba=None",
    },
    "causal_conv1d": {
        "causal_conv1d_fn": "x weight bias=None seq_idx=None initial_states=None return_final_states=False"
        " final_states_out=None activation=None",
        "causal_conv1d_update": "x conv_state weight bias=None activation=None cache_seqlens=None conv_state_indices=None",
    },
    "selective_scan_cuda": {
        "fwd": "u delta A B C D z delta_bias delta_softplus",
        "bwd": "u delta A B C D z delta_bias dout x out dz delta_softplus recompute_out_z",
    },
    "selective_scan_cuda_core": {"fwd": "u delta A B C D delta_bias delta_softplus nrows", "bwd": BACKWARD},
    "selective_scan_cuda_oflex": {"fwd": "u delta A B C D delta_bias delta_softplus nrows out_float", "bwd": BACKWARD},
}


@pytest.fixture(autouse=True)
def without_stand_ins() -> Iterator[None]:
    """Leave nothing installed, whatever a test does."""
    yield
    compat.uninstall()


@pytest.fixture
def original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a package called mamba_ssm that stands for the original."""
    package = tmp_path / "mamba_ssm"
    (package / "ops").mkdir(parents=True)
    (package / "__init__.py").write_text("Mamba = 'the original'\n")
    (package / "ops" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "mamba_ssm"]:
        monkeypatch.delitem(sys.modules, name)
    yield package
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        sys.modules.pop(name, None)


def parameters(function) -> str:
    found = [p for p in inspect.signature(function).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    return " ".join(p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in found)


def test_importing_the_room_installs_nothing() -> None:
    path = list(sys.meta_path)
    importlib.reload(compat)
    assert sys.meta_path == path and not any(isinstance(f, StandInFinder) for f in path)


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_every_name_can_be_imported_and_says_what_it_does(module: str, name: str) -> None:
    with compat.installed(replace=True, quiet=True):
        served = getattr(importlib.import_module(module), name)
    assert callable(served) and inspect.getdoc(served)


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in SIGNATURES.items() for name in names])
def test_the_signatures_are_those_of_the_originals(module: str, name: str) -> None:
    with compat.installed(replace=True, quiet=True):
        assert parameters(getattr(importlib.import_module(module), name)) == SIGNATURES[module][name]


def test_one_line_says_what_runs(capsys: pytest.CaptureFixture[str], original: Path) -> None:
    backend = choose_backend("auto", torch.device("cpu"), torch.float32)
    line = compat.install(replace=True)
    assert capsys.readouterr().out == line + "\n"
    assert line.startswith(f"lmsearch.compat: {', '.join(STAND_INS)} run on lmsearch's kernels (cpu: {backend}")
    assert compat.install(quiet=True) and capsys.readouterr().out == ""


def test_an_original_is_left_alone_and_the_line_says_so(original: Path) -> None:
    line = compat.install(quiet=True)
    assert f"mamba_ssm is installed ({original / '__init__.py'}) and left alone" in line
    import mamba_ssm as found

    assert found.Mamba == "the original"
    with pytest.raises(ModuleNotFoundError, match="No module named 'mamba_ssm.ops.triton'"):
        importlib.import_module("mamba_ssm.ops.triton.layer_norm")  # no mixture of both


@pytest.mark.parametrize("imported", [False, True])
def test_replace_takes_the_place_of_an_original_until_it_is_taken_away(original: Path, imported: bool) -> None:
    before = importlib.import_module("mamba_ssm.ops") if imported else None
    with compat.installed(replace=True, quiet=True):
        assert importlib.import_module("mamba_ssm").Mamba.__module__ == "lmsearch.compat.mixer"
        importlib.import_module("mamba_ssm.ops.triton.layernorm")
    assert importlib.import_module("mamba_ssm").Mamba == "the original"
    assert "mamba_ssm.ops.triton.layernorm" not in sys.modules
    assert before is None or importlib.import_module("mamba_ssm.ops") is before


def test_a_package_without_a_spec_counts_as_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = type(sys)("causal_conv1d")
    monkeypatch.setitem(sys.modules, "causal_conv1d", bare)
    assert "causal_conv1d is installed (causal_conv1d) and left alone" in compat.install(quiet=True)
    assert importlib.import_module("causal_conv1d") is bare


def test_the_end_of_a_block_takes_everything_away_also_after_an_error() -> None:
    path = list(sys.meta_path)
    with pytest.raises(ZeroDivisionError), compat.installed(replace=True, quiet=True):
        importlib.import_module("selective_scan_cuda_core")
        raise ZeroDivisionError
    assert sys.meta_path == path and "selective_scan_cuda_core" not in sys.modules


def test_a_second_call_starts_anew_and_taking_away_twice_does_nothing() -> None:
    for _ in range(2):
        compat.install(replace=True, quiet=True)
    assert sum(isinstance(f, StandInFinder) for f in sys.meta_path) == 1
    for _ in range(2):
        compat.uninstall()
    assert not any(isinstance(f, StandInFinder) for f in sys.meta_path)


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("from mamba_ssm import Mamba2", ImportError, "cannot import name 'Mamba2' from 'mamba_ssm' .*compat.names"),
        (
            "import mamba_ssm.modules.mamba2",
            ModuleNotFoundError,
            "does not serve mamba_ssm.modules.mamba2; it serves mamba_ssm, ",
        ),
        (
            "import causal_conv1d; causal_conv1d.varlen",
            AttributeError,
            "does not serve causal_conv1d.varlen; it serves causal_conv1d_",
        ),
        (
            "import selective_scan_cuda_core as s; s.fwd_all",
            AttributeError,
            "serve selective_scan_cuda_core.fwd_all; it serves fwd",
        ),
    ],
)
def test_what_is_not_served_raises_and_names_it(code: str, error: type[Exception], message: str) -> None:
    with compat.installed(replace=True, quiet=True), pytest.raises(error, match=message):
        exec(code)


@pytest.mark.parametrize("name", ["load_config_hf", "load_state_dict_hf", "GenerationMixin"])
def test_names_for_text_can_be_imported_and_raise_when_they_are_used(name: str) -> None:
    with compat.installed(replace=True, quiet=True):
        place = "mamba_ssm.utils.generation" if name == "GenerationMixin" else "mamba_ssm.utils.hf"
        served = getattr(importlib.import_module(place), name)
    with pytest.raises(ValueError, match=f"lmsearch.compat: {name}.* is not served"):
        served().generate() if name == "GenerationMixin" else served("a model")


def test_stand_ins_are_found_like_modules_and_do_not_claim_mamba_2() -> None:
    with compat.installed(replace=True, quiet=True):
        assert importlib.util.find_spec("mamba_ssm.ops.triton") is not None
        found = importlib.import_module("mamba_ssm")
        assert found.__version__ == "1.2.2+lmsearch" and not hasattr(found, "Mamba2")


def test_the_scan_backend_of_that_name_does_not_take_a_stand_in_for_the_original(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "selective_scan_cuda.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with compat.installed(replace=True, quiet=True):
        reason = mamba_ssm.unavailable_reason(torch.device("cuda"))
    assert reason == "mamba_ssm is lmsearch.compat's stand-in for it; lmsearch.compat.uninstall() brings the original back"


def test_the_scan_backend_takes_no_stand_in_for_the_extension_of_an_original(original: Path) -> None:
    with compat.installed(quiet=True):
        reason = mamba_ssm.unavailable_reason(torch.device("cuda"))
    assert reason is not None and reason.startswith("selective_scan_cuda is lmsearch.compat's stand-in")
