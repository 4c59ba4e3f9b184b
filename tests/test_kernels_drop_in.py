"""The drop-in signatures against a naive float64 loop, with mamba-ssm's tolerances for each dtype."""

from __future__ import annotations

import pytest
import torch
from naive_mamba import naive_scan as naive

from lmsearch.errors import KernelError
from lmsearch.kernels.drop_in import selective_scan_fn, vmamba_selective_scan_fn

TOLERANCES = {torch.float32: (6e-4, 2e-3), torch.float16: (3e-3, 5e-3), torch.bfloat16: (3e-2, 5e-2)}
FORMS = ("fixed", "shared", "grouped")  # (D, N), (B, N, L), (B, G, N, L)


def make(form_b, form_c, dtype=torch.float32, batch=3, d=6, length=7, n=4, groups=(2, 2)):
    g = torch.Generator().manual_seed(2)

    def draw(*shape):
        return torch.randn(*shape, generator=g)

    def coefficient(form, count):
        shape = {"fixed": (d, n), "shared": (batch, n, length), "grouped": (batch, count, n, length)}[form]
        return draw(*shape).to(torch.float32 if form == "fixed" else dtype)

    return {
        "u": draw(batch, d, length).to(dtype),
        "delta": draw(batch, d, length).to(dtype),
        "A": -torch.rand(d, n, generator=g),
        "B": coefficient(form_b, groups[0]),
        "C": coefficient(form_c, groups[1]),
        "D": draw(d),
        "z": draw(batch, d, length).to(dtype),
        "delta_bias": draw(d) * 0.1,
        "delta_softplus": True,
    }


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("form_c", FORMS)
@pytest.mark.parametrize("form_b", FORMS)
def test_every_form_of_B_and_C_equals_the_naive_loop(form_b, form_c, dtype):
    args = make(form_b, form_c, dtype)
    y, state = selective_scan_fn(**args, return_last_state=True)
    expected, expected_state = naive(**args)
    rtol, atol = TOLERANCES[dtype]
    assert y.dtype == dtype and state.dtype == torch.float32
    torch.testing.assert_close(y.double(), expected, rtol=rtol, atol=atol)
    torch.testing.assert_close(state.double(), expected_state, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_equal_those_of_the_naive_loop(form):
    grads = []
    for function in (selective_scan_fn, lambda **a: naive(**a)[0]):
        args = {k: v.requires_grad_() if isinstance(v, torch.Tensor) else v for k, v in make(form, form).items()}
        y = function(**args)
        y.backward(torch.linspace(-1, 1, y.numel()).view(y.shape).to(y.dtype))
        grads.append({k: v.grad for k, v in args.items() if isinstance(v, torch.Tensor)})
    for name in grads[0]:
        torch.testing.assert_close(grads[0][name], grads[1][name], rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_B_and_C_may_have_different_numbers_of_groups():
    args = make("grouped", "grouped", groups=(2, 3))
    torch.testing.assert_close(selective_scan_fn(**args).double(), naive(**args)[0], rtol=6e-4, atol=2e-3)


def test_the_positional_order_is_that_of_mamba_ssm():
    a = make("shared", "shared")
    got = selective_scan_fn(*(a[k] for k in ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "delta_softplus")))
    assert torch.equal(got, selective_scan_fn(**a))


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("oflex", [True, False])
def test_vmamba_returns_float32_where_oflex_and_the_dtype_of_u_where_not(dtype, oflex):
    args = make("grouped", "grouped", dtype)
    del args["z"]
    y = vmamba_selective_scan_fn(*(args[k] for k in ("u", "delta", "A", "B", "C", "D", "delta_bias")), True, oflex, None)
    rtol, atol = TOLERANCES[torch.float32 if oflex else dtype]
    assert y.dtype == (torch.float32 if oflex else dtype)
    torch.testing.assert_close(y.double(), naive(**args)[0], rtol=rtol, atol=atol)


def test_vmamba_applies_the_softplus_unless_told_otherwise():
    args = make("shared", "shared")
    del args["z"], args["delta_softplus"]
    expected = naive(**args, delta_softplus=True)[0]
    torch.testing.assert_close(vmamba_selective_scan_fn(**args).double(), expected, rtol=6e-4, atol=2e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"A": torch.ones(6, 4, dtype=torch.complex64)}, "complex"),
        ({"B": torch.ones(3, 5, 4, 7)}, "B has 5 groups, which do not divide D = 6"),
        ({"C": torch.ones(3, 4, 8)}, r"C has shape \(3, 4, 8\); expected \(B, N, L\) = \(3, 4, 7\)"),
        ({"delta": torch.ones(3, 12, 8)}, "delta has shape"),
        ({"z": torch.ones(3, 12, 8)}, "z has shape"),
        ({"D": torch.ones(3)}, "D has shape"),
        ({"u": torch.ones(3, 12)}, "u has shape"),
    ],
)
def test_arguments_that_do_not_fit_are_named(change, message):
    with pytest.raises(KernelError, match=message):
        selective_scan_fn(**{**make("shared", "shared"), **change})


def test_a_forced_backend_is_taken():
    args = make("shared", "shared")
    torch.testing.assert_close(selective_scan_fn(**args, backend="reference").double(), naive(**args)[0], rtol=6e-4, atol=2e-3)
    with pytest.raises(KernelError, match="not a scan backend"):
        selective_scan_fn(**args, backend="cuda_core")
