"""What guards the instructions of each operation (`make guard`): figures, comparison, acceptance."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks import instructions
from benchmarks.instructions import CannotCountError, Counts, NoValgrindError

FIGURES = {"hash": {"get": 100.0, "put": 200.0}}


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Exit code of the command where FIGURES are kept, each count in turn found and the last again."""
    monkeypatch.setattr(instructions, "KEPT", tmp_path / "kept.json")
    instructions.accept(FIGURES, "the first")

    def run(*counts: dict[str, Counts] | Exception, arguments: tuple[str, ...] = ("--check",)) -> int:
        waiting = list(counts)

        def count() -> dict[str, Counts]:
            found = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr(instructions, "count", count)
        monkeypatch.setattr(sys, "argv", ["instructions", *arguments])
        return instructions.main()

    return run


def test_the_guard_passes_what_takes_no_more_and_fails_what_does(
    guard: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"hash": {"get": 100.0, "put": 210.0}}
    assert guard(FIGURES) == 0
    assert guard(more) == 1
    assert "put with hash: 210 instructions, +5.0% of 200" in capsys.readouterr().out
    assert guard(more, arguments=()) == 0


def test_one_count_that_is_too_high_is_not_believed(guard: Callable[..., int]) -> None:
    assert guard({"hash": {"get": 100.0, "put": 210.0}}, {"hash": {"get": 110.0, "put": 200.0}}) == 0


def test_without_valgrind_the_guard_says_so_and_passes(
    guard: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert guard(NoValgrindError("valgrind is not installed")) == 0
    assert capsys.readouterr().err == "not counted: valgrind is not installed\n"
    assert guard(CannotCountError("it failed")) == 2


def test_without_valgrind_nothing_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoValgrindError):
        instructions.count()


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


def test_a_figure_that_differs_by_less_than_is_tolerated_stays(guard: Callable[..., int]) -> None:
    assert guard({"hash": {"get": 98.0, "put": 190.0}}, arguments=("--accept", "why")) == 0
    assert instructions.kept()[instructions.build_name()]["figures"] == {"hash": {"get": 100.0, "put": 190.0}}


def test_a_dump_without_totals_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out.2-01").write_text("events: Ir\n", encoding="utf-8")
    with pytest.raises(CannotCountError, match=r"out\.2-01 has no totals"):
        instructions._total(tmp_path / "out.2-01")
