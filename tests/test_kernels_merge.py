"""The native merges and mean of normalised tokens against their PyTorch definitions in float64."""

from __future__ import annotations

import pytest
import torch
from scan_cases import assert_close_to_oracle, poison

from lmsearch import kernels
from lmsearch.errors import KernelError
from lmsearch.kernels import native, native_library, native_merge

REASON = native.unavailable_reason(torch.device("cpu"))
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))
SHAPES = [(3, 4, 50, 37), (2, 8, 64, 128), (1, 1, 1, 5), (3, 2, 17, 1)]  # B, K, L, D


def runnable_sets() -> list[str]:
    return [s for s in native_library.ISAS if REASON is None and native_library.load_library().lms_kernels(s.encode())]


@pytest.fixture(params=runnable_sets())
def instruction_set(request, monkeypatch):
    monkeypatch.setenv("LMSEARCH_NATIVE_ISA", request.param)
    return request.param


def merge_case(shape, *, gate=True):
    torch.manual_seed(0)
    b, k, length, d = shape
    return {
        "o": torch.randn(b, k, length, d) + 0.5,
        "gate": torch.rand(b, k, d) if gate else None,
        "weights": torch.rand(k),
    }


def values_and_gradients(function, tensors, backend, dtype):
    leaves = {name: None if t is None else t.detach().to(dtype).requires_grad_() for name, t in tensors.items()}
    poison()
    y = function(**leaves, **({} if function is kernels.gated_sum else {"eps": 1e-5}), backend=backend)
    w = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    poison()
    (y * w).sum().backward()
    return {"y": y.detach(), **{name: t.grad for name, t in leaves.items() if t is not None}}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("gate", [True, False])
def test_merge_matches_the_float64_oracle(shape, gate, instruction_set):
    case = merge_case(shape, gate=gate)
    if shape[-1] == 1:  # a row of one channel is normalised to zero: its gradients are zero but for rounding
        y = kernels.weighted_merge(**case, eps=1e-5, backend="native")
        assert y.abs().max() < 1e-3
        return
    want = values_and_gradients(kernels.weighted_merge, case, "reference", torch.float64)
    assert_close_to_oracle(values_and_gradients(kernels.weighted_merge, case, "native", torch.float32), want)


@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_normed_mean_matches_the_float64_oracle(shape, instruction_set):
    case = {"o": merge_case(shape)["o"]}
    want = values_and_gradients(kernels.normed_mean, case, "reference", torch.float64)
    assert_close_to_oracle(values_and_gradients(kernels.normed_mean, case, "native", torch.float32), want)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "without", [(), ("gate",), ("spatial",), ("gate", "spatial")], ids=lambda names: "without " + " ".join(names)
)
def test_gated_sum_matches_the_float64_oracle(shape, without, instruction_set):
    case = {name: t for name, t in merge_case(shape).items() if name != "weights"} | {"spatial": torch.rand(shape[:3])}
    case |= dict.fromkeys(without)
    want = values_and_gradients(kernels.gated_sum, case, "reference", torch.float64)
    assert_close_to_oracle(values_and_gradients(kernels.gated_sum, case, "native", torch.float32), want)


def test_strided_branches_and_gradients_match():
    case = merge_case((3, 4, 20, 24))
    o, w = case["o"].transpose(1, 2).contiguous().transpose(1, 2).requires_grad_(), torch.randn(3, 24, 20)
    y = kernels.weighted_merge(o, case["gate"], case["weights"], eps=1e-5, backend="native")
    (got,) = torch.autograd.grad((y.transpose(1, 2) * w).sum(), o)
    y = kernels.weighted_merge(o, case["gate"], case["weights"], eps=1e-5, backend="reference")
    (want,) = torch.autograd.grad((y.transpose(1, 2) * w).sum(), o)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_results_do_not_depend_on_the_number_of_threads():
    runs, before = [], torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        runs.append(values_and_gradients(kernels.weighted_merge, merge_case((5, 8, 70, 200)), "native", torch.float32))
    torch.set_num_threads(before)
    assert all(torch.equal(t, r[name]) for name, t in runs[0].items() for r in runs[1:])


def test_half_precision_is_computed_in_float32():
    case = {name: t.bfloat16() for name, t in merge_case((2, 3, 9, 20)).items()}
    got = kernels.weighted_merge(**case, eps=1e-5, backend="native")
    single = kernels.weighted_merge(**{name: t.float() for name, t in case.items()}, eps=1e-5, backend="native")
    assert got.dtype == torch.bfloat16 and torch.equal(got, single.bfloat16())


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_gates_in_float32_leave_the_sum_in_the_type_of_the_branches(backend):
    case = merge_case((2, 3, 9, 20))
    assert kernels.gated_sum(case["o"].bfloat16(), case["gate"], torch.rand(2, 3, 9), backend=backend).dtype == torch.bfloat16


def test_an_empty_batch_gives_an_empty_merge_and_zero_gradients():
    case = merge_case((0, 3, 9, 20))
    got = values_and_gradients(kernels.weighted_merge, case, "native", torch.float32)
    assert got["y"].shape == (0, 9, 20) and got["weights"].eq(0).all()


def test_the_operators_pass_opcheck():
    o, gate, weights = (t.requires_grad_() for t in merge_case((2, 3, 9, 20)).values())
    torch.library.opcheck(native_merge.native_merge, (o, gate, weights, 1e-5))
    torch.library.opcheck(native_merge.native_normed_mean, (o, 1e-5))
    torch.library.opcheck(native_merge.native_gated_sum, (o, gate, None))
    o, gate, weights = o.detach(), gate.detach(), weights.detach()
    _, moments = native_merge.native_merge(o, gate, weights, 1e-5)
    torch.library.opcheck(native_merge.native_merge_backward, (torch.randn(2, 9, 20), o, gate, weights, moments, 1e-5))
    torch.library.opcheck(native_merge.native_normed_mean_backward, (torch.randn(2, 3, 20), o, moments, 1e-5))


def test_second_derivatives_are_refused_by_name():
    o = torch.randn(1, 2, 3, 4, requires_grad=True)
    y = kernels.normed_mean(o, eps=1e-5, backend="native")
    (grad,) = torch.autograd.grad(y.square().sum(), o, create_graph=True)
    with pytest.raises(KernelError, match="no second derivatives; use backend='reference'"):
        grad.sum().backward()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"gate": torch.rand(3, 4, 36)}, "gate has shape"),
        ({"weights": torch.rand(5)}, "weights has shape"),
        ({"o": torch.randn(3, 50, 37)}, "o has shape"),
        ({"o": torch.randn(3, 4, 0, 37)}, "L = 0"),
        ({"weights": torch.ones(4, dtype=torch.int64)}, "weights has dtype"),
    ],
)
def test_arguments_that_do_not_fit_are_named(changed, says):
    with pytest.raises(KernelError, match=says):
        kernels.weighted_merge(**merge_case((3, 4, 50, 37)) | changed, eps=1e-5)
