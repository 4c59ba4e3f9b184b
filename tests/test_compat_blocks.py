"""Blocks as VMamba, Vim and MambaVision build them, written anew: they import the stand-ins and train on a bare CPU.

Every block takes its operators from outside, so that the same block with naive twins in float64 says what is right.
Shapes: B batch, L tokens, D inner channels, N states, R rank of delta, K directions.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from naive_mamba import assert_close, naive_conv, naive_inner, naive_scan
from torch import nn

from lmsearch import compat
from lmsearch.compat.mixer import Mamba
from lmsearch.errors import KernelError
from lmsearch.kernels import choose_backend

WIDTH, D, N, R, BATCH, SIDE = 6, 8, 3, 2, 2, 3


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * 0.5)


def oflex_scan(extension):
    """VMamba's autograd function around forward and backward of selective_scan_cuda_oflex or _core."""

    class Scan(torch.autograd.Function):
        @staticmethod
        def forward(ctx, u, delta, A, B, C, D, bias, flags):
            out, x, *_ = extension.fwd(u, delta, A, B, C, D, bias, True, 1, *flags)
            ctx.save_for_backward(u, delta, A, B, C, D, bias, x)
            return out

        @staticmethod
        def backward(ctx, dout):
            u, delta, A, B, C, D, bias, x = ctx.saved_tensors
            du, ddelta, dA, dB, dC, dD, dbias, *_ = extension.bwd(u, delta, A, B, C, D, bias, dout.contiguous(), x, True, 1)
            return du, ddelta, dA, dB, dC, dD, dbias, None

    return Scan.apply


class SS2D(nn.Module):
    """VMamba's: four orders of an image (B, D, H, W) as K groups of one scan, merged by their sum."""

    def __init__(self, scan, flags: tuple) -> None:
        super().__init__()
        self.scan, self.flags = scan, flags
        self.x_proj, self.dt_proj = parameter(4, R + 2 * N, D), parameter(4, D, R)
        self.A_log, self.D, self.bias = parameter(4 * D, N), parameter(4 * D), parameter(4 * D)

    def forward(self, image):
        batch, channels, height, width = image.shape
        rows = image.flatten(2)
        columns = image.transpose(2, 3).flatten(2)
        xs = torch.stack([rows, columns, rows.flip(-1), columns.flip(-1)], dim=1)  # (B, K, D, L)
        low = torch.einsum("bkdl,kcd->bkcl", xs, self.x_proj)
        dts, Bs, Cs = low.split((R, N, N), dim=2)
        dts = torch.einsum("bkrl,kdr->bkdl", dts, self.dt_proj).reshape(batch, 4 * channels, -1)
        A = -torch.exp(self.A_log)
        ys = self.scan(xs.reshape(dts.shape), dts, A, Bs.contiguous(), Cs.contiguous(), self.D, self.bias, self.flags)
        ys = ys.view(batch, 4, channels, -1)
        ys = ys[:, :2] + ys[:, 2:].flip(-1)
        return ys[:, 0].unflatten(2, (height, width)) + ys[:, 1].unflatten(2, (width, height)).transpose(2, 3)


class VimBlock(nn.Module):
    """Vim's: fused residual and RMS norm, then a fused inner function along the tokens and one against them."""

    def __init__(self, inner, norm) -> None:
        super().__init__()
        self.inner, self.norm_fn = inner, norm
        self.weight = parameter(WIDTH)
        self.in_proj, self.out_proj = nn.Linear(WIDTH, 2 * D, bias=False), nn.Linear(D, WIDTH, bias=False)
        for way in ("ahead", "back"):
            made = {"conv": (D, 1, 4), "conv_bias": (D,), "x_proj": (R + 2 * N, D), "dt_proj": (D, R)}
            made |= {"A_log": (D, N), "D": (D,), "dt_bias": (D,)}
            setattr(self, way, nn.ParameterDict({name: parameter(*shape) for name, shape in made.items()}))

    def way(self, xz, p):
        first = (xz, p["conv"], p["conv_bias"], p["x_proj"], p["dt_proj"], -torch.exp(p["A_log"]), None, None, p["D"])
        return self.inner(*first, delta_bias=p["dt_bias"], delta_softplus=True)

    def forward(self, hidden, residual=None):
        hidden, residual = self.norm_fn(
            hidden, self.weight, None, residual=residual, prenorm=True, residual_in_fp32=True, eps=1e-5
        )
        xz = torch.einsum("cw,blw->bcl", self.in_proj.weight, hidden)
        y = self.way(xz, self.ahead) + self.way(xz.flip([-1]), self.back).flip([-1])
        return F.linear(y.transpose(1, 2), self.out_proj.weight) + residual


class MambaVisionMixer(nn.Module):
    """MambaVision's: convolutions that see both sides, a scan of one half of the channels, the other half beside it."""

    def __init__(self, scan) -> None:
        super().__init__()
        self.scan = scan
        self.in_proj, self.out_proj = nn.Linear(WIDTH, D), nn.Linear(D, WIDTH)
        half = D // 2
        self.x_proj, self.dt_proj = nn.Linear(half, R + 2 * N, bias=False), nn.Linear(R, half)
        self.conv_x, self.conv_z = (nn.Conv1d(half, half, 3, groups=half, padding="same") for _ in range(2))
        self.A_log, self.D = parameter(half, N), parameter(half)

    def forward(self, hidden):
        x, z = self.in_proj(hidden).transpose(1, 2).chunk(2, dim=1)
        x, z = F.silu(self.conv_x(x)), F.silu(self.conv_z(z))
        dt, B, C = self.x_proj(x.transpose(1, 2)).split((R, N, N), dim=-1)
        dt, B, C = (t.transpose(1, 2) for t in (self.dt_proj(dt), B.contiguous(), C.contiguous()))
        A = -torch.exp(self.A_log)
        y = self.scan(x, dt, A, B, C, self.D, z=None, delta_bias=self.dt_proj.bias, delta_softplus=True, return_last_state=None)
        return self.out_proj(torch.cat([y, z], dim=1).transpose(1, 2))


def naive_rms(x, weight, bias, residual, prenorm, residual_in_fp32, eps):
    total = x if residual is None else x + residual
    return total / (total.square().mean(-1, keepdim=True) + eps).sqrt() * weight, total


def naive_no_out_proj(xz, conv, conv_bias, x_proj, dt_proj, A, B, C, D, delta_bias, delta_softplus):
    return naive_inner(xz, conv, conv_bias, x_proj, dt_proj, A, B, C, D, delta_bias, softplus=delta_softplus)


def naive_fn(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state):
    return naive_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus)[0]


def naive_grouped(u, delta, A, B, C, D, bias, flags):
    return naive_scan(u, delta, A, B, C, D, None, bias, True)[0]


def assert_trains_as(block: nn.Module, twin: nn.Module, *inputs: torch.Tensor) -> None:
    """Assert that block, and twin with its weights in float64, agree in result and in every gradient."""
    twin.load_state_dict(block.state_dict())
    results = []
    for model, dtype in ((block, torch.float32), (twin.double(), torch.float64)):
        given = [t.detach().to(dtype).requires_grad_() for t in inputs]
        y = model(*given)
        y.backward(torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape).to(y.dtype))
        grads = {f"input {i}": t.grad for i, t in enumerate(given)}
        results.append((y.detach(), grads | {name: p.grad for name, p in model.named_parameters()}))
    (y, grads), (expected, wanted) = results
    assert_close("result", y, expected, 1e-5)
    for name, grad in wanted.items():
        assert_close(f"gradient of {name}", grads[name], grad, 2e-5)


@pytest.mark.parametrize(("name", "flags"), [("oflex", (True,)), ("core", ())])
def test_the_block_of_vmamba_trains(name, flags):
    torch.manual_seed(0)
    with compat.installed(quiet=True, replace=True):
        import selective_scan_cuda_core
        import selective_scan_cuda_oflex
    extension = {"oflex": selective_scan_cuda_oflex, "core": selective_scan_cuda_core}[name]
    image = torch.randn(BATCH, D, SIDE, SIDE + 1)
    assert_trains_as(SS2D(oflex_scan(extension), flags), SS2D(naive_grouped, flags), image)


@pytest.mark.parametrize("residual", [False, True])
def test_the_block_of_vim_trains(residual):
    torch.manual_seed(0)
    with compat.installed(quiet=True, replace=True):
        from mamba_ssm.ops.selective_scan_interface import mamba_inner_fn_no_out_proj
        from mamba_ssm.ops.triton.layer_norm import rms_norm_fn
    tokens = [torch.randn(BATCH, 7, WIDTH) for _ in range(1 + residual)]
    assert_trains_as(VimBlock(mamba_inner_fn_no_out_proj, rms_norm_fn), VimBlock(naive_no_out_proj, naive_rms), *tokens)


def test_the_mixer_of_mambavision_trains():
    torch.manual_seed(0)
    with compat.installed(quiet=True, replace=True):
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    assert_trains_as(MambaVisionMixer(selective_scan_fn), MambaVisionMixer(naive_fn), torch.randn(BATCH, 7, WIDTH))


def test_the_block_of_vmamba_trains_in_half_precision_as_under_autocast():
    torch.manual_seed(0)
    with compat.installed(quiet=True, replace=True):
        import selective_scan_cuda_oflex
    block = SS2D(oflex_scan(selective_scan_cuda_oflex), (True,))
    halves = copy.deepcopy(block)
    for name in ("x_proj", "dt_proj"):
        setattr(halves, name, nn.Parameter(getattr(halves, name).detach().bfloat16()))
    image = torch.randn(BATCH, D, SIDE, SIDE)
    y, exact = halves(image.bfloat16()), block(image)
    y.sum().backward()
    assert y.dtype == torch.float32 and halves.x_proj.grad.dtype == torch.bfloat16
    assert_close("result", y, exact, 3e-2)


class NaiveMamba(nn.Module):
    """The Mamba module of mamba-ssm and Vim, from the naive inner function, around the parameters of ours."""

    def __init__(self, model: Mamba) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)

    def forward(self, hidden):
        m = self.model
        xz = m.in_proj(hidden).transpose(1, 2)

        def one(xz, tail, **more):
            part = SimpleNamespace(**{n: getattr(m, n + tail) for n in ("conv1d", "x_proj", "dt_proj", "D")})
            A = m.A_b_log if tail else m.A_log
            first = (xz, part.conv1d.weight, part.conv1d.bias, part.x_proj.weight, part.dt_proj.weight, -torch.exp(A))
            return naive_inner(*first, D=part.D, delta_bias=part.dt_proj.bias, **more)

        if m.bimamba_type == "v2":
            y = one(xz, "") + one(xz.flip(-1), "_b").flip(-1)
            y = y / 2 if m.if_divide_out else y
        else:
            y = one(xz, "", A_b=-torch.exp(m.A_b_log) if m.bimamba_type == "v1" else None)
        out = m.out_proj(y.transpose(1, 2))
        return out if m.init_layer_scale is None else out * m.gamma


@pytest.mark.parametrize(
    "options",
    [{}, {"bimamba_type": "v1"}, {"bimamba_type": "v2"}, {"bimamba_type": "v2", "if_divide_out": True},
     {"init_layer_scale": 0.1, "bias": True}, {"conv_bias": False, "d_conv": 3, "dt_rank": 3, "dt_init": "constant"}],
    ids=str,
)  # fmt: skip
def test_the_module_of_mamba_trains(options):
    torch.manual_seed(0)
    ours = Mamba(WIDTH, d_state=N, **options)
    results = []
    for model, dtype in ((ours, torch.float32), (NaiveMamba(ours).double(), torch.float64)):
        x = torch.linspace(-1, 1, BATCH * 7 * WIDTH, dtype=torch.float64).sin().view(BATCH, 7, WIDTH).to(dtype).requires_grad_()
        y = model(x)
        y.backward(torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape).to(y.dtype))
        results.append([y.detach(), x.grad, *(p.grad for p in model.parameters())])
    for name, got, wanted in zip(["result", "input", *dict(ours.named_parameters())], *results, strict=True):
        assert_close(name, got, wanted, 2e-5)


def test_the_module_of_mamba_has_the_parameters_of_the_original():
    shapes = {name: tuple(t.shape) for name, t in Mamba(16, bimamba_type="v2", init_layer_scale=1.0).state_dict().items()}
    one = {
        "conv1d": {"weight": (32, 1, 4), "bias": (32,)},
        "x_proj": {"weight": (33, 32)},
        "dt_proj": {"weight": (32, 1), "bias": (32,)},
    }
    both = {f"{name}{tail}.{part}": s for tail in ("", "_b") for name, parts in one.items() for part, s in parts.items()}
    logs = {"A_log": (32, 16), "A_b_log": (32, 16), "D": (32,), "D_b": (32,)}
    assert shapes == both | logs | {"in_proj.weight": (64, 16), "out_proj.weight": (16, 32), "gamma": (16,)}


def test_the_module_of_mamba_takes_videomamba_s_name_for_two_ways():
    names = [
        list(Mamba(8, **options).state_dict()) for options in ({"bimamba": True}, {"bimamba_type": "v2"}, {"bimamba": False}, {})
    ]
    assert names[0] == names[1] and names[2] == names[3] and len(names[0]) > len(names[2])


def test_the_module_of_mamba_starts_as_the_original():
    torch.manual_seed(0)
    model = Mamba(64, d_state=4, dt_min=0.01, dt_max=0.05)
    steps = F.softplus(model.dt_proj.bias)
    assert 0.0099 < steps.min() < 0.011 and 0.045 < steps.max() < 0.0501
    assert torch.allclose(-torch.exp(model.A_log[5]), -torch.arange(1.0, 5.0)) and torch.equal(model.D, torch.ones(128))
    assert model.dt_proj.weight.abs().max() <= 0.5 and model.dt_proj.bias._no_reinit
    assert model.A_log._no_weight_decay and model.D._no_weight_decay and model.A_log.dtype == torch.float32


def test_the_module_of_mamba_runs_in_bfloat16():
    torch.manual_seed(0)
    model, x = Mamba(WIDTH, bimamba_type="v2"), torch.randn(BATCH, 7, WIDTH)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(x)
    halved = copy.deepcopy(model).bfloat16()(x.bfloat16())
    for y in (mixed, halved):
        assert y.dtype == torch.bfloat16
        assert_close("result", y, model(x), 4e-2)


@pytest.mark.slow
def test_the_module_of_mamba_is_one_graph():
    if choose_backend("auto", torch.device("cpu"), torch.float32) != "native":
        pytest.skip("the native kernels are one node of a graph, the reference is a loop")
    model = Mamba(WIDTH, d_state=N, bimamba_type="v2")
    x = torch.randn(BATCH, 7, WIDTH)
    exported = torch.export.export(model, (x,), strict=True).module()
    torch.testing.assert_close(exported(x), model(x))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: Mamba(8, bimamba_type="v3"), "Mamba is not served with bimamba_type='v3'"),
        (lambda: Mamba(8, dt_init="zero"), "dt_init='zero'"),
        (lambda: Mamba(8)(torch.ones(1, 2, 8), inference_params=object()), "not served with inference_params"),
        (lambda: Mamba(8).step(None, None, None), "Mamba.step is not served"),
        (lambda: Mamba(8).allocate_inference_cache(1, 2), "allocate_inference_cache is not served"),
    ],
)
def test_what_the_module_of_mamba_does_not_do_is_named(use, message):
    with pytest.raises(KernelError, match=message):
        use()


def test_the_naive_convolution_is_pytorch_s():
    x, weight = torch.randn(2, 3, 5, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    expected = F.conv1d(F.pad(x, (3, 0)), weight.unsqueeze(1), groups=3)
    torch.testing.assert_close(naive_conv(x, weight), expected)
