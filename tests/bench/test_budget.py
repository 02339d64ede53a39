"""The time of a run: shares of what is left, and no round that would not end in time."""

from __future__ import annotations

import math

import pytest

from flash_kv.bench import budget
from flash_kv.bench.budget import Budget, Part


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(budget, "monotonic", found)
    return found


def test_without_a_limit_every_round_is_made(clock: Clock) -> None:
    part = Budget({"main": 1.0}).part("main")
    for _ in part.rounds(5):
        clock.now += 1e6
    assert part.seconds_left == math.inf


def test_no_round_begins_that_would_end_too_late(clock: Clock) -> None:
    made = []
    for number in Part(10.0).rounds(9):
        made.append(number)
        clock.now += 3.0
    assert made == [0, 1, 2]


def test_the_first_round_is_made_unless_there_is_no_time_at_all(clock: Clock) -> None:
    made = []
    for number in Part(1.0).rounds(9):
        made.append(number)
        clock.now += 50.0
    assert made == [0]
    assert list(Part(0.0).rounds(3)) == []


def test_what_a_part_does_not_need_goes_to_those_after_it(clock: Clock) -> None:
    shares = Budget({"main": 3.0, "one": 1.0, "other": 2.0}, 60.0)
    assert shares.part("main").seconds_left == 30.0
    clock.now += 6.0
    assert shares.part("one").seconds_left == 18.0
    assert shares.part("other").seconds_left == 54.0
    clock.now += 100.0
    assert Budget({"main": 1.0}, -1.0).part("main").seconds_left == 0.0


def test_a_part_that_is_passed_over_keeps_no_share(clock: Clock) -> None:
    assert Budget({"one": 9.0, "two": 1.0}, 10.0).part("two").seconds_left == 10.0
