"""Forward-mode derivatives and those of torch.func: the reference's, or a refusal, never a tangent that is lost on the way."""

from __future__ import annotations

import pytest
import torch
from scan_cases import scan_case
from torch.autograd import forward_ad

from lmsearch import kernels
from lmsearch.errors import KernelError
from lmsearch.kernels import native, ops, reference
from lmsearch.models import create_model

needs_native = pytest.mark.skipif(native.unavailable_reason(torch.device("cpu")) is not None, reason="no native kernels here")
NAMES = ("scan", "conv", "merge", "sum", "mean")


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """Let PyTorch import none of the derivatives that it has for TorchScript, which takes seconds and warns."""
    monkeypatch.setenv("PYTORCH_JIT", "0")


def operator(name, backend):
    """One of the operators as a function of one tensor, and that tensor."""
    tensors, others = scan_case(1, 2, 5, 3, 2)
    weight, gate, order = torch.randn(2, 3, 4), torch.rand(1, 2, 3), others["order"]
    token, branches = torch.randn(1, 5, 3), torch.randn(1, 2, 5, 3)
    return {
        "scan": (lambda x: kernels.directional_scan(**{**tensors, "x": x}, **others, backend=backend), token),
        "conv": (lambda x: kernels.directional_conv(x, weight, None, order, backend=backend), token),
        "merge": (lambda o: kernels.weighted_merge(o, gate, gate[0, :, 0], eps=1e-5, backend=backend), branches),
        "sum": (lambda o: kernels.gated_sum(o, gate, None, backend=backend), branches),
        "mean": (lambda o: kernels.normed_mean(o, eps=1e-5, backend=backend), branches),
    }[name]


@pytest.mark.parametrize("name", NAMES)
def test_no_tangent_is_lost(name):
    (ours, x), (true, _) = operator(name, "auto"), operator(name, "reference")
    tangent = x.roll(1, -1)
    y, want = torch.func.jvp(true, (x,), (tangent,))
    assert want.any()
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            torch.testing.assert_close(torch.func.jvp(ours, (x,), (tangent,)), (y, want))
            with forward_ad.dual_level():
                torch.testing.assert_close(forward_ad.unpack_dual(ours(forward_ad.make_dual(x, tangent))).tangent, want)


def test_a_curvature_forward_over_reverse_is_that_of_the_reference():
    def curvature(backend):
        scan, x = operator("scan", backend)
        return torch.func.jvp(torch.func.grad(lambda x: scan(x).square().sum()), (x,), (x,))

    torch.testing.assert_close(curvature("auto"), curvature("reference"))


def test_auto_takes_the_reference_within_forward_mode_only():
    with forward_ad.dual_level():
        assert ops.operators("auto", torch.zeros(1)) is reference
    assert ops.operators("auto", torch.zeros(1)) is ops.BACKENDS[ops.choose_backend("auto", torch.device("cpu"), torch.float32)]


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_torch_func_are_those_of_autograd(name):
    run, x = operator(name, "auto")
    (want,) = torch.autograd.grad(run(x.requires_grad_()).square().sum(), x)
    x = x.detach()
    torch.testing.assert_close(torch.func.grad(lambda x: run(x).square().sum())(x), want)
    _, back = torch.func.vjp(run, x)
    torch.testing.assert_close(back(2 * run(x))[0], want)
    samples = torch.stack([x, x.roll(1, -1)])
    single = [torch.func.grad(lambda x: run(x).square().sum())(sample) for sample in samples]
    torch.testing.assert_close(torch.vmap(torch.func.grad(lambda x: run(x).square().sum()))(samples), torch.stack(single))


@pytest.mark.parametrize("name", ["local_vim_nano", "local_vmamba_nano"])
def test_gradients_of_every_sample_are_those_of_one_after_the_other(name):
    net = create_model(name, num_classes=3, img_size=8, patch_size=4, in_chans=1).eval()
    images = torch.randn(2, 1, 8, 8)
    params = {name: value.detach() for name, value in net.named_parameters()}

    def loss(params, image):
        return torch.func.functional_call(net, params, (image[None],)).square().sum()

    found = torch.vmap(torch.func.grad(loss), (None, 0))(params, images)
    for number, image in enumerate(images):
        alone = torch.autograd.grad(net(image[None]).square().sum(), [*net.parameters()])
        for name, want in zip(params, alone, strict=True):
            torch.testing.assert_close(found[name][number], want, atol=1e-5, rtol=1e-4)


@needs_native
@pytest.mark.parametrize("name", NAMES)
def test_a_forced_backend_refuses_gradients_of_torch_func(name):
    run, x = operator(name, "native")
    with pytest.raises(KernelError, match=r"'native' has no derivatives within torch.func .*; use backend='reference'"):
        torch.func.grad(lambda x: run(x).sum())(x)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("forced", ["native", "triton", "mamba_ssm"])
def test_a_forced_backend_refuses(forced, name, monkeypatch):
    monkeypatch.setattr(ops.BACKENDS[forced], "unavailable_reason", lambda device: None)
    run, x = operator(name, forced)
    with pytest.raises(KernelError, match=f"'{forced}' has no forward-mode derivatives; use backend='reference'"):
        torch.func.jvp(run, (x,), (x,))


@needs_native
@pytest.mark.parametrize("name", NAMES)
def test_a_backward_pass_within_forward_mode_is_refused(name):
    run, x = operator(name, "native")
    y = run(x.requires_grad_())
    with forward_ad.dual_level(), pytest.raises(KernelError, match="no forward-mode derivatives"):
        torch.autograd.grad(y, x, forward_ad.make_dual(torch.ones_like(y), torch.ones_like(y)))
