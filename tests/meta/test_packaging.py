"""The sdist builds a wheel by itself, and the wheel installs and runs where there is no source tree.

Everything is built from a copy of the sources without any build product, with this environment's own setuptools
and Cython, so no network is needed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "flash_kv"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# What builds an sdist reads; everything else in the checkout has to be unnecessary.
SOURCES = (
    "src",
    "console",
    "tests",
    "docs",
    "examples",
    "fuzz",
    "pyproject.toml",
    "setup.py",
    "MANIFEST.in",
    "Makefile",
)
TEXTS = ("README.md", "LICENSE", "CHANGELOG.md")
BUILD_SDIST = "import setuptools.build_meta as backend; print(backend.build_sdist('dist'))"
WORKOUT = """
import flash_kv
with flash_kv.open("store") as db:
    db[b"key"] = b"value"
with flash_kv.open("store") as db:
    assert db[b"key"] == b"value", dict(db)
print(flash_kv.__file__)
"""

pytestmark = pytest.mark.packaging


def _run(*command: str | os.PathLike[str], cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    products = shutil.ignore_patterns(
        "__pycache__", "*.so", "*_cy.c", "*_cy.html", "*.egg-info", "node_modules"
    )
    for name in SOURCES + TEXTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=products)
        else:
            shutil.copy(ROOT / name, tree / name)
    name = _run(sys.executable, "-c", BUILD_SDIST, cwd=tree).splitlines()[-1]
    return tree / "dist" / name


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    offline = ("--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", folder)
    _run(sys.executable, "-m", "pip", "wheel", *offline, sdist, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment that holds the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / "env", with_pip=False, symlinks=True)
    python = folder / "env" / "bin" / "python"
    options = ("--no-deps", "--no-index", "--disable-pip-version-check")
    _run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=folder)
    return python.parent


def _package_files(suffixes: set[str]) -> set[str]:
    return {
        path.relative_to(ROOT / "src").as_posix()
        for path in PACKAGE.rglob("*")
        if path.suffix in suffixes or path.name == "py.typed"
    }


def test_the_sdist_holds_all_sources_and_no_generated_file(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {f"src/{name}" for name in _package_files({".py", ".pyi", ".pxd", ".pyx", ".h"})}
    assert needed | {"setup.py", "pyproject.toml", *TEXTS} <= names
    assert [name for name in names if re.search(r"(_cy\.c|\.so|\.pyc)$", name)] == []


def test_the_wheel_holds_binaries_stubs_and_declarations(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    binaries = {
        path.relative_to(ROOT / "src").as_posix().removesuffix(".py") + EXTENSION_SUFFIXES[0]
        for path in PACKAGE.rglob("*_cy.py")
    }
    assert binaries | _package_files({".py", ".pyi", ".pxd", ".h"}) <= names
    assert [name for name in names if not name.startswith(("flash_kv/", "flash_kv-"))] == []
    assert [name for name in names if name.endswith((".c", "_cy.html"))] == []


def test_the_wheel_holds_the_console(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    bundle = {f"flash_kv/server/console/{one.name}" for one in (PACKAGE / "server" / "console").iterdir()}
    assert "flash_kv/server/console/index.html" in bundle
    assert bundle <= names


def test_the_wheel_holds_the_license(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/licenses/LICENSE"))
        assert archive.read(name) == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_needs_nothing_at_run_time(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    requirements = re.findall(r"^Requires-Dist: (.+)$", metadata, re.MULTILINE)
    assert [requirement for requirement in requirements if "extra ==" not in requirement] == []
    assert f"Version: {PROJECT['version']}\n" in metadata


def test_the_installed_wheel_stores_and_reads_outside_the_tree(installed: Path, tmp_path: Path) -> None:
    location = Path(_run(installed / "python", "-W", "error", "-c", WORKOUT, cwd=tmp_path).strip())
    assert location.is_relative_to(installed.parent)


def test_the_command_without_its_extra_says_in_one_line_what_to_install(
    installed: Path, tmp_path: Path
) -> None:
    command = [installed / "flash-kv", "stats", "store"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode not in (0, 1)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "flash-kv[cli]" in result.stderr
