"""lmsearch bench: the gate, the arrangements it compares, paired timing, fitted exponents and what a run writes."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lmsearch.bench import calls, ceiling, gate, growth, memory, onnx_scan, process, scans, sections, timing, workloads
from lmsearch.bench.released import SCANS, ReleasedMixer, available_scans
from lmsearch.bench.scans import PEERS, ScanShape, ours, peer_tensors, scan_tensors
from lmsearch.bench.workloads import LayerShape, SupernetShape
from lmsearch.cli import main
from lmsearch.config import compose
from lmsearch.engine.threads import exactly
from lmsearch.errors import ConfigError, KernelError
from lmsearch.kernels import BACKENDS, reference
from lmsearch.tasks import bench as task

SMALL = ScanShape(2, 1, 9, 5, 4)
SMALL_LAYER = LayerShape(batch=2, d_model=16, side=4)


def tiny_setup(**changes: object) -> sections.Setup:
    """Return a setup of the smallest sizes that still run every section."""
    setup = sections.make_setup(device="cpu", threads=1, repeats=1, seed=0, quick=True)
    sizes = {
        "scan": SMALL,
        "longer": (ScanShape(1, 1, 16, 5, 4),),
        "layer": SMALL_LAYER,
        "supernet": SupernetShape(2, 16, 1, 4),
        "paired_batch": 1,
        "growth": ScanShape(1, 1, 8, 4, 4),
        "factors": (1, 2),
    }
    return replace(setup, **sizes | changes)


def broken(change: Callable[[dict], dict] = lambda arguments: arguments, scale: float = 1.0) -> SimpleNamespace:
    """Return a backend that is the reference but for a change of its arguments or a factor on its result."""

    def directional_scan(x, delta, A, B, C, D, order, **options):
        arguments = change({"x": x, "delta": delta, "A": A, "B": B, "C": C, "D": D, "order": order})
        return scale * reference.directional_scan(**arguments, **options)

    return SimpleNamespace(unavailable_reason=lambda device: None, directional_scan=directional_scan)


def test_the_gate_accepts_every_backend_that_runs_here() -> None:
    errors, absent = gate.check_backends([SMALL], seed=0, device="cpu")
    assert "reference" in errors and errors.keys() | absent.keys() == BACKENDS.keys()
    assert all(worst.error <= gate.TOLERANCE for worst in errors.values())
    assert all("run" in reason or "cuda" in reason.lower() for reason in absent.values())


@pytest.mark.parametrize(
    ("backend", "part"),
    [
        (broken(scale=1.001), "off by"),
        (broken(lambda a: a | {"C": a["C"].detach()}), "gradient of C"),
        (broken(lambda a: a | {"B": a["B"].detach() + 1e-3 * a["B"]}), "gradient of B"),
        (broken(scale=float("nan")), "off by inf"),
        (broken(lambda a: a | {"order": a["order"].flip(1)}), "off by"),
    ],
    ids=["slightly wrong output", "no gradient", "wrong gradient", "NaN", "wrong order"],
)
def test_a_broken_backend_is_refused(backend: SimpleNamespace, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "broken", backend)
    with pytest.raises(KernelError, match=f"backend broken at B2 K1 L9 D5 N4 is wrong: .*{part}.*nothing was timed"):
        gate.check_backends([SMALL], seed=0, device="cpu")


def test_a_broken_backend_stops_the_command_before_anything_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    timed: list[str] = []
    monkeypatch.setitem(BACKENDS, "broken", broken(scale=1.001))
    monkeypatch.setattr(sections, "paired", lambda *args, **options: timed.append("timed"))
    monkeypatch.setattr(task, "make_setup", lambda **options: tiny_setup())
    assert main(["bench", f"run_dir={tmp_path}"]) == 2
    assert "backend broken" in capsys.readouterr().err
    assert not timed and not (tmp_path / "bench.json").exists()


def test_a_wrong_peer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(PEERS["eager loop"], scan=lambda **tensors: scans.eager_loop(**tensors) * 1.001)
    monkeypatch.setitem(PEERS, "eager loop", wrong)
    with pytest.raises(KernelError, match="eager loop at"):
        gate.check_peers(SMALL, seed=0, device="cpu", quick=True)


@pytest.mark.parametrize("name", calls.CALLS)
def test_a_call_that_is_wrong_in_ours_or_beside_it_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call = calls.CALLS[name]
    tensors = calls.call_tensors(call, SMALL, seed=0, device="cpu")
    assert calls.check_call(name, tensors, device="cpu").keys() >= {"lmsearch", "eager loop"}
    monkeypatch.setitem(calls.CALLS, name, replace(call, ours=lambda **tensors: 1.001 * call.ours(**tensors)))
    with pytest.raises(KernelError, match=f"{name}: lmsearch is wrong: .*nothing was timed"):
        calls.check_call(name, tensors, device="cpu")


def test_a_missing_peer_is_listed_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    absent = {name: reason for name, peer in PEERS.items() if (reason := peer.absent("cpu", quick=False)) is not None}
    onnx = {"onnxruntime Scan", "onnxruntime LinearAttention"}
    assert absent.keys() - {"eager loop, token compiled"} == {"mambapy", "transformers", "JAX lax.scan", "mamba-ssm", *onnx}
    assert all("install" in reason for reason in absent.values())


def test_what_is_compiled_first_is_left_out_of_a_quick_run() -> None:
    _, absent = gate.check_peers(SMALL, seed=0, device="cpu", quick=True)
    assert all("not with quick=true" in absent[name] for name, peer in PEERS.items() if peer.compiles)


def test_a_peer_without_gradients_is_checked_and_timed_forwards_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def scan(**tensors: torch.Tensor) -> torch.Tensor:
        return scans.eager_loop(**tensors).detach()

    monkeypatch.setitem(PEERS, "forward only", replace(PEERS["eager loop"], scan=scan, gradients=False))
    errors, _ = gate.check_peers(SMALL, seed=0, device="cpu", quick=True)
    assert errors["forward only"].part == "output"
    found = sections.scan_section(tiny_setup())
    assert "forward only" in found["forward"] and "forward only" not in found["both"]


@pytest.mark.parametrize("scan", [onnx_scan.onnxruntime_scan, onnx_scan.onnxruntime_linear_attention])
def test_the_onnx_scans_take_any_number_of_tokens(scan: Callable[..., torch.Tensor]) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    for tokens in (1, 49):
        tensors = peer_tensors(*scan_tensors(ScanShape(2, 1, tokens, 5, 4), seed=0))
        want = scans.eager_loop(**tensors).detach()
        torch.testing.assert_close(scan(**tensors), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if peer.absent("cpu", quick=True) is None])
def test_a_peer_that_visits_in_order_equals_our_scan_in_raster_order(name: str) -> None:
    tensors, order = scan_tensors(SMALL, seed=3)
    visited = PEERS[name].scan(**peer_tensors(tensors, order))
    expected = ours(tensors, order, "reference")()[:, 0, order[0].long()]
    torch.testing.assert_close(visited, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of PyTorch's compiler
@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if peer.compiles and peer.unavailable("cpu") is None])
def test_a_compiled_peer_equals_the_eager_loop_with_all_gradients(name: str) -> None:
    mine = peer_tensors(*scan_tensors(SMALL, seed=3))
    got, want = (gate.results(lambda scan=scan: scan(**mine), mine) for scan in (PEERS[name].scan, scans.eager_loop))
    assert gate.worst(name, got, want).error <= gate.TOLERANCE


@pytest.mark.parametrize("scan", available_scans("cpu"))
def test_the_released_arrangement_computes_what_our_mixer_computes(scan: str) -> None:
    mixer, x = workloads.layer(SMALL_LAYER, seed=1, device="cpu")
    mixer = workloads.with_backend(mixer, "reference").double()
    with torch.no_grad():
        for parameter in mixer.parameters():  # away from the symmetric initial values
            parameter += 0.1 * torch.randn_like(parameter)
    leaves = {"x": x.detach().double().requires_grad_(), **dict(mixer.named_parameters())}
    want = gate.results(workloads.layer_call(mixer, leaves["x"], 4), leaves)
    got = gate.results(workloads.layer_call(ReleasedMixer(mixer, scan), leaves["x"], 4), leaves)
    for part in want:
        assert gate.relative_error(got[part], want[part]) < 1e-9, part


def test_absent_scans_are_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert available_scans("cpu") == [name for name in SCANS if name.startswith("eager loop")]


def test_paired_timing_takes_turns_and_compares_with_the_first() -> None:
    calls: list[str] = []
    functions = {name: lambda name=name: calls.append(name) for name in ("a", "b")}
    measured = timing.paired(functions, repeats=3, min_sample_s=0.0)
    assert "".join(calls[-6:]) == "abbaab"
    assert measured["a"].times_first == timing.Spread(1.0, 1.0, 1.0)
    assert measured["b"].seconds.min <= measured["b"].seconds.median <= measured["b"].seconds.max


def test_a_spread_is_median_and_range() -> None:
    assert timing.Spread.of([3.0, 1.0, 7.0]) == timing.Spread(3.0, 1.0, 7.0)


def test_threads_are_restored() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), exactly(before + 1):
        assert torch.get_num_threads() == before + 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_fitted_exponent_of_a_power_law_is_its_power(power: float) -> None:
    sizes = [1, 2, 4, 8]
    assert growth.exponent(sizes, [3.0 * size**power for size in sizes]) == pytest.approx(power)


def test_only_sizes_beyond_the_cache_are_fitted() -> None:
    shapes = growth.sweep(ScanShape(1, 1, 100, 10), "tokens", (1, 2, 4, 8))
    assert [shape.tokens for shape in shapes] == [100, 200, 400, 800]
    seconds = [1e-9, 2.0, 4.0, 8.0]  # the first one is not on the line
    fitted = growth.fit(shapes, "tokens", seconds, cache=growth.working_set(shapes[0]))
    assert (fitted.exponent, fitted.points, fitted.beyond_cache) == (pytest.approx(1.0), 3, True)
    everything = growth.fit(shapes, "tokens", seconds, cache=1 << 40)
    assert everything.exponent > 2 and everything.points == 4 and not everything.beyond_cache


def test_the_full_growth_sizes_are_beyond_usual_caches() -> None:
    setup = sections.make_setup(device="cpu", threads=2, repeats=5, seed=0, quick=False)
    assert growth.working_set(setup.growth) > 64 << 20
    assert setup.scan == ScanShape(8, 1, 196, 384, 16) and setup.layer.directions == workloads.WIDE_WINDOWS


def test_probes_do_the_work_that_they_count() -> None:
    probe = ceiling.exponentials(1 << 12, "cpu")
    assert probe.work == 1 << 20
    assert ceiling.multiply_adds(8, "cpu").work == 2 * 8**3 and ceiling.copies(8, "cpu").work == 64
    probe.run()


@pytest.mark.usefixtures("drawing")
def test_a_run_writes_every_section_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(task, "make_setup", lambda **options: tiny_setup())
    monkeypatch.setattr(memory, "peak_bytes", lambda subject, shape, **options: 100 * len(subject))
    monkeypatch.setattr(process, "step_seconds", lambda way, shape, **options: 2.0 if way == process.TUNED else 3.0)
    assert main(["bench", f"run_dir={tmp_path}"]) == 0
    found = json.loads((tmp_path / "bench.json").read_text())
    assert found.keys() == {"environment", "hardware", "settings", "correctness", *sections.SECTIONS}
    assert found["hardware"]["cpu"] and found["environment"]["versions"]["torch"]
    (first,) = [name for name in found["scan"]["both"] if name.startswith("lmsearch (")]
    assert {"reference backend", "eager loop"} <= found["scan"]["both"].keys()
    row = found["scan"]["both"][first]
    assert row["times_first"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    assert row["gel_s"] == pytest.approx(SMALL.elements / row["seconds"]["median"] / 1e9)
    assert len(found["scan"]["longer"]) == 2
    assert all({first, "eager loop"} <= call["both"].keys() for call in found["calls"]["calls"].values())
    assert {"reference backend", "released, eager loop"} <= found["layer"]["both"].keys() & found["supernet"]["compared"].keys()
    assert found["growth"]["axes"].keys() == set(growth.AXES)
    assert found["memory"]["peaks"]["released, eager loop"] == {"peak_bytes": 2000, "times_first": 2.5}
    assert found["ceiling"]["best_exp_g_s"] == max(found["ceiling"]["exp_g_s"].values())
    assert found["process"]["both"][process.PLAIN]["times_first"] == {"median": 1.5, "min": 1.5, "max": 1.5}
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    for title in ("relative errors", "scan: B2 K1 L9", "peak memory", "growth of our scan", "ceilings"):
        assert title in printed


@pytest.mark.slow
def test_a_pass_is_timed_in_processes_with_and_without_their_settings() -> None:
    for way in (process.TUNED, process.PLAIN):
        assert 0 < process.step_seconds(way, memory.TINY, threads=1, seed=0) < 60


def test_a_single_section_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "make_setup", lambda **options: tiny_setup())
    assert main(["bench", "what=[ceiling]", f"run_dir={tmp_path}"]) == 0
    found = json.loads((tmp_path / "bench.json").read_text())
    assert found.keys() & sections.SECTIONS.keys() == {"ceiling"}
    assert not (tmp_path / "bench.png").exists()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("what=[scam]", "'scam' is not a section; did you mean scan"),
        ("what=[]", "nothing to measure"),
        ("threads=0", "threads=0"),
        ("repeats=0", "repeats=0"),
    ],
)
def test_a_value_that_cannot_be_measured_is_refused(word: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        task.run(compose("bench", [word, f"run_dir={tmp_path}"]))


@pytest.mark.slow
@pytest.mark.skipif(not memory.supported("cpu"), reason="needs Linux's /proc")
def test_our_mixer_needs_much_less_memory_than_the_released_arrangement() -> None:
    shape = LayerShape(batch=8, d_model=64, side=8)
    peaks = [memory.peak_bytes(s, shape, threads=1, seed=0, device="cpu") for s in ("lmsearch", "released, eager loop")]
    assert 0 < 4 * peaks[0] < peaks[1]


def test_a_failing_memory_process_is_one_clear_error() -> None:
    with pytest.raises(KernelError, match="measuring the memory of 'released, nothing' failed: .*nothing"):
        memory.peak_bytes("released, nothing", SMALL_LAYER, threads=1, seed=0, device="cpu")
