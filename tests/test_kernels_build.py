"""How the native library is found, built and refused."""

from __future__ import annotations

import pytest
import torch
from scan_cases import scan_case

from lmsearch import kernels
from lmsearch.errors import BackendUnavailableError
from lmsearch.kernels import build, native, native_library, ops

REASON = native.unavailable_reason(torch.device("cpu"))
needs_native = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@needs_native
def test_only_known_instruction_sets_are_accepted(monkeypatch):
    monkeypatch.setenv("LMSEARCH_NATIVE_ISA", "sse9")
    with pytest.raises(BackendUnavailableError, match="LMSEARCH_NATIVE_ISA='sse9'; expected one of avx512, avx2, portable"):
        native_library.instruction_set()


def test_other_devices_are_refused():
    assert "cpu tensors, not cuda" in native.unavailable_reason(torch.device("cuda"))


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    """A machine without an installed library and without a compiler."""
    monkeypatch.setattr(native_library, "installed_library", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LMSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("LMSEARCH_REQUIRE_NATIVE", raising=False)
    native_library.load_library.cache_clear()
    ops._auto.cache_clear()
    yield
    native_library.load_library.cache_clear()
    ops._auto.cache_clear()


def test_without_a_compiler_auto_takes_the_reference_with_one_warning(no_compiler, caplog):
    tensors, others = scan_case(1, 1, 5, 3, 2)
    for _ in range(2):
        y = kernels.directional_scan(**tensors, **others)
    assert torch.equal(y, kernels.directional_scan(**tensors, **others, backend="reference"))
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1 and "no C++ compiler" in warnings[0] and "apt-get install g++" in warnings[0]


def test_without_a_compiler_a_forced_or_required_native_backend_is_an_error(no_compiler, monkeypatch):
    tensors, others = scan_case(1, 1, 5, 3, 2)
    with pytest.raises(BackendUnavailableError, match="backend='native' cannot run.*no C.. compiler"):
        kernels.directional_scan(**tensors, **others, backend="native")
    monkeypatch.setenv("LMSEARCH_REQUIRE_NATIVE", "1")
    with pytest.raises(BackendUnavailableError, match="LMSEARCH_REQUIRE_NATIVE=1, but no C.. compiler"):
        kernels.directional_scan(**tensors, **others)


def test_a_compiler_that_fails_is_reported_with_its_first_line(monkeypatch, tmp_path):
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\n[ \"$1\" = --version ] || { echo 'error: no such flag' >&2; exit 1; }\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("LMSEARCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BackendUnavailableError, match="error: no such flag"):
        build.build_library()
    assert list((tmp_path / "cache").iterdir()) == []


@needs_native
def test_the_library_is_built_once_into_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LMSEARCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "none.cpp").touch()  # every install compiles the kernels themselves, as build.json says
    spec = {"compile_args": ["-std=c++17"], "link_args": ["-pthread"], "sources": [str(tmp_path / "none.cpp")]}
    real = build._compile
    monkeypatch.setattr(build, "_compile", lambda compiler, _spec, target: real(compiler, spec, target))
    first = build.build_library()
    stamp = first.stat().st_mtime_ns
    assert build.build_library() == first and first.stat().st_mtime_ns == stamp
    assert list((tmp_path / "cache").iterdir()) == [first]


def test_a_library_that_cannot_be_loaded_is_named_with_what_to_do(no_compiler, monkeypatch, tmp_path):
    (tmp_path / "native.so").touch()  # as a power cut may leave it
    monkeypatch.setattr(native_library, "installed_library", lambda: tmp_path / "native.so")
    with pytest.raises(BackendUnavailableError, match=r"cannot load .*native.so .*; delete it and run again"):
        native_library.load_library()


def test_a_missing_named_compiler_is_an_error(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(BackendUnavailableError, match="CXX=no-such-compiler"):
        build.find_compiler()
