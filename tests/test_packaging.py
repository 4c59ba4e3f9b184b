"""What ships: the data folders, the published genotypes and the kernel sources, as wheel, sdist and installed command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from test_layering import imports_of

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".ci", ".*_cache", ".hypothesis", "runs", "build", "dist", "site", "__pycache__", "*.egg-info", "*.so"
)
NO_COMPILER = {"CC": "/nonexistent/cc", "CXX": "/nonexistent/c++", "LMSEARCH_REQUIRE_NATIVE": "0"}


def build(source: Path, command: str, out: Path, **variables: str) -> Path:
    """Run one command of setup.py and return the file that it wrote."""
    words = [sys.executable, "setup.py", "-q", command, "--dist-dir", str(out)]
    done = subprocess.run(words, cwd=source, env=os.environ | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(out.iterdir())


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the checkout, so that building leaves nothing in it."""
    copy = tmp_path_factory.mktemp("source") / "lmsearch"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    return copy


@pytest.fixture(scope="module")
def wheel_without_compiler(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel built where no compiler is found; building it must not fail."""
    return build(source, "bdist_wheel", tmp_path_factory.mktemp("wheel"), **NO_COMPILER)


def data_files() -> set[str]:
    """Return what the wheel must hold beside Python files, by its place in the wheel."""
    conf = {f"lmsearch/conf/{path.relative_to(ROOT / 'conf').as_posix()}" for path in (ROOT / "conf").rglob("*.yaml")}
    spaces = {f"lmsearch/search_spaces/{path.name}" for path in (ROOT / "search_spaces").glob("*.yaml")}
    package = [*(ROOT / "lmsearch/published").rglob("*.json"), *(ROOT / "lmsearch/scanbench").rglob("*.json")]
    package += (ROOT / "lmsearch/report/page").glob("page.*")
    package += (ROOT / "lmsearch/kernels/csrc").glob("*.[chij]*")
    return conf | spaces | {path.relative_to(ROOT).as_posix() for path in package}


def test_the_wheel_holds_every_module_and_every_data_file(wheel_without_compiler: Path) -> None:
    names = set(zipfile.ZipFile(wheel_without_compiler).namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "lmsearch").rglob("*.py")}
    assert data_files() and data_files() | modules <= names


def test_the_wheel_puts_nothing_beside_the_package(wheel_without_compiler: Path) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel_without_compiler).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"lmsearch"}


def test_the_wheel_serves_every_python_of_a_platform(wheel_without_compiler: Path) -> None:
    assert wheel_without_compiler.name.startswith("lmsearch-") and "-py3-none-" in wheel_without_compiler.name
    assert not wheel_without_compiler.name.endswith("-any.whl")


def test_the_source_archive_can_build_and_test_itself(source: Path, tmp_path: Path) -> None:
    with tarfile.open(build(source, "sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    checkout = {path.relative_to(ROOT).as_posix() for path in (ROOT / "conf").rglob("*.yaml")}
    checkout |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "lmsearch").rglob("*.py")}
    checkout |= {f"lmsearch/kernels/csrc/{path.name}" for path in (ROOT / "lmsearch/kernels/csrc").glob("*.[chij]*")}
    assert checkout | {"setup.py", "setup.cfg", "LICENSE", "constraints.txt", "Makefile", "tests/conftest.py"} <= names
    assert {"CITATION.cff", "mkdocs.yml", "docs/quickstart.md", "docs/generate.py", "docs/pictures/eight.svg"} <= names
    assert {"experiments/e3_scanbench/results.jsonl.gz", ".ruff.toml"} <= names  # pictures are drawn of it; make lint reads it
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "findings").glob("*.sh")} <= names
    assert beside_the_package() and beside_the_package() <= names


def beside_the_package() -> set[str]:
    """Return the files of the checkout that tests and docs import, and that those import in turn."""
    found: set[str] = set()
    waiting = [path for room in ("tests", "docs") for path in (ROOT / room).rglob("*.py")]
    while waiting:
        for name in imports_of(waiting.pop()):
            path = ROOT.joinpath(*name.split(".")).with_suffix(".py")
            if name.startswith("experiments.") and path.is_file() and path.relative_to(ROOT).as_posix() not in found:
                found.add(path.relative_to(ROOT).as_posix())
                waiting.append(path)
    return found


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "lmsearch").rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_torch_comes_first_among_the_pinned_versions() -> None:
    assert (ROOT / "constraints.txt").read_text().splitlines()[0] == "torch==2.13.0"


@pytest.mark.slow
def test_the_installed_wheel_runs_from_an_empty_folder(source: Path, tmp_path: Path) -> None:
    wheel = build(source, "bdist_wheel", tmp_path / "wheel")
    home = tmp_path / "environment"
    venv.create(home, with_pip=True)
    packages = next((home / "lib").glob("python*")) / "site-packages"
    borrowed = [path for path in sys.path if path.endswith("-packages")]
    (packages / "borrowed.pth").write_text("\n".join(borrowed))  # the dependencies of this environment, not lmsearch itself
    subprocess.run([home / "bin/python", "-m", "pip", "install", "-q", "--no-deps", "--force-reinstall", wheel], check=True)
    (tmp_path / "empty").mkdir()

    def lmsearch(*words: str) -> str:
        command = [home / "bin/lmsearch", *words]
        return subprocess.run(command, cwd=tmp_path / "empty", check=True, capture_output=True, text=True).stdout

    where = subprocess.run(
        [home / "bin/python", "-c", "import lmsearch; print(lmsearch.__file__)"],
        capture_output=True,
        cwd=tmp_path / "empty",
        text=True,
        check=True,
    ).stdout
    assert where.startswith(str(home))
    assert "name: digits" in lmsearch("search", "--cfg")
    lmsearch("search", "data=planted", "epochs=1", "data.steps_per_epoch=2", "run_dir=a, b=c", "device=cpu")
    assert (tmp_path / "empty" / "a, b=c" / "genotype.json").is_file()
