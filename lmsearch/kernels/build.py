"""Find or build the native CPU library: the one an install compiled, else one compiled once into the user's cache.

csrc/build.json describes the build; setup.py reads the same file. Variables: LMSEARCH_CACHE (folder, default
~/.cache/lmsearch), CXX (compiler).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from lmsearch.errors import BackendUnavailableError

log = logging.getLogger(__name__)

SOURCES = Path(__file__).resolve().parent / "csrc"
COMPILERS = ("c++", "g++", "clang++")
ENABLE = "install a C++ compiler: apt-get install g++, or conda install gxx"


def installed_library() -> Path | None:
    """Return the library that `pip install` compiled beside this file, or None."""
    stem = json.loads((SOURCES / "build.json").read_text())["module"].rpartition(".")[2]
    return next((p for s in EXTENSION_SUFFIXES if (p := SOURCES.parent / (stem + s)).is_file()), None)


def find_compiler() -> list[str]:
    """Return the C++ compiler command: $CXX or the first of c++, g++, clang++; raise BackendUnavailableError without one."""
    if named := os.environ.get("CXX"):
        command = shlex.split(named)
        if shutil.which(command[0]) is None:
            raise BackendUnavailableError(f"CXX={named} is not a command here; unset it, or {ENABLE}")
        return command
    for name in COMPILERS:
        if found := shutil.which(name):
            return [found]
    raise BackendUnavailableError(f"no C++ compiler found ({', '.join(COMPILERS)}); {ENABLE}")


def cache_dir() -> Path:
    """Return the folder for compiled libraries: $LMSEARCH_CACHE or ~/.cache/lmsearch."""
    return Path(os.environ.get("LMSEARCH_CACHE") or Path.home() / ".cache" / "lmsearch")


def build_library() -> Path:
    """Compile the library into the cache unless it is there; return its path. Raises BackendUnavailableError.

    The name holds a hash of sources, flags and compiler; the finished file is moved into place, so that processes
    that build at the same time do not disturb each other.
    """
    spec = json.loads((SOURCES / "build.json").read_text())
    compiler = find_compiler()
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=False).stdout
    key = hashlib.sha256(repr((compiler, version, os.uname().machine)).encode())
    for name in ("build.json", *spec["sources"], *spec["depends"]):
        key.update((SOURCES / name).read_bytes())
    target = cache_dir() / f"native-{key.hexdigest()[:16]}.so"
    if not target.is_file():
        log.info("compiling the native scan kernels into %s", target)
        _compile(compiler, spec, target)
    return target


def _compile(compiler: list[str], spec: dict, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / target.name
            sources = [str(SOURCES / name) for name in spec["sources"]]
            command = [
                *compiler,
                *spec["compile_args"],
                "-fPIC",
                "-shared",
                *sources,
                "-o",
                str(made),
                *spec["link_args"],
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[0]
                raise BackendUnavailableError(f"compiling the native kernels failed ({shlex.join(compiler)}): {reason}; {ENABLE}")
            with made.open("rb") as library:
                os.fsync(library.fileno())  # else it may be empty after a power cut
            made.replace(target)
    except OSError as error:
        message = f"cannot write the native kernels to {target.parent} ({error}); set LMSEARCH_CACHE"
        raise BackendUnavailableError(message) from error
