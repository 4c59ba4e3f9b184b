"""lmsearch doctor: what it says about versions, the machine, the native library and every backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
import torch

import lmsearch
from lmsearch.bench import hardware
from lmsearch.cli import main
from lmsearch.errors import BackendUnavailableError
from lmsearch.kernels import BACKENDS, native_library, ops
from lmsearch.tasks import doctor


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the native library impossible to load."""

    def load_library() -> None:
        raise BackendUnavailableError("no C++ compiler found (c++); install a C++ compiler: apt-get install g++")

    monkeypatch.setattr(native_library, "load_library", load_library)
    monkeypatch.setattr(doctor, "load_library", load_library)
    monkeypatch.delenv("LMSEARCH_REQUIRE_NATIVE", raising=False)
    ops._auto.cache_clear()
    yield
    ops._auto.cache_clear()


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what the command prints, with the tables' folded lines joined."""
    assert main(["doctor"]) == 0
    return capsys.readouterr().out


def test_doctor_prints_versions_folders_and_every_backend(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys)
    for value in (lmsearch.__version__, torch.__version__, numpy.__version__, "search_spaces", *BACKENDS, "auto"):
        assert value in text


def test_every_backend_has_a_state_on_every_device() -> None:
    rows = list(doctor.backends())
    assert [name for device, name, _ in rows if device == "cpu"] == [*BACKENDS, "auto"]
    states = {name: state for device, name, state in rows if device == "cpu"}
    assert states["reference"] == "available"
    assert "MAMBA_KEEP_CUDA_BUILD=TRUE" in states["mamba_ssm"] or ".to('cuda')" in states["mamba_ssm"]
    assert states["auto"].removeprefix("runs ") in BACKENDS


def test_a_missing_library_shows_its_reason_and_what_runs_instead(no_library: None, capsys: pytest.CaptureFixture[str]) -> None:
    states = {name: state for _, name, state in doctor.backends()}
    assert "apt-get install g++" in states["native"] and states["auto"] == "runs reference"
    assert "none: no C++ compiler found" in dict(doctor.facts())["native library"]
    assert "runs reference" in printed(capsys)


def test_doctor_still_answers_where_the_native_library_is_required(
    no_library: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LMSEARCH_REQUIRE_NATIVE", "1")
    assert "LMSEARCH_REQUIRE_NATIVE=1" in printed(capsys)


def test_a_package_that_is_not_there_is_named_so() -> None:
    assert doctor.package_version("no-such-package-of-lmsearch") == "not installed"


def test_hardware_of_a_known_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo, caches = tmp_path / "cpuinfo", tmp_path / "cache"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Some CPU 9000\nflags\t\t: fpu avx avx2 fma avx512f\n")
    for index, size in enumerate(("32K", "1024K", "16M")):
        (caches / f"index{index}").mkdir(parents=True)
        (caches / f"index{index}" / "size").write_text(size + "\n")
    monkeypatch.setattr(hardware, "CPUINFO", cpuinfo)
    monkeypatch.setattr(hardware, "CACHES", caches)
    assert hardware.cpu_model() == "Some CPU 9000"
    assert hardware.instruction_sets() == ["avx", "avx2", "fma", "avx512f"]
    assert hardware.last_level_cache() == 16 << 20


def test_hardware_of_a_silent_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "CPUINFO", tmp_path / "absent")
    monkeypatch.setattr(hardware, "CACHES", tmp_path / "absent")
    assert hardware.cpu_model() and hardware.instruction_sets() == [] and hardware.last_level_cache() > 0
