"""The native kernels against the reference in float64: every option, shape and instruction set that this CPU has."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scan_cases import (
    assert_case_matches_reference,
    assert_close_to_oracle,
    assert_scan_matches_reference,
    poison,
    random_orders,
    scan_and_gradients,
    scan_case,
)

from lmsearch import kernels
from lmsearch.errors import KernelError
from lmsearch.kernels import native, native_conv, native_library, native_scan
from lmsearch.scan.directions import index_table

REASON = native.unavailable_reason(torch.device("cpu"))
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


def runnable_sets() -> list[str]:
    return [s for s in native_library.ISAS if REASON is None and native_library.load_library().lms_kernels(s.encode())]


@pytest.fixture(params=runnable_sets())
def instruction_set(request, monkeypatch):
    """Run the test once for every instruction set of this CPU."""
    monkeypatch.setenv("LMSEARCH_NATIVE_ISA", request.param)
    return request.param


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


SHAPES = [  # B, K, L, D, N
    (3, 4, 196, 33, 16),
    (3, 1, 197, 7, 5),
    (2, 8, 49, 70, 1),
    (3, 1, 1, 1, 8),
    (3, 16, 63, 16, 8),
    (3, 2, 65, 1, 1),
    (3, 1, 49, 384, 32),
    (3, 4, 64, 257, 3),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scan_matches_the_float64_oracle(shape, instruction_set):
    assert_case_matches_reference(*shape, backend="native")


@pytest.mark.parametrize(
    "switched",
    [
        {"shared": False},
        {"gate": False},
        {"skip": False},
        {"softplus": False},
        {"reset": True},
        {"shared": False, "gate": False, "skip": False, "softplus": False},
        {"shared": False, "reset": True, "gate": False},
        {"rank": 1},
        {"rank": 4, "shared": False},
        {"rank": 7, "gate": False, "reset": True},
    ],
    ids=lambda s: "-".join(s),
)
def test_every_option_matches_the_float64_oracle(switched, instruction_set):
    assert_case_matches_reference(3, 3, 77, 37, 6, backend="native", **switched)


@pytest.mark.parametrize("rank", [1, 5, 12, 130])
def test_delta_of_low_rank_over_several_tiles_matches_the_float64_oracle(rank, instruction_set):
    tensors, others = scan_case(3, 2, 65, 300, 4, rank=rank)
    tensors["delta_weight"] /= rank**0.5
    assert_scan_matches_reference(tensors, others, "native")
    tensors["delta"] = in_memory(tensors["delta"], (1, 0, 2, 3))
    tensors["B"] = in_memory(tensors["B"], (1, 0, 2, 3))
    assert_scan_matches_reference(tensors, others, "native")


@pytest.mark.parametrize("grid", [(7, 7), (13, 9), (14, 14), (1, 17)], ids=str)
def test_named_directions_match_the_float64_oracle(grid):
    directions = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w7", "w7_flip")
    tensors, others = scan_case(3, len(directions), grid[0] * grid[1], 16, 8)
    others["order"] = torch.from_numpy(index_table(directions, grid).copy())
    assert_scan_matches_reference(tensors, others, "native")


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, 49, 63, 196, 197, 784])
@pytest.mark.parametrize("channels", [1, 7, 16, 33, 384])
def test_the_whole_grid_of_shapes_matches_the_float64_oracle(length, channels):
    for k, n in itertools.product((1, 4, 8, 16), (1, 5, 8, 16, 32)):
        if 3 * k * n * length * channels < 2e7:
            assert_scan_matches_reference(*scan_case(3, k, length, channels, n, shared=k != 4, reset=k == 8), "native")


def test_long_and_short_steps_stay_accurate(instruction_set):
    tensors, others = scan_case(2, 2, 100, 9, 4)
    tensors["delta"] = torch.randn(2, 2, 100, 9) * 30  # softplus from e^-90 to 90: decays from 1 to 0
    assert_scan_matches_reference(tensors, others, "native")


def test_states_may_grow(instruction_set):
    tensors, others = scan_case(2, 2, 20, 5, 4)
    tensors["A"] = tensors["A"].abs() * 0.5
    assert_scan_matches_reference(tensors, others, "native")


def test_a_hundred_thousand_tokens_stay_accurate():
    length = 100_000
    tensors, others = scan_case(1, 1, length, 1, 1, skip=False, gate=False, softplus=False)
    got = kernels.directional_scan(**tensors, **others, backend="native").flatten()
    x, delta, B, C = (tensors[k].double().flatten().tolist() for k in ("x", "delta", "B", "C"))
    a, h, want = tensors["A"].item(), 0.0, torch.empty(length, dtype=torch.float64)
    for p in others["order"][0].tolist():
        h = math.exp(delta[p] * a) * h + delta[p] * B[p] * x[p]
        want[p] = C[p] * h
    assert_close_to_oracle({"y": got}, {"y": want})


@pytest.mark.slow
def test_gradients_over_a_hundred_thousand_tokens_stay_accurate():
    assert_scan_matches_reference(*scan_case(1, 1, 100_000, 2, 1, shared=False), "native")


def test_strided_and_expanded_inputs_and_gradients_match(instruction_set):
    tensors, others = scan_case(3, 2, 50, 19, 4)
    dense = {k: v.double().requires_grad_() for k, v in tensors.items()}
    both = torch.cat([tensors["B"], tensors["C"]], dim=-1)
    strided = {
        "x": tensors["x"][:1].expand(3, -1, -1),
        "delta": tensors["delta"].transpose(2, 3).contiguous().transpose(2, 3),
        "A": tensors["A"].transpose(0, 2).contiguous().transpose(0, 2),
        "B": both[..., :4],
        "C": both[..., 4:],
        "D": tensors["D"][:1].expand(2, -1),
        "z": torch.stack([tensors["z"], tensors["z"]], dim=-1)[..., 0],
        "delta_bias": tensors["delta_bias"].t().contiguous().t(),
    }
    dense["x"] = strided["x"].double().requires_grad_()
    dense["D"] = strided["D"].double().requires_grad_()
    strided = {k: v.requires_grad_() for k, v in strided.items()}
    others["order"] = others["order"].t().contiguous().t()
    for reduce in (lambda y: y.sum(), lambda y: y.transpose(1, 3).square().sum(), lambda y: y[:, :, ::2].sum()):
        got = torch.autograd.grad(reduce(kernels.directional_scan(**strided, **others, backend="native")), strided.values())
        want = torch.autograd.grad(reduce(kernels.directional_scan(**dense, **others, backend="reference")), dense.values())
        assert_close_to_oracle(dict(zip(strided, got, strict=True)), dict(zip(strided, want, strict=True)))


def in_memory(t: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """The same tensor, its axes lying in memory in the order `axes`."""
    return t.permute(axes).contiguous().permute([axes.index(i) for i in range(t.dim())])


@pytest.mark.parametrize("axes", list(itertools.permutations(range(4))), ids=str)
@pytest.mark.parametrize("shared", [True, False])
def test_any_order_of_axes_in_memory_gives_the_same_gradients(axes, shared):
    tensors, others = scan_case(2, 3, 6, 5, 4, shared=shared)
    want = scan_and_gradients(tensors, others, "reference", torch.float64)
    names = ["delta", "B", "C"] if shared else ["x", "delta", "B", "C"]
    for name in names:
        moved = tensors | {name: in_memory(tensors[name], axes)}
        assert_close_to_oracle(scan_and_gradients(moved, others, "native"), want)


def test_results_do_not_depend_on_the_number_of_threads():
    for shared in (True, False):
        case = scan_case(5, 4, 150, 200, 8, shared=shared, gate=shared)
        runs, before = [], torch.get_num_threads()
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            runs.append(scan_and_gradients(*case, "native"))
        torch.set_num_threads(before)
        for name, t in runs[0].items():
            assert all(torch.equal(t, r[name]) for r in runs[1:]), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    tensors, others = scan_case(2, 2, 30, 8, 4)
    half = {k: v.to(dtype).requires_grad_() for k, v in tensors.items()}
    y = kernels.directional_scan(**half, **others, backend="native")
    single = kernels.directional_scan(**{k: v.detach().float() for k, v in half.items()}, **others, backend="native")
    assert y.dtype == dtype and torch.equal(y, single.to(dtype))
    y.sum().backward()
    assert all(t.grad.dtype == dtype for t in half.values())


@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("name", ["x", "delta", "A", "B", "C", "D", "z", "delta_bias", "delta_weight"])
def test_nan_in_gives_nan_out(name, rank, instruction_set):
    tensors, others = scan_case(2, 2, 70, 20, 5, rank=3 if name == "delta_weight" else rank)
    tensors[name][(0,) * tensors[name].dim()] = float("nan")
    got = scan_and_gradients(tensors, others, "native")
    want = scan_and_gradients(tensors, others, "reference")
    assert torch.equal(got["y"].isnan(), want["y"].isnan()) and got["y"].isnan().any()


def test_an_empty_batch_gives_empty_results_and_zero_gradients():
    got = scan_and_gradients(*scan_case(0, 2, 6, 5, 4), "native")
    assert got["y"].shape == (0, 2, 6, 5) and got["A"].eq(0).all() and got["x"].shape == (0, 6, 5)


def test_no_states_are_kept_without_gradients():
    tensors, others = scan_case(1, 1, 9, 4, 2)
    args = [tensors[k] for k in ("x", "delta", "A", "B", "C", "D")]
    _, states = native_scan.native_scan(*args, others["order"], tensors["z"], tensors["delta_bias"], None, None, True, False)
    assert states.numel() == 0


@pytest.mark.parametrize("taps", [1, 2, 4, 8])
@pytest.mark.parametrize("with_bias", [True, False])
def test_conv_matches_the_float64_oracle(taps, with_bias, instruction_set, threads):
    torch.manual_seed(taps)
    leaves = {
        "x": torch.randn(3, 50, 71),
        "weight": torch.randn(3, 71, taps),
        "bias": torch.randn(3, 71) if with_bias else None,
    }
    order, w = random_orders(3, 50), torch.randn(3, 3, 50, 71)

    def run(backend, dtype):
        args = {k: None if v is None else v.detach().to(dtype).requires_grad_() for k, v in leaves.items()}
        poison()
        y = kernels.directional_conv(**args, order=order, backend=backend)
        poison()
        (y * w.to(dtype)).sum().backward()
        return {"y": y.detach(), **{k: v.grad for k, v in args.items() if v is not None}}

    assert_close_to_oracle(run("native", torch.float32), run("reference", torch.float64))


def test_conv_takes_orders_shorter_than_its_taps():
    x, weight = torch.randn(2, 2, 3), torch.randn(1, 3, 4)
    order = torch.tensor([[1, 0]])
    got, want = (kernels.directional_conv(x, weight, None, order, backend=b) for b in ("native", "reference"))
    torch.testing.assert_close(got, want)


def test_conv_refuses_more_taps_than_it_has_registers_for():
    with pytest.raises(KernelError, match="9 taps.*up to 8"):
        kernels.directional_conv(torch.randn(1, 4, 2), torch.randn(1, 2, 9), None, torch.arange(4)[None], backend="native")


def op_arguments(*, softplus=True, rank=None):
    tensors, others = scan_case(2, 2, 9, 5, 3, rank=rank)
    leaves = [tensors[k].requires_grad_() for k in ("x", "delta", "A", "B", "C", "D")]
    rest = [tensors["z"].requires_grad_(), tensors["delta_bias"].requires_grad_(), torch.rand(2, 9) < 0.3]
    weight = None if rank is None else tensors["delta_weight"].requires_grad_()
    return (*leaves, others["order"], *rest, weight, softplus, True)


@pytest.mark.parametrize("rank", [None, 2])
def test_the_operators_pass_opcheck(rank):
    torch.library.opcheck(native_scan.native_scan, op_arguments(rank=rank))
    args = op_arguments(rank=rank)
    _, states = native_scan.native_scan(*args)
    detached = [a.detach() if isinstance(a, torch.Tensor) else a for a in args]
    torch.library.opcheck(native_scan.native_scan_backward, (torch.randn(2, 2, 9, 5), *detached[:11], states.detach(), True))
    conv = (
        torch.randn(2, 9, 5, requires_grad=True),
        torch.randn(2, 5, 4, requires_grad=True),
        torch.randn(2, 5),
        args[6],
    )
    torch.library.opcheck(native_conv.native_conv, conv)
    dy = torch.randn(2, 2, 9, 5)
    torch.library.opcheck(native_conv.native_conv_backward, (dy, *(t.detach() for t in conv)))


class Block(torch.nn.Module):
    """The two operators together, as a model calls them."""

    def forward(self, x, delta, A, B, C, order, weight):
        u = kernels.directional_conv(x, weight, None, order)
        return kernels.directional_scan(u, delta, A, B, C, None, order, delta_softplus=True)


def block_arguments():
    tensors, others = scan_case(2, 2, 9, 5, 3)
    return (*(tensors[k] for k in ("x", "delta", "A", "B", "C")), others["order"], torch.randn(2, 5, 4))


def test_a_compiled_block_gives_the_same_values_and_gradients():
    args = [a.requires_grad_() if a.is_floating_point() else a for a in block_arguments()]
    leaves = [a for a in args if a.requires_grad]
    compiled = torch.compile(Block(), fullgraph=True, backend="aot_eager")
    got, want = compiled(*args), Block()(*args)
    assert torch.equal(got, want)
    pairs = zip(torch.autograd.grad(got.sum(), leaves), torch.autograd.grad(want.sum(), leaves), strict=True)
    assert all(torch.equal(g, w) for g, w in pairs)


def test_an_exported_block_gives_the_same_values():
    args = block_arguments()
    exported = torch.export.export(Block(), args)
    assert torch.equal(exported.module()(*args), Block()(*args))


def test_second_derivatives_are_refused_by_name():
    x, weight = torch.randn(1, 4, 2, requires_grad=True), torch.randn(1, 2, 3)
    y = kernels.directional_conv(x, weight, None, torch.arange(4)[None], backend="native")
    (grad,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(KernelError, match="no second derivatives; use backend='reference'"):
        grad.sum().backward()


def test_float64_goes_to_the_reference_or_is_refused():
    tensors, others = scan_case(1, 1, 5, 3, 2)
    doubles = {k: v.double() for k, v in tensors.items()}
    assert torch.equal(
        kernels.directional_scan(**doubles, **others),
        kernels.directional_scan(**doubles, **others, backend="reference"),
    )
    with pytest.raises(KernelError, match="float32.*float64.*reference"):
        kernels.directional_scan(**doubles, **others, backend="native")


def test_the_operator_itself_refuses_an_order_that_is_no_permutation():
    args = list(op_arguments())
    for bad in (-1, 9, 3):
        args[6] = args[6].clone()
        args[6][1, 0], args[6][1, 1] = 3, bad
        with pytest.raises(KernelError, match=r"not a permutation of range\(9\)"):
            native_scan.native_scan(*args)


class Scans(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        tensors, others = scan_case(4, 4, 196, 64, 8, seed=i)
        return scan_and_gradients(tensors, others, "native")["y"]


def test_a_forked_worker_scans_after_its_parent_did():
    want = torch.stack([Scans()[i] for i in range(4)])
    loader = torch.utils.data.DataLoader(Scans(), batch_size=4, num_workers=1, multiprocessing_context="fork", timeout=60)
    assert torch.equal(next(iter(loader)), want)
