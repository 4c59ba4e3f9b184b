"""Build script: the packages, the two data folders, and the optional native scan kernels."""

from __future__ import annotations

import json
import os
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools older than 70.1
    try:
        from wheel.bdist_wheel import bdist_wheel
    except ImportError:  # no wheel is built here
        bdist_wheel = None

CSRC = "lmsearch/kernels/csrc"


def native_extension():
    """Return the native kernels of csrc/build.json: plain C++, loaded with ctypes, skipped where it does not compile."""
    spec = json.loads(Path(CSRC, "build.json").read_text(encoding="utf-8"))
    return Extension(
        spec["module"],
        sources=[f"{CSRC}/{name}" for name in spec["sources"]],
        depends=[f"{CSRC}/{name}" for name in spec["depends"]],
        extra_compile_args=spec["compile_args"],
        extra_link_args=spec["link_args"],
        language="c++",
        optional=os.environ.get("LMSEARCH_REQUIRE_NATIVE") != "1",
    )


class BuildNative(build_ext):
    """Build a plain shared library: no Python tag in its name, no PyInit function."""

    def get_ext_filename(self, fullname):
        return os.path.join(*fullname.split(".")) + ".so"

    def get_export_symbols(self, ext):
        return ext.export_symbols


commands = {"build_ext": BuildNative}
if bdist_wheel is not None:

    class PlatformWheel(bdist_wheel):
        """One wheel for every Python of a platform: the library does not use Python's interface."""

        def get_tag(self):
            return "py3", "none", super().get_tag()[2]

    commands["bdist_wheel"] = PlatformWheel

setup(
    packages=[*find_packages(include=["lmsearch", "lmsearch.*"]), "lmsearch.conf", "lmsearch.search_spaces"],
    package_dir={"lmsearch.conf": "conf", "lmsearch.search_spaces": "search_spaces"},
    ext_modules=[native_extension()],
    cmdclass=commands,
)
