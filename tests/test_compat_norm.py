"""lmsearch.compat's norms against a naive twin in float64, over dtypes, residuals, second norms, and both sets of arguments."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from naive_mamba import TOLERANCES, assert_close, compare

from lmsearch.compat import norm
from lmsearch.errors import KernelError

SHAPE, EPS = (3, 4, 8), 1e-5


def naive_sum(x, residual=None, x1=None, rowscale=None, **others):
    total = x.double() if rowscale is None else x.double() * rowscale.double().view(*x.shape[:-1], 1)
    return sum((t.double() for t in (x1, residual) if t is not None), start=total)


def naive_norm(x, weight, bias=None, residual=None, x1=None, rowscale=None, *, rms):
    total = naive_sum(x, residual, x1, rowscale)
    centred = total if rms else total - total.mean(-1, keepdim=True)
    y = centred / (centred.square().mean(-1, keepdim=True) + EPS).sqrt() * weight.double()
    return y if bias is None else y + bias.double()


def make(dtype=torch.float32, *, others=()):
    g = torch.Generator().manual_seed(2)
    shapes = {"x": SHAPE, "weight": SHAPE[-1:], "bias": SHAPE[-1:]} | dict.fromkeys(others, SHAPE)
    made = {name: torch.randn(*shape, generator=g) for name, shape in shapes.items()}
    return {name: t if name in ("weight", "bias") else t.to(dtype) for name, t in made.items()}


FUNCTIONS = {"layer": (norm.layer_norm_fn, False), "rms": (norm.rms_norm_fn, True)}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("others", [(), ("residual",), ("residual", "x1")])
@pytest.mark.parametrize("kind", FUNCTIONS)
def test_the_norms_equal_the_naive_ones(kind, others, dtype):
    function, rms = FUNCTIONS[kind]
    y = compare(partial(function, eps=EPS), partial(naive_norm, rms=rms), make(dtype, others=others), TOLERANCES[dtype])
    assert y.dtype == dtype


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_the_sum_is_returned_and_its_gradient_counts(kind):
    function, rms = FUNCTIONS[kind]

    def both(call, **tensors):
        y, total = call(**tensors)
        return torch.cat([y, 2 * total])

    def naive(**tensors):
        return naive_norm(**tensors, rms=rms), naive_sum(**tensors)

    ours = partial(both, partial(function, eps=EPS, prenorm=True))
    compare(ours, partial(both, naive), make(others=("residual",)), 1e-5)


@pytest.mark.parametrize(
    ("residual", "in_fp32", "expected"),
    [(None, False, torch.bfloat16), (None, True, torch.float32), (torch.float32, False, torch.float32),
     (torch.bfloat16, True, torch.bfloat16)],
)  # fmt: skip
def test_the_dtype_of_the_sum_is_the_original_s(residual, in_fp32, expected):
    t = make(torch.bfloat16)
    given = None if residual is None else torch.ones(SHAPE, dtype=residual)
    y, total = norm.rms_norm_fn(t["x"], t["weight"], None, residual=given, prenorm=True, residual_in_fp32=in_fp32)
    assert (y.dtype, total.dtype) == (torch.bfloat16, expected)


def test_a_second_weight_norms_the_same_sum():
    t, scale = make(), torch.rand(SHAPE[:-1])
    weight1 = torch.randn(SHAPE[-1])
    y, y1, total = norm.layer_norm_fn(
        t["x"], t["weight"], t["bias"], weight1=weight1, eps=EPS, rowscale=scale, prenorm=True, is_rms_norm=True
    )
    assert_close("first", y, naive_norm(t["x"], t["weight"], t["bias"], rowscale=scale, rms=True), 1e-5)
    assert_close("second", y1, naive_norm(t["x"], weight1, rowscale=scale, rms=True), 1e-5)
    assert_close("sum", total, naive_sum(t["x"], rowscale=scale), 1e-6)


def test_dropout_comes_before_the_residual():
    torch.manual_seed(0)
    x, residual = torch.ones(50, 8), torch.full((50, 8), 10.0)
    _, total = norm.rms_norm_fn(x, torch.ones(8), None, residual=residual, dropout_p=0.75, prenorm=True)
    assert set(total.unique().tolist()) == {10.0, 14.0} and 0.6 < (total == 10).float().mean() < 0.9


def test_the_modules_norm_with_their_weight_and_drop_out_only_in_training():
    torch.manual_seed(0)
    x, residual = torch.randn(SHAPE), torch.randn(SHAPE)
    for module in (norm.RMSNorm(8, eps=EPS), norm.OldRMSNorm(8, EPS, "cpu", torch.float32)):
        torch.nn.init.normal_(module.weight)
        assert list(module.state_dict()) == ["weight"] and module.bias is None
        y, total = module(x, residual, prenorm=True)
        assert_close("result", y, naive_norm(x, module.weight, residual=residual, rms=True), 1e-5)
        assert torch.equal(total, x + residual) and isinstance(module, norm.RMSNorm)
    dropping = norm.RMSNorm(8, dropout_p=0.5)
    assert (dropping(x) == 0).any() and not (dropping.eval()(x) == 0).any()


def test_the_old_functions_take_their_arguments_in_the_old_order():
    t = make(others=("residual",))
    x, weight, bias, residual = t.values()
    expected = naive_norm(x, weight, bias, residual, rms=True)
    y, total = norm.old_layer_norm_fn(x, weight, bias, residual, EPS, True, False, True)
    assert_close("layernorm", y, expected, 1e-5)
    assert_close("rms norm", norm.old_rms_norm_fn(x, weight, bias, residual, True, False, EPS)[0], expected, 1e-5)
    assert torch.equal(total, x + residual)


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_the_norms_pass_gradcheck(kind):
    leaves = [t.double().requires_grad_() for t in make(others=("residual", "x1")).values()]
    assert torch.autograd.gradcheck(partial(FUNCTIONS[kind][0], prenorm=True), leaves, fast_mode=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"return_dropout_mask": True}, "return_dropout_mask is not served"),
        ({"residual": torch.ones(3, 4, 7)}, r"residual has shape \(3, 4, 7\)"),
        ({"weight": torch.ones(7)}, r"weight has shape \(7,\); expected \(C,\) = \(8,\)"),
        ({"rowscale": torch.ones(3)}, r"rowscale has shape \(3,\); expected a number per row"),
        ({"x1": torch.ones(SHAPE), "rowscale": torch.ones(12)}, "rowscale and x1 exclude each other"),
    ],
)
def test_what_the_norms_cannot_take_is_named(options, message):
    with pytest.raises(KernelError, match=message):
        norm.layer_norm_fn(**make() | options)
