"""Imports point one way, from the errors up to the command line: LAYERS has the order.

Each part of the package may import itself and what stands before it. The package's own namespace
(`import flash_kv`) stands between types and the last group, which uses it as any program does. Imports inside
functions and under TYPE_CHECKING count as well, and so do Cython's cimports.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SURFACE = "the public namespace"
LAYERS: tuple[tuple[str, ...], ...] = (
    ("_compiled", "intrinsics"),
    ("errors",),
    ("options",),
    ("io",),
    ("log",),
    ("index",),
    ("engine",),
    ("codecs",),
    ("types", "torture", "client"),
    (SURFACE,),
    ("bench",),
    ("server",),
    ("cli", "integrations"),
)
PLACES = {part: place for place, parts in enumerate(LAYERS) for part in parts}
ROOT = Path(__file__).parents[2]

_CIMPORT_FROM = re.compile(r"^[ \t]*from[ \t]+([\w.]+)[ \t]+cimport[ \t]+(.+)$", re.MULTILINE)
_CIMPORT = re.compile(r"^[ \t]*cimport[ \t]+(.+)$", re.MULTILINE)


def violations(source_root: Path) -> list[str]:
    """One line for each import under `source_root`/flash_kv that points the wrong way."""
    found = []
    package = source_root / "flash_kv"
    for path in sorted(package.rglob("*")):
        if path.suffix not in {".py", ".pyi", ".pxd", ".pyx"}:
            continue
        module = _module_name(path, source_root)
        importer = _part(module, package)
        for target in _imports(path, module):
            imported = _part(target, package)
            if importer not in PLACES or imported not in PLACES:
                found.append(f"{path.name}: {importer} or {imported} has no place in LAYERS yet")
            elif imported != importer and PLACES[imported] >= PLACES[importer]:
                found.append(f"{path.relative_to(source_root)}: {importer} imports {imported} ({target})")
    return found


def _module_name(path: Path, source_root: Path) -> str:
    parts = path.relative_to(source_root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _part(module: str, package: Path) -> str:
    """`flash_kv.log.names` belongs to `log`; a name that is no module is one of the public namespace."""
    names = module.split(".")
    parts = {path.name.partition(".")[0] for path in package.iterdir()}
    return names[1] if len(names) > 1 and names[1] in parts else SURFACE


def _imports(path: Path, module: str) -> Iterator[str]:
    text = path.read_text("utf-8")
    names = _cimports(text) if path.suffix in {".pxd", ".pyx"} else _python_imports(text, path, module)
    for name in names:
        name = name.removeprefix("cython.cimports.")
        if name == "flash_kv" or name.startswith("flash_kv."):
            yield name


def _python_imports(text: str, path: Path, module: str) -> Iterator[str]:
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(text, str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _is_import_module(node.func):
            yield from (str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant))


def _is_import_module(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in {"import_module", "__import__"}


def _cimports(text: str) -> Iterator[str]:
    # A parenthesised list may run over several lines; only its names matter here.
    joined = re.sub(r"\(([^)]*)\)", lambda match: " ".join(match[1].split()), re.sub(r"#.*", "", text))
    for match in _CIMPORT_FROM.finditer(joined):
        yield from (f"{match[1]}.{name}" for name in _names(match[2]))
    for match in _CIMPORT.finditer(joined):
        yield from _names(match[1])


def _names(listed: str) -> list[str]:
    return [words[0] for words in (item.split() for item in listed.split(",")) if words]


def test_imports_point_one_way() -> None:
    assert violations(ROOT / "src") == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("io/files.py", "import flash_kv.log.names"),
        ("io/files.py", "from flash_kv.log import names"),
        ("io/files.py", "from flash_kv import log"),
        ("io/files.py", "from ..log import names"),
        ("io/files.py", "def late():\n    from flash_kv.engine.db import DB"),
        ("io/files.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import flash_kv.engine"),
        ("io/files.py", "import importlib\nimportlib.import_module('flash_kv.engine')"),
        ("io/files.pyi", "from flash_kv.log import names"),
        ("io/map_cy.py", "from cython.cimports.flash_kv.log.names import segment"),
        ("io/map_cy.py", "import cython.cimports.flash_kv.log.names"),
        ("io/map_cy.pxd", "from flash_kv.log.names cimport segment"),
        ("io/map_cy.pxd", "from flash_kv cimport log"),
        ("io/map_cy.pxd", "cimport flash_kv.log.names as names"),
        ("io/map_cy.pxd", "from flash_kv.log.names cimport (\n    segment,  # the newest\n    hint,\n)"),
        ("engine/db.py", "import flash_kv"),
        ("engine/db.py", "from flash_kv import DB"),
        ("server/process.py", "import flash_kv.cli.main"),
        ("client/store.py", "import flash_kv.server.settings"),
        ("errors.py", "import flash_kv.options"),
        ("extras/new.py", "import flash_kv.io"),
    ],
)
def test_an_import_against_the_arrow_is_found(tmp_path: Path, path: str, text: str) -> None:
    _make_package(tmp_path)
    (tmp_path / "flash_kv" / path).parent.mkdir(exist_ok=True)
    (tmp_path / "flash_kv" / path).write_text(text)
    assert len(violations(tmp_path)) >= 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "io/files.py",
            "import os, flash_kv.errors\nfrom . import mapping\nfrom flash_kv.options import Options",
        ),
        ("log/names.py", "from ..io import files\nimport logging"),
        ("log/map_cy.py", "from cython.cimports.flash_kv.intrinsics import prefetch"),
        ("engine/db.py", "from flash_kv.index import tree\nfrom flash_kv.errors import FlashKVError"),
        ("cli/main.py", "import flash_kv\nfrom flash_kv import DB, errors\nimport flash_kv.server.process"),
        ("server/service.py", "from flash_kv import DB"),
        ("__init__.py", "from flash_kv import _compiled\nfrom flash_kv.engine.db import DB"),
        ("engine/core_cy.pxd", "from libc.stdint cimport uint64_t\nfrom flash_kv.io.map_cy cimport Map"),
    ],
)
def test_an_import_along_the_arrow_is_allowed(tmp_path: Path, path: str, text: str) -> None:
    _make_package(tmp_path)
    (tmp_path / "flash_kv" / path).write_text(text)
    assert violations(tmp_path) == []


def _make_package(source_root: Path) -> None:
    for part in (
        "io",
        "log",
        "index",
        "engine",
        "types",
        "torture",
        "server",
        "client",
        "cli",
        "integrations",
    ):
        (source_root / "flash_kv" / part).mkdir(parents=True)
    for module in ("__init__", "_compiled", "errors", "options"):
        (source_root / "flash_kv" / f"{module}.py").touch()
    (source_root / "flash_kv" / "intrinsics.pxd").touch()
