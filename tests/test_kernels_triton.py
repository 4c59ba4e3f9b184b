"""The Triton kernels without a GPU: run by Triton's interpreter on tiny CPU shapes, and compiled for sm_80 to
sm_120.

The interpreter must be chosen before triton is imported, so those tests live in functions named check_* that one
subprocess runs with TRITON_INTERPRET=1; the pytest process itself stays free of it and compiles the kernels.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
import torch

from lmsearch import kernels
from lmsearch.errors import BackendUnavailableError, KernelError
from lmsearch.kernels import reference, self_test, triton_backend, triton_inputs, triton_merge_ops

needs_triton = pytest.mark.skipif(triton_backend.importlib.util.find_spec("triton") is None, reason="triton is not installed")
POINTERS = {"order_ptr": "*i32", "reset_ptr": "*i1"}
FLOAT32 = {
    "a2_ptr",
    "d_ptr",
    "bias_ptr",
    "states_ptr",
    "da_ptr",
    "db_ptr",
    "dc_ptr",
    "dd_ptr",
    "dbias_ptr",
    "weight_ptr",
    "dw_ptr",
    "gate_ptr",
    "moments_ptr",
    "sum_ptr",
    "dgate_ptr",
    "spatial_ptr",
    "dspatial_ptr",
}
OPTIONAL = ("z", "delta_bias", "D", "reset")


def make(batch=3, directions=2, length=11, channels=5, n=4, *, dtype=torch.float32, shared=True, seed=0, without=()):
    """Random arguments of directional_scan that are not contiguous: channel-first and expanded ones among them."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=g)

    token = (batch, length, channels) if shared else (batch, directions, length, channels)
    args = {
        "x": draw(*token).transpose(-1, -2).contiguous().transpose(-1, -2).to(dtype),  # channel-first in memory
        "delta": draw(batch, directions, length, 2 * channels)[..., ::2].to(dtype),
        "A": -torch.rand(directions, channels, n, generator=g) - 0.1,
        "B": draw(batch, 1, length, n).to(dtype).expand(-1, directions, -1, -1),
        "C": draw(directions, batch, length, n).transpose(0, 1).to(dtype),
        "D": draw(directions, channels),
        "z": draw(length, batch, channels).transpose(0, 1).to(dtype),
        "delta_bias": draw(directions, channels) - 1,
        "order": torch.stack([torch.randperm(length, generator=g) for _ in range(directions)]).int(),
        "reset": torch.rand(directions, length, generator=g) < 0.25,
    }
    for name in without:
        args[name] = None
    return args


def leaves(args):
    """Fresh differentiable views of the floating arguments, laid out as they were."""
    return {k: v.detach().requires_grad_() if v is not None and v.is_floating_point() else v for k, v in args.items()}


def call(function, args, **options):
    a = dict(args)
    main = [a.pop(name) for name in ("x", "delta", "A", "B", "C", "D", "order")]
    return function(*main, **a, **options)


def relative(got, expected):
    got, expected = got.detach().double(), expected.detach().double()
    return float((got - expected).norm() / expected.norm().clamp_min(1e-30))


def compare(args, *, softplus=True, tolerance=1e-5, config=None):
    """Run forward and every gradient on the kernels and on the reference in float64, with a strided output gradient."""
    from lmsearch.kernels.triton_scan import ScanConfig

    double = {k: v.double() if v is not None and v.is_floating_point() else v for k, v in args.items()}
    got_in, ref_in = leaves(args), leaves(double)
    config = config or ScanConfig(chunk=3)  # several chunks even where time is short
    got = call(triton_backend.directional_scan, got_in, delta_softplus=softplus, config=config)
    expected = call(reference.directional_scan, ref_in, delta_softplus=softplus)
    assert got.dtype == args["x"].dtype and got.shape == expected.shape
    assert relative(got, expected) < tolerance, ("y", relative(got, expected))
    dy = torch.randn(*reversed(got.shape), generator=torch.Generator().manual_seed(9)).permute(3, 2, 1, 0).to(got.dtype)
    got.backward(dy)
    expected.backward(dy.double())
    for name, t in got_in.items():
        if t is not None and t.is_floating_point():
            assert t.grad.dtype == t.dtype
            error = relative(t.grad, ref_in[name].grad)
            assert error < tolerance, (name, error)


def check_forward_and_gradients_equal_the_reference():
    from lmsearch.kernels.triton_scan import ScanConfig

    for save_states in (False, True):
        compare(make(length=5, channels=5, n=5), config=ScanConfig(chunk=2, save_states=save_states))


def check_a_length_of_one_and_a_length_of_one_chunk():
    for length in (1, 3):
        compare(make(directions=1, length=length, channels=3))


def check_x_per_direction():
    compare(make(batch=2, shared=False, length=5, channels=8))


def check_every_optional_argument_may_be_absent():
    for name in OPTIONAL:
        compare(make(batch=1, length=4, directions=1, channels=3, without=[name], seed=3), softplus=name != "z")
    compare(make(batch=1, length=4, channels=3, without=OPTIONAL, seed=4))


def check_delta_without_softplus():
    args = make(length=5, directions=1, channels=3)
    compare({**args, "delta": args["delta"].abs(), "delta_bias": args["delta_bias"].abs()}, softplus=False)


def check_tiny_steps_keep_their_relative_precision():
    args = make(length=5, directions=1, channels=3, without=["reset"])
    compare({**args, "delta_bias": args["delta_bias"] - 12})


def check_half_precision():
    for dtype, tolerance in ((torch.bfloat16, 1e-2), (torch.float16, 2e-3)):
        compare(make(batch=1, length=4, channels=5, dtype=dtype), tolerance=tolerance)


def check_other_chunks_and_blocks():
    from lmsearch.kernels.triton_scan import ScanConfig

    compare(make(batch=1, length=6, channels=7), config=ScanConfig(4, 4, 1, 4, 1))
    compare(make(batch=1, directions=1, length=10, channels=3), config=ScanConfig())


def check_no_grad_changes_nothing():
    args = make(batch=2, length=5)
    with torch.no_grad():
        plain = call(triton_backend.directional_scan, leaves(args), delta_softplus=True)
    assert torch.equal(plain, call(triton_backend.directional_scan, leaves(args), delta_softplus=True).detach())


def check_the_public_operator_takes_triton_when_forced():
    args = make(length=5, channels=2)
    got = call(kernels.directional_scan, args, delta_softplus=True, backend="triton")
    assert relative(got, call(reference.directional_scan, args, delta_softplus=True)) < 1e-5


def check_convolution_equals_the_reference():
    g = torch.Generator().manual_seed(1)
    for taps, length, biased in ((4, 19, True), (3, 2, False)):
        x = torch.randn(3, 5, length, generator=g).transpose(1, 2)  # (B, L, D), channel-first in memory
        weight, bias = torch.randn(2, 5, taps, generator=g), torch.randn(2, 5, generator=g) if biased else None
        order = torch.stack([torch.randperm(length, generator=g) for _ in range(2)])
        mine = [t if t is None else t.detach().clone().requires_grad_() for t in (x, weight, bias)]
        true = [t if t is None else t.detach().double().requires_grad_() for t in (x, weight, bias)]
        got, expected = triton_backend.directional_conv(*mine, order), reference.directional_conv(*true, order)
        dy = torch.randn(3, 5, length, 2, generator=g).permute(0, 3, 2, 1)
        got.backward(dy)
        expected.backward(dy.double())
        pairs = [(got, expected), *((a.grad, b.grad) for a, b in zip(mine, true, strict=True) if a is not None)]
        assert max(relative(a, b) for a, b in pairs) < 1e-5


def check_merges_and_mean_equal_the_reference():
    g = torch.Generator().manual_seed(2)
    for length, channels, gated, dtype, tolerance in ((37, 5, True, torch.float32, 1e-5), (3, 8, False, torch.bfloat16, 1e-2)):
        o = torch.randn(2, length, 3, channels, generator=g).transpose(1, 2).to(dtype)  # (B, K, L, D), several chunks of L
        gate, weights = torch.rand(2, 3, channels, generator=g) if gated else None, torch.rand(3, generator=g)
        spatial = torch.rand(2, 3, length, generator=g)
        for name, given, options in (
            ("weighted_merge", (o, gate, weights), {"eps": 1e-5}),
            ("gated_sum", (o, gate, spatial), {}),
            ("gated_sum", (o, spatial.new_ones(2, 3, channels), None), {}),
            ("gated_sum", (o, None, None), {}),
            ("normed_mean", (o,), {"eps": 1e-5}),
        ):
            mine = [t if t is None else t.detach().clone().requires_grad_() for t in given]
            true = [t if t is None else t.detach().double().requires_grad_() for t in given]
            got = getattr(kernels, name)(*mine, **options, backend="triton")
            expected = getattr(reference, name)(*true, **options)
            assert got.dtype == dtype
            dy = torch.randn(*reversed(got.shape), generator=g).permute(*reversed(range(got.dim()))).to(dtype)
            got.backward(dy)
            expected.backward(dy.double())
            pairs = [(got, expected), *((a.grad, b.grad) for a, b in zip(mine, true, strict=True) if a is not None)]
            assert max(relative(a, b) for a, b in pairs) < tolerance, (name, dtype)


def check_the_self_test_passes_and_finds_a_wrong_kernel():
    operators, cpu = triton_inputs.OPERATORS, torch.device("cpu")
    found = {"device": "a", "capability": "9.0", "driver": "1", "dtype": "float32", "triton": "3"}
    small, wide = self_test.scan_tensors, {"batch": 1, "length": 9, "channels": 3, "n": 2}
    self_test.scan_tensors = lambda: small(**wide)
    try:
        errors = self_test.worst_errors(cpu, torch.float32, operators)
        self_test.check(errors, found, self_test.TOLERANCES[torch.float32])
        assert len(errors) == (1 + 8) + (1 + 3) + (1 + 3) + (1 + 3) + (1 + 1)

        def stale(*args, **kwargs):  # as a pipelined loop that reads one state too early
            return triton_backend.directional_scan(*args, **kwargs) * 1.001

        errors = self_test.worst_errors(cpu, torch.float32, {"directional_scan": stale})
        try:
            self_test.check(errors, found, self_test.TOLERANCES[torch.float32])
        except KernelError as error:
            assert "wrong on a (compute capability 9.0" in str(error) and "backend=reference" in str(error)
        else:
            raise AssertionError("a wrong kernel passed its test")
    finally:
        self_test.scan_tensors = small


def check_operators_meet_the_rules_of_torch_library():
    args = make(batch=1, length=3, channels=2, n=2)
    a = leaves({**args, "x": args["x"].unsqueeze(1).expand_as(args["delta"])})
    names = ("x", "delta", "A", "B", "C", "D", "z", "delta_bias", "order", "reset")
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    given = (*(a[n] for n in names), True, True, [2, 2, 1, 2, 1, 1])
    torch.library.opcheck(triton_backend.scan_op, given, test_utils=tests)
    conv = (args["x"], torch.randn(2, 2, 4).requires_grad_(), torch.randn(2, 2), args["order"])
    torch.library.opcheck(triton_backend.conv_op, conv, test_utils=tests)
    o, gate, weights = (torch.rand(*shape).requires_grad_() for shape in ((1, 2, 3, 4), (1, 2, 4), (2,)))
    torch.library.opcheck(triton_merge_ops.merge_op, (o, gate, weights, 1e-5), test_utils=tests)
    torch.library.opcheck(triton_merge_ops.mean_op, (o, 1e-5), test_utils=tests)
    torch.library.opcheck(triton_merge_ops.sum_op, (o, gate, None), test_utils=tests)


def run_checks() -> dict[str, str]:
    """Run every check_* function of this file: its name -> "" or the traceback."""
    outcome = {}
    for name in [n for n in globals() if n.startswith("check_")]:
        try:
            globals()[name]()
            outcome[name] = ""
        except Exception:
            outcome[name] = traceback.format_exc()
    return outcome


CHECKS = [name for name in list(globals()) if name.startswith("check_")]


@pytest.fixture(scope="module")
def interpreted():
    path = os.pathsep.join([str(Path(kernels.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@needs_triton
@pytest.mark.parametrize("name", CHECKS)
def test_the_interpreted_kernels(name, interpreted):
    assert interpreted[name] == "", interpreted[name]


def source(fn, dtype, constants, *, absent=(), strides="i32"):
    """What triton.compile takes for `fn`: pointers and integers typed by name, innermost strides one."""
    from triton.compiler import ASTSource

    signature, constants = {}, dict(constants)
    for p in fn.params:
        if p.is_constexpr or p.name in absent or p.name.endswith("_d") or p.name in ("b_n", "c_n"):
            signature[p.name] = "constexpr"
            if not p.is_constexpr:
                constants[p.name] = None if p.name in absent else 1
        elif p.name.endswith("_ptr"):
            signature[p.name] = POINTERS.get(p.name, "*fp32" if p.name in FLOAT32 else f"*{dtype}")
        elif p.name == "eps":
            signature[p.name] = "fp32"
        else:
            signature[p.name] = strides if "_" in p.name and p.name != "time_blocks" else "i32"
    return ASTSource(fn, signature, constants)


def compiled(source_, capability):
    import triton
    from triton.backends.compiler import GPUTarget

    return triton.compile(source_, target=GPUTarget("cuda", capability, 32), options={"num_warps": 4})


def every_kernel():
    from lmsearch.kernels import triton_conv, triton_merge, triton_scan

    scan = {"SOFTPLUS": True, "N": 16, "CHUNK": 2, "BLOCK_D": 32, "BLOCK_N": 16}
    conv = {"W": 4, "BLOCK_T": 16, "BLOCK_D": 32}
    return {
        "scan_forward": (triton_scan.scan_forward, scan),
        "scan_backward": (triton_scan.scan_backward, scan),
        "conv_forward": (triton_conv.conv_forward, conv),
        "conv_backward": (triton_conv.conv_backward, conv),
        "merge_forward": (triton_merge.merge_forward, {"BLOCK_T": 4, "BLOCK_D": 512}),
        "mean_forward": (triton_merge.mean_forward, {"CHUNK": 32, "BLOCK_T": 4, "BLOCK_D": 512}),
        "sum_forward": (triton_merge.sum_forward, {"BLOCK_T": 4, "BLOCK_D": 512}),
        "sum_backward": (triton_merge.sum_backward, {"CHUNK": 32, "BLOCK_T": 4, "BLOCK_D": 512}),
        "merge_backward": (triton_merge.merge_backward, {"CHUNK": 32, "BLOCK_T": 4, "BLOCK_D": 512}),
    }


@needs_triton
@pytest.mark.parametrize(
    ("capability", "dtype"), [(80, "fp32"), (80, "bf16"), (90, "fp32"), (90, "bf16"), (100, "bf16"), (120, "fp32")]
)
@pytest.mark.parametrize("name", ["scan_forward", "scan_backward", "conv_forward", "conv_backward"])
def test_every_kernel_compiles_ahead_of_time(name, dtype, capability):
    fn, constants = every_kernel()[name]
    assert f".target sm_{capability}" in compiled(source(fn, dtype, constants), capability).asm["ptx"]


@needs_triton
@pytest.mark.parametrize(("capability", "dtype"), [(80, "fp32"), (90, "bf16")])
@pytest.mark.parametrize("name", ["merge_forward", "mean_forward", "merge_backward", "sum_forward", "sum_backward"])
def test_every_kernel_of_the_merge_compiles_ahead_of_time(name, dtype, capability):
    fn, constants = every_kernel()[name]
    assert f".target sm_{capability}" in compiled(source(fn, dtype, constants), capability).asm["ptx"]


@needs_triton
def test_the_backward_of_the_merge_compiles_without_gate_and_weights():
    fn, constants = every_kernel()["merge_backward"]
    absent = ("gate_ptr", "weight_ptr", "dgate_ptr", "dw_ptr")
    assert len(compiled(source(fn, "fp16", constants, absent=absent, strides="i64"), 90).asm["cubin"]) > 0


@needs_triton
@pytest.mark.parametrize("name", ["scan_forward", "scan_backward"])
def test_a_scan_kernel_compiles_without_its_optional_tensors_and_with_64_bit_strides(name):
    fn, constants = every_kernel()[name]
    absent = ("d_ptr", "z_ptr", "bias_ptr", "reset_ptr", "dd_ptr", "dz_ptr", "dbias_ptr")
    spare = {"N": 5, "BLOCK_N": 8, "SOFTPLUS": False}
    built = compiled(source(fn, "fp16", {**constants, **spare}, absent=absent, strides="i64"), 90)
    assert len(built.asm["cubin"]) > 0


@needs_triton
def test_nothing_that_depends_on_the_image_size_is_fixed_at_compile_time():
    allowed = {"SOFTPLUS", "N", "W", "CHUNK", "BLOCK_T", "BLOCK_D", "BLOCK_N"}
    for fn, _ in every_kernel().values():
        assert {p.name for p in fn.params if p.is_constexpr} <= allowed
        assert all(p.do_not_specialize for p in fn.params if p.name in ("length", "directions", "time_blocks"))


def test_forced_triton_on_the_cpu_says_how_to_enable_it():
    with pytest.raises(BackendUnavailableError, match=r"TRITON_INTERPRET=1|pip install"):
        kernels.choose_backend("triton", torch.device("cpu"), torch.float32)


def test_auto_never_takes_triton_on_the_cpu():
    assert kernels.choose_backend("auto", torch.device("cpu"), torch.float32) != "triton"


def test_float64_is_refused():
    args = {k: v.double() if v.is_floating_point() else v for k, v in make().items()}
    with pytest.raises(KernelError, match="backend='reference'"):
        call(triton_backend.directional_scan, args)


if __name__ == "__main__":
    print(json.dumps(run_checks()))
