"""lmsearch.compat's scans and inner functions against naive twins in float64, over dtypes, layouts, forms of B and C, groups."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from naive_mamba import TOLERANCES, assert_close, compare, layouts, naive_conv, naive_inner, naive_scan
from torch import Tensor

from lmsearch.compat import extension
from lmsearch.compat.inner import bimamba_inner_fn, mamba_inner_fn, mamba_inner_fn_no_out_proj
from lmsearch.compat.scan import selective_scan_ref, selective_state_update
from lmsearch.errors import KernelError
from lmsearch.kernels import selective_scan_fn

BATCH, D, L, N, R, W, WIDTH = 3, 4, 5, 3, 2, 4, 6  # WIDTH: of a model
EXTENSIONS = {"core": (extension.core_fwd, extension.core_bwd), "oflex": (extension.oflex_fwd, extension.oflex_bwd)}


def draw(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=generator).to(dtype)


def scan_tensors(dtype: torch.dtype = torch.float32, *, groups: int = 2, delta_channels: int = D) -> dict[str, Tensor]:
    """Return the arguments of VMamba's extensions by name."""
    g = torch.Generator().manual_seed(3)
    shapes = {"u": (BATCH, D, L), "delta": (BATCH, delta_channels, L), "B": (BATCH, groups, N, L), "C": (BATCH, groups, N, L)}
    streams = {name: draw(g, *shape, dtype=dtype) for name, shape in shapes.items()}
    parameters = {"A": -torch.rand(D, N, generator=g), "D": draw(g, D), "delta_bias": draw(g, delta_channels)}
    return streams | parameters


class Extension(torch.autograd.Function):
    """VMamba's call of an extension, forward and backward; `kept` says whether x is handed back."""

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, delta_bias, name, flags, kept):
        out, x, *rest = EXTENSIONS[name][0](u, delta, A, B, C, D, delta_bias, True, 1, *flags)
        assert not rest and not out.requires_grad
        ctx.name, ctx.kept = name, kept
        ctx.save_for_backward(u, delta, A, B, C, D, delta_bias, x)
        return out

    @staticmethod
    def backward(ctx, dout):
        *tensors, x = ctx.saved_tensors
        grads = EXTENSIONS[ctx.name][1](*tensors, dout, x if ctx.kept else None, True, 1)
        assert len(grads) == 7
        return *grads, None, None, None


def through(name: str, u, delta, A, B, C, D, delta_bias, *, flags=(), kept=True) -> Tensor:
    return Extension.apply(u, delta, A, B, C, D, delta_bias, name, flags, kept)


def naive_vmamba(u, delta, A, B, C, D, delta_bias) -> Tensor:
    times = u.shape[1] // delta.shape[1]
    delta, delta_bias = delta.repeat_interleave(times, dim=1), delta_bias.repeat_interleave(times)
    return naive_scan(u, delta, A, B, C, D, None, delta_bias, True)[0]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("name", "flags"), [("core", ()), ("oflex", (False,)), ("oflex", (True,))])
def test_the_extensions_of_vmamba_equal_the_naive_loop(name, flags, dtype):
    y = compare(partial(through, name, flags=flags), naive_vmamba, scan_tensors(dtype), TOLERANCES[dtype])
    assert y.dtype == (torch.float32 if flags == (True,) else dtype) and y.is_contiguous()


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_without_the_native_kernels_the_forward_pass_runs_once_more(dtype, monkeypatch):
    monkeypatch.setattr(extension, "_is_native", lambda u: False)  # as on a GPU
    for flags in ((True,), (False,)):
        y = compare(partial(through, "oflex", flags=flags), naive_vmamba, scan_tensors(dtype), TOLERANCES[dtype])
        assert y.dtype == (torch.float32 if flags == (True,) else dtype)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("kept", [True, False])
def test_the_extensions_take_any_number_of_groups_and_need_no_x(groups, kept):
    compare(partial(through, "core", kept=kept), naive_vmamba, scan_tensors(groups=groups), 1e-5)


def test_oflex_takes_a_delta_that_neighbouring_channels_share():
    tensors = scan_tensors(delta_channels=2)
    compare(partial(through, "oflex", flags=(True,)), naive_vmamba, tensors, 1e-5)
    with pytest.raises(KernelError, match=r"delta has shape \(3, 2, 5\); expected \(B, D, L\)"):
        extension.core_fwd(*(tensors[k] for k in ("u", "delta", "A", "B", "C", "D", "delta_bias")), True, 1)


def test_the_extensions_take_any_layout():
    dense = scan_tensors()
    for layout in ("channel-last", "gaps"):
        tensors = dense | {name: layouts(dense[name])[layout] for name in ("u", "delta")}
        tensors["B"] = dense["B"].mT.contiguous().mT
        compare(partial(through, "oflex", flags=(True,)), naive_vmamba, tensors, 1e-5)


def test_the_extensions_pass_gradcheck():
    u, delta, B, C, A, D, bias = (t.double().requires_grad_() for t in scan_tensors().values())
    assert torch.autograd.gradcheck(partial(through, "oflex", flags=(True,)), (u, delta, A, B, C, D, bias), fast_mode=True)


def test_an_absent_D_and_bias_have_no_gradient():
    t = scan_tensors()
    given = (t["u"], t["delta"], t["A"], t["B"], t["C"], None, None)
    out, x = extension.core_fwd(*given, True, 1)
    assert extension.core_bwd(*given, out, x, True, 1)[5:] == [None, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"B": torch.ones(BATCH, N, L)}, r"B has shape \(3, 3, 5\) and C \(3, 2, 3, 5\); expected both \(B, G, N, L\)"),
        ({"A": torch.ones(D, N, dtype=torch.complex64)}, "complex A"),
        ({"u": torch.ones(BATCH, D, L + 1)}, "delta has shape"),
    ],
)
def test_arguments_that_an_extension_cannot_take_are_named(change, message):
    t = scan_tensors() | change
    with pytest.raises(KernelError, match=message):
        extension.oflex_fwd(*(t[k] for k in ("u", "delta", "A", "B", "C", "D", "delta_bias")), True, 1, True)


def test_the_x_of_other_arguments_is_refused_and_cannot_be_taken_for_the_original():
    t = scan_tensors()
    given = tuple(t[k] for k in ("u", "delta", "A", "B", "C", "D", "delta_bias"))
    out, x = extension.core_fwd(*given, True, 1)
    with pytest.raises(IndexError):
        x[:, :, -1, 1::2]
    with pytest.raises(KernelError, match="expected the x that forward returned"):
        extension.core_bwd(*given, out, x[1:], True, 1)


@pytest.mark.parametrize("layout", ["dense", "channel-last", "gaps"])
def test_the_scan_takes_any_layout_and_returns_a_dense_result(layout):
    t = scan_tensors() | {"z": torch.linspace(-2, 2, BATCH * D * L).view(BATCH, D, L)}
    tensors = t | {name: layouts(t[name])[layout] for name in ("u", "delta", "z")}
    y = compare(
        partial(selective_scan_fn, delta_softplus=True), lambda **a: naive_scan(**a, delta_softplus=True)[0], tensors, 1e-5
    )
    assert y.is_contiguous()


def test_the_plain_scan_is_that_of_the_reference():
    t = scan_tensors()
    got = selective_scan_ref(**t, delta_softplus=True, return_last_state=True)
    expected = naive_scan(**t, delta_softplus=True)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5)


def inner_tensors(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Return the tensors of Vim's inner functions by our names; A, D, delta_bias stay in float32 as there."""
    g = torch.Generator().manual_seed(4)
    shapes = {
        "xz": (BATCH, 2 * D, L),
        "conv_weight": (D, 1, W),
        "conv_bias": (D,),
        "x_proj": (R + 2 * N, D),
        "dt_proj": (D, R),
    }
    streams = {name: (draw(g, *shape) * 0.7).to(dtype) for name, shape in shapes.items()}
    return streams | {"A": -torch.rand(D, N, generator=g), "D": draw(g, D), "delta_bias": draw(g, D)}


def no_out_proj(xz, conv_weight, conv_bias, x_proj, dt_proj, A, B=None, C=None, D=None, delta_bias=None, **options):
    return mamba_inner_fn_no_out_proj(xz, conv_weight, conv_bias, x_proj, dt_proj, A, B, C, D, delta_bias, **options)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_the_inner_function_without_output_projection_equals_its_twin(dtype):
    y = compare(no_out_proj, naive_inner, inner_tensors(dtype), 2 * TOLERANCES[dtype])
    assert y.dtype == dtype and y.shape == (BATCH, D, L) and y.is_contiguous()


@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_the_inner_functions_with_output_projection_equal_their_twins(dtype, both_ways):
    g = torch.Generator().manual_seed(5)
    tensors = inner_tensors(dtype) | {"out_proj": draw(g, WIDTH, D, dtype=dtype), "out_bias": draw(g, WIDTH, dtype=dtype)}
    tensors |= {"A_b": -torch.rand(D, N, generator=g)} if both_ways else {}

    def ours(xz, conv_weight, conv_bias, x_proj, dt_proj, A, D, delta_bias, out_proj, out_bias, A_b=None):
        first = (xz, conv_weight, conv_bias, x_proj, dt_proj, out_proj, out_bias, A)
        last = {"D": D, "delta_bias": delta_bias, "delta_softplus": True}
        return mamba_inner_fn(*first, None, None, **last) if A_b is None else bimamba_inner_fn(*first, A_b, None, None, **last)

    def naive(out_proj, out_bias, **inner):
        return F.linear(naive_inner(**inner).mT, out_proj.double(), out_bias.double())

    assert compare(ours, naive, tensors, 2 * TOLERANCES[dtype]).shape == (BATCH, L, WIDTH)


@pytest.mark.parametrize("given", [("B",), ("C",), ("B", "C")])
@pytest.mark.parametrize("variable", [False, True])
def test_the_inner_function_takes_a_given_B_and_C(given, variable):
    g = torch.Generator().manual_seed(6)
    more = {name: draw(g, BATCH, 2, N, L) if variable else draw(g, D, N) for name in given}
    compare(no_out_proj, naive_inner, inner_tensors() | more, 2e-5)


@pytest.mark.parametrize("both_ways", [False, True])
def test_the_inner_functions_add_the_biases_of_B_and_C(both_ways):
    g = torch.Generator().manual_seed(6)
    tensors = inner_tensors() | {"B_bias": draw(g, N), "C_bias": draw(g, N)} | ({"A_b": -torch.rand(D, N)} if both_ways else {})
    identity = torch.eye(D)

    def ours(xz, conv_weight, conv_bias, x_proj, dt_proj, A, D, delta_bias, B_bias, C_bias, A_b=None):
        named = {"D": D, "delta_bias": delta_bias, "B_proj_bias": B_bias, "C_proj_bias": C_bias}
        first = (xz, conv_weight, conv_bias, x_proj, dt_proj, identity, None, A)
        return (mamba_inner_fn(*first, **named) if A_b is None else bimamba_inner_fn(*first, A_b, **named)).mT

    compare(ours, naive_inner, tensors, 2e-5)


@pytest.mark.parametrize("normed", [("b_rms_weight",), ("c_rms_weight",), ("b_rms_weight", "c_rms_weight", "dt_rms_weight")])
def test_the_inner_function_norms_B_C_and_delta(normed):
    g = torch.Generator().manual_seed(6)
    weights = {name: draw(g, D if name == "dt_rms_weight" else N) for name in normed}

    def ours(xz, conv_weight, conv_bias, x_proj, dt_proj, A, D, delta_bias, **weights):
        first = (xz, conv_weight, conv_bias, x_proj, dt_proj, torch.eye(A.shape[0]), None, A)
        return mamba_inner_fn(*first, D=D, delta_bias=delta_bias, b_c_dt_rms_eps=1e-3, **weights).mT

    def naive(xz, conv_weight, conv_bias, x_proj, dt_proj, A, D, delta_bias, **weights):
        x, z = xz.double().chunk(2, dim=1)
        u = naive_conv(x, conv_weight[:, 0], conv_bias, activation="silu")
        low = torch.einsum("rd,bdl->brl", x_proj.double(), u)
        parts = {"b_rms_weight": low[:, R : R + N], "c_rms_weight": low[:, R + N :]}
        parts["dt_rms_weight"] = torch.einsum("dr,brl->bdl", dt_proj.double(), low[:, :R])
        for name, weight in weights.items():
            part = parts[name]
            parts[name] = part / (part.square().mean(1, keepdim=True) + 1e-3).sqrt() * weight.double()[:, None]
        B, C, delta = parts.values()
        return naive_scan(u, delta, A, B, C, D, z, delta_bias, True)[0]

    compare(ours, naive, inner_tensors() | weights, 2e-5)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_single_steps_are_the_scan(dtype):
    t = scan_tensors(dtype, groups=1) | {"z": torch.linspace(-2, 2, BATCH * D * L).view(BATCH, D, L).to(dtype)}
    state, parts = torch.zeros(BATCH, D, N), []
    for x, dt, z, B, C in zip(*(v.unbind(-1) for v in (t["u"], t["delta"], t["z"], t["B"][:, 0], t["C"][:, 0])), strict=True):
        parts.append(selective_state_update(state, x, dt, t["A"], B, C, t["D"], z, t["delta_bias"], True))
    y, last = naive_scan(**t, delta_softplus=True)
    assert parts[0].dtype == dtype
    assert_close("result", torch.stack(parts, dim=-1), y, TOLERANCES[dtype])
    assert_close("state", state, last, 1e-5)


def test_single_steps_of_heads_share_B_and_C_by_group():
    g = torch.Generator().manual_seed(8)
    x, dt, B, C = draw(g, BATCH, 4, D), draw(g, BATCH, 4, D), draw(g, BATCH, 2, N), draw(g, BATCH, 2, N)
    A, skip, bias, state = -torch.rand(4, D, N, generator=g), draw(g, 4, D), draw(g, 4, D), draw(g, BATCH, 4, D, N)
    before = state.clone()
    y = selective_state_update(state, x, dt, A, B, C, skip, dt_bias=bias)
    for head in range(4):
        own = before[:, head].clone()
        arguments = (x[:, head], dt[:, head], A[head], B[:, head // 2], C[:, head // 2], skip[head])
        assert_close("result", y[:, head], selective_state_update(own, *arguments, dt_bias=bias[head]), 1e-6)
        assert_close("state", state[:, head], own, 1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state_batch_indices": torch.zeros(2)}, "is not served with state_batch_indices"),
        ({"state": torch.zeros(2, 3)}, r"state has shape \(2, 3\)"),
        ({"dt": torch.zeros(2, 5)}, r"dt has shape \(2, 1, 5\); expected with its heads = \(2, 1, 4\)"),
        ({"B": torch.zeros(2, 3, 3)}, "B has 3 groups, which do not divide H = 1"),
    ],
)
def test_what_a_single_step_cannot_take_is_named(change, message):
    given = {"state": torch.zeros(2, 4, 3), "x": torch.zeros(2, 4), "dt": torch.zeros(2, 4), "A": torch.zeros(4, 3)}
    with pytest.raises(KernelError, match=message):
        selective_state_update(**given | {"B": torch.zeros(2, 3), "C": torch.zeros(2, 3)} | change)


def test_the_inner_function_does_without_bias_D_and_softplus():
    tensors = inner_tensors()
    for name in ("conv_bias", "D", "delta_bias"):
        del tensors[name]
    ours = partial(no_out_proj, conv_bias=None, delta_softplus=False)
    compare(ours, partial(naive_inner, conv_bias=None, softplus=False), tensors, 2e-5)


def test_the_inner_functions_take_a_channel_last_xz():
    tensors = inner_tensors()
    tensors["xz"] = layouts(tensors["xz"])["channel-last"]
    compare(no_out_proj, naive_inner, tensors, 2e-5)


def test_the_inner_functions_pass_gradcheck():
    tensors = {name: t[:2].double() if name == "xz" else t.double() for name, t in inner_tensors().items()}
    names = list(tensors)
    leaves = [tensors[name].requires_grad_() for name in names]
    assert torch.autograd.gradcheck(lambda *t: no_out_proj(**dict(zip(names, t, strict=True))), leaves, fast_mode=True)
    out, A_b = torch.randn(WIDTH, D, dtype=torch.float64, requires_grad=True), -torch.rand(D, N, dtype=torch.float64)
    xz, conv, bias, x_proj, dt_proj, A, skip, dt_bias = leaves

    def both(xz, conv, bias, x_proj, dt_proj, out, A, A_b, skip, dt_bias):
        return bimamba_inner_fn(xz, conv, bias, x_proj, dt_proj, out, None, A, A_b, None, None, skip, dt_bias)

    arguments = (xz, conv, bias, x_proj, dt_proj, out, A, A_b.requires_grad_(), skip, dt_bias)
    assert torch.autograd.gradcheck(both, arguments, fast_mode=True)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"xz": torch.ones(BATCH, 7, L)}, {}, r"xz has shape \(3, 7, 5\); expected \(B, 2 D, L\)"),
        ({"conv_weight": torch.ones(D, 2, W)}, {}, r"conv1d_weight has shape \(4, 2, 4\); expected \(D, 1, W\)"),
        ({"x_proj": torch.ones(R + N, D)}, {}, r"x_proj's output has shape .*expected \(B, K, L, R \+ 2 N\)"),
        ({"A": torch.ones(D, N, dtype=torch.complex64)}, {}, "complex A is not supported"),
        ({}, {"checkpoint_lvl": 2}, "checkpoint_lvl=2; accepted: 0, 1"),
        ({}, {"dt_rms_weight": torch.ones(N)}, r"dt_rms_weight has shape \(3,\); expected \(D,\) = \(4,\)"),
        ({}, {"b_rms_weight": torch.ones(N), "B": torch.ones(D, N)}, "not served with b_rms_weight and a given B or C"),
    ],
)
def test_what_the_inner_functions_cannot_take_is_named(change, options, message):
    t = inner_tensors() | change
    first = (t["xz"], t["conv_weight"], t["conv_bias"], t["x_proj"], t["dt_proj"], torch.eye(D), None, t["A"])
    with pytest.raises(KernelError, match=message):
        mamba_inner_fn(*first, D=t["D"], delta_bias=t["delta_bias"], **options)


def test_a_given_B_for_both_ways_is_refused():
    t = inner_tensors()
    first = (t["xz"], t["conv_weight"], t["conv_bias"], t["x_proj"], t["dt_proj"], torch.eye(D), None, t["A"], t["A"])
    with pytest.raises(KernelError, match="bimamba_inner_fn is not served with a given B or C"):
        bimamba_inner_fn(*first, B=torch.ones(D, N))
