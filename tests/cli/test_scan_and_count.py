"""scan and count: ranges, order, limits, and output that a pipe can trust."""

from __future__ import annotations

import json

import pytest

RECORDS = {b"a/1": b"one", b"a/2": b"two", b"b/1": b"three", b"b/\xff": b"\x00\xff", b"c": b""}


@pytest.fixture(autouse=True)
def filled(fill) -> None:
    fill(RECORDS)


def keys_of(outcome) -> list[str]:
    return [json.loads(line).get("key") for line in outcome.text.splitlines()]


def test_a_pipe_gets_json_lines_in_key_order(run) -> None:
    rows = [json.loads(line) for line in run("scan", "db").text.splitlines()]
    assert rows[0] == {"key": "a/1", "value": "one"}
    assert rows[3] == {"key_b64": "Yi//", "value_b64": "AP8="}
    assert len(rows) == 5


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (("--prefix", "a/"), ["a/1", "a/2"]),
        (("--start", "a/2", "--stop", "b/\x7f"), ["a/2", "b/1"]),
        (("--prefix", "a/", "--reverse"), ["a/2", "a/1"]),
        (("--limit", "2"), ["a/1", "a/2"]),
        (("--reverse", "--limit", "1"), ["c"]),
        (("--limit", "0"), []),
        (("--prefix", "x"), []),
        (("--prefix", "612f", "--hex"), ["a/1", "a/2"]),
    ],
)
def test_a_scan_gives_exactly_its_range(run, arguments, keys) -> None:
    outcome = run("scan", "db", *arguments)
    assert (outcome.code, keys_of(outcome)) == (0, keys)


def test_keys_only_gives_bare_keys_one_a_line(run) -> None:
    assert run("scan", "db", "--keys-only").stdout == b"a/1\na/2\nb/1\nb/\xff\nc\n"


def test_keys_only_with_nul_is_safe_for_keys_with_newlines(run, fill) -> None:
    fill({b"new\nline": b""})
    assert run("scan", "db", "--keys-only", "--format", "nul", "--start", "n").stdout == b"new\nline\0"


def test_a_key_with_a_newline_stops_bare_lines_with_a_clear_error(run, fill) -> None:
    fill({b"new\nline": b""})
    outcome = run("scan", "db", "--keys-only", "--start", "n")
    assert outcome.code == 4
    assert outcome.stderr == "error: the key new\\nline holds a newline: choose --format nul or jsonl\n"


def test_lines_without_keys_only_are_wrong_usage(run) -> None:
    assert run("scan", "db", "--format", "lines").code == 2


def test_a_scan_of_an_index_without_order_says_which_have_one(run) -> None:
    outcome = run("scan", "db", "--prefix", "a", "--index", "hash")
    assert outcome.code == 2
    assert "btree" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        ((), 5),
        (("--prefix", "a/"), 2),
        (("--start", "b"), 3),
        (("--stop", "b"), 2),
        (("--prefix", ""), 5),
        (("--index", "hash"), 5),
    ],
)
def test_count_counts_a_range(run, arguments, number) -> None:
    outcome = run("count", "db", *arguments)
    assert (outcome.code, outcome.text) == (0, f"{number}\n")
