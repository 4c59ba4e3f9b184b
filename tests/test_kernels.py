"""The public scan operators: their definition, their properties, and what they say to arguments that do not fit."""

from __future__ import annotations

import pytest
import torch
from scan_cases import random_orders, scan_case

from lmsearch import kernels
from lmsearch.errors import BackendUnavailableError, KernelError
from lmsearch.kernels import checks, native

CPU_BACKENDS = ["reference"] + ["native"] * (native.unavailable_reason(torch.device("cpu")) is None)


@pytest.fixture(params=CPU_BACKENDS)
def backend(request):
    """Run the test once for every backend of the CPU."""
    return request.param


def scan(tensors, others, backend="auto", **changed):
    return kernels.directional_scan(**{**tensors, **others, **changed}, backend=backend)


@pytest.mark.parametrize("shared", [True, False])
def test_reference_gradients_are_those_of_its_values(shared):
    tensors, others = scan_case(2, 2, 5, 3, 2, shared=shared, reset=True)
    leaves = {k: v.double().requires_grad_() for k, v in tensors.items()}
    names = list(leaves)
    torch.autograd.gradcheck(lambda *t: scan(dict(zip(names, t, strict=True)), others, "reference"), tuple(leaves.values()))


def test_delta_of_low_rank_is_the_delta_that_its_weight_makes(backend):
    tensors, others = scan_case(2, 3, 20, 5, 4, rank=2)
    whole = {k: v for k, v in tensors.items() if k != "delta_weight"}
    whole["delta"] = torch.einsum("bklr,kdr->bkld", tensors["delta"], tensors["delta_weight"])
    torch.testing.assert_close(scan(tensors, others, backend), scan(whole, others, backend))


def test_delta_of_low_rank_must_fit_its_weight(backend):
    tensors, others = scan_case(2, 3, 20, 5, 4, rank=2)
    with pytest.raises(KernelError, match=r"delta_weight has shape \(3, 5, 3\)"):
        scan(tensors, others, backend, delta_weight=torch.randn(3, 5, 3))
    with pytest.raises(KernelError, match="R at least 1"):
        scan(tensors, others, backend, delta=torch.randn(2, 3, 20, 0), delta_weight=torch.randn(3, 5, 0))


def test_reference_conv_gradients_are_those_of_its_values():
    order = random_orders(2, 6)
    leaves = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((2, 6, 3), (2, 3, 4), (2, 3))]
    torch.autograd.gradcheck(lambda x, w, b: kernels.directional_conv(x, w, b, order, backend="reference"), leaves)


def test_scan_follows_the_recurrence_written_out(backend):
    tensors, others = scan_case(1, 1, 4, 1, 1, gate=False, softplus=False)
    x, delta, B, C = (tensors[k].flatten() for k in ("x", "delta", "B", "C"))
    h, want = 0.0, torch.empty(4)
    for p in others["order"][0].tolist():
        h = torch.exp(delta[p] * tensors["A"].item()) * h + delta[p] * B[p] * x[p]
        want[p] = C[p] * h + tensors["D"].item() * x[p]
    torch.testing.assert_close(scan(tensors, others, backend).flatten(), want)


def test_conv_follows_the_sum_written_out(backend):
    x, weight, bias, order = torch.randn(1, 5, 1), torch.randn(1, 1, 3), torch.randn(1, 1), random_orders(1, 5)
    visit, want = order[0].tolist(), torch.empty(5)
    for t, p in enumerate(visit):
        terms = [weight[0, 0, 2 - i] * x[0, visit[t - i], 0] for i in range(3) if t >= i]
        want[p] = torch.nn.functional.silu(bias[0, 0] + sum(terms))
    torch.testing.assert_close(kernels.directional_conv(x, weight, bias, order, backend=backend).flatten(), want)


def test_permuting_the_tokens_and_the_order_permutes_the_output(backend):
    tensors, others = scan_case(2, 3, 20, 5, 4, reset=True)
    perm = torch.randperm(20)
    moved = {k: v[..., perm, :] if k in ("x", "delta", "B", "C", "z") else v for k, v in tensors.items()}
    changed = {"order": perm.argsort()[others["order"].long()], "reset": others["reset"][:, perm]}
    torch.testing.assert_close(scan(moved, others, backend, **changed), scan(tensors, others, backend)[:, :, perm])


def test_a_token_depends_on_no_later_token(backend):
    tensors, others = scan_case(1, 2, 12, 3, 2)
    changed = {k: v.clone() for k, v in tensors.items()}
    for k in range(2):
        last = others["order"][k, 6:].long()
        changed["delta"][:, k, last] += 1
        changed["B"][:, k, last] += 1
    before, after = scan(tensors, others, backend), scan(changed, others, backend)
    for k in range(2):
        first, last = others["order"][k, :6].long(), others["order"][k, 6:].long()
        assert torch.equal(before[:, k, first], after[:, k, first])
        assert not torch.equal(before[:, k, last], after[:, k, last])


def test_reset_cuts_the_sequence_into_independent_ones(backend):
    tensors, others = scan_case(2, 1, 15, 4, 3)
    others["order"], reset = torch.arange(15)[None], torch.zeros(1, 15, dtype=torch.bool)
    reset[0, 6] = True
    pieces = []
    for part in (slice(0, 6), slice(6, 15)):
        piece = {k: v[..., part, :] if k in ("x", "delta", "B", "C", "z") else v for k, v in tensors.items()}
        pieces.append(scan(piece, others, backend, order=torch.arange(part.stop - part.start)[None]))
    torch.testing.assert_close(scan(tensors, others, backend, reset=reset), torch.cat(pieces, dim=2))


def test_each_direction_is_the_one_direction_scan(backend):
    tensors, others = scan_case(2, 4, 10, 3, 2)
    whole = scan(tensors, others, backend)
    for k in range(4):
        own = {
            n: v[:, k : k + 1] if n in ("delta", "B", "C") else v[k : k + 1] if n in ("A", "D", "delta_bias") else v
            for n, v in tensors.items()
        }
        alone = scan(own, others, backend, order=others["order"][k : k + 1])
        torch.testing.assert_close(alone, whole[:, k : k + 1])


def test_a_shared_x_equals_the_same_x_for_every_direction(backend):
    tensors, others = scan_case(2, 3, 10, 3, 2)
    each = tensors["x"][:, None].expand(-1, 3, -1, -1)
    assert torch.equal(scan(tensors, others, backend), scan(tensors, others, backend, x=each))


def test_one_token_has_no_past(backend):
    tensors, others = scan_case(2, 2, 1, 3, 2, gate=False, softplus=False)
    du = tensors["delta"] * tensors["x"][:, None]
    want = du * (tensors["B"] * tensors["C"]).sum(-1, keepdim=True) + tensors["D"][:, None] * tensors["x"][:, None]
    torch.testing.assert_close(scan(tensors, others, backend), want)


def test_an_empty_batch_passes(backend):
    assert scan(*scan_case(0, 2, 6, 3, 2), backend).shape == (0, 2, 6, 3)


WRONG = {  # what is changed: (name, replacement from the tensor, expected message)
    "x with another batch": ("x", lambda t: t[:1], r"x has shape \(1, 6, 3\); expected \(B, L, D\) = \(2, 6, 3\)"),
    "delta without directions": ("delta", lambda t: t[:, 0], r"delta has shape \(2, 6, 3\); expected \(B, K, L, D\)"),
    "A of one direction": ("A", lambda t: t[0], r"A has shape \(3, 4\); expected \(K, D, N\)"),
    "B of other states": ("B", lambda t: t[..., :2], r"B has shape .* expected \(B, K, L, N\)"),
    "C of other tokens": ("C", lambda t: t[:, :, :2], r"C has shape .* expected \(B, K, L, N\)"),
    "D of one direction": ("D", lambda t: t[0], r"D has shape \(3,\); expected \(K, D\)"),
    "z of every direction": ("z", lambda t: t[:, None], r"z has shape .* expected \(B, L, D\)"),
    "delta_bias transposed": ("delta_bias", lambda t: t.t(), r"delta_bias has shape \(3, 2\)"),
    "integer x": ("x", lambda t: t.long(), "x has dtype torch.int64; expected one of torch.float64"),
    "complex A": ("A", lambda t: t.to(torch.complex64), "A has dtype torch.complex64"),
    "B on another device": ("B", lambda t: t.to("meta"), "B is on meta but x is on cpu"),
    "order repeating a token": (
        "order",
        lambda t: torch.zeros_like(t),
        r"order\[0\] is not a permutation of range\(6\)",
    ),
    "order out of range": ("order", lambda t: t + 1, r"order\[0\] is not a permutation of range\(6\)"),
    "order too short": ("order", lambda t: t[:, :5], r"order has shape \(2, 5\); expected \(K, L\) with L = 6"),
    "order of one direction": ("order", lambda t: t[:1], r"order has shape \(1, 6\); expected \(K, L\) = \(2, 6\)"),
    "float order": ("order", lambda t: t.float(), "order has dtype torch.float32; expected torch.int32 or torch.int64"),
    "order on another device": ("order", lambda t: t.to("meta"), "order is on meta but x is on cpu"),
    "integer reset": ("reset", lambda t: torch.zeros(2, 6), "reset is torch.float32 on cpu; expected torch.bool"),
    "reset of one direction": ("reset", lambda t: torch.zeros(6, dtype=torch.bool), r"reset has shape \(6,\)"),
    "no tokens": (None, lambda t: t, r"L = 0; K, L, D and N must be at least 1"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_arguments_that_do_not_fit_are_named(wrong, backend):
    name, change, message = WRONG[wrong]
    tensors, others = scan_case(2, 2, 6 if name else 0, 3, 4)
    everything = {**tensors, **others}
    if name:
        everything[name] = change(everything[name])
    with pytest.raises(KernelError, match=message):
        kernels.directional_scan(**everything, backend=backend)


def test_conv_arguments_that_do_not_fit_are_named(backend):
    x, weight, order = torch.randn(2, 6, 3), torch.randn(2, 3, 4), random_orders(2, 6)
    for args, message in (
        ((x[0], weight, None, order), "x has shape"),
        ((x, weight[:1], None, order), "weight has shape"),
        ((x, weight, torch.randn(3), order), "bias has shape"),
        ((x, weight, None, order * 2), "not a permutation"),
        ((x, weight[..., :0], None, order), "W = 0; none may be 0"),
    ):
        with pytest.raises(KernelError, match=message):
            kernels.directional_conv(*args, backend=backend)


def test_an_order_changed_in_place_is_checked_again():
    tensors, others = scan_case(1, 1, 6, 2, 2)
    scan(tensors, others)
    assert others["order"] in checks._known_orders
    others["order"][0, 0] = others["order"][0, 1]
    with pytest.raises(KernelError, match="not a permutation"):
        scan(tensors, others)


def test_an_unknown_backend_is_named_with_the_nearest():
    with pytest.raises(KernelError, match="backend='nativ' is not a scan backend; did you mean native"):
        scan(*scan_case(1, 1, 3, 2, 2), "nativ")


def test_a_forced_backend_never_falls_back():
    with pytest.raises(BackendUnavailableError, match="backend='mamba_ssm' cannot run on cpu tensors here"):
        scan(*scan_case(1, 1, 3, 2, 2), "mamba_ssm")


def test_meta_tensors_give_the_shape_of_the_result():
    tensors, others = scan_case(2, 3, 6, 4, 2)
    meta = {k: v.to("meta") for k, v in tensors.items()}
    y = scan(meta, others, order=others["order"].to("meta"))
    assert y.shape == (2, 3, 6, 4) and y.is_meta
