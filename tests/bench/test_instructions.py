"""The guard of instructions: what it calls a difference, and that figures are kept with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

# It is of the repository and in no distribution.
instructions = pytest.importorskip("benchmarks.instructions")


def test_more_and_far_fewer_instructions_are_told_and_small_changes_are_not() -> None:
    kept = {"get, hash": 1000.0, "put, hash": 1000.0, "scan, hash": 1000.0}
    found = {"get, hash": 1019.0, "put, hash": 1021.0, "scan, hash": 979.0}
    assert instructions.differences(kept, found) == [
        "put, hash: 1,021.0 instructions, kept are 1,000.0 (+2.1%)",
        "scan, hash: 979.0 instructions, kept are 1,000.0 (-2.1%)",
    ]
    assert instructions.differences(kept, kept) == []


def test_an_operation_that_is_on_one_side_only_is_a_difference() -> None:
    assert instructions.differences({"get, hash": 1.0}, {"put, hash": 1.0}) == [
        "get, hash: kept only",
        "put, hash: counted only",
    ]


def test_every_kept_figure_has_a_reason_and_all_operations() -> None:
    names = {
        f"{operation}, {index}" for operation in instructions.OPERATIONS for index in instructions.INDEXES
    }
    for kept in instructions.load().values():
        assert kept["reason"]
        assert set(kept["instructions"]) == names


def test_a_figure_is_accepted_with_a_reason_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "KEPT", tmp_path / "kept.json")
    monkeypatch.setattr(instructions, "has_callgrind", lambda: True)
    monkeypatch.setattr(instructions, "counted", lambda: {"get, hash": 7.0})
    with pytest.raises(SystemExit):
        instructions.main(["--accept", " "])
    assert instructions.main(["--check"]) == 0
    assert instructions.main(["--accept", "it began"]) == 0
    assert instructions.main(["--check"]) == 0
    monkeypatch.setattr(instructions, "counted", lambda: {"get, hash": 8.0})
    assert instructions.main(["--check"]) == 1


def test_without_valgrind_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(instructions, "has_callgrind", lambda: False)
    assert instructions.main(["--check"]) == 0
    assert "there is no valgrind" in capsys.readouterr().out
