"""The judge of the torture tests: each way to break a promise is found and called by its name."""

from __future__ import annotations

import pytest

from flash_kv.options import Durability, parse_durability
from flash_kv.torture.journal import Journal, State

PROCESS = parse_durability("process")
ALWAYS = parse_durability("always")


def journal_of(*commits: dict[bytes, bytes | None], durability: Durability = PROCESS) -> Journal:
    journal = Journal({b"a": b"0", b"z": b"0"}, durability)
    for writes in commits:
        journal.begin(writes)
        journal.acknowledge()
    return journal


HISTORY = journal_of({b"a": b"1"}, {b"b": b"2", b"c": b"2"}, {b"a": None}, {b"d": b"4"})


@pytest.mark.parametrize("number", range(5))
def test_every_prefix_is_right(number: int) -> None:
    assert HISTORY.judge(dict(HISTORY.states[number]), 0) is None


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        ({b"a": b"1", b"z": b"0"}, "lost"),
        ({b"a": b"0", b"z": b"0"}, "lost"),
        ({b"a": b"1", b"z": b"0", b"b": b"2"}, "torn"),
        ({b"a": b"1", b"z": b"0", b"b": b"2", b"c": b"2", b"d": b"4"}, "resurrected"),
        ({b"z": b"0", b"b": b"2", b"d": b"4"}, "resurrected"),
        ({b"z": b"0", b"b": b"2", b"c": b"?"}, "other"),
        ({b"z": b"0", b"b": b"2", b"c": b"2", b"x": b"2"}, "other"),
        ({b"b": b"2", b"c": b"2", b"d": b"4"}, "other"),
    ],
)
def test_what_is_no_prefix_is_named(found: State, kind: str) -> None:
    violation = HISTORY.judge(found, 2)
    assert violation is not None
    assert violation.kind == kind


def test_with_always_each_commit_is_durable() -> None:
    assert journal_of({b"a": b"1"}, {b"b": b"1"}, durability=ALWAYS).durable == 2


def test_with_process_a_sync_makes_all_of_it_durable() -> None:
    journal = journal_of({b"a": b"1"}, {b"b": b"1"})
    assert (journal.acknowledged, journal.durable) == (2, 0)
    journal.make_durable()
    journal.begin({b"c": b"1"})
    assert (journal.acknowledged, journal.durable) == (2, 2)


def test_a_batch_with_always_makes_what_came_before_durable() -> None:
    journal = journal_of({b"a": b"1"})
    journal.begin({b"b": b"1"})
    journal.acknowledge(ALWAYS)
    assert journal.durable == 2


def test_a_delete_of_nothing_makes_nothing_durable() -> None:
    journal = journal_of({b"a": b"1"})
    journal.begin({b"absent": None})
    journal.acknowledge(ALWAYS)
    assert (journal.acknowledged, journal.durable) == (2, 0)


def test_with_bytes_what_lies_that_far_back_is_durable() -> None:
    journal = journal_of(*({b"k": b"x" * 99} for _ in range(5)), durability=parse_durability(("bytes", 200)))
    assert journal.durable == 4


def test_commits_with_a_durability_of_their_own_do_not_count_towards_bytes() -> None:
    journal = journal_of({b"k": b"x" * 99}, durability=parse_durability(("bytes", 200)))
    journal.begin({b"k": b"y" * 500})
    journal.acknowledge(PROCESS)
    assert journal.durable == 0


def test_a_refused_commit_is_in_no_prefix() -> None:
    journal = journal_of({b"a": b"1"})
    journal.begin({b"a": b"refused"})
    assert journal.judge({b"a": b"refused", b"z": b"0"}, 0) is None
    journal.refuse()
    assert journal.judge({b"a": b"refused", b"z": b"0"}, 0) is not None
