"""The compiled modules are those on the disk, they are really compiled, and their absence is said clearly."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from pathlib import Path

import pytest

from flash_kv import _compiled

PACKAGE = Path(_compiled.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*_cy.py"))


def _module_name(source: Path) -> str:
    return ".".join(source.relative_to(PACKAGE.parent).with_suffix("").parts)


def _binaries() -> list[Path]:
    return sorted(PACKAGE.rglob("*" + EXTENSION_SUFFIXES[0]))


def _make_source(folder: Path, name: str = "table_cy.py") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()
    return folder / name


def test_the_compiled_modules_on_disk_are_the_extension_modules_loaded() -> None:
    on_disk = {_module_name(source) for source in SOURCES}
    for name in on_disk:
        importlib.import_module(name)
    specs = {name: getattr(module, "__spec__", None) for name, module in list(sys.modules.items())}
    loaded = {
        name
        for name, spec in specs.items()
        if name.startswith("flash_kv.") and isinstance(getattr(spec, "loader", None), ExtensionFileLoader)
    }
    assert loaded == on_disk != set()


def test_every_binary_has_its_source() -> None:
    stems = {str(source.with_suffix("")) for source in SOURCES}
    orphans = [path.name for path in _binaries() if str(path).split(".")[0] not in stems]
    assert not orphans, f"left from a module that is gone: {orphans}; run `make clean`"


def test_no_source_is_newer_than_its_binary() -> None:
    compiled_at = {
        str(path).removesuffix(EXTENSION_SUFFIXES[0]): path.stat().st_mtime for path in _binaries()
    }
    stale = [
        source.name
        for source in SOURCES
        if compiled_at.get(str(source.with_suffix("")), 0.0) < source.stat().st_mtime
    ]
    assert not stale, f"changed since they were compiled: {stale}; run `make build`"


def test_every_compiled_module_has_a_docstring() -> None:
    for source in SOURCES:
        assert importlib.import_module(_module_name(source)).__doc__, source.name


def test_an_installation_that_is_complete_passes_the_guard() -> None:
    _compiled.require_compiled()


def test_a_source_without_a_binary_is_named(tmp_path: Path) -> None:
    _make_source(tmp_path / "flash_kv" / "log")
    assert _compiled.missing_modules(str(tmp_path / "flash_kv")) == ["flash_kv.log.table_cy"]


def test_a_binary_for_another_python_does_not_count(tmp_path: Path) -> None:
    source = _make_source(tmp_path / "flash_kv" / "log")
    source.with_name("table_cy.cpython-39-other.so").touch()
    assert _compiled.missing_modules(str(tmp_path / "flash_kv")) == ["flash_kv.log.table_cy"]


def test_a_binary_for_this_python_counts(tmp_path: Path) -> None:
    source = _make_source(tmp_path / "flash_kv" / "log")
    source.with_name("table_cy" + EXTENSION_SUFFIXES[0]).touch()
    assert _compiled.missing_modules(str(tmp_path / "flash_kv")) == []


def test_importing_a_package_that_is_not_compiled_says_how_to_build_it(tmp_path: Path) -> None:
    for source in PACKAGE.rglob("*.py"):
        copy = tmp_path / source.relative_to(PACKAGE.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
    # -S: an editable installation would lead to the compiled package.
    command = [
        sys.executable,
        "-S",
        "-c",
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import flash_kv",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    last_line = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 1
    assert last_line.startswith("ImportError: FlashKV is not compiled for this Python: flash_kv.")
    assert "make build" in last_line


@pytest.mark.parametrize(
    ("byteorder", "maxsize", "said"),
    [("big", 2**63 - 1, "little-endian machine"), ("little", 2**31 - 1, "64-bit Python")],
)
def test_a_host_the_format_does_not_fit_is_refused(byteorder: str, maxsize: int, said: str) -> None:
    with pytest.raises(ImportError, match=said):
        _compiled._require_host(byteorder, maxsize)
