"""The programs on the documentation pages and in examples/ run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flash_kv

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
_PROGRAM = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")


def _run(program: Path, folder: Path) -> str:
    """What it prints, run in `folder` with warnings as errors."""
    environment = {**os.environ, "PYTHONPATH": str(Path(flash_kv.__file__).parents[1])}
    command = [sys.executable, "-W", "error", str(program)]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# Its programs need a server: tests/client/test_client_page.py runs them.
_ELSEWHERE = "client.md"


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name != _ELSEWHERE and _PROGRAM.search(page.read_text("utf-8"))],
    ids=lambda p: p.name,
)
def test_the_programs_of_a_page_run_one_after_another(page: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("\n".join(_PROGRAM.findall(page.read_text("utf-8"))), "utf-8")
    _run(program, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    broken = []
    for target, anchor in _LINK.findall(page.read_text("utf-8")):
        found = (page.parent / target) if target else page
        if not found.exists() or (anchor and anchor not in _anchors(found)):
            broken.append(f"{target}#{anchor}")
    assert broken == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_prints_what_its_docstring_says(example: Path, tmp_path: Path) -> None:
    said = re.search(r"It prints:\n\n((?: {4}.*\n)+)", example.read_text("utf-8"))
    assert said is not None
    expected = [line.strip() for line in said[1].splitlines()]
    printed = [line.strip() for line in _run(example, tmp_path).splitlines()]
    assert printed == expected


def test_there_are_examples() -> None:
    assert EXAMPLES
