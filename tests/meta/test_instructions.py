"""No operation has come to take more instructions than is kept in benchmarks/instructions.json (callgrind)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from benchmarks import instructions
from benchmarks.instructions import CannotCountError

# What the background thread does in a phase is counted with it and depends on the clock: on a busy machine up to 7 % of
# what put_many takes. It only ever adds, so the least of some counts is compared.
AGAIN_MAX = 2


def test_no_operation_takes_more_instructions_than_before() -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed: instructions are not counted")
    entry = instructions.kept().get(instructions.build_name())
    if entry is None:
        pytest.skip(f"no figures are kept for {instructions.build_name()}")
    found = instructions.count()
    assert {kind: set(counts) for kind, counts in found.items()} == {
        kind: set(counts) for kind, counts in entry["figures"].items()
    }
    for _ in range(AGAIN_MAX):
        if not instructions.exceeded(found, entry["figures"]):
            break
        found = instructions.least(found, instructions.count())
    assert instructions.exceeded(found, entry["figures"]) == [], (
        "less work, or `python -m benchmarks.instructions --accept WHY`"
    )


def test_the_least_of_two_counts_is_taken_for_each_phase() -> None:
    first, second = {"hash": {"get": 1.0, "put": 5.0}}, {"hash": {"get": 2.0, "put": 4.0}}
    assert instructions.least(first, second) == {"hash": {"get": 1.0, "put": 4.0}}


def test_what_takes_more_is_named_with_both_figures() -> None:
    before = {"hash": {"get": 1_000.0, "put": 1_000.0}}
    (line,) = instructions.exceeded({"hash": {"get": 1_031.0, "put": 1_029.0, "new": 9.0}}, before)
    assert line == "get with hash: 1,031 instructions, +3.1% of 1,000"


def test_figures_are_kept_with_the_reasons_of_their_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instructions, "KEPT", tmp_path / "kept.json")
    assert instructions.kept() == {}
    instructions.accept({"hash": {"get": 1.0}}, "the first")
    instructions.accept({"hash": {"get": 2.0}}, "a check more")
    entry = instructions.kept()[instructions.build_name()]
    assert entry == {"figures": {"hash": {"get": 2.0}}, "reasons": ["the first", "a check more"]}


def test_a_dump_without_totals_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out.2-01").write_text("events: Ir\n", encoding="utf-8")
    with pytest.raises(CannotCountError, match=r"out\.2-01 has no totals"):
        instructions._total(tmp_path / "out.2-01")
