"""What holds for every file of the repository: nothing of one machine in it, and no file too long to read."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES_MAX = 500
SOURCE_SUFFIXES = {".py", ".pyi", ".pyx", ".pxd", ".h"}
UNTRACKED_FOLDERS = {"build", "dist", "__pycache__", "node_modules"}
BINARY_SUFFIXES = {".so", ".pyc", ".png", ".gz", ".whl", ".woff2"}

# Assembled here, so that this file does not contain what it looks for.
_HOMES = "|".join(("wor" + "k", "far" + "m", "roo" + "t", "hom" + r"e/\w+", "User" + r"s/\w+"))
_MACHINE_PATH = re.compile(r"(?<![\w.~$})\]>-])/(?:" + _HOMES + r")(?:/|\b)")
_REGISTRY_HOST = re.compile("|".join((r"py" + r"pi\.org", r"python" + r"hosted\.org", r"test\.py" + r"pi")))
_NATIVE_FLAG = "-march=" + "native"


def _files() -> list[Path]:
    """What git tracks or would track; in an unpacked sdist, which has no git, everything but build products."""
    if not (ROOT / ".git").exists():
        return [path for path in sorted(ROOT.rglob("*")) if path.is_file() and _is_kept(path)]
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    paths = [ROOT / name for name in listed.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and path.suffix not in BINARY_SUFFIXES]


def _is_kept(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    is_product = any(part.startswith(".") or part in UNTRACKED_FOLDERS for part in parts)
    is_generated = path.name.endswith("_cy.c") or ".egg-info" in str(path)
    return not is_product and not is_generated and path.suffix not in BINARY_SUFFIXES


def _found(pattern: re.Pattern[str]) -> list[str]:
    hits = []
    for path in _files():
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            if pattern.search(line):
                hits.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    return hits


def test_no_file_names_a_path_of_one_machine() -> None:
    assert _found(_MACHINE_PATH) == []


def test_no_file_names_where_this_checkout_lies() -> None:
    assert _found(re.compile(re.escape(str(ROOT)) + r"\b")) == []


def test_no_file_names_a_download_address() -> None:
    assert _found(_REGISTRY_HOST) == []


def test_nothing_is_compiled_for_the_building_machine_only() -> None:
    assert _found(re.compile(_NATIVE_FLAG)) == []


def test_no_source_file_is_too_long_to_read() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {lines}"
        for path in _files()
        if path.is_relative_to(ROOT / "src")
        and path.suffix in SOURCE_SUFFIXES
        and (lines := len(path.read_text("utf-8").splitlines())) > LINES_MAX
    ]
    assert long == []


def test_every_module_opens_with_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in _files()
        if path.is_relative_to(ROOT / "src") and path.suffix == ".py" and path.name != "__init__.py"
        if not path.read_text("utf-8").startswith(('"""', 'r"""'))
    ]
    assert silent == []


def test_the_ci_script_may_be_executed() -> None:
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111 == 0o111


@pytest.mark.parametrize(
    "path", ["/wor" + "k/main/x", "see /hom" + "e/ann/db", '"/Use' + 'rs/ann"', "(/roo" + "t/db)"]
)
def test_a_path_of_one_machine_is_recognised(path: str) -> None:
    assert _MACHINE_PATH.search(path)


@pytest.mark.parametrize(
    "path", ["/proc/self/fd", "net" + "work/main", "docs/wor" + "k/x", "/usr/bin/env sh"]
)
def test_a_path_every_machine_has_is_none_of_one_machine(path: str) -> None:
    assert not _MACHINE_PATH.search(path)
