"""docs/api.md names everything public, each option with its default, each field of a report, each exception."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from pathlib import Path

import pytest

import flash_kv
from flash_kv import errors

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")
# What stands in code on the page, and the names of the reports, which head their tables.
CODE = "\n".join(re.findall(r"`[^`\n]+`|^\*\*\w+\*\*|^```.*?^```", PAGE, re.MULTILINE | re.DOTALL))
REPORTS = [value for name in flash_kv.__all__ if dataclasses.is_dataclass(value := getattr(flash_kv, name))]


def _is_named(name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", CODE) is not None


def test_every_public_name_is_on_the_page() -> None:
    assert [name for name in flash_kv.__all__ if not _is_named(name)] == []


@pytest.mark.parametrize("kind", [flash_kv.DB, flash_kv.WriteBatch, flash_kv.Snapshot])
def test_every_public_method_is_on_the_page(kind: type) -> None:
    public = {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}
    public -= {"check_open", "store"}  # for the package's own modules
    assert sorted(name for name in public if not _is_named(name)) == []


def test_every_option_is_on_the_page_with_its_default() -> None:
    table = PAGE.split("### Options", 1)[1].split("## DB", 1)[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", table, re.MULTILINE))
    expected = {
        field.name: repr(field.default).replace("'", '"') for field in dataclasses.fields(flash_kv.Options)
    }
    assert {name: rows.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    "report", [r for r in REPORTS if r is not flash_kv.Options], ids=lambda r: r.__name__
)
def test_the_fields_of_every_report_are_on_the_page(report: type) -> None:
    section = PAGE.split(f"**{report.__name__}**: ", 1)[1].split("\n\n**", 1)[0]
    listed = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", section, re.MULTILINE)
    fields = [(field.name, str(field.type)) for field in dataclasses.fields(report)]
    assert [(name, kind.replace("\\|", "|")) for name, kind in listed][: len(fields)] == fields


def test_the_tree_of_exceptions_is_that_of_the_module() -> None:
    drawn = re.search(r"^ {4}FlashKVError\n(?: {4}.*\n|\n)+", errors.__doc__ or "", re.MULTILINE)
    assert drawn is not None
    assert textwrap.dedent(drawn[0]).strip() in PAGE
