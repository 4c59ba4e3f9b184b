"""lmsearch.compat's causal convolution against a naive twin in float64: dtypes, layouts, states before and after, updates."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from naive_mamba import TOLERANCES, assert_close, compare, layouts, naive_conv

from lmsearch.compat.conv import causal_conv1d_fn, causal_conv1d_update
from lmsearch.errors import KernelError

BATCH, D, L, W = 3, 5, 7, 4


def make(dtype=torch.float32, *, length=L, taps=W):
    g = torch.Generator().manual_seed(1)
    shapes = {"x": (BATCH, D, length), "weight": (D, taps), "bias": (D,)}
    return {name: torch.randn(*shape, generator=g).to(dtype) for name, shape in shapes.items()}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("activation", [None, "silu", "swish"])
def test_the_convolution_equals_the_naive_one(activation, dtype):
    options = {"activation": activation}
    y = compare(partial(causal_conv1d_fn, **options), partial(naive_conv, **options), make(dtype), TOLERANCES[dtype])
    assert y.dtype == dtype


@pytest.mark.parametrize("taps", [1, 2, 3])
def test_the_convolution_takes_other_numbers_of_taps_and_fewer_tokens(taps):
    compare(partial(causal_conv1d_fn, activation="silu"), partial(naive_conv, activation="silu"), make(taps=taps, length=2), 1e-5)


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("layout", ["dense", "channel-last", "gaps"])
def test_the_result_lies_in_memory_as_x_does(layout, activation):
    tensors = make()
    tensors["x"] = layouts(tensors["x"])[layout]
    options = {"activation": activation}
    y = compare(partial(causal_conv1d_fn, **options), partial(naive_conv, **options), tensors, 1e-5)
    assert y.mT.is_contiguous() if layout == "channel-last" else y.is_contiguous()


@pytest.mark.parametrize("activation", [None, "silu"])
def test_states_before_the_first_token_are_taken_in(activation):
    tensors = make() | {"initial_states": torch.randn(BATCH, D, W - 1)}
    options = {"activation": activation}
    compare(partial(causal_conv1d_fn, **options), partial(naive_conv, **options), tensors, 1e-5)


@pytest.mark.parametrize("length", [2, L])
def test_the_states_after_the_last_token_are_the_last_inputs(length):
    tensors = make(length=length)
    y, state = causal_conv1d_fn(**tensors, return_final_states=True, activation="silu")
    seen = torch.cat([torch.zeros(BATCH, D, W - 1), tensors["x"]], dim=-1)
    assert torch.equal(state, seen[..., -(W - 1) :])
    out = torch.empty(BATCH, D, W - 1)
    kept = causal_conv1d_fn(**tensors, return_final_states=True, final_states_out=out, activation="silu")
    assert torch.equal(kept[0], y) and kept[1] is out and torch.equal(out, state)


def test_the_states_between_two_halves_join_them():
    tensors = make()
    whole = causal_conv1d_fn(**tensors, activation="silu")
    parts, state = [], None
    for x in tensors["x"].split((3, 4), dim=-1):
        y, state = causal_conv1d_fn(x, *list(tensors.values())[1:], None, state, True, activation="silu")
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, dim=-1), whole)


def test_the_convolution_passes_gradcheck():
    t = {name: value.double().requires_grad_() for name, value in make().items()}
    states = torch.randn(BATCH, D, W - 1, dtype=torch.float64, requires_grad=True)
    for function in (partial(causal_conv1d_fn, activation="silu"), partial(causal_conv1d_fn, return_final_states=True)):
        assert torch.autograd.gradcheck(function, (t["x"], t["weight"], t["bias"], None, states), fast_mode=True)
    assert torch.autograd.gradcheck(partial(causal_conv1d_fn, activation="silu"), tuple(t.values()), fast_mode=True)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("size", [W - 1, W + 2])
def test_token_by_token_is_the_whole_sequence(size, dtype):
    tensors = make(dtype)
    state = torch.zeros(BATCH, D, size, dtype=dtype)
    steps = [causal_conv1d_update(x, state, tensors["weight"], tensors["bias"], "silu") for x in tensors["x"].unbind(-1)]
    assert_close("result", torch.stack(steps, dim=-1), naive_conv(**tensors, activation="silu"), TOLERANCES[dtype])
    assert torch.equal(state, tensors["x"][..., -size:]) and steps[0].dtype == dtype


def test_a_ring_and_chosen_rows_of_a_larger_state_give_the_same():
    tensors, rows, size = make(), torch.tensor([3, 0, 2], dtype=torch.int32), W + 1
    state, positions, parts = torch.zeros(4, D, size), torch.zeros(BATCH, dtype=torch.int32), []
    for x in tensors["x"].split((2, 1, 3, 1), dim=-1):
        parts.append(causal_conv1d_update(x, state, tensors["weight"], tensors["bias"], "silu", positions, rows))
        positions = positions + x.shape[-1]
    assert_close("result", torch.cat(parts, dim=-1), naive_conv(**tensors, activation="silu"), 1e-5)
    for t in range(L - size, L):  # token t lies at t % size
        assert torch.equal(state[rows.long(), :, t % size], tensors["x"][..., t])
    assert torch.equal(state[1], torch.zeros(D, size))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "relu"}, "activation='relu'; accepted: None, silu, swish"),
        ({"seq_idx": torch.zeros(BATCH, L, dtype=torch.int32)}, "causal_conv1d_fn is not served with seq_idx"),
        ({"weight": torch.ones(D + 1, W)}, r"weight has shape \(6, 4\); expected \(D, W\)"),
        ({"bias": torch.ones(D + 1)}, "bias has shape"),
        ({"initial_states": torch.ones(BATCH, D, W)}, "initial_states has shape"),
        ({"x": torch.ones(BATCH, D)}, r"x has shape \(3, 5\)"),
        ({"x": torch.ones(BATCH, D, L, dtype=torch.int64)}, "x has dtype torch.int64"),
    ],
)
def test_what_the_convolution_cannot_take_is_named(options, message):
    with pytest.raises(KernelError, match=message):
        causal_conv1d_fn(**make() | options)


@pytest.mark.parametrize(
    ("state", "options", "message"),
    [
        (torch.zeros(BATCH, D, W - 2), {}, "conv_state holds 2 tokens; expected at least W - 1 = 3"),
        (torch.zeros(BATCH, D + 1, W), {}, "conv_state has shape"),
        (torch.zeros(BATCH, D, W), {"cache_seqlens": torch.zeros(2, dtype=torch.int32)}, "cache_seqlens has shape"),
    ],
)
def test_what_an_update_cannot_take_is_named(state, options, message):
    tensors = make()
    with pytest.raises(KernelError, match=message):
        causal_conv1d_update(tensors["x"][..., 0], state, tensors["weight"], **options)
