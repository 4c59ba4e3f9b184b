"""The test that Triton kernels must pass at first use on a device: run once, remembered, and loud where it fails.

No GPU is here: the identity of the device is a stand-in, and the "kernels" are the reference or a broken copy of it.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lmsearch.errors import KernelError
from lmsearch.kernels import reference, self_test
from lmsearch.kernels.launch import launch_options

CPU, FLOAT = torch.device("cpu"), torch.float32
FOUND = {"device": "GPU 1", "capability": "10.0", "driver": "13000", "torch": "2", "triton": "3.7", "dtype": "float32"}


class Kernel:
    """A scan that counts its calls and may be wrong."""

    def __init__(self, factor: float = 1.0) -> None:
        self.calls, self.factor = 0, factor

    def __call__(self, *args, **kwargs) -> Tensor:
        self.calls += 1
        return reference.directional_scan(*args, **kwargs) * self.factor


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(self_test, "identity", lambda device, dtype: dict(FOUND))
    monkeypatch.setattr(self_test, "_STARTED", set())
    monkeypatch.setenv("LMSEARCH_CACHE", str(tmp_path / "cache"))


def ensure(scan: Kernel) -> None:
    others = (reference.directional_conv, reference.weighted_merge, reference.gated_sum, reference.normed_mean)
    self_test.ensure(CPU, FLOAT, {"directional_scan": scan} | {operator.__name__: operator for operator in others})


def test_a_device_is_tested_once_and_remembered_by_later_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = Kernel()
    ensure(scan)
    ensure(scan)
    assert scan.calls == 1
    monkeypatch.setattr(self_test, "_STARTED", set())  # another process
    ensure(scan)
    assert scan.calls == 1


@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_a_first_use_without_gradients_is_tested_too(without) -> None:
    scan = Kernel()
    with without():
        ensure(scan)
    assert scan.calls == 1


def test_another_driver_is_tested_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = Kernel()
    ensure(scan)
    monkeypatch.setattr(self_test, "_STARTED", set())
    monkeypatch.setattr(self_test, "identity", lambda device, dtype: FOUND | {"driver": "13010"})
    ensure(scan)
    assert scan.calls == 2


@pytest.mark.parametrize("factor", [1.001, float("nan")])
def test_wrong_kernels_raise_at_every_use_and_name_the_device(factor: float) -> None:
    scan = Kernel(factor)
    for calls in (1, 2):
        with pytest.raises(KernelError, match=r"wrong on GPU 1 \(compute capability 10.0, driver 13000\).*backend=reference"):
            ensure(scan)
        assert scan.calls == calls


def test_a_cache_that_cannot_be_written_is_said_and_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LMSEARCH_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        ensure(Kernel())
    assert "LMSEARCH_CACHE" in caplog.text


@pytest.mark.parametrize(("major", "expected"), [(8, {}), (9, {}), (10, {"num_stages": 1}), (12, {"num_stages": 1})])
def test_loops_are_not_pipelined_where_that_was_wrong(monkeypatch: pytest.MonkeyPatch, major: int, expected: dict) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))
    assert launch_options(torch.device("cuda")) == expected
    assert launch_options(CPU) == {}
