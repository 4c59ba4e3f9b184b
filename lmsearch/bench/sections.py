"""The sections of `lmsearch bench`: each runs one comparison after its gate and returns plain values for the JSON file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from lmsearch.bench import ceiling, growth, memory, process
from lmsearch.bench.calls import CALLS, call_tensors, check_call, functions_of
from lmsearch.bench.gate import TOLERANCE, check_backends, check_peers
from lmsearch.bench.hardware import last_level_cache
from lmsearch.bench.policies import KEEPS, STAGES, policy_step, shrinking_cost, ways
from lmsearch.bench.scans import PEERS, ScanShape, ours, peer_tensors, scan_tensors
from lmsearch.bench.timing import Measured, Spread, paired, with_gradients, without_gradients
from lmsearch.bench.workloads import (
    OURS,
    REFERENCE,
    RELEASED,
    LayerShape,
    SupernetShape,
    arranged,
    check_layers,
    layer,
    layer_call,
    subjects,
    training_step,
)
from lmsearch.engine.threads import exactly
from lmsearch.kernels import choose_backend

EXPS = {"forward": 1, "both": 2}  # exponentials of an element: the backward pass computes them again
SMALL_CHECKS = (ScanShape(3, 4, 49, 33, 16), ScanShape(2, 1, 197, 24, 8))


@dataclass(frozen=True)
class Setup:
    """What to measure and how: sizes, device, threads of the layer and the supernet, rounds of each comparison, seed."""

    device: str
    threads: int
    repeats: int
    seed: int
    quick: bool
    scan: ScanShape
    longer: tuple[ScanShape, ...]
    layer: LayerShape
    supernet: SupernetShape
    paired_batch: int  # images of the supernet step that is compared with other arrangements, which need much memory
    growth: ScanShape
    factors: tuple[int, ...]


def make_setup(*, device: str, threads: int, repeats: int, seed: int, quick: bool) -> Setup:
    """Return the full setup, or with `quick` small sizes that show that everything works but not how fast it is."""
    common: dict[str, Any] = {"device": device, "threads": threads, "seed": seed, "quick": quick}
    if quick:
        return Setup(
            **common,
            repeats=min(repeats, 2),
            scan=ScanShape(2, 1, 49, 192),
            longer=(ScanShape(1, 1, 196, 192),),
            layer=LayerShape(2, 48, 7),
            supernet=SupernetShape(8, 32, 2, 8),
            paired_batch=2,
            growth=ScanShape(1, 2, 196, 128),
            factors=(1, 2, 4),
        )
    return Setup(
        **common,
        repeats=repeats,
        scan=ScanShape(8, 1, 196, 384),
        longer=(ScanShape(2, 1, 784, 384), ScanShape(1, 1, 3136, 384)),
        layer=LayerShape(8, 192, 14),
        supernet=SupernetShape(64, 64, 6, 8),
        paired_batch=8,
        growth=ScanShape(4, 4, 784, 384),
        factors=(1, 2, 4, 8),
    )


def rounds(setup: Setup) -> dict:
    """Return the options of `paired`: how many rounds, and how long a sample is."""
    return {"repeats": setup.repeats, "min_sample_s": 0.005 if setup.quick else 0.05}


def our_name(setup: Setup) -> str:
    """Return "lmsearch" with the backend that it runs on."""
    return f"{OURS} ({choose_backend('auto', torch.device(setup.device), torch.float32)})"


def check_section(setup: Setup) -> dict:
    """The gate: every backend, peer and arrangement against float64; raises KernelError for a wrong one."""
    at: dict[str, Any] = {"seed": setup.seed, "device": setup.device}
    backends, absent = check_backends([*SMALL_CHECKS, setup.scan, *setup.longer], **at)
    peers, absent_peers = check_peers(setup.scan, quick=setup.quick, **at)
    layers = check_layers(setup.layer, **at)
    groups = {"backends": backends, "peers": peers, "layers": layers}
    errors = {group: {name: asdict(w) for name, w in found.items()} for group, found in groups.items()}
    return errors | {"tolerance": TOLERANCE, "absent_backends": absent, "absent_peers": absent_peers}


def described(measured: dict[str, Measured], elements: int | None = None) -> dict[str, dict]:
    """Return measurements as plain values, with Gel/s (1e9 elements per second) where there are elements to count."""
    rates = {name: {} if elements is None else {"gel_s": elements / m.seconds.median / 1e9} for name, m in measured.items()}
    return {name: asdict(m) | rates[name] for name, m in measured.items()}


def scan_section(setup: Setup) -> dict:
    """The scan alone on one thread: ours beside the reference and every peer that is here, then longer sequences."""
    tensors, order = scan_tensors(setup.scan, seed=setup.seed, device=setup.device)
    mine = peer_tensors(tensors, order)
    calls = {
        our_name(setup): (ours(tensors, order, "auto"), tensors),
        REFERENCE: (ours(tensors, order, "reference"), tensors),
    }
    for name, peer in PEERS.items():
        if peer.absent(setup.device, quick=setup.quick) is None:
            calls[name] = (partial(peer.scan, **mine), mine)
    with exactly(1):
        forward = paired({n: without_gradients(f) for n, (f, _) in calls.items()}, **rounds(setup))
        trained = {name: call for name, call in calls.items() if name not in PEERS or PEERS[name].gradients}
        both = paired({n: with_gradients(f, list(x.values())) for n, (f, x) in trained.items()}, **rounds(setup))
    return {
        "shape": str(setup.scan),
        "threads": 1,
        "memory": process.memory_setting(),
        "elements": setup.scan.elements,
        "forward": described(forward, setup.scan.elements),
        "both": described(both, setup.scan.elements),
        "longer": longer_sequences(setup),
    }


def calls_section(setup: Setup) -> dict:
    """Calls of other people's models on one thread, each after its own gate: ours beside the same call around other scans."""
    found = {}
    for name, call in CALLS.items():
        tensors = call_tensors(call, setup.scan, seed=setup.seed, device=setup.device)
        errors = check_call(name, tensors, device=setup.device)
        functions = functions_of(call, tensors, ours=our_name(setup), device=setup.device)
        with exactly(1):
            forward = paired({who: without_gradients(f) for who, f in functions.items()}, **rounds(setup))
            both = paired({who: with_gradients(f, list(tensors.values())) for who, f in functions.items()}, **rounds(setup))
        kinds = {"forward": described(forward), "both": described(both)}
        found[name] = kinds | {"errors": {who: asdict(w) for who, w in errors.items()}}
    return {"shape": str(setup.scan), "threads": 1, "calls": found}


def longer_sequences(setup: Setup) -> dict[str, dict]:
    """Our rate at longer sequences on one thread, also as a fraction of the rate at the first length."""
    shapes = (setup.scan, *setup.longer)
    cases = {str(shape): (shape, *scan_tensors(shape, seed=setup.seed, device=setup.device)) for shape in shapes}
    found: dict[str, dict] = {name: {} for name in cases}
    with exactly(1):
        for kind in EXPS:
            functions = {}
            for name, (_, tensors, order) in cases.items():
                call = ours(tensors, order, "auto")
                forward = kind == "forward"
                functions[name] = without_gradients(call) if forward else with_gradients(call, list(tensors.values()))
            for name, m in paired(functions, **rounds(setup)).items():
                shape = cases[name][0]
                work = shape.elements / setup.scan.elements
                times = m.times_first
                fraction = Spread(work / times.median, work / times.max, work / times.min)
                rate = shape.elements / m.seconds.median / 1e9
                found[name][kind] = {"seconds": asdict(m.seconds), "gel_s": rate, "fraction_of_first": asdict(fraction)}
    return found


def layer_section(setup: Setup) -> dict:
    """The K=8 supernet mixer, forward and backward: ours beside the reference backend and the released arrangement."""
    mixer, x = layer(setup.layer, seed=setup.seed, device=setup.device)
    functions = {}
    for subject in subjects(setup.device):
        module = arranged(mixer, subject)
        call = layer_call(module, x, setup.layer.side)
        name = our_name(setup) if subject == OURS else subject
        functions[name] = with_gradients(call, [x, *module.parameters()])
    with exactly(setup.threads):
        measured = paired(functions, **rounds(setup))
    return {"shape": str(setup.layer), "threads": setup.threads, "both": described(measured)}


def supernet_section(setup: Setup) -> dict:
    """One training step of a whole supernet; other arrangements at a smaller batch, since they need much memory."""
    at: dict[str, Any] = {"seed": setup.seed, "device": setup.device}
    small = SupernetShape(setup.paired_batch, setup.supernet.embed_dim, setup.supernet.depth, setup.supernet.side)
    others = [name for name in subjects(setup.device) if name in (REFERENCE, RELEASED + "eager loop", RELEASED + "mamba-ssm")]
    with exactly(setup.threads):
        whole = paired({our_name(setup): training_step(setup.supernet, OURS, **at)}, **rounds(setup))
        steps = {our_name(setup): training_step(small, OURS, **at)}
        steps |= {name: training_step(small, name, **at) for name in others}
        compared = paired(steps, **rounds(setup))
    return {
        "shape": str(setup.supernet),
        "threads": setup.threads,
        "step": described(whole),
        "compared_shape": str(small),
        "compared": described(compared),
    }


def policies_section(setup: Setup) -> dict:
    """One training step of our supernet under each way of a search, relative to running every branch of eight."""
    steps = {name: policy_step(way, setup.supernet, seed=setup.seed, device=setup.device) for name, way in ways().items()}
    with exactly(setup.threads):
        measured = paired(steps, **rounds(setup))
    relative = {name: m.times_first.median for name, m in measured.items()}
    return {
        "shape": str(setup.supernet), "threads": setup.threads, "step": described(measured),
        "shrinking": {
            "stages": [[s.progress, s.branches] for s in STAGES],
            "cost_of_keep": {str(keep): shrinking_cost(relative, keep) for keep in KEEPS},
        },
    }  # fmt: skip


def growth_section(setup: Setup) -> dict:
    """Exponents of our scan's time, forward and backward on one thread, over each axis."""
    cache = last_level_cache()
    axes = {}
    with exactly(1):
        for axis in growth.AXES:
            shapes = growth.sweep(setup.growth, axis, setup.factors)
            seconds = _scan_seconds(shapes, setup)
            fitted = growth.fit(shapes, axis, seconds, cache=cache)
            points = [{"size": getattr(s, axis), "seconds": t} for s, t in zip(shapes, seconds, strict=True)]
            axes[axis] = asdict(fitted) | {"sizes": points}
    return {"base": str(setup.growth), "threads": 1, "cache_bytes": cache, "axes": axes}


def _scan_seconds(shapes: Sequence[ScanShape], setup: Setup) -> list[float]:
    """Return the median seconds of our scan, forward and backward, at each shape; the shapes take turns."""
    functions = {}
    for shape in shapes:
        tensors, order = scan_tensors(shape, seed=setup.seed, device=setup.device)
        functions[str(shape)] = with_gradients(ours(tensors, order, "auto"), list(tensors.values()))
    return [measured.seconds.median for measured in paired(functions, **rounds(setup)).values()]


def memory_section(setup: Setup) -> dict:
    """Peak memory of one forward and backward pass of the mixer, each arrangement in its own process."""
    if not memory.supported(setup.device):
        return {"shape": str(setup.layer), "absent": "peak memory is measured on CUDA and where Linux's /proc is"}
    at: dict[str, Any] = {"threads": setup.threads, "seed": setup.seed, "device": setup.device}
    chosen = [OURS, RELEASED + "eager loop"] if setup.quick else subjects(setup.device)  # a process takes seconds to start
    peaks = {subject: memory.peak_bytes(subject, setup.layer, **at) for subject in chosen}
    first = peaks[OURS]
    found = {
        our_name(setup) if name == OURS else name: {"peak_bytes": peak, "times_first": peak / first}
        for name, peak in peaks.items()
    }
    return {"shape": str(setup.layer), "threads": setup.threads, "peaks": found}


def ceiling_section(setup: Setup) -> dict:
    """The machine's ceilings on one thread, and the part of the exponential's that our scan reaches in the same rounds."""
    probes = ceiling.probes(setup.device, quick=setup.quick)
    tensors, order = scan_tensors(setup.scan, seed=setup.seed, device=setup.device)
    call = ours(tensors, order, "auto")
    scans = {"forward": without_gradients(call), "both": with_gradients(call, list(tensors.values()))}
    with exactly(1):
        measured = paired({**{name: probe.run for name, probe in probes.items()}, **scans}, **rounds(setup))
    rates = {name: probe.work / measured[name].seconds.median / 1e9 for name, probe in probes.items()}
    best = max(rate for name, rate in rates.items() if name.startswith("exp"))
    fractions = {kind: EXPS[kind] * setup.scan.elements / measured[kind].seconds.median / 1e9 / best for kind in scans}
    return {
        "threads": 1,
        "exp_g_s": {name: rate for name, rate in rates.items() if name.startswith("exp")},
        "best_exp_g_s": best,
        "sgemm_gflop_s": rates["sgemm"],
        "copy_gb_s": rates["copy"],
        "scan_shape": str(setup.scan),
        "exps_per_element": EXPS,
        "scan_fraction_of_exp": fractions,
    }


def process_section(setup: Setup) -> dict:
    """What setting up a process for training is worth on CPUs: the mixer's pass with it and without, in turns."""
    if setup.device != "cpu":
        return {"shape": str(setup.layer), "absent": "the settings of a process are for CPUs"}
    seconds: dict[str, list[float]] = {process.TUNED: [], process.PLAIN: []}
    for _ in range(setup.repeats):
        for way, times in seconds.items():
            times.append(process.step_seconds(way, setup.layer, threads=setup.threads, seed=setup.seed))
    first = seconds[process.TUNED]
    found = {
        way: Measured(Spread.of(times), Spread.of([a / b for a, b in zip(times, first, strict=True)]))
        for way, times in seconds.items()
    }
    return {"shape": str(setup.layer), "threads": setup.threads, "both": described(found)}


SECTIONS = {
    "scan": scan_section,
    "calls": calls_section,
    "layer": layer_section,
    "supernet": supernet_section,
    "policies": policies_section,
    "growth": growth_section,
    "memory": memory_section,
    "ceiling": ceiling_section,
    "process": process_section,
}
