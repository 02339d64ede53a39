"""The stub beside a compiled module says what the compiled module is; mypy's stubtest compares the two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flash_kv import _compiled

pytestmark = pytest.mark.lint

ROOT = Path(__file__).parents[2]
PACKAGE = Path(_compiled.__file__).parent
STUBS = sorted(PACKAGE.rglob("*_cy.pyi"))
# What Cython adds to every module and class of its own accord.
ADDED_BY_CYTHON = ("__test__", "__reduce_cython__", "__setstate_cython__", "__pyx_capi__", "__pyx_vtable__")


def _module_name(stub: Path) -> str:
    return ".".join(stub.relative_to(PACKAGE.parent).with_suffix("").parts)


def test_every_stub_belongs_to_a_compiled_module() -> None:
    assert [stub.name for stub in STUBS if not stub.with_suffix(".py").exists()] == []


def test_stubs_and_compiled_modules_agree(tmp_path: Path) -> None:
    allowlist = tmp_path / "allowlist"
    allowlist.write_text("".join(rf"flash_kv\..*\.{name}" + "\n" for name in ADDED_BY_CYTHON))
    command = [sys.executable, "-m", "mypy.stubtest", "--concise", "--ignore-disjoint-bases"]
    command += ["--mypy-config-file", str(ROOT / "pyproject.toml")]
    command += ["--allowlist", str(allowlist), "--ignore-unused-allowlist"]
    command += [_module_name(stub) for stub in STUBS]
    environment = {**os.environ, "MYPYPATH": str(PACKAGE.parent)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
